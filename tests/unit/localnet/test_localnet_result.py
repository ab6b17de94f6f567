from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.localnet.result import Outcome, Result, percentile


def result(sent: int = 100, arrived: int = 100) -> Result:
    return Result(3, 12.3456, 6, sent, arrived, 31.256, 144.0)


def test_json_is_one_object_with_the_promised_keys():
    assert json.loads(result().to_json()) == {
        "relays": 3,
        "bootstrap_seconds": 12.35,
        "onion_peers": 6,
        "transactions_sent": 100,
        "transactions_arrived": 100,
        "latency_ms": {"p50": 31.26, "p99": 144.0},
    }


def test_json_has_null_for_what_never_was():
    nothing = json.loads(Result(3, None, 0, 0, 0, None, None).to_json())
    assert nothing["latency_ms"] == {"p50": None, "p99": None}
    assert nothing["bootstrap_seconds"] is None


@pytest.mark.parametrize(
    ("sent", "arrived", "overdue", "wanted", "good"),
    [
        (100, 100, 0, 100, True),
        (100, 99, 1, 100, False),
        (40, 40, 0, 100, False),  # ended by hand before the hundred
        (40, 39, 0, 0, True),  # ended by hand: one was still on its way
        (40, 39, 1, 0, False),
    ],
)
def test_run_is_good_when_all_that_should_have_arrived_did(sent, arrived, overdue, wanted, good):
    assert Outcome(result(sent, arrived), overdue, 14.2, wanted).good is good


def test_a_person_is_told_what_came_of_it():
    lines = Outcome(result(100, 98), 2, 14.24, 100, "/tmp/kept").lines()
    assert lines == [
        "98 of 100 transactions arrived at all of 3 relays; 6 peers by onion",
        "the first was everywhere 14.2 s after the command",
        "2 transactions did not arrive everywhere in time",
        "keys, logs and configuration are in /tmp/kept",
    ]
    assert len(Outcome(result(), 0, None).lines()) == 1


def test_percentile_is_a_value_that_was_measured():
    assert percentile([5.0, 1.0, 4.0, 2.0, 3.0], 50) == 3.0
    assert percentile([1.0, 2.0], 99) == 2.0
    assert percentile([], 50) is None


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 100))
def test_percentile_bounds_its_share(values, percent):
    found = percentile(values, percent)
    assert sum(value <= found for value in values) >= len(values) * percent / 100
