"""Intake: slices, fairness, backlog, and what ends a peer."""

from __future__ import annotations

import pytest

from relay.chain.transactions import wire
from relay.primitives import rlp
from relay.primitives.errors import PeerError, ProtocolBreach, SubprotocolError
from relay.protocols.eth.packing import encode_transactions
from tests.aids.relaying import GWEI, House, access_list_tx, blob_tx, item, item_hash, raw_tx


def test_a_small_message_is_in_the_pool_before_the_callback_returns():
    house = House(2)
    house.push(house.sessions[0], item())
    assert item_hash(item()) in house.relay.pool
    assert house.sessions[1].sent == []
    house.loop.turn()
    assert house.sessions[1].pushed() == [item_hash(item())]


def test_every_type_that_is_relayed_goes_through():
    house = House(2)
    items = [
        item(account=1, kind=0),
        item(account=2, kind=0, chain_id=None),
        item(account=3),
        access_list_tx(),
    ]
    house.push(
        house.sessions[0], *items, item(account=4, data=bytes(300)), item(account=5, data=bytes(70_000))
    )
    house.loop.settle()
    got = house.sessions[1].pushed()
    assert got == [item_hash(each) for each in (*items, item(account=4, data=bytes(300)))]
    assert [entry[0] for entry in house.sessions[1].announced()] == [
        item_hash(item(account=5, data=bytes(70_000)))
    ]
    assert house.relay.counters.dropped == {}


