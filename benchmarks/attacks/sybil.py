"""Sybil of the DHT: an attacker with node ids ground next to a key, who keeps nothing and names only his own.

Everything is as the relay has it, discv5 and the provider layer, on the simulator of `benchmarks.simulation`;
the attacker's nodes answer by the protocol, say that they store what they throw away, and lead nowhere else.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from typing import Any

from benchmarks.simulation.finds import EPOCH
from benchmarks.simulation.network import Node
from benchmarks.simulation.population import Population
from benchmarks.simulation.suite import SUITES
from relay.discovery.rendezvous import MOST_FOUND, SAMPLE
from relay.primitives.errors import DecodeError
from relay.primitives.keys import NodeId, NodeKey
from relay.protocols.dht import (
    DhtOptions,
    FindDone,
    Key,
    ProviderFound,
    ProviderRecord,
    Providers,
    RecordCache,
    to_key,
)
from relay.protocols.dht.messages import Added, GetProviders, Page, Status, decode_request
from relay.protocols.dht.record import expiry_at
from relay.protocols.dht.rendezvous import PARTS, rendezvous_key, share_of
from relay.protocols.dht.serving import Serving
from relay.protocols.discv5 import TalkRequest
from relay.protocols.discv5.distance import xor_distance

DEAD = 0.07
JOINING, WRITING, FINDING = 900.0, 600.0, 420.0  # virtual seconds
SEARCHES = 60
PAGE_RECORDS = 3
GENESIS = sha256(b"a chain").digest()


class Liar:
    """Serves in the place of `Serving`: keeps nothing, names nobody but the gang."""

    def __init__(self, honest: Serving, gang: Gang) -> None:
        self.own = honest.own
        self._gang = gang

    def answer(self, request: TalkRequest, now: float) -> bytes:
        try:
            message = decode_request(request.payload)
        except DecodeError:
            return b""
        if not isinstance(message, GetProviders):
            return Added(Status.STORED).encode()
        records = self._gang.records(message.key)
        return Page(b"t" * 16, len(records), b"", tuple(records), ()).encode()


class Gang:
    """The attacker's nodes."""

    def __init__(self, draw: random.Random) -> None:
        self.keys: dict[NodeId, NodeKey] = {}
        self.nodes: list[Node] = []
        self._draw = draw
        self._records: dict[Key, list[bytes]] = {}

    def records(self, key: Key) -> list[bytes]:
        """Signed records of some of them as providers of a key: more would not fit into an answer."""
        if key not in self._records:
            signed = [
                ProviderRecord.sign(self.keys[node.core.node_id], key, node.record, expiry_at(EPOCH))
                for node in self.nodes[:64]
            ]
            self._records[key] = [each.raw for each in signed]
        known = self._records[key]
        return self._draw.sample(known, min(PAGE_RECORDS, len(known)))


