"""How many transactions peers may bring."""

from __future__ import annotations

from relay.relaying.pace import Allowance, PaceOptions
from tests.aids.relaying import House, item


def test_an_allowance_may_be_overdrawn_and_tells_how_long_the_debt_lasts():
    allowance = Allowance(10.0, 20.0, 0.0)
    assert allowance.spend(20, 0.0) == 0.0
    assert allowance.spend(5, 0.0) == 0.5
    assert allowance.spend(0, 0.5) == 0.0
    assert allowance.spend(20, 1000.0) == 0.0  # no more than the burst was saved
    assert allowance.spend(1, 1000.0) == 0.1


def test_without_a_rate_there_is_no_limit():
    allowance = Allowance(0.0, 0.0, 0.0)
    assert allowance.spend(1_000_000, 0.0) == 0.0


def brought(house, session, count, account):
    house.push(session, *[item(account=account, nonce=nonce) for nonce in range(count)])
    house.loop.settle()


def test_a_peer_beyond_its_share_is_not_read_for_a_while_and_loses_nothing():
    house = House(2, pace=PaceOptions(peer_rate=10.0, peer_burst=20.0))
    greedy, other = house.sessions
    brought(house, greedy, 30, 1)
    brought(house, other, 20, 2)
    assert greedy.paused
    assert not other.paused
    assert house.relay.counters.held_back == 1
    assert len(house.relay.pool) == 50
    house.loop.advance(0.9)
    assert greedy.paused
    house.loop.advance(0.2)
    assert not greedy.paused


def test_all_together_have_a_share_too():
    house = House(2, pace=PaceOptions(total_rate=10.0, total_burst=20.0))
    first, second = house.sessions
    brought(house, first, 15, 1)
    brought(house, second, 15, 2)
    assert not first.paused
    assert second.paused


def test_a_peer_held_back_is_not_read_because_its_backlog_is_done_and_the_other_way_round():
    house = House(
        2, cost=0.001, backlog_high=100, backlog_low=50, pace=PaceOptions(peer_rate=10.0, peer_burst=5.0)
    )
    session = house.sessions[0]
    house.push(session, *[item(account=1, nonce=nonce) for nonce in range(64)])
    peer = house.relay.roster.get(session)
    house.loop.settle()
    assert not peer.paused
    assert peer.held
    assert session.paused
    house.loop.advance(20.0)
    assert not session.paused


def test_nobody_is_read_on_who_has_left():
    house = House(1, pace=PaceOptions(peer_rate=10.0, peer_burst=1.0))
    session = house.sessions[0]
    brought(house, session, 5, 1)
    house.relay.left(session, 8)
    house.loop.advance(5.0)
    assert session.paused