def test_work_is_cut_into_slices_of_five_milliseconds():
    house = House(2, cost=0.001)  # each look at the clock, one per 16 transactions, takes a millisecond
    items = [item(account=n % 20, nonce=n // 20) for n in range(400)]
    house.push(house.sessions[0], *items)
    assert 0 < len(house.relay.pool) < 200
    turns = 0
    while len(house.relay.pool) < 400:
        before = len(house.relay.pool)
        house.loop.turn()
        turns += 1
        assert len(house.relay.pool) - before <= 6 * 16
    assert turns >= 3
    assert house.relay.counters.longest_slice <= 0.007
    house.loop.settle()
    assert house.sessions[1].pushed() == [item_hash(each) for each in items]


def test_what_is_ready_goes_out_in_few_frames_and_before_the_rest_is_judged():
    house = House(2, cost=0.001)
    items = [item(account=n % 20, nonce=n // 20) for n in range(600)]
    house.push(house.sessions[0], *items)
    got: list[bytes] = []
    turns = frames = 0
    while len(got) < 600:
        house.loop.turn()
        turns += 1
        pushed = house.sessions[1].pushed()
        if pushed:
            frames += 1
            assert len(house.relay.pool) < 600 or len(got) + len(pushed) == 600
            got += pushed
    assert got == [item_hash(each) for each in items]
    assert 1 < frames < turns


def test_many_small_messages_in_one_callback_share_one_slice():
    house = House(2, cost=0.002)
    for nonce in range(30):
        house.push(house.sessions[0], item(nonce=nonce))
    assert len(house.relay.pool) < 10
    assert house.relay.intake.backlog_bytes > 0
    house.loop.settle()
    assert len(house.relay.pool) == 30
    assert house.relay.intake.backlog_bytes == 0


def test_peers_take_turns():
    house = House(3, cost=0.001)
    first, second, _ = house.sessions
    house.push(first, *[item(account=n % 20, nonce=n // 20) for n in range(600)])
    house.push(second, item(account=777))
    house.loop.turn()
    assert item_hash(item(account=777)) in house.relay.pool
    assert len(house.relay.pool) < 600


def test_a_growing_backlog_stops_reading_and_a_small_one_resumes():
    house = House(2, cost=0.001, backlog_high=20_000, backlog_low=5_000)
    source = house.sessions[0]
    for start in range(0, 300, 50):
        house.push(source, *[item(account=n % 20, nonce=n // 20) for n in range(start, start + 50)])
    assert source.paused
    house.loop.turn()
    assert source.paused
    house.loop.settle()
    assert not source.paused
    assert len(house.relay.pool) == 300


def test_repeated_transactions_are_counted_and_not_sent_again():
    house = House(3)
    a, b, c = house.sessions
    house.push(a, item())
    house.loop.settle()
    for session in house.sessions:
        session.sent.clear()
    house.push(b, item())
    house.push(c, item())
    house.loop.settle()
    assert not any(session.sent for session in house.sessions)
    counters = house.relay.counters
    assert (counters.seen, counters.accepted, counters.duplicates) == (3, 1, 2)
    assert counters.duplicate_bytes == 2 * len(item())


def test_refused_transactions_are_judged_once():
    house = House(2)
    bad = item(gas=20_000)
    for _ in range(3):
        house.push(house.sessions[0], bad, item(account=1, tip=3 * GWEI, fee=GWEI))
        house.loop.settle()
    counters = house.relay.counters
    assert counters.dropped == {"gas": 1, "fees": 1}
    assert counters.repeats == 4
    assert house.sessions[0].ended is None
    assert house.sessions[1].sent == []


def test_pool_refusals_are_counted_by_cause():
    house = House(1, per_sender=2, crowded=0)
    (source,) = house.sessions
    house.push(source, item(tip=GWEI), item(tip=GWEI + 1), item(nonce=1), item(nonce=2))
    assert house.relay.counters.dropped == {"replacement_underpriced": 1, "account_limit": 1}


def test_wrong_chain_is_dropped_and_not_punished():
    house = House(1)
    house.push(house.sessions[0], item(chain_id=5))
    house.loop.settle()
    assert house.relay.counters.dropped == {"chain_id": 1}
    assert house.sessions[0].ended is None


@pytest.mark.parametrize(
    "bad",
    [
        b"\x82\x02\xc0",  # no fields
        b"\x83\x7f\xc1\x80",  # a type that does not exist
        b"\x05",  # one byte
        b"\xc0",
        b"\xb8\x40" + b"\xff" * 64,  # legacy wrapped in a string
        b"\x84\x03\xc2\xc0\x80",
    ],
)
def test_undecodable_transactions_end_the_peer_with_a_subprotocol_error(bad):
    house = House(2)
    bad_peer, other = house.sessions
    house.push(bad_peer, item(account=1), bad, item(account=2))
    house.loop.settle()
    assert bad_peer.ended[0] == 0x10
    assert other.ended is None
    assert item_hash(item(account=1)) in house.relay.pool
    assert item_hash(item(account=2)) not in house.relay.pool
    assert house.relay.counters.offences["transactions"] == 1
    house.push(other, item(account=3))
    house.loop.settle()
    assert len(house.relay.pool) == 2


def test_one_hash_twice_in_a_message_ends_the_peer():
    house = House(1)
    house.push(house.sessions[0], item(account=1), item(account=1))
    assert house.sessions[0].ended[0] == 0x10


def test_more_than_5000_in_a_message_end_the_peer():
    house = House(1)
    with pytest.raises(SubprotocolError):
        house.relay.message(house.sessions[0], 0x02, encode_transactions([b"\x01"] * 5001))


def test_payloads_that_are_no_list_end_the_peer():
    house = House(1)
    for payload in (b"", b"\x80", b"\xc1", b"\xc1\xb8"):
        with pytest.raises(PeerError):
            house.relay.message(house.sessions[0], 0x02, payload)
        with pytest.raises(ProtocolBreach):
            house.relay.message(house.sessions[0], 0x0A, payload)


def test_an_empty_message_is_tolerated():
    house = House(1)
    house.push(house.sessions[0])
    house.loop.settle()
    assert house.sessions[0].ended is None


def test_a_pushed_blob_transaction_ends_the_peer():
    house = House(1)
    house.push(house.sessions[0], blob_tx())
    assert house.sessions[0].ended[0] == 0x10


def fetched(house, *items):
    (source, *_) = house.sessions
    wanted = item(account=1)
    house.announce(source, *[(item_hash(item(account=a)), 2, len(raw_tx(account=a))) for a in range(1, 4)])
    house.loop.advance(0.1)
    ((request_id, _),) = source.requests()
    house.answer(source, request_id, *items, wanted)
    house.loop.settle()
    return source


def test_a_fetched_blob_transaction_without_its_sidecar_ends_the_peer():
    house = House(1)
    assert fetched(house, blob_tx()).ended[0] == 0x10


def test_a_fetched_blob_transaction_with_the_wrong_sidecar_ends_the_peer():
    house = House(1)
    assert fetched(house, blob_tx(sidecar=True)).ended[0] == 0x10


def test_an_undecodable_fetched_blob_transaction_ends_the_peer():
    house = House(1)
    assert fetched(house, b"\x84\x03\xc2\xc0\x80").ended[0] == 0x10


def test_an_oversized_fetched_blob_transaction_is_dropped():
    house = House(1)
    huge = wire(b"\x03" + rlp.encode([bytes(1024 * 1024)]))
    assert fetched(house, huge).ended is None
    assert house.relay.counters.dropped == {"oversized": 1}


def test_work_of_a_peer_that_left_is_void():
    house = House(2, cost=0.001)
    source = house.sessions[0]
    house.push(source, *[item(account=n % 20, nonce=n // 20) for n in range(400)])
    count = len(house.relay.pool)
    assert count < 400
    house.relay.left(source, 8)
    house.loop.settle()
    assert len(house.relay.pool) == count
    house.push(source, item(account=888))
    assert len(house.relay.pool) == count


def test_an_offender_in_a_later_slice_is_disconnected_too():
    house = House(2, cost=0.001)
    house.push(house.sessions[0], *[item(account=n % 20, nonce=n // 20) for n in range(300)], b"\x82\x02\xc0")
    assert house.sessions[0].ended is None
    house.loop.settle()
    assert house.sessions[0].ended[0] == 0x10
    assert len(house.relay.pool) == 300


def test_latency_and_relayed_are_counted_once_per_transaction():
    house = House(4)
    house.push(house.sessions[0], item(account=1), item(account=2))
    house.loop.now += 0.5
    house.loop.settle()
    counters = house.relay.counters
    assert (counters.relayed, counters.latency_count) == (2, 2)
    assert counters.latency_sum == pytest.approx(1.0)
