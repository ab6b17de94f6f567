"""Gossip: who gets what, never back, every hash to everybody, slow peers, frame limit."""

from __future__ import annotations

from math import ceil, sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.aids.relaying import House, item, item_hash, raw_tx


def deliver(house, source, *items):
    house.push(source, *items)
    house.loop.settle()
    return [item_hash(each) for each in items]


@pytest.mark.parametrize("others", [1, 2, 3, 8, 25])
def test_whole_to_the_root_of_all_peers_and_announced_to_the_rest(others):
    house = House(others + 1)
    source, *rest = house.sessions
    (tx_hash,) = deliver(house, source, item(account=1))
    assert source.sent == []
    pushed = [session for session in rest if session.pushed() == [tx_hash]]
    announced = [session for session in rest if session.announced() == [(tx_hash, 2, len(raw_tx(account=1)))]]
    assert len(pushed) + len(announced) == others
    direct = ceil(sqrt(others + 1))
    assert direct - 1 <= len(pushed) <= direct
    counters = house.relay.counters
    assert (counters.pushes, counters.announcements) == (len(pushed), len(announced))
    assert counters.relayed == counters.latency_count == 1


def test_the_only_other_peer_gets_it_whole():
    house = House(2)
    (tx_hash,) = deliver(house, house.sessions[0], item())
    assert house.sessions[1].pushed() == [tx_hash]


def test_nonces_of_one_sender_take_the_same_way_in_order():
    house = House(10)
    source, *rest = house.sessions
    hashes = []
    for nonce in range(6):
        hashes += deliver(house, source, item(account=2, nonce=nonce))
    for session in rest:
        assert session.pushed() in (hashes, [])
    mask = house.relay.gossip.direct_peers(house.relay.pool.by_hash[hashes[0]].signer)
    assert mask.bit_count() == 4


def test_senders_are_spread_over_all_peers():
    house = House(26, frames_per_second=0.0)
    for account in range(64):
        deliver(house, house.sessions[0], item(account=account))
    assert all(session.pushed() for session in house.sessions[1:])


def test_a_message_of_one_sender_keeps_its_order_for_every_peer():
    house = House(9)
    source, *rest = house.sessions
    items = [item(account=a, nonce=n) for n in range(4) for a in range(8)]
    deliver(house, source, *items)
    by_account = [[item_hash(item(account=a, nonce=n)) for n in range(4)] for a in range(8)]
    for session in rest:
        got = session.pushed() + [tx_hash for tx_hash, _, _ in session.announced()]
        for hashes in by_account:
            assert [tx_hash for tx_hash in got if tx_hash in hashes] == hashes


def test_each_peer_gets_one_message_of_a_kind_per_flush():
    house = House(26)
    deliver(house, house.sessions[0], *[item(account=a) for a in range(60)])
    for session in house.sessions[1:]:
        codes = [code for code, _ in session.sent]
        assert len(codes) == len(set(codes))


def test_large_ones_are_announced_only():
    house = House(2)
    (tx_hash,) = deliver(house, house.sessions[0], item(data=bytes(4200)))
    assert house.sessions[1].pushed() == []
    assert [entry[0] for entry in house.sessions[1].announced()] == [tx_hash]


def test_size_limit_is_on_canonical_bytes():
    house = House(2)
    data = bytes(4096 - len(raw_tx(data=bytes(3900))) + 3900)
    assert len(raw_tx(data=data)) == 4096
    (tx_hash,) = deliver(house, house.sessions[0], item(data=data))
    assert house.sessions[1].pushed() == [tx_hash]


def test_an_announcer_is_not_told_what_it_announced():
    house = House(2)
    source, other = house.sessions
    tx = item(account=4)
    house.announce(other, (item_hash(tx), 2, len(raw_tx(account=4))))
    deliver(house, source, tx)
    assert other.sent == []


