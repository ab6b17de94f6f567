"""Clocks of peers, and transactions that wait for them."""

from __future__ import annotations

from statistics import fmean

import pytest

from relay.relaying.options import RelayOptions
from relay.relaying.trickle import TrickleClocks, TrickleOptions, exponential
from tests.aids.relaying import House, item, item_hash, raw_tx, seeded

SLOW = TrickleOptions(outbound=2.0, inbound=5.0)


def trickling(**options):
    house = House(trickle=SLOW, own_listen_seconds=0.0, **options)
    source = house.join(name="source")
    dialed = [house.join(name=f"dialed {n}") for n in range(6)]
    came = [house.join(name=f"came {n}", inbound=True) for n in range(6)]
    return house, source, dialed, came


def told(session):
    return session.pushed() + [each for each, _, _ in session.announced()]


def moments(house, sessions, seconds=60.0, step=0.01):
    """When each session was told, in seconds from now."""
    found = {}
    for number in range(round(seconds / step)):
        house.loop.advance(step)
        for session in sessions:
            if session.name not in found and told(session):
                found[session.name] = round((number + 1) * step, 2)
    return found


def test_waits_have_the_mean_that_was_asked_for():
    rand = seeded(b"mean")
    assert fmean(exponential(2.0, rand) for _ in range(5000)) == pytest.approx(2.0, rel=0.1)


def test_a_clock_that_has_not_struck_keeps_its_moment():
    clocks = TrickleClocks(SLOW, seeded())
    due = clocks.outbound("a", 10.0)
    assert due > 10.0
    assert clocks.outbound("a", due - 0.001) == due
    assert clocks.outbound("a", due) > due
    assert clocks.outbound("b", 10.0) != due


def test_all_that_came_in_share_one_clock_and_who_was_dialed_has_its_own():
    house, source, dialed, came = trickling()
    house.push(source, item(account=1))
    found = moments(house, [*dialed, *came])
    assert len(found) == 12
    assert len({found[session.name] for session in came}) == 1
    assert len({found[session.name] for session in dialed}) == 6


def test_own_and_relayed_ones_wait_in_the_same_queues():
    house, source, dialed, came = trickling()
    house.push(source, item(account=1))
    own = house.relay.submit(raw_tx(account=2))
    for _ in range(6000):
        house.loop.advance(0.01)
        for session in (*dialed, *came):
            news = told(session)
            assert news in ([], [item_hash(item(account=1)), own], [own, item_hash(item(account=1))])
    assert all(not told(session) for session in (*dialed, *came))


def test_off_means_at_once():
    assert not RelayOptions().trickle.is_on
    house = House(3)
    house.push(house.sessions[0], item(account=1))
    house.loop.settle()
    assert all(told(session) for session in house.sessions[1:])


def test_who_brings_it_meanwhile_is_not_told():
    house, source, dialed, came = trickling()
    tx = item(account=1)
    house.push(source, tx)
    house.push(dialed[0], tx)
    house.push(came[0], tx)
    house.loop.advance(120.0)
    assert told(dialed[0]) == told(came[0]) == []
    assert told(dialed[1]) == told(came[1]) == [item_hash(tx)]


def test_a_transaction_is_unknown_to_who_was_not_told_of_it():
    house, source, _dialed, came = trickling()
    tx = item(account=1)
    house.push(source, tx)
    house.ask(came[0], 7, [item_hash(tx)])
    assert came[0].answers() == [(7, [])]
    house.loop.advance(120.0)
    house.ask(came[0], 8, [item_hash(tx)])
    assert came[0].answers() == [(8, [item_hash(tx)])]


@pytest.mark.parametrize("settled", [False, True])
def test_a_newcomer_hears_what_waits_no_earlier_than_the_others(settled):
    house, source, _dialed, came = trickling()
    old, new = item(account=1), item(account=2)
    house.push(source, old)
    house.loop.advance(120.0)
    house.push(source, new)
    if settled:
        house.loop.settle()
    late_in, late_out = house.join(inbound=True, name="late in"), house.join(name="late out")
    assert told(late_in) == told(late_out) == [item_hash(old)]
    for session in came:
        session.sent.clear()
    found = moments(house, [came[0], late_in, late_out], 120.0)
    assert found["came 0"] == found["late in"] > 0.01
    assert found["late out"] > 0.01


def test_what_waits_is_bounded_and_goes_out_before_its_time():
    house, source, dialed, came = trickling()
    house.relay.gossip._trickle._options = TrickleOptions(2.0, 5.0, batch=10)
    house.push(source, *[item(account=n) for n in range(10)])
    house.loop.settle()
    assert all(len(told(session)) == 10 for session in (*dialed, *came))
    house.loop.advance(60.0)
    assert not any(told(session) for session in (*dialed, *came))


def test_who_leaves_is_told_nothing_more():
    house, source, dialed, _came = trickling()
    house.push(source, item(account=1))
    house.relay.left(dialed[0], 8)
    house.loop.advance(120.0)
    assert told(dialed[0]) == []
    assert told(dialed[1]) == [item_hash(item(account=1))]


def test_one_is_counted_as_relayed_once():
    house, source, _dialed, _came = trickling()
    house.push(source, item(account=1), item(account=2))
    house.loop.advance(120.0)
    counters = house.relay.counters
    assert counters.relayed == counters.latency_count == 2
    assert counters.pushes + counters.announcements == 2 * 12
    assert not house.relay.gossip._trickle.fresh


def test_own_progress_counts_who_was_told():
    house, _source, _dialed, _came = trickling()
    tx_hash = house.relay.submit(raw_tx(account=2))
    assert house.relay.own.progress(tx_hash).announced == 0
    house.loop.advance(120.0)
    assert house.relay.own.progress(tx_hash).announced == 13
