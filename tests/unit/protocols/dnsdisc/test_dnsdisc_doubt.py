"""Small promises of the core that its drivers rest on: who signed, what is older, what is given up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.primitives.errors import DecodeError
from relay.protocols.dnsdisc.events import Reason, Refused
from tests.aids.dnsdisc import SIGNER, Zone, signed_tree, tree_records

DOMAIN = "list.example.org"


def reasons(events) -> list[Reason]:
    return [event.reason for event in events if isinstance(event, Refused)]


def test_root_tells_its_signer():
    tree, _ = signed_tree(DOMAIN, tree_records(2))
    assert tree.root.signer() == SIGNER.public_key
    with pytest.raises(DecodeError):
        replace(tree.root, signature=bytes(65)).signer()


@pytest.mark.parametrize(("seen", "believed"), [(4, True), (5, True), (6, False)])
def test_root_older_than_in_an_earlier_life_is_a_replay(seen, believed):
    zone = Zone(tree := signed_tree(DOMAIN, tree_records(2), seq=5))
    sync = zone.sync(tree[1])
    sync._seqs = {tree[1]: seen}
    events = zone.run(sync, 60)
    assert (sync.trees[0].root is not None) is believed
    assert set(reasons(events)) == (set() if believed else {Reason.REPLAY})


def test_entries_that_never_come_are_asked_for_a_few_times_until_the_next_look():
    zone = Zone(tree := signed_tree(DOMAIN, tree_records(60)))
    gone = [name for name, text in tree[0].entries.items() if text.startswith("enr:")][:30]
    for name in gone:
        del zone.texts[f"{name}.{DOMAIN}"]
    sync = zone.sync(tree[1], rate=100.0)
    zone.run(sync, 29 * 60)
    asked = [name.partition(".")[0] for _, name in zone.asked]
    assert {asked.count(name) for name in gone} == {3}
    assert sum(subtree.given_up for subtree in sync.trees[0].subtrees) == 30
    assert sync.trees[0].completed


def test_a_regular_look_tries_again_what_was_given_up():
    zone = Zone(tree := signed_tree(DOMAIN, tree_records(20)))
    gone = {f"{name}.{DOMAIN}" for name, text in tree[0].entries.items() if text.startswith("enr:")}
    kept = {name: zone.texts.pop(name) for name in gone}
    sync = zone.sync(tree[1], rate=100.0)
    zone.run(sync, 20 * 60)
    zone.texts |= kept
    zone.run(sync, 40 * 60)
    assert not any(subtree.given_up for subtree in sync.trees[0].subtrees)
    assert sync.trees[0].subtrees[1].leaf_count == 20
