"""Following trees under a virtual clock."""

import pytest

from relay.protocols.dnsdisc.entries import Branch, Link, Root, hash_name
from relay.protocols.dnsdisc.events import RecordFound, Refused, TreeSynced
from relay.protocols.dnsdisc.sync import TreeSync
from tests.aids import vectors
from tests.aids.dnsdisc import SIGNER, Zone, signed_tree, tree_key, tree_record, tree_records

UPSTREAM = vectors.load("dnsdisc/upstream.json")


def found(events) -> set[bytes]:
    return {event.record.node_id for event in events if isinstance(event, RecordFound)}


def refused(events) -> list[Refused]:
    return [event for event in events if isinstance(event, Refused)]


def test_every_record_is_found_once():
    records = tree_records(40)
    zone = Zone(signed_tree("n", records))
    events = zone.run(zone.sync(Link(SIGNER.public_key, "n")), 60)
    assert found(events) == {record.node_id for record in records}
    assert len([event for event in events if isinstance(event, RecordFound)]) == 40
    assert [event for event in events if isinstance(event, TreeSynced)] == [
        TreeSynced("n", 1, records=40, links=0)
    ]


def test_queries_keep_to_the_rate():
    zone = Zone(signed_tree("n", tree_records(40)))
    zone.run(zone.sync(Link(SIGNER.public_key, "n")), 60)
    times = [at for at, _ in zone.asked]
    assert len(times) > 40
    for at in times:
        assert len([other for other in times if at <= other < at + 1]) <= 3 + 3


def test_records_come_in_another_order_for_another_seed():
    zone = Zone(signed_tree("n", tree_records(40)))
    orders = []
    for seed in (1, 2, 1):
        events = zone.run(zone.sync(Link(SIGNER.public_key, "n"), seed=seed), 60)
        orders.append([event.record.node_id for event in events if isinstance(event, RecordFound)])
    assert orders[0] != orders[1]
    assert orders[0] == orders[2]


def test_upstream_tree_with_a_bad_record_is_synced_but_for_it():
    zone = Zone()
    zone.texts = {name: [text] for name, text in UPSTREAM["tree_with_bad_record"].items()}
    events = zone.run(zone.sync(Link.parse(UPSTREAM["url"])), 60)
    assert not found(events)
    assert {event.name for event in refused(events)} >= {"INDMVBZEEQ4ESVYAKGIYU74EAA"}
    assert TreeSynced("n", 3, records=0, links=1) in events


def test_linked_trees_are_followed_even_in_a_loop():
    near, far = tree_records(10)[:5], tree_records(10)[5:]
    one, two = Link(SIGNER.public_key, "one"), Link(tree_key(7).public_key, "two")
    zone = Zone(signed_tree("one", near, [two]), signed_tree("two", far, [one], signer=tree_key(7)))
    sync = zone.sync(one)
    events = zone.run(sync, 60)
    assert found(events) == {record.node_id for record in near + far}
    assert {tree.link for tree in sync.trees} == {one, two}


def test_tree_that_is_linked_no_more_is_left():
    one, two = Link(SIGNER.public_key, "one"), Link(SIGNER.public_key, "two")
    zone = Zone(signed_tree("one", links=[two]), signed_tree("two", tree_records(3)))
    sync = zone.sync(one)
    assert len(found(zone.run(sync, 60))) == 3
    zone.publish(*signed_tree("one", seq=2))
    zone.run(sync, 1860)
    assert [tree.link for tree in sync.trees] == [one]


def test_tree_stays_linked_while_its_link_is_read_again():
    one, two, three = (Link(SIGNER.public_key, name) for name in ("one", "two", "three"))
    zone = Zone(signed_tree("one", links=[two]), signed_tree("two", tree_records(3)), signed_tree("three"))
    sync = zone.sync(one, three)
    zone.run(sync, 60)
    changed, _ = signed_tree("one", links=[two, Link(SIGNER.public_key, "gone")], seq=2)
    zone.publish(changed, one)
    branch = f"{changed.root.links}.one"
    text = zone.texts.pop(branch)
    zone.publish(*signed_tree("three", tree_records(1), seq=2))
    events = zone.run(sync, 1743)  # three is read again, the way to two is not
    assert any(
        event.domain == "three" and event.seq == 2 for event in events if isinstance(event, TreeSynced)
    )
    assert any(event.name == changed.root.links for event in refused(events))
    assert two in {tree.link for tree in sync.trees}
    zone.texts[branch] = text
    zone.run(sync, 60)
    assert {tree.link.domain for tree in sync.trees} == {"one", "two", "three", "gone"}


