"""Marked transactions: a canary given to one peer, another one of the same nonce given to each, padding."""

from __future__ import annotations

import pytest

from relay.protocols.pyrelay.stems import Padding, Stem
from relay.relaying.chain_data.capability import RelayCapability
from relay.relaying.dandelion import StemOptions
from relay.relaying.trickle import TrickleOptions
from tests.aids.relaying import GWEI, House, item, item_hash, raw_tx


def told(session):
    return session.pushed() + [each for each, _, _ in session.announced()]


def test_a_canary_reaches_everybody_at_one_moment_so_the_order_shows_no_ranks():
    house = House(12)
    house.push(house.sessions[0], item(account=1))
    house.loop.settle()
    assert house.sessions[0].sent == []
    assert all(told(session) == [item_hash(item(account=1))] for session in house.sessions[1:])
    house.loop.advance(60.0)
    assert all(told(session) == [] for session in house.sessions)


def test_with_clocks_a_canary_reaches_all_that_came_in_at_one_moment_that_is_not_its_own():
    house = House(trickle=TrickleOptions(2.0, 5.0), own_listen_seconds=0.0)
    source = house.join()
    spies = [house.join(inbound=True) for _ in range(5)]
    waits = set()
    for account in range(6):
        house.push(source, item(account=account))
        house.loop.settle()
        assert not any(told(session) for session in spies)
        began = house.loop.now
        while not spies[0].sent:
            house.loop.advance(0.05)
        assert all(told(session) for session in spies)
        waits.add(round(house.loop.now - began, 1))
        house.loop.advance(60.0)
    assert len(waits) > 3


def test_a_canary_on_a_stem_is_heard_of_by_one_relay_that_no_spy_chose():
    house = House(stem=StemOptions(fluffing=0))
    dialed = [house.join(capabilities=("pyrelay",), name=f"dialed {n}") for n in range(4)]
    spies = [house.join(capabilities=("pyrelay",), inbound=True) for _ in range(8)]
    door = RelayCapability(house.relay)
    for account in range(20):
        door.message(spies[account % 8], Stem.CODE, Stem([item(account=account)]).encode())
    assert not any(session.foreign or session.sent for session in spies)
    assert len([session for session in dialed if session.foreign]) == 2


@pytest.mark.parametrize("bump", [0, 9])
def test_of_one_nonce_given_differently_to_each_only_the_first_is_passed_on(bump):
    house = House(6)
    variants = [
        item(account=1, value=number, tip=GWEI * (100 + bump) // 100 if number else GWEI, fee=2 * GWEI)
        for number in range(5)
    ]
    hashes = [item_hash(each) for each in variants]
    for session, variant in zip(house.sessions, variants, strict=False):
        house.push(session, variant)
    house.loop.settle()
    assert told(house.sessions[5]) == hashes[:1]
    assert told(house.sessions[0]) == []
    for session in house.sessions:
        house.ask(session, 7, hashes)
        ((_, found),) = session.answers()
        assert found == hashes[:1]
    late = house.join()
    assert told(late) == hashes[:1]


def test_each_of_them_that_replaces_the_one_before_costs_a_tenth_more():
    house = House(2)
    source, other = house.sessions
    taken = 0
    for number in range(10):
        tip = GWEI * 11**number // 10**number + 1
        house.push(source, item(account=1, value=number, tip=tip, fee=2 * tip))
        house.loop.settle()
        taken += len(told(other))
    assert taken == 10
    assert len(house.relay.pool) == 1
    assert house.relay.counters.replaced == 9


def test_padding_goes_to_pyrelays_alone_beside_what_they_are_told():
    house = House(stem=StemOptions(padding=1000))
    source, plain = house.join(), house.join()
    relay = house.join(capabilities=("pyrelay",))
    sizes = set()
    for account in range(12):
        house.push(source, item(account=account))
        house.loop.settle()
        ((name, code, payload),) = relay.foreign
        assert (name, code) == ("pyrelay", Padding.CODE)
        sizes.add(len(payload))
        relay.foreign.clear()
    assert len(sizes) > 8
    assert max(sizes) < 1010
    assert plain.foreign == source.foreign == []
    RelayCapability(house.relay).message(relay, Padding.CODE, payload)
    assert relay.ended is None


def test_without_padding_nothing_is_added():
    house = House()
    source, relay = house.join(), house.join(capabilities=("pyrelay",))
    house.push(source, item(account=1))
    house.loop.settle()
    assert told(relay)
    assert relay.foreign == []


def test_own_ones_are_not_kept_from_listeners_where_clocks_even_them_out():
    house = House(trickle=TrickleOptions(0.2, 0.5), own_listen_seconds=0.0)
    for number in range(12):
        house.join(inbound=number % 2 == 0)
    own = house.relay.submit(raw_tx(account=1))
    assert house.relay.own.progress(own).listening == 0
    house.loop.advance(30.0)
    assert all(told(session) == [own] for session in house.relay.roster._by_session)
