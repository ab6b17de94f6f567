"""Lookup, revalidation, candidates, dial budget, votes, distances, network rules: each by itself."""

import random
from types import SimpleNamespace

import pytest

from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.enr import build_record
from relay.primitives.errors import DecodeError
from relay.protocols.discv5 import ContactCache, EndpointVotes, OnionNetwork, UdpNetwork
from relay.protocols.discv5.candidates import Candidates, DialBudget
from relay.protocols.discv5.distance import log_distance, lookup_distances, xor_distance
from relay.protocols.discv5.lookup import Lookup
from relay.protocols.discv5.networks import ITSELF
from relay.protocols.discv5.revalidation import Revalidation
from relay.protocols.discv5.table import Entry
from tests.aids.discv5 import node_key, udp, udp_record

CACHE = ContactCache(UdpNetwork().address_of, 4096)
ZERO = bytes(32)


def contact(number, **more):
    return CACHE.of(udp_record(number, **more))


def test_distances():
    assert log_distance(ZERO, ZERO) == 0
    assert log_distance(ZERO, bytes(31) + b"\x01") == 1
    assert log_distance(ZERO, b"\x80" + bytes(31)) == 256
    assert xor_distance(ZERO, bytes(31) + b"\x07") == 7


@pytest.mark.parametrize(
    ("target", "expected"),
    [(b"\x80" + bytes(31), (256, 255, 254)), (b"\x40" + bytes(31), (255, 256, 254)),
     (b"\x20" + bytes(31), (254, 255, 253)), (bytes(31) + b"\x01", (1, 2, 3)), (ZERO, (0, 1, 2))],
)  # fmt: skip
def test_lookup_asks_for_adjacent_distances(target, expected):
    assert lookup_distances(target, ZERO) == expected


class Walk:
    """A lookup over nodes 1 to 99, of which each knows some others."""

    def __init__(self, *start):
        self.target = node_key(500).node_id
        self.lookup = Lookup(self.target, node_key(0).node_id, [contact(number) for number in start])

    def ask(self):
        return [each.node_id for each, _ in self.lookup.next_questions()]


def ids(*numbers):
    return [node_key(number).node_id for number in numbers]


def test_lookup_asks_three_at_a_time_the_nearest_first():
    walk = Walk(1, 2, 3, 4, 5)
    order = sorted(ids(1, 2, 3, 4, 5), key=lambda node: xor_distance(node, walk.target))
    assert walk.ask() == order[:3]
    assert walk.ask() == []
    walk.lookup.answered(order[0], [])
    assert walk.ask() == order[3:4]


def test_lookup_says_what_is_new_and_who_told():
    walk = Walk(1)
    walk.ask()
    new = walk.lookup.answered(ids(1)[0], [contact(2), contact(1), contact(0), contact(3)])
    assert [each.node_id for each in new] == ids(2, 3)
    assert {teller for _, teller in walk.lookup.next_questions()} == {ids(1)[0]}
    assert Lookup(walk.target, node_key(0).node_id, [contact(1)]).next_questions() == [(contact(1), ITSELF)]


def test_lookup_ends_with_those_who_answered():
    walk = Walk(1, 2)
    walk.ask()
    walk.lookup.failed(ids(1)[0])
    walk.lookup.answered(ids(2)[0], [contact(3)])
    assert walk.ask() == ids(3)
    assert not walk.lookup.finished
    walk.lookup.answered(ids(3)[0], [])
    assert walk.ask() == []
    assert walk.lookup.finished
    assert sorted(each.node_id for each in walk.lookup.result) == sorted(ids(2, 3))
    assert walk.lookup.hops == 1
    assert walk.lookup.asked == 3


def test_lookup_asks_the_silent_again_where_packets_get_lost():
    lookup = Lookup(node_key(500).node_id, node_key(0).node_id, [contact(1)], retries=1)
    node = node_key(1).node_id
    for final in (False, False):
        assert lookup.next_questions() == [(contact(1), ITSELF)]
        lookup.failed(node, final=final)
    assert lookup.next_questions() == []
    assert lookup.finished
    assert lookup.asked == 2


def test_lookup_keeps_the_nearest_64():
    walk = Walk(1)
    walk.ask()
    walk.lookup.answered(ids(1)[0], [contact(number) for number in range(2, 100)])
    assert len(walk.lookup._nearest) == 64
    asked = 0
    while questions := walk.ask():
        asked += len(questions)
        for node in questions:
            walk.lookup.failed(node)
    assert walk.lookup.finished
    assert asked in {63, 64}


def test_answer_of_a_node_pushed_out_still_counts():
    walk = Walk(*range(1, 3))
    first, second = walk.ask()
    walk.lookup.answered(first, [contact(number) for number in range(3, 400)])
    assert walk.lookup.answered(second, [contact(450)]) is not None


def entry(number):
    return Entry(contact(number), None, 256)


def test_revalidation_pings_new_entries_fast_and_answered_ones_slowly():
    revalidation = Revalidation(3.0, 9.0, 0.0, random.Random(1).random)
    assert revalidation.next_deadline == float("inf")
    new = entry(1)
    revalidation.add(new, 0.0)
    assert revalidation.next_deadline <= 3.0
    assert revalidation.due(3.0) == [new]
    assert revalidation.due(10.0) == []
    revalidation.settled(new.contact.node_id)
    revalidation.move(new, 10.0, slow=True)
    revalidation.move(new, 10.0, slow=True)
    assert new.slow
    assert revalidation.due(19.0) == [new]
    revalidation.remove(new)
    assert revalidation.next_deadline == float("inf")


