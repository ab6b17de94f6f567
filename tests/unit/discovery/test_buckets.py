"""Bounds for packets of strangers: tokens, work, memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.discovery.buckets import Buckets, Budget, Drop, Gate, GateOptions, Rate, prefixes_of

TIGHT = GateOptions(
    host=Rate(1.0, 3.0),
    network=Rate(2.0, 5.0),
    strangers=Rate(0.5, 1.0),
    proved=Rate(0.5, 2.0),
    lan=Rate(0.9, 4.0),
    sources=16,
)


def test_bucket_gives_its_burst_and_then_its_rate() -> None:
    buckets = Buckets(Rate(2.0, 3.0), 10)
    assert [buckets.take("a", 0.0) for _ in range(4)] == [True, True, True, False]
    assert buckets.take("b", 0.0)
    assert [buckets.take("a", 0.5) for _ in range(2)] == [True, False]
    assert [buckets.take("a", 1000.0) for _ in range(4)] == [True, True, True, False]


def test_being_refused_costs_nothing() -> None:
    buckets = Buckets(Rate(1.0, 1.0), 10)
    assert buckets.take("a", 0.0)
    assert not any(buckets.take("a", 0.1 * step) for step in range(1, 10))
    assert buckets.take("a", 1.0)


def test_longest_unheard_bucket_is_forgotten_first() -> None:
    buckets = Buckets(Rate(0.0, 1.0), 2)
    assert buckets.take("a", 0.0)
    assert buckets.take("b", 0.0)
    assert not buckets.take("a", 0.0)  # now b is the longest unheard
    assert buckets.take("c", 0.0)
    assert not buckets.take("a", 0.0)
    assert buckets.take("b", 0.0)
    assert len(buckets) == 2


def test_budget_may_be_overdrawn_once_and_is_paid_back() -> None:
    budget = Budget(Rate(0.5, 1.0))
    assert budget.is_left(100.0)
    budget.spend(2.0)
    assert not budget.is_left(100.0)
    assert not budget.is_left(102.0)  # one second was gained, one is owed
    assert budget.is_left(102.5)
    assert budget.is_left(1000.0)
    budget.spend(1.0)  # it never holds more than its burst
    assert not budget.is_left(1000.0)


def test_clock_that_stands_still_gives_nothing() -> None:
    budget = Budget(Rate(1000.0, 1.0))
    assert budget.is_left(5.0)
    budget.spend(1.0)
    assert not budget.is_left(5.0)
    assert not budget.is_left(4.0)


@pytest.mark.parametrize(
    ("host", "prefixes"),
    [
        ("8.8.4.4", ("8.8.4.4", "8.8.4")),
        ("2a00:1:2:3:4:5:6:7", ("2a00000100020003", "2a0000010002")),
        ("2a00:1:2:3::1", ("2a00000100020003", "2a0000010002")),
    ],
)
def test_host_has_a_key_for_its_machine_and_one_for_its_network(host: str, prefixes: tuple[str, str]) -> None:
    assert prefixes_of(host) == prefixes


def test_one_address_gets_its_share() -> None:
    gate = Gate(TIGHT)
    assert [gate.admit("8.8.8.8", 0.0, lan=False) for _ in range(4)] == [None, None, None, Drop.HOST]


def test_addresses_of_one_network_share_a_bound() -> None:
    gate = Gate(TIGHT)
    found = [gate.admit(f"8.8.8.{number}", 0.0, lan=False) for number in range(7)]
    assert found == [None] * 5 + [Drop.NETWORK] * 2
    assert gate.admit("8.8.9.1", 0.0, lan=False) is None


def test_every_address_of_an_ipv6_link_is_one_host() -> None:
    gate = Gate(TIGHT)
    found = [gate.admit(f"2a00:1:2:3::{number}", 0.0, lan=False) for number in range(4)]
    assert found == [None, None, None, Drop.HOST]


def test_forged_sources_are_stopped_by_the_work_they_cause() -> None:
    gate = Gate(TIGHT)
    assert gate.admit("8.8.8.8", 0.0, lan=False) is None
    gate.spent(1.5)
    assert gate.admit("9.9.9.9", 0.0, lan=False) is Drop.STRANGERS
    assert gate.admit("9.9.9.9", 1.1, lan=False) is None


def test_proved_hosts_are_heard_while_strangers_are_not() -> None:
    gate = Gate(TIGHT)
    gate.prove("7.7.7.7")
    assert gate.admit("8.8.8.8", 0.0, lan=False) is None
    gate.spent(1.5)
    assert gate.admit("8.8.8.8", 0.0, lan=False) is Drop.STRANGERS
    assert gate.admit("7.7.7.7", 0.0, lan=False) is None
    gate.spent(2.5)
    assert gate.admit("7.7.7.7", 0.0, lan=False) is Drop.PROVED


def test_our_own_network_has_no_bound_but_time() -> None:
    gate = Gate(TIGHT)
    assert {gate.admit("127.0.0.1", 0.0, lan=True) for _ in range(1000)} == {None}
    gate.spent(5.0)
    assert gate.admit("127.0.0.1", 0.0, lan=True) is Drop.LAN
    assert gate.admit("8.8.8.8", 0.0, lan=False) is None


@given(st.lists(st.tuples(st.integers(0, 255), st.booleans(), st.floats(0, 10)), max_size=200))
def test_memory_is_bounded_whatever_comes(packets: list[tuple[int, bool, float]]) -> None:
    gate = Gate(TIGHT)
    for number, proved, seconds in packets:
        host = f"{1 + number}.{number}.{number}.1"
        gate.admit(host, seconds, lan=False)
        gate.spent(0.01)
        if proved:
            gate.prove(host)
    assert len(gate) <= 3 * TIGHT.sources
