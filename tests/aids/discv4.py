"""A network of discv4 cores in memory, under a virtual clock: no socket, the same every time."""

import heapq
import itertools
from random import Random

from relay.primitives.endpoint import Endpoint
from relay.primitives.enr import NodeRecord, build_record
from relay.primitives.hashing import keccak256
from relay.primitives.keys import NodeKey
from relay.protocols.discv4.contact import Contact, wire_endpoint
from relay.protocols.discv4.core import Discv4
from relay.protocols.discv4.packets import Decoded, Packet, Ping, Pong, decode, encode

UNIX = 1_800_000_000.0


def node_key(number: int) -> NodeKey:
    return NodeKey(keccak256(b"discv4 node %d" % number))


def public_endpoint(number: int, port: int = 30303) -> Endpoint:
    """One that shares its /24 with no other number."""
    return Endpoint.parse(f"{11 + number // 65536}.{number // 256 % 256}.{number % 256}.1", port)


def record_at(key: NodeKey, endpoint: Endpoint, seq: int = 1) -> NodeRecord:
    return build_record(key, seq, ip=endpoint.host, udp=endpoint.port, tcp=endpoint.port)


def contact_at(number: int, endpoint: Endpoint | None = None) -> Contact:
    endpoint = endpoint or public_endpoint(number)
    return Contact.of(node_key(number).public_key, endpoint, endpoint.port)


class Scripted:
    """A peer played by the test: what it gets is kept, what it says is the test's."""

    def __init__(self, network: "MemoryNetwork", number: int, endpoint: Endpoint | None = None) -> None:
        self.network = network
        self.key = node_key(number)
        self.endpoint = endpoint or public_endpoint(number)
        self.contact = Contact.of(self.key.public_key, self.endpoint, self.endpoint.port)
        self.got: list[Decoded] = []
        self.answers_pings = True
        network.scripted[self.endpoint] = self

    def send(self, packet: Packet, to: Discv4, source: Endpoint | None = None) -> bytes:
        data, digest = encode(self.key, packet)
        self.network.deliver(data, source or self.endpoint, to)
        return digest

    def ping(self, core: Discv4, **changes) -> bytes:
        fields = {
            "sender": wire_endpoint(self.endpoint, self.endpoint.port),
            "to": wire_endpoint(self.network.endpoint_of[id(core)]),
            "expiration": self.network.expiration,
        }
        return self.send(Ping(**(fields | changes)), core)

    def receive(self, data: bytes, sender: Discv4) -> None:
        decoded = decode(data)
        self.got.append(decoded)
        if isinstance(decoded.packet, Ping) and self.answers_pings:
            own = wire_endpoint(self.network.endpoint_of[id(sender)])
            self.send(Pong(own, decoded.hash, self.network.expiration), sender)

    def take(self) -> list[Packet]:
        packets, self.got = [each.packet for each in self.got], []
        return packets


class MemoryNetwork:
    """Cores and scripted peers by endpoint. Packets take some milliseconds; poll when due."""

    def __init__(self, seed: int = 1) -> None:
        self.random = Random(seed)
        self.now = 1000.0
        self.cores: dict[Endpoint, Discv4] = {}
        self.endpoint_of: dict[int, Endpoint] = {}
        self.scripted: dict[Endpoint, Scripted] = {}
        self.events: dict[int, list] = {}
        self.packets = 0
        self._flying: list = []
        self._order = itertools.count()

    @property
    def expiration(self) -> int:
        return int(UNIX + self.now + 20)

    def add(self, number: int, endpoint: Endpoint | None = None, **options) -> Discv4:
        key, endpoint = node_key(number), endpoint or public_endpoint(number)
        core = Discv4(
            key,
            record_at(key, endpoint),
            rand=self.random.randbytes,
            unix=lambda: UNIX + self.now,
            **options,
        )
        self.cores[endpoint] = core
        self.endpoint_of[id(core)] = endpoint
        self.events[id(core)] = []
        return core

    def remove(self, core: Discv4) -> None:
        del self.cores[self.endpoint_of[id(core)]]

    def contact(self, core: Discv4) -> Contact:
        contact = Contact.from_record(core.record)
        assert contact is not None
        return contact

    def deliver(self, data: bytes, source: Endpoint, core: Discv4) -> list:
        events = core.receive_packet(data, source, self.now)
        self.events[id(core)] += events
        self.flush(core)
        return events

    def flush(self, core: Discv4) -> None:
        for data, to in core.take_packets():
            self.packets += 1
            item = (self.now + 0.02, next(self._order), data, self.endpoint_of[id(core)], to)
            heapq.heappush(self._flying, item)

    def take_events(self, core: Discv4, kind: type | None = None) -> list:
        events, self.events[id(core)] = self.events[id(core)], []
        return [event for event in events if kind is None or isinstance(event, kind)]

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while True:
            for core in self.cores.values():
                self.flush(core)
            dues = [due for core in self.cores.values() if (due := core.next_deadline()) is not None]
            at = min([*dues, *(item[0] for item in self._flying[:1])], default=until)
            if at > until:
                break
            self.now = max(self.now, at)
            self._step()
            if not dues and not self._flying:
                break
        self.now = until

    def _step(self) -> None:
        while self._flying and self._flying[0][0] <= self.now:
            _, _, data, source, to = heapq.heappop(self._flying)
            if to in self.cores:
                self.deliver(data, source, self.cores[to])
            elif to in self.scripted and source in self.cores:
                self.scripted[to].receive(data, self.cores[source])
        for core in tuple(self.cores.values()):
            due = core.next_deadline()
            if due is not None and due <= self.now:
                self.events[id(core)] += core.poll(self.now)
                self.flush(core)
