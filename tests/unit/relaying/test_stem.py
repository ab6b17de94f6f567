"""Transactions on their stem: who hears of them, how stems end, what hostile peers can do."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.chain.transactions import InvalidTransaction, wire
from relay.primitives.errors import PeerError, SubprotocolError
from relay.protocols.pyrelay.stems import Stem
from relay.relaying.chain_data.capability import RelayCapability
from relay.relaying.dandelion import StemOptions
from relay.relaying.pace import PaceOptions
from relay.relaying.verdict import Outcome, Ruling
from tests.aids.relaying import GWEI, House, blob_tx, item, item_hash, raw_tx

RELAY = ("pyrelay",)
STEM = StemOptions(own=True, fluffing=0)


class Street:
    """A relay that dialed some pyrelays; others of them came in; one peer is no pyrelay."""

    def __init__(self, dialed=3, came=3, stem=STEM, **options):
        self.house = House(stem=stem, **options)
        self.relay, self.loop = self.house.relay, self.house.loop
        self.dialed = [self.house.join(name=f"dialed {n}", capabilities=RELAY) for n in range(dialed)]
        self.came = [self.house.join(name=f"came {n}", capabilities=RELAY, inbound=True) for n in range(came)]
        self.plain = self.house.join(name="plain")
        self.door = RelayCapability(self.relay)

    @property
    def everybody(self):
        return [*self.dialed, *self.came, self.plain]

    def stem(self, session, *items, padding=b""):
        self.door.message(session, Stem.CODE, Stem(items, padding).encode())
        self.loop.settle()

    def passed(self):
        """Who was sent which stems since the last look."""
        found = {}
        for session in self.everybody:
            for name, code, payload in session.foreign:
                assert (name, code) == ("pyrelay", Stem.CODE)
                hashes = [item_hash(each) for each in Stem.decode(payload).items]
                found.setdefault(session.name, []).extend(hashes)
            session.foreign.clear()
        return found

    def gossiped(self):
        return {
            session.name: session.pushed() + [each for each, _, _ in session.announced()]
            for session in self.everybody
        }

    def silent(self):
        return not any(self.gossiped().values()) and not self.passed()

    @property
    def ended(self):
        return dict(self.relay.stems.counters.ended)


def test_an_own_one_goes_to_one_relay_that_was_dialed_and_is_nowhere_else():
    street = Street()
    tx_hash = street.relay.submit(raw_tx(account=1))
    street.loop.settle()
    ((name, hashes),) = street.passed().items()
    assert name.startswith("dialed")
    assert hashes == [tx_hash]
    assert not any(street.gossiped().values())
    assert tx_hash not in street.relay.pool
    assert street.relay.transaction(tx_hash) is None
    for session in street.everybody:
        street.house.ask(session, 7, [tx_hash])
        assert session.answers() == [(7, [])]
    late = street.house.join()
    assert late.announced() == []
    assert street.relay.own.progress(tx_hash).private == "on its stem"


def test_carried_ones_are_as_hidden():
    street = Street()
    tx = item(account=1)
    street.stem(street.came[0], tx)
    ((name, hashes),) = street.passed().items()
    assert name.startswith("dialed")
    assert hashes == [item_hash(tx)]
    street.house.ask(street.came[1], 7, [item_hash(tx)])
    assert street.came[1].answers() == [(7, [])]
    assert not any(street.gossiped().values())
    assert item_hash(tx) not in street.relay.pool


def test_they_are_carried_for_others_though_our_own_take_no_stem():
    street = Street(stem=StemOptions(own=False, fluffing=0))
    street.stem(street.came[0], item(account=1))
    assert len(street.passed()) == 1
    own = street.relay.submit(raw_tx(account=2))
    assert street.passed() == {}
    assert own in street.relay.pool


@pytest.mark.parametrize("own", [True, False])
def test_none_is_lost_the_embargo_gossips_what_never_came_back(own):
    street = Street()
    if own:
        tx_hash = street.relay.submit(raw_tx(account=1))
    else:
        street.stem(street.came[0], item(account=1))
        tx_hash = item_hash(item(account=1))
    street.passed()
    street.loop.advance(400.0)
    told = street.gossiped()
    expected = {session.name for session in street.everybody}  # who brought it, too: it waits for gossip
    assert {name for name, hashes in told.items() if hashes == [tx_hash]} == expected
    assert street.ended == {"embargo": 1}
    assert street.relay.stems.counters.held == 0


def test_what_gossip_brings_back_is_gossiped_by_us_as_anybodys():
    street = Street()
    tx_hash = street.relay.submit(raw_tx(account=1))
    street.passed()
    street.house.announce(street.plain, (tx_hash, 2, len(raw_tx(account=1))))
    street.loop.advance(0.2)
    ((request_id, hashes),) = street.plain.requests()  # asked for, as by a relay that never heard of it
    assert hashes == [tx_hash]
    street.house.answer(street.plain, request_id, item(account=1))
    street.loop.advance(1.0)
    told = street.gossiped()
    assert told.pop("plain") == []
    assert all(hashes == [tx_hash] for hashes in told.values())
    assert street.ended == {"returned": 1}
    assert street.relay.own.progress(tx_hash).private == "came back"
    street.loop.advance(400.0)
    assert street.silent()


def test_without_a_relay_that_we_dialed_own_ones_go_the_ordinary_way():
    street = Street(dialed=0)
    tx_hash = street.relay.submit(raw_tx(account=1))
    street.loop.advance(5.0)
    assert street.passed() == {}
    assert tx_hash in street.relay.pool
    assert all(hashes == [tx_hash] for hashes in street.gossiped().values())


def test_a_relay_whose_epoch_fluffs_gossips_what_comes_on_a_stem_but_not_its_own():
    street = Street(stem=StemOptions(own=True, fluffing=100))
    tx = item(account=1)
    street.stem(street.came[0], tx)
    assert street.passed() == {}
    assert all(hashes == [item_hash(tx)] for hashes in street.gossiped().values())
    assert street.ended == {"fluffed": 1}
    street.relay.submit(raw_tx(account=2))
    assert len(street.passed()) == 1


def test_one_that_ends_where_its_sender_is_the_only_peer_comes_back_without_any_embargo():
    """First seen as a minute of silence: the second relay fluffed to nobody."""
    middle, end = Street(dialed=1, came=0), Street(dialed=0, came=1)
    tx_hash = middle.relay.submit(raw_tx(account=1))
    assert middle.passed() == {"dialed 0": [tx_hash]}
    end.stem(end.came[0], item(account=1))
    assert end.gossiped()["came 0"] == [tx_hash]


def test_one_senders_nonces_take_one_way_in_their_order():
    street = Street()
    hashes = [street.relay.submit(raw_tx(account=1, nonce=nonce)) for nonce in range(4)]
    assert list(street.passed().values()) == [hashes]


def test_when_one_is_gossiped_those_before_it_go_first():
    street = Street()
    sent = [item(account=1, nonce=nonce) for nonce in range(3)]
    street.stem(street.came[0], sent[2], sent[0], sent[1])
    street.stem(street.came[0], sent[1])  # comes a second time: gossiped, after the one before it
    told = street.gossiped()
    assert told["plain"] == [item_hash(sent[0]), item_hash(sent[1])]
    street.loop.advance(400.0)
    assert street.gossiped()["plain"] == [item_hash(sent[2])]


def test_a_stem_that_goes_in_circles_is_gossiped():
    street = Street()
    tx_hash = street.relay.submit(raw_tx(account=1))
    street.passed()
    street.stem(street.came[0], item(account=1))
    assert list(street.passed().values()) == [[tx_hash]]  # as one that is new to us
    street.stem(street.came[0], item(account=1))
    assert street.ended == {"loop": 1}
    assert street.gossiped()["plain"] == [tx_hash]
    street.loop.advance(400.0)
    assert street.silent()


@pytest.mark.parametrize("times", [1, 2])
def test_a_stem_that_is_sent_around_does_not_tell_who_had_it(times):
    tx = item(account=1)
    seen = []
    for origin in (True, False):
        street = Street()
        street.relay.submit(raw_tx(account=9))  # both have drawn as often
        if origin:
            street.relay.submit(raw_tx(account=1))
        street.passed()
        for _ in range(times):
            street.stem(street.came[0], tx)
        street.house.ask(street.came[0], 7, [item_hash(tx)])
        answer = [len(hashes) for _, hashes in street.came[0].answers()]
        told = sorted(name for name, hashes in street.gossiped().items() if item_hash(tx) in hashes)
        seen.append((answer, told, [len(each) for each in street.passed().values()]))
    # Of the rest, came 0 knows: it was told by nobody, since it told us.
    assert [each[0] for each in seen] == [[times - 1]] * 2
    assert [len(each[2]) for each in seen] == [1, 1]
    assert seen[0][1] == seen[1][1]


def test_a_peer_that_brings_too_many_has_the_rest_gossiped_and_own_ones_are_not_touched():
    street = Street(stem=StemOptions(own=True, fluffing=0, per_peer=3))
    own = street.relay.submit(raw_tx(account=50))
    for account in range(5):
        street.stem(street.came[0], item(account=account))
    assert street.ended == {"full": 2}
    assert street.relay.stems.counters.held == 4
    assert own in street.relay.stems
    street.stem(street.came[1], item(account=20))
    assert street.ended == {"full": 2}


def test_a_peer_that_comes_again_and_again_is_bounded_by_the_bound_of_all(monkeypatch):
    monkeypatch.setattr("relay.relaying.stem.CARRIED", 6)
    street = Street(stem=StemOptions(own=True, fluffing=0, per_peer=2))
    for number in range(6):
        session = street.house.join(inbound=True, capabilities=RELAY)
        street.stem(session, item(account=2 * number), item(account=2 * number + 1))
        street.relay.left(session, 8)
    assert street.relay.stems.counters.held == 6
    assert street.ended == {"full": 6}


def test_more_than_a_peers_rate_is_not_carried_on():
    street = Street(pace=PaceOptions(peer_rate=1.0, peer_burst=2.0))
    street.stem(street.came[0], item(account=1), item(account=2))
    street.stem(street.came[0], item(account=3))
    assert street.ended == {"refused": 1}


def test_what_can_not_be_on_a_stem_ends_its_bringer():
    street = Street()
    broken = b"\xc3\x01\x02\x03"
    for bad in (blob_tx(), broken, wire(raw_tx(account=1)[:-3])):
        with pytest.raises(SubprotocolError):
            street.stem(street.came[0], bad)
    assert street.relay.counters.offences == {"pyrelay": 3}
    assert street.relay.stems.counters.held == 0


def test_what_no_pool_would_take_is_dropped_and_remembered():
    street = Street()
    wrong = item(account=1, chain_id=7)
    street.stem(street.came[0], wrong)
    street.stem(street.came[0], wrong)
    assert street.silent()
    assert street.ended == {"known": 1}


def test_what_is_in_the_pool_is_not_carried():
    street = Street()
    street.house.push(street.plain, item(account=1))
    street.loop.settle()
    street.gossiped()
    street.stem(street.came[0], item(account=1))
    assert street.silent()


def test_a_way_that_leaves_or_takes_nothing_loses_nothing():
    street = Street(dialed=1)
    street.dialed[0].writable = False
    tx_hash = street.relay.submit(raw_tx(account=1))
    assert street.passed() == {}
    street.relay.left(street.dialed.pop(), 8)
    street.loop.advance(400.0)
    assert street.gossiped()["plain"] == [tx_hash]


def test_the_bit_of_a_bringer_that_left_counts_for_nobody():
    street = Street()
    tx = item(account=1)
    street.stem(street.came[0], tx)
    street.relay.left(street.came[0], 8)
    street.loop.settle()
    newcomer = street.house.join(inbound=True)  # has the bit by now
    street.loop.advance(400.0)
    assert newcomer.pushed() + [each for each, _, _ in newcomer.announced()] == [item_hash(tx)]


def test_a_rival_of_the_same_nonce_has_to_pay_more_here_too():
    street = Street()
    street.relay.submit(raw_tx(account=1, tip=GWEI))
    with pytest.raises(InvalidTransaction, match="underpriced"):
        street.relay.submit(raw_tx(account=1, tip=GWEI + 1))
    with pytest.raises(InvalidTransaction, match="already known"):
        street.relay.submit(raw_tx(account=1, tip=GWEI))
    assert street.relay.submit(raw_tx(account=1, tip=2 * GWEI)) in street.relay.stems
    assert street.relay.own.nonces(address(street)) == {0}


def address(street):
    return next(iter(street.relay.own._signers))


def test_one_that_is_mined_meanwhile_is_gossiped_no_more():
    street = Street()
    tx_hash = street.relay.submit(raw_tx(account=1))
    street.relay.own.mined(tx_hash, 5, b"\x01" * 32)
    street.passed()
    street.loop.advance(400.0)
    assert street.silent()


def test_a_node_rules_on_carried_ones_before_they_are_gossiped_even_if_their_bringer_left():
    street = Street(stem=StemOptions(own=True, fluffing=0))
    asked = []

    def judge(raws, answer):
        asked.extend(raws)
        answer([Ruling(Outcome.BAD, "nonce too low") for _ in raws])

    street.relay.judge_by(judge)
    street.stem(street.came[0], item(account=1))
    street.relay.left(street.came.pop(0), 8)
    street.passed()
    assert asked == []
    street.loop.advance(400.0)
    assert asked == [raw_tx(account=1)]
    assert street.silent()


def test_padding_makes_lengths_say_nothing():
    def lengths(padding):
        street = Street(stem=StemOptions(own=True, fluffing=0, padding=padding))
        found = set()
        for account in range(12):
            street.relay.submit(raw_tx(account=account, value=1000 + account))
            found |= {
                len(payload) - len(raw_tx(account=account, value=1000 + account))
                for session in street.everybody
                for _, _, payload in session.foreign
            }
            street.passed()
        return found

    assert len(lengths(0)) <= 2
    assert len(lengths(1024)) > 8


@given(st.binary(max_size=200))
def test_hostile_bytes_end_the_peer_or_nothing(payload):
    street = Street(1, 1)
    with suppress(PeerError):
        street.door.message(street.came[0], Stem.CODE, payload)
