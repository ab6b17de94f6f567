"""What marked transactions tell of links, and the receivers of private broadcasts of who is no sender."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean, median

from benchmarks.privacy.estimators import beginnings, survivors
from benchmarks.privacy.spread import Simulation, Trace

SPACE = 200.0  # seconds between two transactions


def tagged_links(simulation: Simulation, targets: Sequence[int], tags: int) -> dict[str, float]:
    """Give each target so many transactions of its own, and take for its peers who began to tell first.

    Returns:
        The share of those that are, as many being named as there are; and what a blind guess would give.
    """
    right, blind = [], []
    world = simulation.world
    now = 0.0
    for target in targets:
        late: dict[int, list[float]] = defaultdict(list)
        for _ in range(tags):
            now += SPACE
            found = beginnings(simulation, simulation.tag(target, now))
            for relay, when in found.items():
                late[relay].append(when - now)
        late.pop(target, None)
        peers = {each for each in world.neighbours[target] if not world.is_spy(each)}
        order = sorted(late, key=lambda relay: fmean(late[relay]))
        right.append(len(peers.intersection(order[: len(peers)])) / len(peers))
        blind.append(len(peers) / (len(world.honest) - 1))
    return {"tags": tags, "right": round(fmean(right), 4), "blind": round(fmean(blind), 4)}


def left_by_elimination(
    simulation: Simulation, origins: Sequence[int], counts: Sequence[int]
) -> dict[int, float]:
    """How many relays may be the sender of so many private broadcasts, all receivers known: the median."""
    world, left = simulation.world, defaultdict(list)
    now = 0.0
    for origin in origins:
        suspects = set(world.honest)
        for number in range(1, max(counts) + 1):
            now += SPACE
            trace = Trace(origin, now, receivers=simulation.receivers(origin, now))
            suspects &= survivors(simulation, trace)
            if number in counts:
                left[number].append(len(suspects))
    return {count: median(left[count]) for count in counts}
