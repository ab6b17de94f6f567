"""Providers of keys on virtual networks: every node of `tests.aids.discv5` with the DHT on top."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from relay.primitives.keys import NodeKey
from relay.protocols.dht import DhtOptions, Key, ProviderRecord, Providers, RecordCache
from relay.protocols.dht.record import HOUR
from relay.protocols.discv5 import ONION, UDP, ContactCache, OnionNetwork, Options, UdpNetwork
from relay.protocols.discv5.crypto import REAL, Suite
from relay.protocols.discv5.distance import xor_distance
from tests.aids.discv5 import TestNode, VirtualNetwork, make_node, node_key, onion_record, udp_record

UNIX = 1_800_000_000.0  # a whole hour, at second 0 of the virtual clock
HOURS = int(UNIX) // HOUR


def key_of(number: int) -> Key:
    return Key(random.Random(f"key {number}").randbytes(32))


def record_of(
    number: int, key: Key, *, hour: int = HOURS + 24, onion: bool = True, **more: Any
) -> ProviderRecord:
    """A provider record of the node of a number, with its address."""
    enr = onion_record(number, **more) if onion else udp_record(number, **more)
    network = OnionNetwork() if onion else UdpNetwork()
    return ProviderRecord.sign(node_key(number), key, enr, hour, network.address_of(enr))


@dataclass(eq=False)
class DhtNode:
    """A node, its layer, and what the layer said."""

    node: TestNode
    dht: Providers
    events: list[Any] = field(default_factory=list)

    @property
    def node_id(self) -> bytes:
        return self.node.core.node_id

    def said(self, kind: type) -> list[Any]:
        self.events += self.dht.take_events()
        return [event for event in self.events if isinstance(event, kind)]

    def ended(self, kind: type, handle: int) -> Any:
        """The end of a search or of a round, if it has come."""
        field_name = {"FindDone": "find", "ProvideDone": "provide"}[kind.__name__]
        return next((each for each in self.said(kind) if getattr(each, field_name) == handle), None)

    def found(self, handle: int) -> dict[bytes, int]:
        """The node ids of a search's providers, with hops."""
        from relay.protocols.dht import ProviderFound

        return {each.record.node_id: each.hops for each in self.said(ProviderFound) if each.find == handle}


class DhtNetwork:
    """Nodes of one class that all begin with node 0."""

    def __init__(
        self,
        count: int,
        *,
        onion: bool,
        seed: int = 1,
        suite: Suite = REAL,
        options: Options | None = None,
        dht: DhtOptions | None = None,
        loss: float = 0.0,
    ) -> None:
        self.onion = onion
        self.net = VirtualNetwork(seed, loss=loss, keep_events=False)
        self.options = options or (ONION if onion else UDP)
        self.dht_options = dht or DhtOptions()
        self.suite = suite
        network = OnionNetwork() if onion else UdpNetwork()
        self.contacts = ContactCache(network.address_of, 4 * count + 4096)
        self.records = RecordCache(self.contacts, 65_536)
        self.nodes: list[DhtNode] = []
        for _ in range(count):
            self.add()

    @property
    def unix(self) -> float:
        return UNIX + self.net.now

    def add(self, number: int | None = None, *, dht: DhtOptions | None = None, **made: Any) -> DhtNode:
        number = len(self.nodes) if number is None else number
        node = make_node(
            number,
            self.options,
            suite=self.suite,
            contacts=self.contacts,
            rand=self.net.rand_for(number),
            onion=self.onion,
            **made,
        )
        layer = self.layer(node, node_key(number), self.net.rand_for(1_000_000 + number), dht)
        node.layers.append(layer)
        if self.nodes:
            node.core.add_bootnode(self.nodes[0].node.record)
        self.nodes.append(DhtNode(self.net.add(node), layer))
        return self.nodes[-1]

    def layer(
        self, node: TestNode, key: NodeKey, rand: Callable[[int], bytes], options: DhtOptions | None = None
    ) -> Providers:
        return Providers(
            node.core,
            key,
            lambda: node.record,
            OnionNetwork() if self.onion else UdpNetwork(),
            options or self.dht_options,
            rand=rand,
            unix=lambda: self.unix,
            contacts=self.contacts,
            records=self.records,
        )

    def call(self, node: DhtNode, action: Callable[[Providers, float], Any]) -> Any:
        return self.net.call(node.node, lambda _core, now: action(node.dht, now))

    def run(self, seconds: float) -> None:
        self.net.run(seconds)

    def run_until(self, condition: Callable[[], Any], seconds: float = 120.0) -> Any:
        end = self.net.now + seconds
        while not (result := condition()):
            assert self.net.now < end, "not within its time"
            self.net.run(0.5)
        return result

    def provide(self, node: DhtNode, key: Key) -> Any:
        """Provide a key and return the end of the first round."""
        from relay.protocols.dht import ProvideDone

        handle = self.call(node, lambda dht, now: dht.provide(key, now))
        return self.run_until(lambda: node.ended(ProvideDone, handle))

    def find(
        self, node: DhtNode, key: Key, entry: list[DhtNode] | None = None
    ) -> tuple[Any, dict[bytes, int]]:
        """Search; returns the end and the providers with their hops."""
        from relay.protocols.dht import FindDone

        contacts = [node.node.core.contact(each.node.record) for each in entry or ()]
        handle = self.call(node, lambda dht, now: dht.find(key, now, contacts))
        done = self.run_until(lambda: node.ended(FindDone, handle), 400.0)
        return done, node.found(handle)

    def kill(self, node: DhtNode) -> None:
        self.net.remove(node.node)

    def nearest(self, key: Key, count: int = 16) -> list[DhtNode]:
        alive = [each for each in self.nodes if each.node.alive]
        return sorted(alive, key=lambda each: xor_distance(each.node_id, key))[:count]

    def holders(self, key: Key) -> list[DhtNode]:
        return [each for each in self.nodes if each.node.alive and each.dht.store.count(key)]