def test_answer_for_a_tree_that_was_left_is_ignored():
    one, two = Link(SIGNER.public_key, "one"), Link(SIGNER.public_key, "two")
    zone = Zone(signed_tree("one", links=[two]), signed_tree("two", tree_records(30)))
    sync = zone.sync(one, max_in_flight=3)
    zone.run(sync, 3)
    zone.publish(*signed_tree("one", seq=2))
    held = []
    while sync.trees[0].root is None or len(sync.trees) == 2:
        zone.now += 60
        for query in sync.queries(zone.now):
            if query.name.endswith("two") and not held:
                held.append(query.name)
            else:
                sync.receive(query.name, zone.texts.get(query.name), zone.now)
    assert sync.receive(held[0], zone.texts[held[0]], zone.now) == []


def test_new_root_costs_only_what_changed():
    records = tree_records(100)
    zone = Zone(signed_tree("n", records))
    sync = zone.sync(Link(SIGNER.public_key, "n"))
    zone.run(sync, 120)
    before = len(zone.asked)
    records[50] = tree_record(50, seq=1000)
    zone.publish(*signed_tree("n", records, seq=2))
    events = zone.run(sync, 1800)
    assert found(events) == {records[50].node_id}
    assert len(zone.asked) - before <= 6  # root, path of branches, leaf
    assert TreeSynced("n", 2, records=100, links=0) in events


def test_unchanged_tree_costs_one_query_every_half_hour():
    zone = Zone(signed_tree("n", tree_records(5)))
    sync = zone.sync(Link(SIGNER.public_key, "n"))
    zone.run(sync, 60)
    before = len(zone.asked)
    events = zone.run(sync, 4 * 1800)
    assert len(zone.asked) - before == 4
    assert events == []


def test_older_root_is_a_replay():
    zone = Zone(signed_tree("n", tree_records(5), seq=5))
    sync = zone.sync(Link(SIGNER.public_key, "n"))
    zone.run(sync, 60)
    zone.publish(*signed_tree("n", tree_records(9), seq=4))
    events = zone.run(sync, 2000)
    assert not found(events)
    assert all("replay" in event.why for event in refused(events))
    assert sync.trees[0].root.seq == 5


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        (None, "not resolved"),
        ([], "no root"),
        (["v=spf1 -all"], "no root"),
        (["enrtree-root:v1 e=x"], "has the form"),
        ([str(Root(hash_name("a"), hash_name("b"), 1).sign(tree_key(9)))], "not signed"),
    ],
)
def test_bad_root_is_refused_and_asked_again_ever_later(texts, why):
    zone = Zone()
    zone.texts = {} if texts is None else {"n": texts}
    sync = zone.sync(Link(SIGNER.public_key, "n"))
    events = zone.run(sync, 4 * 3600)
    assert all(why in event.why for event in refused(events))
    gaps = [after - before for (before, _), (after, _) in zip(zone.asked, zone.asked[1:], strict=False)]
    assert gaps == sorted(gaps)
    assert gaps[0] == pytest.approx(5)
    assert gaps[-1] == pytest.approx(1800)


def test_root_stands_among_other_texts():
    zone = Zone(signed_tree("n", tree_records(2)))
    zone.texts["n"].insert(0, "v=spf1 -all")
    leaf = next(name for name, texts in zone.texts.items() if texts[0].startswith("enr:"))
    zone.texts[leaf].insert(0, "enr:junk \ud800")
    assert len(found(zone.run(zone.sync(Link(SIGNER.public_key, "n")), 60))) == 2


def test_entry_that_cannot_be_had_is_given_up_until_the_next_root():
    tree, link = signed_tree("n", tree_records(5))
    zone = Zone((tree, link))
    lost = f"{hash_name(tree.records[0].to_text())}.n"
    text = zone.texts.pop(lost)
    sync = zone.sync(link)
    events = zone.run(sync, 60)
    assert TreeSynced("n", 1, records=4, links=0) in events
    assert [name for _, name in zone.asked].count(lost) == 3
    zone.texts[lost] = text
    assert found(zone.run(sync, 1860)) == {tree.records[0].node_id}


def test_changed_entry_is_refused():
    tree, link = signed_tree("n", tree_records(2))
    zone = Zone((tree, link))
    zone.texts[f"{hash_name(tree.records[0].to_text())}.n"] = [tree.records[1].to_text()]
    events = zone.run(zone.sync(link), 60)
    assert found(events) == {tree.records[1].node_id}
    assert "hash" in refused(events)[0].why


def test_failing_entries_bring_an_early_look_at_the_root():
    tree, link = signed_tree("n", tree_records(20))
    zone = Zone((tree, link))
    sync = zone.sync(link)
    zone.texts = {name: texts for name, texts in zone.texts.items() if not texts[0].startswith("enr:")}
    zone.run(sync, 3)
    zone.texts = {}
    zone.publish(*signed_tree("n", tree_records(50)[20:], seq=2))
    assert len(found(zone.run(sync, 90))) == 30


