"""Eclipse: how many places honest peers keep, and how often they keep none after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from statistics import mean
from typing import Any

from benchmarks.attacks.clock import run_virtually
from benchmarks.attacks.peers import ALL, LIKE_CORE, NO_ANCHORS, NONE, Attack, Defence, Memory, Relay, World

HOUR = 3600.0
BEFORE = 4 * HOUR  # of peace
DEFENCES = {"refuse when full": NONE, "Bitcoin Core's way": LIKE_CORE, "pyrelay": NO_ANCHORS}
RESTART_DEFENCES = {"none": NONE, "without anchors": NO_ANCHORS, "with anchors": ALL}
EVERY = {10: 1800.0, 100: 7200.0}
"""Seconds between two tries of one of the attacker's identities, by their number for each honest node."""
SIEGES = (
    (10, "none", "refuse when full"),
    (10, "none", "pyrelay"),
    (10, "works", "refuse when full"),
    (10, "works", "pyrelay"),
    (100, "none", "refuse when full"),
    (100, "none", "pyrelay"),
    (10, "junk", "pyrelay"),
    (10, "none", "Bitcoin Core's way"),
)


def shares(world: World, relay: Relay) -> tuple[float, float]:
    """Return the honest share of the inbound and of the dialed peers."""
    sides = []
    for inbound in (True, False):
        keys = [each.public_key for each in relay.peers.sessions() if each.inbound is inbound]
        sides.append(sum(map(world.is_honest, keys)) / len(keys) if keys else 0.0)
    return sides[0], sides[1]


async def _siege(seed: int, defence: Defence, attack: Attack, hours: int) -> list[tuple[float, float]]:
    world = World(seed)
    found: list[tuple[float, float]] = []

    async def besiege() -> None:
        await asyncio.sleep(BEFORE)
        world.begin(attack)
        for _ in range(hours):
            await asyncio.sleep(HOUR)
            assert world.relay is not None
            found.append(shares(world, world.relay))

    async with asyncio.TaskGroup() as tasks:
        world.relay = Relay(world, Memory(), defence)
        around = [tasks.create_task(world.live()), tasks.create_task(besiege())]
        await world.relay.run(BEFORE + hours * HOUR + 60.0)
        for task in around:
            task.cancel()
    return found


def siege(attack: Attack, defence: Defence, seeds: Iterable[int], hours: int) -> dict[str, Any]:
    """Attack a relay that has lived in peace for hours; honest shares by hour of the attack."""
    runs = [run_virtually(_siege(seed, defence, attack, hours)) for seed in seeds]
    by_hour = list(zip(*runs, strict=True))
    return {
        "inbound": [round(mean(each[0] for each in hour), 3) for hour in by_hour],
        "dialed": [round(mean(each[1] for each in hour), 3) for hour in by_hour],
    }


async def _restarts(seed: int, defence: Defence, attack: Attack, count: int) -> list[tuple[float, float]]:
    """Restart a relay under attack, each time after an hour; look half an hour after each start."""
    world, memory = World(seed), Memory()
    found: list[tuple[float, float]] = []

    async def look() -> None:
        await asyncio.sleep(HOUR / 2)
        assert world.relay is not None
        found.append(shares(world, world.relay))

    async with asyncio.TaskGroup() as tasks:
        living = tasks.create_task(world.live())
        world.relay = Relay(world, memory, defence)
        await world.relay.run(BEFORE / 2)
        world.begin(attack)
        for _ in range(count):
            world.relay = None
            await asyncio.sleep(60.0)
            world.relay = Relay(world, memory, defence)
            looking = tasks.create_task(look())
            await world.relay.run(HOUR)
            await looking
        living.cancel()
    return found


def restarts(attack: Attack, defence: Defence, seeds: Iterable[int], count: int) -> dict[str, Any]:
    """Restart often under attack; how many of the relays have no honest peer left after each."""
    runs = [run_virtually(_restarts(seed, defence, attack, count)) for seed in seeds]
    by_restart = list(zip(*runs, strict=True))
    return {
        "dialed": [round(mean(each[1] for each in runs), 3) for runs in by_restart],
        "inbound": [round(mean(each[0] for each in runs), 3) for runs in by_restart],
        "no_honest_dialed": [round(mean(each[1] == 0 for each in runs), 3) for runs in by_restart],
        "eclipsed": [round(mean(each == (0, 0) for each in runs), 3) for runs in by_restart],
    }


def attack_of(factor: int, merit: str) -> Attack:
    return Attack(factor, EVERY[factor], merit)


def measure(hours: int, seeds: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Besiege the relay with each defence, by an attacker who is of no use, pretends to be, and is."""
    found: dict[str, Any] = {"hours": hours, "seeds": seeds, "tries_every_seconds": EVERY, "siege": []}
    for factor, merit, name in SIEGES:
        result = siege(attack_of(factor, merit), DEFENCES[name], range(1, seeds + 1), hours)
        found["siege"].append({"identities": factor, "attacker": merit, "defence": name, **result})
        tell(
            f"siege x{factor} {merit}, {name}: inbound {result['inbound'][-1]} dialed {result['dialed'][-1]}"
        )
    return found


def measure_restarts(count: int, seeds: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Restart the relay under attack with each defence."""
    found: dict[str, Any] = {"restarts": count, "seeds": seeds, "runs": []}
    for factor in EVERY:
        for name, defence in RESTART_DEFENCES.items():
            result = restarts(attack_of(factor, "none"), defence, range(1, seeds + 1), count)
            found["runs"].append({"identities": factor, "defence": name, **result})
            tell(f"restarts x{factor}, {name}: {result}")
    return found
