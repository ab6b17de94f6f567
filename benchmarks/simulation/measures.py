"""What is measured while a network lives: lookups against the truth, tables, traffic."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

from benchmarks.simulation.network import Node
from benchmarks.simulation.population import Population
from relay.primitives.keys import NodeId
from relay.protocols.discv5 import LookupDone, RequestFailed
from relay.protocols.discv5.distance import log_distance, xor_distance
from relay.protocols.discv5.table import BUCKET_SIZE

__all__ = ["Health", "Lookups", "Series"]

K = 16
ENOUGH = 15  # of the 16 nearest
RIPE = 120.0  # seconds a node has lived before it is made to search: its first refresh is over
NEIGHBOURS = 16
SAMPLE = 200  # nodes whose tables are looked at in one window


class Series:
    """Values by window of time."""

    def __init__(self, window: float) -> None:
        self.window = window
        self._values: dict[int, list[Any]] = {}

    def add(self, when: float, value: Any) -> None:
        self._values.setdefault(int(when // self.window), []).append(value)

    def windows(self) -> list[tuple[float, list[Any]]]:
        """Return the middle of each window in minutes, and what was added in it."""
        return [((each + 0.5) * self.window / 60, self._values[each]) for each in sorted(self._values)]

    def all(self) -> list[Any]:
        return [value for _, values in self.windows() for value in values]


@dataclass(frozen=True)
class Judged:
    """A lookup that ended: how many of the nodes that lived all the while and are nearest it returned.

    Attributes:
        right: of the 16 nearest.
        hops, asked: as the core counts them.
        seconds: it took.
        young: of the nodes it missed, those that had lived less than two minutes when it began.
    """

    right: int
    hops: int
    asked: int
    seconds: float
    young: int

    @property
    def good(self) -> bool:
        return self.right >= ENOUGH


@dataclass
class _Begun:
    node: Node
    target: NodeId
    when: float


class Lookups:
    """Random nodes look up random ids; each result is judged at its end.

    A node counts as nearest if it lived when the lookup began and still lives when it ends, however young.
    """

    def __init__(self, population: Population, window: float, seed: int) -> None:
        self.judged = Series(window)
        self.refused = 0
        self.lost = 0
        self._population = population
        self._draw = random.Random(seed)
        self._open: dict[tuple[Node, int], _Begun] = {}
        population.network.listen(self._ended, LookupDone, RequestFailed)

    @property
    def under_way(self) -> int:
        """How many lookups are, of nodes that live."""
        return sum(node.alive for node, _ in self._open)

    def spread(self, count: int, begin: float, seconds: float) -> None:
        """Begin lookups evenly over a time."""
        for number in range(count):
            self._population.network.at(begin + seconds * number / count, self.begin)

    def begin(self) -> None:
        network = self._population.network
        node = self._population.ripe(self._draw, RIPE)
        if node is None:
            return
        target = NodeId(self._draw.randbytes(32))
        # A lookup without anybody to ask ends at once.
        begun = _Begun(node, target, network.now)
        request = node.core.lookup(target, network.now)
        self._open[node, request] = begun
        network.settle(node, [])

    def _ended(self, node: Node, event: Any) -> None:
        begun = self._open.pop((node, event.request), None)
        if begun is None:
            return
        if isinstance(event, RequestFailed):
            self.refused += 1
            return
        now = self._population.network.now
        found = {contact.node_id for contact in event.contacts}
        missed = [each for each in self._truth(begun, found) if each.core.node_id not in found]
        young = sum(each.born > begun.when - RIPE for each in missed)
        right = K - len(missed)
        self.judged.add(begun.when, Judged(right, event.hops, event.asked, now - begun.when, young))

    def _truth(self, begun: _Begun, found: set[NodeId]) -> list[Node]:
        near = self._population.alive.nearest(begun.target, 2 * K)
        there = [each for each in near if each is not begun.node and each.born <= begun.when][:K]
        # Who answered and has died since, or came in between, was there too, and leaves that much less room.
        ids = {each.core.node_id for each in there} | found
        nearest = set(sorted(ids, key=partial(xor_distance, begun.target))[:K])
        return [each for each in there if each.core.node_id in nearest]

    def drop_dead(self) -> None:
        """Forget lookups of nodes that died."""
        for key in [key for key in self._open if not key[0].alive]:
            del self._open[key]
            self.lost += 1


@dataclass(frozen=True)
class Tables:
    """The tables of a sample of nodes at one time.

    Attributes:
        size: entries in the middle.
        live: part of the entries that live.
        proved: part of the entries that have answered their node.
        fill: entries, as a part of what the buckets could hold of the nodes there are.
        near: part of the 16 nearest living nodes that a node has in its table.
        sessions: kept by a node.
    """

    size: float
    live: float
    proved: float
    fill: float
    near: float
    sessions: float


class Health:
    """Looks at tables."""

    def __init__(self, population: Population, window: float, seed: int) -> None:
        self.tables = Series(window)
        self._population = population
        self._draw = random.Random(seed)

    def look(self) -> None:
        nodes = self._population.alive.all()
        chosen = nodes if len(nodes) <= SAMPLE else self._draw.sample(nodes, SAMPLE)
        ripe = [each for each in chosen if each.born <= self._population.network.now - RIPE]
        if ripe:
            self.tables.add(self._population.network.now, self._judge(ripe))

    def _judge(self, nodes: list[Node]) -> Tables:
        alive = self._population.alive
        entries = [entry for node in nodes for entry in node.core.table]
        total = max(len(entries), 1)
        return Tables(
            size=len(entries) / len(nodes),
            live=sum(entry.contact.node_id in alive for entry in entries) / total,
            proved=sum(entry.live for entry in entries) / total,
            fill=fmean(self._fill(node) for node in nodes),
            near=fmean(self._near(node) for node in nodes),
            sessions=fmean(node.core.session_count for node in nodes),
        )

    def _fill(self, node: Node) -> float:
        own = node.core.node_id
        held = Counter(log_distance(own, entry.contact.node_id) for entry in node.core.table)
        room = possible = 0
        for distance in range(256, 239, -1):
            there = min(self._population.alive.at(own, distance), BUCKET_SIZE)
            possible += there
            room += min(held[distance], there)
        return room / max(possible, 1)

    def _near(self, node: Node) -> float:
        near = self._population.alive.nearest(node.core.node_id, NEIGHBOURS + 1)[1:]
        return sum(each.core.node_id in node.core.table.entries for each in near) / max(len(near), 1)
