"""The simulation is deterministic by its seed, and the encryption changes no message."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from benchmarks.simulation.curve import slope
from benchmarks.simulation.network import Agenda
from benchmarks.simulation.run import Scenario, run

SMALL = {"nodes": 24, "minutes": 1.0, "grow": 4.0, "lookups": 20, "keys": 6, "finds": 6}


def outcome(**changes: Any) -> dict[str, Any]:
    result = run(Scenario(**(SMALL | changes)), lambda _line: None)
    del result["cost"]  # of this machine
    return result


@pytest.mark.parametrize("network", ["onion", "udp"])
def test_the_same_seed_gives_the_same_run_and_another_one_another(network: str) -> None:
    first = outcome(network=network, suite="null")
    assert json.dumps(outcome(network=network, suite="null")) == json.dumps(first)
    assert json.dumps(outcome(network=network, suite="null", seed=2)) != json.dumps(first)
    assert first["lookups"]["good"] > 0.9


def test_null_encryption_leaves_every_message_as_it_is() -> None:
    real, null = outcome(suite="real"), outcome(suite="null")
    for result in (real, null):
        del result["scenario"]
    assert real["messages"] == null["messages"]
    assert json.dumps(real) == json.dumps(null)


@pytest.mark.slow
def test_null_encryption_leaves_every_message_as_it_is_at_a_thousand_nodes() -> None:
    # A standing network and half a minute of virtual time: 15,000 packets, dials and searches under way.
    short = {"nodes": 1000, "minutes": 0.5, "grow": 0.0, "lookups": 40, "keys": 0, "rest": 20.0}
    real, null = outcome(suite="real", **short), outcome(suite="null", **short)
    assert real["packets"] > 5000
    assert real["messages"] == null["messages"]
    assert (real["bytes"], real["events"]) == (null["bytes"], null["events"])


def test_a_network_that_stands_is_found_through_at_once() -> None:
    result = outcome(suite="null", nodes=60, grow=0.0, minutes=2.0)
    assert result["lookups"]["good"] > 0.95
    assert result["finds"]["living"] == 1.0
    assert result["tables"]["proved"] > 0.9


def test_the_agenda_keeps_the_order_of_time_and_of_turns() -> None:
    draw, agenda = random.Random(3), Agenda()
    whens = [draw.choice([draw.random() * 40, float(draw.randrange(40))]) for _ in range(2000)]
    for number, when in enumerate(whens[:1000]):
        agenda.put(when, None, number)
    taken = []
    for end in (0.0, 7.3, 7.3, 20.0):
        while (item := agenda.take(end)) is not None:
            assert item[0] <= end
            taken.append(item[3])
    # What comes while it runs, and for what is over, has its turn too.
    later = [max(when, 20.0) for when in whens[1000:]]
    for number, when in enumerate(later, 1000):
        agenda.put(when, None, number)
    while (item := agenda.take(99.0)) is not None:
        taken.append(item[3])
    times = whens[:1000] + later
    assert taken == sorted(range(2000), key=lambda number: (times[number], number))


def test_the_slope_of_a_curve_is_by_doublings() -> None:
    points = [{"nodes": 100 * 2**step, "hops": 1.0 + 0.25 * step} for step in range(5)]
    assert slope(points) == pytest.approx(0.25)
    assert slope(points[:1]) == 0.0