def test_query_without_an_answer_fails_in_time():
    sync = Zone().sync(Link(SIGNER.public_key, "n"))
    assert [query.name for query in sync.queries(0.0)] == ["n"]
    assert sync.queries(1.0) == []
    assert sync.next_deadline(1.0) == 60.0
    assert sync.poll(59.0) == []
    assert [event.why for event in sync.poll(60.0)] == ["not resolved"]


def test_answer_that_nobody_asked_for_is_refused():
    sync = Zone().sync(Link(SIGNER.public_key, "n"))
    assert isinstance(sync.receive("x" * 1000, ["y"], 0.0)[0], Refused)


def test_without_trees_there_is_nothing_to_wait_for():
    sync = TreeSync((), bytes)
    assert sync.next_deadline(0.0) is None
    assert sync.queries(0.0) == []


def test_queries_in_flight_are_bounded():
    zone = Zone(signed_tree("n", tree_records(40)))
    sync = zone.sync(Link(SIGNER.public_key, "n"), max_in_flight=2)
    zone.run(sync, 3)
    for second in range(4, 20):
        sync.queries(float(second))
    assert sync.queries(30.0) == []
    assert sync.next_deadline(30.0) > 30.0


def test_huge_tree_is_read_up_to_the_limit():
    zone = Zone(signed_tree("n", tree_records(60)))
    sync = zone.sync(Link(SIGNER.public_key, "n"), max_entries=20)
    events = zone.run(sync, 120)
    assert 0 < len(found(events)) <= 20
    assert any("too large" in event.why for event in refused(events))
    assert max(len(subtree) for tree in sync.trees for subtree in tree.subtrees) <= 20


def test_too_many_linked_trees_are_refused():
    links = [Link(tree_key(number).public_key, f"t{number}") for number in range(10)]
    zone = Zone(signed_tree("n", links=links))
    sync = zone.sync(Link(SIGNER.public_key, "n"), max_trees=4)
    events = zone.run(sync, 60)
    assert len(sync.trees) == 4
    assert len([event for event in refused(events) if "too many" in event.why]) == 7


def test_records_and_links_do_not_mix():
    record, link = tree_record(1), Link(tree_key(2).public_key, "m")
    root = Root(hash_name(str(link)), hash_name(record.to_text()), 1).sign(SIGNER)
    zone = Zone()
    zone.texts = {
        "n": [str(root)],
        f"{hash_name(str(link))}.n": [str(link)],
        f"{hash_name(record.to_text())}.n": [record.to_text()],
    }
    events = zone.run(zone.sync(Link(SIGNER.public_key, "n")), 60)
    assert not found(events)
    assert all("among" in event.why for event in refused(events))
    assert TreeSynced("n", 1, records=0, links=0) in events


def test_branch_that_names_an_entry_twice_is_no_trap():
    leaf = hash_name(tree_record(1).to_text())
    branch = str(Branch((leaf, leaf)))
    empty = str(Branch(()))
    zone = Zone()
    zone.texts = {
        "n": [str(Root(hash_name(branch), hash_name(empty), 1).sign(SIGNER))],
        f"{hash_name(branch)}.n": [branch],
        f"{hash_name(empty)}.n": [empty],
        f"{leaf}.n": [tree_record(1).to_text()],
    }
    events = zone.run(zone.sync(Link(SIGNER.public_key, "n")), 60)
    assert len([event for event in events if isinstance(event, RecordFound)]) == 1


def test_two_trees_of_one_domain_share_its_answers():
    mine, other = Link(SIGNER.public_key, "n"), Link(tree_key(3).public_key, "n")
    zone = Zone(signed_tree("n", tree_records(3)))
    events = zone.run(zone.sync(mine, other), 30)
    assert len(found(events)) == 3
    assert any("not signed" in event.why for event in refused(events))


def test_answer_of_an_entry_from_before_the_root_changed_is_ignored():
    tree, link = signed_tree("n", tree_records(20))
    zone = Zone((tree, link))
    sync = zone.sync(link, query_timeout=10_000.0)
    zone.run(sync, 2)
    zone.now += 1
    held = [query.name for query in sync.queries(zone.now)]
    leaf = next(name for name in held if zone.texts[name][0].startswith("enr"))
    text = zone.texts[leaf]
    zone.texts = {}
    zone.publish(*signed_tree("n", tree_records(40)[20:], seq=2))
    zone.run(sync, 1900)
    assert sync.trees[0].root.seq == 2
    assert sync.receive(leaf, text, zone.now) == []
