"""Keys are provided, holders and providers die, and random nodes search for who provides a key."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any

from benchmarks.simulation.measures import RIPE, Series
from benchmarks.simulation.network import Node
from benchmarks.simulation.population import Population
from relay.primitives.keys import NodeId, NodeKey
from relay.protocols.dht import (
    DhtOptions,
    FindDone,
    Key,
    ProvideDone,
    ProviderFound,
    Providers,
    RecordCache,
    to_key,
)

__all__ = ["Found", "Providing"]

EPOCH = 1_800_000_000.0  # seconds: the time of day when the clock is at 0
_RECORDS = 65_536


@dataclass(frozen=True)
class Found:
    """A search that ended.

    Attributes:
        living: it found a provider that lives.
        hops, asked: as the layer counts them.
        seconds: it took.
        since: seconds since the key was last written.
    """

    living: bool
    hops: int
    asked: int
    seconds: float
    since: float


@dataclass
class _Begun:
    key: Key
    when: float
    found: set[NodeId]


class Providing:
    """Puts the DHT on all nodes; each key has a provider, and a new one when that one dies."""

    def __init__(self, population: Population, window: float, keys: int, seed: int) -> None:
        self.found = Series(window)
        self.stored: list[int] = []
        self.refused = 0
        self._population = population
        self._draw = random.Random(seed)
        self._records = RecordCache(population.contacts, _RECORDS)
        self._options = DhtOptions(lossy=not population.onion)
        self._owners: dict[Key, Node] = {}
        self._written: dict[Key, float] = {}
        self._begun: dict[tuple[Node, int], _Begun] = {}
        self._keys = [to_key(sha256(b"key %d" % number).digest()) for number in range(keys)]
        network = population.network
        network.listen(self._provider, ProviderFound)
        network.listen(self._done, FindDone)
        network.listen(self._wrote, ProvideDone)
        population.furnish = self.furnish

    @property
    def under_way(self) -> int:
        """How many searches are, of nodes that live."""
        return sum(node.alive for node, _ in self._begun)

    @property
    def written(self) -> list[Key]:
        """The keys that were written by a provider that lives."""
        return [key for key, node in self._owners.items() if node.alive and key in self._written]

    def furnish(self, node: Node, key: NodeKey) -> None:
        """Put the layer on a node, as the daemon does."""
        network = self._population.network
        layer = Providers(
            node.core,
            key,
            lambda: node.record,
            self._population.kind,
            self._options,
            rand=node.rand,
            unix=lambda: EPOCH + network.now,
            contacts=self._population.contacts,
            records=self._records,
        )
        node.layers = (layer,)

    def begin(self, seconds: float) -> None:
        """Provide all keys, evenly over a time."""
        network = self._population.network
        for number, key in enumerate(self._keys):
            network.at(network.now + seconds * number / len(self._keys), partial(self._provide, key))

    def spread(self, count: int, begin: float, seconds: float) -> None:
        """Begin searches evenly over a time."""
        for number in range(count):
            self._population.network.at(begin + seconds * number / count, self.search)

    def search(self, key: Key | None = None) -> None:
        """Have a random node search for a key that a living node provides."""
        node = self._population.ripe(self._draw, RIPE)
        keys = self.written
        if node is None or not keys:
            return
        key = self._draw.choice(keys) if key is None else key
        if self._owners[key] is node:
            return
        network = self._population.network
        handle = _layer(node).find(key, network.now)
        self._begun[node, handle] = _Begun(key, network.now, set())
        network.settle(node, [])

    def renew(self) -> None:
        """Give keys whose provider died another one."""
        for key, node in list(self._owners.items()):
            if not node.alive:
                self._provide(key)

    def holders(self, key: Key) -> list[Node]:
        """Return the living nodes that keep a record of a key."""
        return [each for each in self._population.alive.all() if _layer(each).store.count(key)]

    def bereave(self, share: float, keys: int) -> list[Key]:
        """Let a share of the holders of some keys die at once; returns the keys."""
        most = min(keys, len(self.written), len(self._population.alive) // 60)
        chosen = self._draw.sample(self.written, most)
        for key in chosen:
            owner = self._owners[key]
            holders = [each for each in self.holders(key) if each is not owner]
            for node in self._draw.sample(holders, int(share * len(holders))):
                self._population.leave(node)
        return [key for key in chosen if self._owners[key].alive]

    def _provide(self, key: Key) -> None:
        node = self._population.ripe(self._draw, RIPE)
        if node is None:
            return
        self._owners[key] = node
        self._written.pop(key, None)
        network = self._population.network
        _layer(node).provide(key, network.now)
        network.settle(node, [])

    def _wrote(self, node: Node, event: Any) -> None:
        if self._owners.get(event.key) is node and event.stored:
            self._written[event.key] = self._population.network.now
            self.stored.append(event.stored)

    def _provider(self, node: Node, event: Any) -> None:
        begun = self._begun.get((node, event.find))
        if begun is not None:
            begun.found.add(event.record.node_id)

    def _done(self, node: Node, event: Any) -> None:
        begun = self._begun.pop((node, event.find), None)
        if begun is None or not self._owners[begun.key].alive:
            return
        now = self._population.network.now
        living = any(each in self._population.alive for each in begun.found)
        since = now - self._written.get(begun.key, now)
        self.found.add(begun.when, Found(living, event.hops, event.asked, now - begun.when, since))


def _layer(node: Node) -> Providers:
    layer = node.layers[0]
    assert isinstance(layer, Providers)
    return layer
