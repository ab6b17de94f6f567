"""Nodes of discv5 without sockets: made by number, joined in pairs or in a network with a virtual clock.

The network is deterministic by its seed. `NullSuite` swaps the encryption behind the codec's seam and leaves
sizes, random draws and so every message as they are: for simulations of thousands of nodes.
"""

import heapq
import random
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from hashlib import sha256, sha512
from math import inf
from typing import Any

from cryptography.exceptions import InvalidTag

from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.enr import NodeRecord, build_record
from relay.primitives.errors import DecodeError
from relay.primitives.keys import NodeKey, PublicKey
from relay.primitives.onion import OnionKey
from relay.protocols.discv5 import ContactCache, Discv5, Event, OnionNetwork, Options, UdpNetwork
from relay.protocols.discv5.crypto import REAL, Initiation, Keys, Suite


class NullAead:
    """Marks data with the key in place of a tag."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes, /) -> bytes:
        return data + self._key

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes, /) -> bytes:
        if data[-16:] != self._key:
            raise InvalidTag
        return data[:-16]


class NullMask:
    __slots__ = ()

    def apply(self, iv: bytes, data: bytes) -> bytes:
        return data


class NullSuite:
    """Encrypts nothing; takes as many random bytes as the real one."""

    def __init__(self) -> None:
        self._mask = NullMask()

    def mask(self, destination: bytes) -> NullMask:
        return self._mask

    def aead(self, key: bytes) -> NullAead:
        return NullAead(key)

    def initiate(
        self, key: NodeKey, to: PublicKey, challenge: bytes, rand: Callable[[int], bytes]
    ) -> Initiation:
        ephemeral = b"\x02" + rand(32)
        proof = sha512(challenge + ephemeral + key.public_key).digest()
        return Initiation(proof, ephemeral, self._keys(challenge, ephemeral))

    def accept(
        self, key: NodeKey, peer: PublicKey, challenge: bytes, ephemeral: bytes, signature: bytes
    ) -> Keys:
        if signature != sha512(challenge + ephemeral + peer).digest():
            raise DecodeError("wrong proof")
        return self._keys(challenge, ephemeral)

    def _keys(self, challenge: bytes, ephemeral: bytes) -> Keys:
        material = sha256(challenge + ephemeral).digest()
        return Keys(material[:16], material[16:])


def node_key(number: int) -> NodeKey:
    return NodeKey(sha256(b"node %d" % number).digest())


def ip_of(number: int) -> str:
    """One address for each number, in /24s of 2: the limits of the table never bind."""
    return f"{20 + (number >> 15)}.{(number >> 7) & 255}.{(number >> 1) & 63}.{1 + (number & 1)}"


def udp_record(
    number: int, *, seq: int = 1, ip: str | None = None, port: int = 30303, **more: Any
) -> NodeRecord:
    return build_record(node_key(number), seq, ip=ip or ip_of(number), udp=port, tcp=port, **more)


def onion_record(number: int, *, seq: int = 1, onion: int | None = None, **more: Any) -> NodeRecord:
    seed = sha256(b"onion %d" % (number if onion is None else onion)).digest()
    return build_record(node_key(number), seq, onion3=OnionKey.from_seed(seed).address, tcp=30303, **more)


def udp(host: str, port: int = 30303) -> Endpoint:
    return Endpoint(Network.IPV4, host, port)


@dataclass(eq=False)
class TestNode:
    """A core, where it lives, its record (exchange it at will), what it said, and the layers on top of it."""

    __test__ = False

    core: Discv5
    record: NodeRecord
    address: Hashable
    events: list[Event] = field(default_factory=list)
    alive: bool = True
    wake_at: float = inf
    layers: list[Any] = field(default_factory=list)

    def said(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def make_node(
    number: int,
    options: Options,
    *,
    record: NodeRecord | None = None,
    suite: Suite = REAL,
    contacts: ContactCache | None = None,
    rand: Callable[[int], bytes] | None = None,
    onion: bool = False,
) -> TestNode:
    network = OnionNetwork() if onion else UdpNetwork()
    record = record or (onion_record(number) if onion else udp_record(number))
    holder: list[TestNode] = []
    core = Discv5(
        node_key(number),
        lambda: holder[0].record,
        network,
        options,
        rand=rand or random.Random(number).randbytes,
        suite=suite,
        contacts=contacts,
    )
    holder.append(TestNode(core, record, network.address_of(record)))
    return holder[0]


class Wire:
    """Nodes that reach each other at once; packets may be looked at, changed and lost on the way."""

    def __init__(self, *nodes: TestNode) -> None:
        self.now = 1000.0
        self.nodes = {node.address: node for node in nodes}
        self.log: list[tuple[Hashable, Hashable, bytes]] = []
        self.alter: Callable[[Hashable, Hashable, bytes], bytes | None] = lambda _source, _to, data: data

    def collect(self, node: TestNode) -> list[tuple[bytes, Hashable]]:
        return node.core.take_packets()

    def deliver(self, limit: int = 10_000) -> None:
        """Carry packets until there are none."""
        for _ in range(limit):
            moved = False
            for node in list(self.nodes.values()):
                for data, to in node.core.take_packets():
                    moved = True
                    self._carry(node, to, data)
            if not moved:
                return
        raise AssertionError("packets never end")

    def _carry(self, node: TestNode, to: Hashable, data: bytes) -> None:
        self.log.append((node.address, to, data))
        altered = self.alter(node.address, to, data)
        target = self.nodes.get(to)
        if altered is not None and target is not None:
            target.events += target.core.receive_packet(altered, node.address, self.now)

    def pass_time(self, seconds: float, step: float = 0.1) -> None:
        """Let the clock run, polling every node at each step."""
        end = self.now + seconds
        while self.now < end:
            self.now += step
            for node in self.nodes.values():
                node.events += node.core.poll(self.now)
            self.deliver()


class VirtualNetwork:
    """Nodes under one virtual clock, with latency and loss.

    Args:
        seed: of latencies, losses and all nodes' randomness.
        latency: seconds, least and most.
        loss: part of the packets that is lost.
        keep_events: keep events at the nodes; otherwise they are only counted and handed to `listener`.
    """

    def __init__(
        self,
        seed: int,
        *,
        latency: tuple[float, float] = (0.005, 0.1),
        loss: float = 0.0,
        keep_events: bool = True,
    ) -> None:
        self.now = 0.0
        self.seed = seed
        self.nodes: dict[Hashable, TestNode] = {}
        self.packets = 0
        self.bytes = 0
        self.events: Counter[str] = Counter()
        self.listener: Callable[[TestNode, Event], None] | None = None
        self._random = random.Random(seed)
        self._latency = latency
        self._loss = loss
        self._keep = keep_events
        self._queue: list[tuple[float, int, Hashable, bytes | None, Hashable]] = []
        self._count = 0

    def rand_for(self, number: int) -> Callable[[int], bytes]:
        return random.Random((self.seed << 32) + number).randbytes

    def add(self, node: TestNode) -> TestNode:
        self.nodes[node.address] = node
        self._touched(node, [])
        return node

    def remove(self, node: TestNode) -> None:
        """It falls silent."""
        node.alive = False
        del self.nodes[node.address]

    def call(self, node: TestNode, action: Callable[[Discv5, float], Any]) -> Any:
        """Do something with a core and carry what follows."""
        result = action(node.core, self.now)
        self._touched(node, [])
        return result

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            self.now, _, address, data, source = heapq.heappop(self._queue)
            node = self.nodes.get(address)
            if node is None:
                continue
            if data is not None:
                self._touched(node, node.core.receive_packet(data, source, self.now))
            elif node.wake_at <= self.now:
                node.wake_at = inf
                events = node.core.poll(self.now)
                for layer in node.layers:
                    layer.poll(self.now)
                self._touched(node, events)
        self.now = end

    def traffic(self) -> Counter[str]:
        """Messages of all nodes: those sent by kind, challenges, handshakes."""
        total: Counter[str] = Counter()
        for node in self.nodes.values():
            total.update({kind.name: count for kind, count in node.core.traffic.sent.items()})
            total["WHOAREYOU"] += node.core.traffic.challenges
            total["HANDSHAKE"] += node.core.traffic.handshakes
        return total

    def _touched(self, node: TestNode, events: Iterable[Event]) -> None:
        for event in events:
            self.events[type(event).__name__] += 1
            if self._keep:
                node.events.append(event)
            for layer in node.layers:
                layer.receive(event, self.now)
            if self.listener is not None:
                self.listener(node, event)
        for data, to in node.core.take_packets():
            self._send(data, to, node.address)
        due = max(min([node.core.next_deadline, *(layer.next_deadline for layer in node.layers)]), self.now)
        if due < node.wake_at:
            node.wake_at = due
            self._push(due, node.address, None, None)

    def _send(self, data: bytes, to: Hashable, source: Hashable) -> None:
        self.packets += 1
        self.bytes += len(data)
        least, most = self._latency
        delay = least + self._random.random() * (most - least)
        if not self._loss or self._random.random() >= self._loss:
            self._push(self.now + delay, to, data, source)

    def _push(self, when: float, address: Hashable, data: bytes | None, source: Hashable) -> None:
        self._count += 1
        heapq.heappush(self._queue, (when, self._count, address, data, source))


def populate(
    network: VirtualNetwork, count: int, options: Options, *, suite: Suite = REAL, onion: bool = False
) -> list[TestNode]:
    """Add nodes 0 to count - 1 that all begin with node 0; they share a cache of verified records."""
    kind = OnionNetwork() if onion else UdpNetwork()
    contacts = ContactCache(kind.address_of, 4 * count + options.records)
    nodes = []
    for number in range(count):
        node = make_node(
            number, options, suite=suite, contacts=contacts, rand=network.rand_for(number), onion=onion
        )
        if nodes:
            node.core.add_bootnode(nodes[0].record)
        nodes.append(network.add(node))
    return nodes
