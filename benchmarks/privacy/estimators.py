"""How the spy guesses whose a transaction was.

The spy knows all links, the latency of its own, and the protocol; for `known_routes` also which way each
relay chose for its stems, which is more than anybody can know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from heapq import heappop, heappush
from math import exp, prod
from statistics import fmean

from benchmarks.privacy.spread import Simulation, Trace

__all__ = ["NAMED", "UNNAMED", "beginnings", "survivors"]

CANDIDATES = 12  # whose distances are looked at
POSTERIOR = 40  # relays that are thought of as the first
STEPS, STEP = 100, 0.05  # of the integral over the moment, seconds


def first_spy(_simulation: Simulation, trace: Trace) -> int | None:
    """Whoever told the spy first."""
    return trace.sights[0].source if trace.sights else None


def predecessor(simulation: Simulation, trace: Trace) -> int | None:
    """Whoever first sent the spy a stem; without one, who began to gossip first."""
    for sight in trace.sights:
        if sight.stem:
            return sight.source
    return earliest(simulation, trace)


def earliest(simulation: Simulation, trace: Trace) -> int | None:
    """Who most likely began to tell first: each began when it was first seen, less what its clocks took.

    With clocks that is a draw from an exponential distribution whose rate the spy knows, so the chance that a
    relay was before all others is one integral over the moment.
    """
    told = beginnings(simulation, trace)
    if not simulation.defence.trickle.is_on or not told:
        return min(told, key=told.__getitem__, default=None)
    early = sorted(told, key=told.__getitem__)[:POSTERIOR]
    rates = _rates(simulation, early)
    chance = dict.fromkeys(early, 0.0)
    for step in range(STEPS):
        moment = told[early[0]] - (step + 0.5) * STEP
        later = {each: 1.0 - exp(-rates[each] * (told[each] - moment)) for each in early}
        together = prod(later.values())
        for each in early:
            # Its density at this moment, and that all others begin later.
            chance[each] += rates[each] * (1.0 - later[each]) * together / later[each]
    return max(chance, key=chance.__getitem__)


def by_distance(simulation: Simulation, trace: Trace) -> int | None:
    """Of those who began early, the one whose distances to all others fit best when these began."""
    began = beginnings(simulation, trace)
    early = sorted(began, key=began.__getitem__)[:CANDIDATES]
    waits = _mean_wait(simulation)
    fits = {each: _fit(_distances(simulation, each, waits), began) for each in early}
    return max(fits, key=fits.__getitem__, default=None)


NAMED: Mapping[str, Callable[[Simulation, Trace], int | None]] = {
    "first spy": first_spy,
    "earliest beginning": earliest,
    "distances": by_distance,
    "predecessor": predecessor,
}


def known_routes(simulation: Simulation, trace: Trace) -> float:
    """All whose stem would have met the spy at the same link, or ended at the same relay, are equal."""
    stems = [sight for sight in trace.sights if sight.stem]
    seen = (stems[0].source, stems[0].spy) if stems else earliest(simulation, trace)
    same = [relay for relay, end in trace.ends.items() if end == seen]
    return 1.0 / len(same) if trace.origin in same else 0.0


def elimination(simulation: Simulation, trace: Trace) -> float:
    """Of a private broadcast, by somebody who knows all its receivers: all whom they do not rule out."""
    if not simulation.defence.private:
        return 0.0
    left = survivors(simulation, trace)
    return 1.0 / len(left) if trace.origin in left else 0.0


UNNAMED: Mapping[str, Callable[[Simulation, Trace], float]] = {
    "known routes": known_routes,
    "elimination": elimination,
}
"""Those that find a group: the chance to pick the right one of it."""


def beginnings(simulation: Simulation, trace: Trace) -> dict[int, float]:
    """By relay, when it was first seen to tell a peer, latency taken off."""
    world = simulation.world
    least: dict[int, float] = {}
    for when, source, spy, _ in trace.sights:
        told = when - world.latency[source, spy]
        if told < least.get(source, float("inf")):
            least[source] = told
    return least


def _rates(simulation: Simulation, relays: Iterable[int]) -> dict[int, float]:
    """By relay, how often a second its clocks tell the spy. All that came in share one, so it counts once."""
    world, trickle = simulation.world, simulation.defence.trickle
    found = {}
    for relay in relays:
        found[relay] = sum(map(world.is_spy, world.dialed[relay])) / trickle.outbound
        if any(map(world.is_spy, world.came[relay])):
            found[relay] += 1.0 / trickle.inbound
    return found


def survivors(simulation: Simulation, trace: Trace) -> set[int]:
    """Who may have sent it, the receivers known: none, and where these are strangers, no peer of one."""
    left = set(simulation.world.honest) - set(trace.receivers)
    if simulation.defence.strangers:
        for receiver in trace.receivers:
            left.difference_update(simulation.world.neighbours[receiver])
    return left


def _mean_wait(simulation: Simulation) -> float:
    """Seconds that a hop takes beside the latency: with clocks, the first of many, roughly."""
    trickle = simulation.defence.trickle
    return trickle.outbound / 4.0 if trickle.is_on else 0.0


def _distances(simulation: Simulation, start: int, wait: float) -> dict[int, float]:
    world, known = simulation.world, simulation.distances
    if start in known:
        return known[start]
    found: dict[int, float] = {}
    known[start] = found
    heap = [(0.0, start)]
    while heap:
        distance, relay = heappop(heap)
        if relay in found:
            continue
        found[relay] = distance
        for other in world.neighbours[relay]:
            if other not in found and not world.is_spy(other):
                heappush(heap, (distance + wait + world.latency[relay, other], other))
    return found


def _fit(distances: Mapping[int, float], began: Mapping[int, float]) -> float:
    """Correlation of distances and beginnings."""
    shared = [each for each in began if each in distances]
    xs, ys = [distances[each] for each in shared], [began[each] for each in shared]
    x, y = fmean(xs), fmean(ys)
    across = sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True))
    spread = sum((a - x) ** 2 for a in xs) * sum((b - y) ** 2 for b in ys)
    return across / spread**0.5 if spread else 0.0
