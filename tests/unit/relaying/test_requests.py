"""Answers: transactions from the pool, shared pieces, empty ones for chain data."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.primitives import rlp
from relay.primitives.errors import PeerError, ProtocolBreach, SubprotocolError
from relay.protocols.eth.messages import (
    BlockAccessLists,
    BlockHeaders,
    GetBlockAccessLists,
    GetBlockHeaders,
    GetReceipts,
    Receipts,
)
from relay.relaying.packing import Piece
from relay.relaying.requests import PieceCache
from tests.aids.relaying import GENESIS, House, fake, item, item_hash


def stocked(count=40, peers=8, **options):
    house = House(peers, **options)
    items = [item(account=n % 10, nonce=n // 10) for n in range(count)]
    house.push(house.sessions[0], *items)
    house.loop.settle()
    return house, [item_hash(each) for each in items]


def test_what_is_asked_for_is_given_in_order_without_the_unknown():
    house, hashes = stocked()
    peer = house.sessions[1]
    peer.sent.clear()
    wanted = [hashes[5], b"?" * 32, hashes[3], hashes[30]]
    house.ask(peer, 77, wanted)
    assert peer.answers() == [(77, [hashes[5], hashes[3], hashes[30]])]
    assert (house.relay.counters.served, house.relay.counters.missed) == (3, 1)


@pytest.mark.parametrize("request_id", [0, 1, 127, 128, 2**64 - 1])
def test_every_request_id_comes_back_and_empty_answers_go_out(request_id):
    house = House(1)
    house.ask(house.sessions[0], request_id, [b"?" * 32])
    house.ask(house.sessions[0], request_id, [])
    assert house.sessions[0].answers() == [(request_id, []), (request_id, [])]


def test_peers_that_ask_for_what_was_announced_get_just_that():
    house, hashes = stocked(peers=12)
    for session in house.sessions[1:]:
        announced = [entry[0] for entry in session.announced()]
        pushed = session.pushed()
        assert sorted(announced + pushed) == sorted(hashes)
        house.ask(session, 5, announced)
        assert session.answers() == [(5, announced)]
    assert house.relay.counters.missed == 0


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_selection_in_any_order_is_answered_exactly(data):
    house, hashes = stocked(count=24, peers=6)
    peer = house.sessions[3]
    announced = [entry[0] for entry in peer.announced()]
    peer.sent.clear()
    start = data.draw(st.integers(0, len(announced)))
    stop = data.draw(st.integers(0, len(announced)))
    others = data.draw(st.lists(st.sampled_from([*hashes, b"?" * 32]), max_size=10))
    wanted = others[:3] + announced[start:stop] + others[3:]
    house.ask(peer, 9, wanted)
    assert peer.answers() == [(9, [each for each in wanted if each in house.relay.pool])]


def test_answers_end_near_two_mebibytes():
    house = House(1, answer_bytes=2000)
    house.push(house.sessions[0], *[item(account=n) for n in range(40)])
    hashes = [item_hash(item(account=n)) for n in range(40)]
    house.ask(house.sessions[0], 1, hashes)
    ((_, given),) = house.sessions[0].answers()
    assert given == hashes[: len(given)]
    assert 2000 <= sum(len(item(account=n)) for n in range(len(given))) < 2150


def test_only_so_many_hashes_are_looked_up():
    house, hashes = stocked(answer_lookups=5)
    house.ask(house.sessions[0], 1, hashes)
    ((_, given),) = house.sessions[0].answers()
    assert given == hashes[:5]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x80",
        b"\xc0",
        b"\xc1\x01",
        b"\xc2\x01\x80",
        b"\xc2\xc0\xc0",
        b"\xc3\x00\xc0\xc0",
        b"\xc2\x00\xc0",  # the id 0 is 0x80
        b"\xcb\x89" + b"\x01" * 9 + b"\xc0",
        b"\xc2\x01\xc0\x00",
        b"\xc4\x01\xc2\x80\x80",
        rlp.encode([1, [bytes(32), bytes(31)]]),
        rlp.encode([1, [bytes(33)]]),
        rlp.encode([1, [[bytes(32)]]]),
        rlp.encode([1, [bytes(32)], 1]),
    ],
)
def test_malformed_requests_are_breaches(payload):
    house = House(1)
    with pytest.raises(ProtocolBreach):
        house.relay.message(house.sessions[0], 0x09, payload)


@settings(max_examples=150)
@given(payload=st.binary(max_size=80), code=st.integers(0, 0x20))
def test_hostile_bytes_only_ever_raise_peer_errors(payload, code):
    house = House(1)
    with suppress(PeerError):
        house.relay.message(house.sessions[0], code, payload)
    house.loop.advance(0.2)


def test_chain_data_is_answered_with_nothing_said_correctly():
    house = House(1, version=71)
    (peer,) = house.sessions
    for request, answer in (
        (GetBlockHeaders(7, GENESIS, 1), BlockHeaders(7, ())),
        (GetReceipts(8, (GENESIS,)), Receipts(8, ())),
        (GetBlockAccessLists(9, (GENESIS, GENESIS)), BlockAccessLists(9, (b"\x80", b"\x80"))),
    ):
        house.relay.message(peer, request.CODE, request.encode(71))
        assert peer.sent.pop() == (answer.CODE, answer.encode(71))
    assert house.relay.counters.chain.empty == 3


def test_a_request_of_a_later_version_is_an_offence():
    house = House(1, version=69)
    with pytest.raises(SubprotocolError):
        house.relay.message(house.sessions[0], 0x12, GetBlockAccessLists(9, ()).encode(71))


def test_piece_cache_is_bounded_by_bytes_and_age():
    cache = PieceCache(max_bytes=1000, max_age=10.0)
    pieces = [Piece([fake(n)], 300) for n in range(5)]
    cache.tick(100.0)
    cache.add_all(pieces)
    assert len(cache) == 3
    assert cache.get(pieces[0].txs[0].hash) is None
    assert cache.get(pieces[4].txs[0].hash) is pieces[4]
    cache.add_all([pieces[4]])
    assert len(cache) == 3
    cache.tick(109.0)
    assert len(cache) == 3
    cache.tick(110.0)
    assert len(cache) == 0
    cache.add_all([Piece([fake(9)], 900)])
    assert len(cache) == 1