def test_messages_are_packed_to_about_100_kib():
    house = House(2)
    items = [item(account=n % 8, nonce=n // 8, data=bytes(range(256)) * 10) for n in range(120)]
    hashes = deliver(house, house.sessions[0], *items)
    sizes = [len(payload) for code, payload in house.sessions[1].sent if code == 2]
    assert all(size <= 100 * 1024 + 4096 for size in sizes)
    assert len(sizes) >= 3
    assert house.sessions[1].pushed() == hashes


def test_versions_from_72_get_the_custody_mask():
    house = House(1)
    masked = house.join(version=72)
    (tx_hash,) = deliver(house, house.sessions[0], item(data=bytes(5000)))
    assert [entry[0] for entry in masked.announced()] == [tx_hash]


def test_a_new_peer_hears_of_the_pool_newest_first_in_slices():
    house = House(1, outbox_count=50, outbox_stride=20)
    hashes = deliver(house, house.sessions[0], *[item(account=a % 9, nonce=a // 9) for a in range(70)])
    late = house.join()
    house.loop.settle()
    assert len(late.sent) == 3
    assert [entry[0] for entry in late.announced()] == hashes[:19:-1]
    (fresh,) = deliver(house, house.sessions[0], item(account=77))
    assert late.pushed() == [fresh]


def test_a_new_peer_is_not_told_what_it_sends_meanwhile():
    house = House(1)
    hashes = deliver(house, house.sessions[0], item(account=1), item(account=2))
    session = type(house.sessions[0])()
    house.relay.joined(session)
    house.push(session, item(account=1))
    house.loop.settle()
    assert [entry[0] for entry in session.announced()] == [hashes[1]]


def test_a_full_socket_gets_announcements_later_the_oldest_fall_out():
    house = House(2, outbox_count=3)
    source, slow = house.sessions
    slow.writable = False
    hashes = []
    for account in range(5):
        hashes += deliver(house, source, item(account=account))
    house.loop.advance(1.0)
    assert slow.sent == []
    slow.writable = True
    house.loop.advance(0.2)
    assert [entry[0] for entry in slow.announced()] == hashes[2:]
    counters = house.relay.counters
    assert counters.downgraded == 5
    assert counters.outbox_dropped == 2
    (later,) = deliver(house, source, item(account=9))
    assert slow.pushed() == [later]


def test_what_a_slow_peer_learned_otherwise_is_not_announced_to_it():
    house = House(2)
    source, slow = house.sessions
    slow.writable = False
    deliver(house, source, item(account=1))
    house.push(slow, item(account=1))
    slow.writable = True
    house.loop.advance(1.0)
    assert slow.sent == []


def test_one_slow_peer_does_not_hold_up_the_others():
    house = House(1)
    deliver(house, house.sessions[0], item(account=1))
    slow = type(house.sessions[0])()
    slow.writable = False
    house.relay.joined(slow)
    other = house.join()
    assert len(other.announced()) == 1
    house.relay.left(slow, 8)
    house.loop.advance(5.0)
    assert slow.sent == []


def test_small_batches_are_gathered_when_frames_run_out():
    house = House(26, frames_per_second=100.0, frames_burst=30.0)
    source, *rest = house.sessions
    for account in range(12):
        deliver(house, source, item(account=account))
    told = [len(session.pushed()) + len(session.announced()) for session in rest]
    assert set(told) == {2}
    house.loop.advance(2.0)
    assert [len(session.pushed()) + len(session.announced()) for session in rest] == [10] * 25
    assert house.relay.counters.gossip_frames < 25 * 5


def test_gathering_ends_when_much_has_been_gathered():
    house = House(26, frames_per_second=1.0, frames_burst=1.0)
    source = house.sessions[0]
    deliver(house, source, item(account=999))
    house.sessions[1].sent.clear()
    items = [item(account=n % 40, nonce=n // 40) for n in range(1100)]
    deliver(house, source, *items[:1000])
    assert house.sessions[1].sent == []
    deliver(house, source, *items[1000:])
    assert house.sessions[1].sent


@settings(max_examples=30, deadline=None)
@given(
    peers=st.integers(2, 9),
    steps=st.lists(
        st.tuples(st.integers(0, 8), st.sampled_from(["push", "announce"]), st.integers(0, 11)), max_size=25
    ),
)
def test_every_hash_reaches_every_peer_once_and_never_who_knows_it(peers, steps):
    house = House(peers)
    knows = [set() for _ in range(peers)]
    accepted = set()
    for who, how, account in steps:
        source = house.sessions[who % peers]
        tx = item(account=account)
        tx_hash = item_hash(tx)
        if how == "push":
            house.push(source, tx)
            accepted.add(tx_hash)
        else:
            house.announce(source, (tx_hash, 2, len(raw_tx(account=account))))
        knows[who % peers].add(tx_hash)
        house.loop.settle()
        for session, known in zip(house.sessions, knows, strict=True):
            told = session.pushed() + [entry[0] for entry in session.announced()]
            assert not known.intersection(told)
            assert len(told) == len(set(told))
            known.update(told)
    for known in knows:
        assert accepted <= known
    assert not any(session.ended for session in house.sessions)


@pytest.mark.parametrize("peers", [3, 26, 50, 400])
def test_every_peer_is_direct_for_some_senders(peers):
    gossip = House(peers).relay.gossip
    gossip.direct_peers(bytes(64))
    shares = [mask.bit_count() for mask in gossip._direct]
    assert set(shares) == {ceil(sqrt(peers))}
    union = 0
    for mask in gossip._direct:
        union |= mask
    assert union.bit_count() == peers