def test_revalidation_leaves_those_alone_who_answered_lately():
    revalidation = Revalidation(3.0, 9.0, 100.0, random.Random(1).random)
    known = entry(1)
    known.slow, known.heard = True, 50.0
    revalidation.add(known, 50.0)
    assert revalidation.due(149.0) == []
    assert revalidation.due(160.0) == [known]


def test_candidates_wait_in_order_and_are_renewed():
    waiting = Candidates(3, 2)
    assert waiting.take() is None
    assert waiting.add(contact(1), "t")
    assert waiting.add(contact(2), "t")
    assert not waiting.add(contact(3), "t")
    assert waiting.add(contact(3), "u")
    assert not waiting.add(contact(4), "v")
    assert waiting.add(contact(1, seq=5), "x")
    assert waiting.add(contact(1, seq=2), "x")
    assert waiting.take() == (contact(1, seq=5), "t")
    assert waiting.pop(node_key(9).node_id) is None
    assert waiting.pop(node_key(3).node_id) == (contact(3), "u")
    assert len(waiting) == 1


def test_dial_budget_is_bounded_and_renewed():
    budget = DialBudget(1, 10.0)
    assert budget.take("a", 0.0)
    assert not budget.take("a", 9.0)
    assert budget.take("a", 10.0)
    for number in range(5000):
        budget.take(number, 10.0)
    assert len(budget._calls) == 4096
    assert DialBudget(None, 1.0).take("a", 0.0)


def test_ten_hosts_that_agree_win():
    votes = EndpointVotes()
    assert votes.winner(0.0) is None
    for host in range(9):
        votes.add(host, b"\x01\x02\x03\x04", 30303, 0.0)
    votes.add(0, b"\x01\x02\x03\x04", 30303, 0.0)
    assert votes.winner(0.0) is None
    votes.add(9, b"\x01\x02\x03\x04", 30303, 100.0)
    assert votes.winner(100.0) == (b"\x01\x02\x03\x04", 30303)
    assert votes.winner(301.0) is None
    for host in range(3000):
        votes.add(host, bytes(4), 1, 400.0)
    assert len(votes._statements) == 1024


def test_ipv6_is_reached_where_it_is_served():
    record = build_record(node_key(1), 1, ip6="2a00::1", udp=30303)
    both = build_record(node_key(1), 1, ip="9.9.9.9", ip6="2a00::1", udp=30303, udp6=30304)
    assert UdpNetwork().address_of(record) == Endpoint(Network.IPV6, "2a00::1", 30303)
    assert UdpNetwork((Network.IPV4,)).address_of(record) is None
    assert UdpNetwork((Network.IPV6, Network.IPV4)).address_of(both) == Endpoint(
        Network.IPV6, "2a00::1", 30304
    )


def test_rules_of_ip_addresses():
    network = UdpNetwork()
    v6 = Endpoint(Network.IPV6, "2a00:1::1", 30303)
    assert network.group_of(v6, ITSELF) == bytes.fromhex("2a000001")
    assert network.group_of(udp("9.9.9.9"), ITSELF) == bytes((9, 9, 9))
    assert network.host_of(v6) == "2a00:1::1"
    assert network.seen_as(v6)[0] == bytes.fromhex("2a000001" + "00" * 11 + "01")
    assert network.may_hear(udp("127.0.0.1"), udp("127.0.0.2"))
    assert not network.may_hear(udp("127.0.0.1"), udp("10.0.0.2"))
    assert network.may_hear(udp("192.168.0.1"), udp("10.0.0.2"))
    assert not network.may_hear(udp("2.2.2.2", 1024), udp("3.3.3.3"))
    with pytest.raises(TypeError):
        network.host_of("stream")


def test_rules_of_onions():
    network = OnionNetwork()
    onion = Endpoint(Network.ONION, "a.onion", 1)
    assert network.host_of(onion) == "a.onion"
    assert network.host_of(7) == 7
    assert network.seen_as(7) == (bytes(4), 0)
    assert network.may_hear(onion, 7)
    assert not network.votes(onion)


def test_cache_verifies_once_and_forgets_the_oldest():
    verified = []

    def verify(raw):
        verified.append(raw)
        return SimpleNamespace(raw=raw, seq=1, pairs={}, node_id=raw)  # what the cache reads of a record

    cache = ContactCache(lambda _record: None, 2, verify)
    for raw in (b"a", b"a", b"b", b"c", b"a"):
        cache.get(raw)
    assert verified == [b"a", b"b", b"c", b"a"]
    assert len(cache) == 2
    with pytest.raises(DecodeError):
        CACHE.get(b"\xc0")


def test_cached_record_says_what_the_record_said():
    record = udp_record(1, seq=7, port=9000)
    kept = CACHE.get(record.raw).record
    for name in ("seq", "signature", "public_key", "node_id", "raw", "ip", "udp", "tcp"):
        assert getattr(kept, name) == getattr(record, name), name
    assert dict(kept.pairs) == dict(record.pairs)


def test_lean_record_reads_as_the_full_one():
    full = udp_record(1)
    lean = CACHE.of(full).record
    assert dict(lean.pairs) == dict(full.pairs)
    assert len(lean.pairs) == len(full.pairs)
    assert (lean.ip, lean.udp, lean.tcp, lean.onion3) == (full.ip, full.udp, full.tcp, None)
    assert lean == full
