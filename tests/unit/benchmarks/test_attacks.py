"""The simulations of attacks: the same seed gives the same run, and what is measured is the real thing."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.attacks import eclipse
from benchmarks.attacks.clock import run_virtually
from benchmarks.attacks.peers import ALL, NONE, Attack
from benchmarks.attacks.sybil import one_key

HARD = Attack(identities=10, every=900.0)


def test_hours_pass_in_no_time() -> None:
    async def sleep() -> float:
        await asyncio.sleep(36_000.0)
        return asyncio.get_running_loop().time()

    assert run_virtually(sleep()) == pytest.approx(36_000.0)


def test_who_waits_for_nothing_is_told() -> None:
    async def wait() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="waits for ever"):
        run_virtually(wait())


def test_the_defence_keeps_more_honest_peers_in_a_siege(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eclipse, "BEFORE", 3600.0)
    with_none = eclipse.siege(HARD, NONE, (1,), 3)
    assert eclipse.siege(HARD, ALL, (1,), 3)["inbound"][-1] > with_none["inbound"][-1]


@pytest.mark.slow
def test_a_siege_repeats_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eclipse, "BEFORE", 3600.0)
    assert eclipse.siege(HARD, ALL, (1,), 2) == eclipse.siege(HARD, ALL, (1,), 2)


@pytest.mark.slow
def test_sixteen_ground_ids_own_a_key() -> None:
    assert one_key(40, 0, 1)["found"] > 0.9
    assert one_key(40, 16, 1)["found"] < 0.2
