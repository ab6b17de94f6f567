"""The simulation is deterministic by its seed, and the encryption changes no message."""

from __future__ import annotations

import json
from typing import Any

import pytest

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