class Attacked:
    """A network that stands, with an attacker next to some keys.

    Args:
        honest: nodes.
        keys: that are attacked.
        each: ids of the attacker next to each of them.
        seed: of everything.
    """

    def __init__(self, honest: int, keys: Sequence[Key], each: int, seed: int) -> None:
        self.population = population = Population("onion", SUITES["null"], seed)
        self.draw = random.Random(seed + 9)
        self.gang = Gang(self.draw)
        self._records = RecordCache(population.contacts, 65_536)
        self._found: dict[tuple[Node, int], set[NodeId]] = {}
        self.ended: list[set[NodeId]] = []
        population.furnish = self._furnish
        population.settle(honest, DEAD)
        population.network.listen(self._provider, ProviderFound)
        population.network.listen(self._done, FindDone)
        self.honest = population.alive.all()
        self._grind(keys, each)
        population.network.run(JOINING)

    def _grind(self, keys: Sequence[Key], each: int) -> None:
        """Make ids nearer to the keys than every honest one."""
        nearest = {
            key: min(xor_distance(node.core.node_id, NodeId(key)) for node in self.honest) for key in keys
        }
        wanted = dict.fromkeys(keys, each)
        number = 0
        while any(wanted.values()):
            number += 1
            key = NodeKey(sha256(b"ground %d" % number).digest())
            for target, left in wanted.items():
                if left and xor_distance(key.node_id, NodeId(target)) < nearest[target]:
                    wanted[target] -= 1
                    self._join(key)
                    break

    def _join(self, key: NodeKey) -> None:
        population = self.population
        number = population.made
        population.made += 1
        record = population._record(key, number)
        population._records[record.raw] = record
        node = population._node(key, record, population.network.rand_for(number))
        self._furnish(node, key)
        layer = layer_of(node)
        layer.serving = Liar(layer.serving, self.gang)  # type: ignore[assignment]
        self.gang.keys[key.node_id] = key
        self.gang.nodes.append(node)
        node.core.add_bootnode(self.draw.choice(self.honest).record)
        population.network.add(node)

    def _furnish(self, node: Node, key: NodeKey) -> None:
        network = self.population.network
        node.layers = (
            Providers(
                node.core,
                key,
                lambda: node.record,
                self.population.kind,
                DhtOptions(),
                rand=node.rand,
                unix=lambda: EPOCH + network.now,
                contacts=self.population.contacts,
                records=self._records,
            ),
        )

    def provide(self, node: Node, key: Key) -> None:
        network = self.population.network
        layer_of(node).provide(key, network.now)
        network.settle(node, [])

    def find(self, node: Node, key: Key, enough: int | None) -> None:
        network = self.population.network
        handle = layer_of(node).find(key, network.now, enough=enough)
        self._found[node, handle] = set()
        network.settle(node, [])

    def search(self, keys: Sequence[Key], count: int, enough: int | None = None) -> list[set[NodeId]]:
        """Have random honest nodes search, each for a random one of the keys; return what each found."""
        network = self.population.network
        self.ended.clear()
        for number in range(count):
            node, key = self.draw.choice(self.honest), self.draw.choice(keys)
            network.at(network.now + 60.0 * number / count, partial(self.find, node, key, enough))
        network.run(FINDING)
        return list(self.ended)

    def is_honest(self, node: NodeId) -> bool:
        return node not in self.gang.keys

    def _provider(self, node: Node, event: Any) -> None:
        if (found := self._found.get((node, event.find))) is not None:
            found.add(event.record.node_id)

    def _done(self, node: Node, event: Any) -> None:
        if (found := self._found.pop((node, event.find), None)) is not None:
            self.ended.append(found)


def layer_of(node: Node) -> Providers:
    layer = node.layers[0]
    assert isinstance(layer, Providers)
    return layer


def one_key(honest: int, ids: int, seed: int) -> dict[str, Any]:
    """Provide one key, as a user's is; the attacker has ids next to it."""
    key = to_key(sha256(b"attacked %d" % seed).digest())
    it = Attacked(honest, [key], ids, seed)
    owner = it.draw.choice(it.honest)
    it.provide(owner, key)
    it.population.network.run(WRITING)
    found = it.search([key], SEARCHES)
    return {"ids": ids, "found": round(sum(owner.core.node_id in each for each in found) / len(found), 3)}


def rendezvous(honest: int, ids: int, seed: int) -> dict[str, Any]:
    """All honest nodes provide at their rendezvous keys; the attacker sits at as many as the ids reach."""
    epoch = 20_000 + seed
    keys = [rendezvous_key(GENESIS, 1, epoch, part) for part in range(PARTS)]
    it = Attacked(honest, keys[: ids // 16], 16, seed)
    for node in it.honest:
        for part in share_of(node.core.node_id, epoch):
            when = it.population.network.now + it.draw.random() * WRITING / 2
            it.population.network.at(when, partial(it.provide, node, keys[part]))
    it.population.network.run(WRITING)
    found = it.search(keys, 2 * SEARCHES, MOST_FOUND)
    sampled = [it.draw.sample(sorted(each), min(SAMPLE, len(each))) for each in found]
    named = [node for each in sampled for node in each]
    return {
        "ids": ids,
        "some_honest": round(sum(any(map(it.is_honest, each)) for each in sampled) / len(sampled), 3),
        "honest_share": round(sum(map(it.is_honest, named)) / max(1, len(named)), 3),
    }


def measure(honest: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Search beside ever more ground ids."""
    found: dict[str, Any] = {"nodes": honest, "one_key": [], "rendezvous": []}
    for ids in (0, 8, 16, 32):
        found["one_key"].append(one_key(honest, ids, 1))
        tell(f"one key: {found['one_key'][-1]}")
    for ids in (0, 64, 128, 256):
        found["rendezvous"].append(rendezvous(honest, ids, 1))
        tell(f"rendezvous: {found['rendezvous'][-1]}")
    return found
