"""Credit for transactions that end in blocks."""

from __future__ import annotations

import pytest

from relay.primitives import rlp
from relay.primitives.errors import DecodeError
from relay.relaying.inclusion import Inclusions, transaction_hashes
from tests.aids.relaying import House, item, item_hash, raw_tx


def inclusions(house):
    return Inclusions(house.relay.pool, house.relay.roster, house.relay.counters)


def test_a_block_credits_who_brought_its_transactions_first_and_the_pool_lets_go_of_them():
    house = House(2)
    first, second = house.sessions
    items = [item(account=number) for number in range(3)]
    house.push(first, *items[:2])
    house.push(second, *items)
    house.loop.settle()
    inclusions(house).block([item_hash(each) for each in items[1:]] + [b"\xee" * 32])
    assert list(house.relay.pool.by_hash) == [item_hash(items[0])]
    merits = [house.relay.roster.get(session).included for session in house.sessions]
    assert merits == [0.05, 0.05]
    assert house.relay.counters.included == 2
    house.push(second, items[1])
    house.loop.settle()
    assert len(house.relay.pool) == 1  # spent: nobody need hear of it again


def test_merit_fades_with_blocks_that_bring_nothing():
    house = House(1)
    house.push(house.sessions[0], item(account=1))
    house.loop.settle()
    tracker = inclusions(house)
    tracker.block([item_hash(item(account=1))])
    for _ in range(50):
        tracker.block([])
    assert 0.0 < house.relay.roster.get(house.sessions[0]).included < 0.005


def test_who_left_gets_no_credit_and_neither_does_who_takes_its_place():
    house = House(1)
    house.push(house.sessions[0], item(account=1))
    house.loop.settle()
    house.relay.left(house.sessions[0], 8)
    house.loop.settle()
    newcomer = house.join()
    inclusions(house).block([item_hash(item(account=1))])
    assert house.relay.roster.get(newcomer).included == 0.0
    assert not house.relay.pool.by_hash


def test_own_transactions_stay_until_whoever_follows_them_lets_go():
    house = House(1)
    tx_hash = house.relay.submit(raw_tx(account=1))
    inclusions(house).block([tx_hash])
    assert tx_hash in house.relay.pool


def test_hashes_of_a_body():
    legacy, typed = raw_tx(account=1, kind=0), raw_tx(account=2)
    body = rlp.encode([[rlp.decode(legacy), typed], [], []])
    assert transaction_hashes(body) == [item_hash(legacy), item_hash(item(account=2))]
    with pytest.raises(DecodeError):
        transaction_hashes(b"\xc0")
