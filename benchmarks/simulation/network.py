"""A virtual clock, and the nodes that live by it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from heapq import heapify, heappop, heappush
from math import inf
from typing import Any, Final, Protocol, TypeAlias

from relay.discovery.driver import Layer
from relay.primitives.enr import NodeRecord
from relay.protocols.discv5 import Discv5, Event, Failure

__all__ = ["Links", "Listener", "Node", "VirtualNetwork"]


class Node:
    """A core, what stands on it, and where it lives.

    Attributes:
        core: as in the daemon.
        rand: its random bytes.
        layers: protocols on top.
        record: what it shows now; exchange it at will.
        address: where its packets go.
        alive: a dead one takes nothing and says nothing.
        born: when it came.
        wake_at: when it is polled next.
        ways: what the links keep for it.
    """

    __slots__ = ("address", "alive", "born", "core", "layers", "rand", "record", "wake_at", "ways")

    def __init__(
        self, core: Discv5, record: NodeRecord, address: Hashable, rand: Callable[[int], bytes]
    ) -> None:
        self.core = core
        self.rand = rand
        self.layers: tuple[TellingLayer, ...] = ()
        self.record = record
        self.address = address
        self.alive = True
        self.born = 0.0
        self.wake_at = inf
        self.ways: Any = None


class TellingLayer(Layer, Protocol):
    """A layer that has events of its own."""

    def take_events(self) -> list[Any]: ...


class Links(Protocol):
    """What carries packets."""

    def attach(self, network: VirtualNetwork) -> None: ...

    def joined(self, node: Node) -> None: ...

    def left(self, node: Node) -> None: ...

    def send(self, node: Node, data: bytes, to: Hashable) -> None: ...


Listener: TypeAlias = Callable[[Node, Any], None]
_Item: TypeAlias = tuple[float, int, Node | None, Any, Hashable]

_SLOTS: Final = 4  # a second


class Agenda:
    """What happens when: in order by time, and by turn at one time.

    Only what is due within the same quarter of a second is kept in order: a heap of all that waits at ten
    thousand nodes is too large for any cache.
    """

    __slots__ = ("_count", "_later", "_now", "_slot", "_slots")

    def __init__(self) -> None:
        self._count = 0
        self._now: list[_Item] = []
        self._later: dict[int, list[_Item]] = {}
        self._slots: list[int] = []
        self._slot = -1

    def put(self, when: float, node: Node | None, what: Any, source: Hashable = None) -> None:
        self._count += 1
        item = (when, self._count, node, what, source)
        slot = int(when * _SLOTS)
        if slot <= self._slot:
            heappush(self._now, item)
        elif (waiting := self._later.get(slot)) is not None:
            waiting.append(item)
        else:
            self._later[slot] = [item]
            heappush(self._slots, slot)

    def take(self, end: float) -> _Item | None:
        """Return what is next, if it is due by then."""
        if not self._now and self._slots and self._slots[0] <= end * _SLOTS:
            self._slot = heappop(self._slots)
            self._now = self._later.pop(self._slot)
            heapify(self._now)
        if not self._now or self._now[0][0] > end:
            return None
        return heappop(self._now)


class VirtualNetwork:
    """Does for all nodes what `CoreDriver` does for one, in the order of a virtual clock.

    Args:
        seed: of latencies, losses and all nodes' randomness.
        links: what carries packets.

    Attributes:
        now: seconds.
        nodes: the living, by address.
        random: for the links.
        packets: sent.
        bytes: sent.
        handled: packets and timers that were taken from the queue.
        events: of all cores and layers, by kind.
    """

    def __init__(self, seed: int, links: Links) -> None:
        self.now = 0.0
        self.seed = seed
        self.nodes: dict[Hashable, Node] = {}
        self.random = random.Random(seed)
        self.packets = 0
        self.bytes = 0
        self.handled = 0
        self.events: Counter[type] = Counter()
        self._gone: Counter[str] = Counter()
        self._links = links
        self._listeners: dict[type, list[Listener]] = {}
        self._agenda = Agenda()
        self.carry = self._agenda.put
        """Have a packet arrive: when, at which node, its bytes, where it came from."""
        links.attach(self)

    def rand_for(self, number: int) -> Callable[[int], bytes]:
        return random.Random((self.seed << 32) + number).randbytes

    def listen(self, listener: Listener, *kinds: type) -> None:
        """Have a callback told of events of some kinds."""
        for kind in kinds:
            self._listeners.setdefault(kind, []).append(listener)

    def add(self, node: Node) -> None:
        node.born = self.now
        self.nodes[node.address] = node
        self._links.joined(node)
        self.settle(node, [])

    def remove(self, node: Node) -> None:
        """It falls silent, without a word."""
        node.alive = False
        self._gone.update(_messages(node))
        del self.nodes[node.address]
        self._links.left(node)

    def call(self, node: Node, action: Callable[[Discv5, float], Any]) -> Any:
        """Do something with a core and carry what follows."""
        result = action(node.core, self.now)
        self.settle(node, [])
        return result

    def opened(self, node: Node, address: Hashable) -> None:
        """Tell a core that its dial has come through."""
        node.core.opened(address, self.now)
        self.settle(node, [])

    def close(self, node: Node, address: Hashable, failure: Failure) -> None:
        """Tell a core that a stream is gone."""
        self.settle(node, node.core.close_address(address, self.now, failure))

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Do something at a time."""
        self._agenda.put(when, None, action)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        take = self._agenda.take
        while (item := take(end)) is not None:
            now, _, node, data, source = item
            self.now = now
            if node is None:
                data()
                continue
            if not node.alive:
                continue
            if data is not None:
                self.handled += 1
                self.settle(node, node.core.receive_packet(data, source, now))
            elif node.wake_at <= now:
                self.handled += 1
                self._wake(node)
        self.now = end

    def traffic(self) -> Counter[str]:
        """Messages of all nodes, the dead included: those sent by kind, challenges, handshakes."""
        total = Counter(self._gone)
        for node in self.nodes.values():
            total.update(_messages(node))
        return total

    def settle(self, node: Node, events: Sequence[Event]) -> None:
        """Hand on what a core says, and send what it has to send; as `CoreDriver` does."""
        core = node.core
        for event in events:
            for layer in node.layers:
                layer.receive(event, self.now)
            self._tell(node, event)
        for layer in node.layers:
            for event in layer.take_events():
                self._tell(node, event)
        for data, to in core.take_packets():
            self.packets += 1
            self.bytes += len(data)
            self._links.send(node, data, to)
        due = core.next_deadline
        for layer in node.layers:
            if (soonest := layer.next_deadline) < due:
                due = soonest
        if due < node.wake_at:
            node.wake_at = due = max(due, self.now)
            self._agenda.put(due, node, None)

    def _tell(self, node: Node, event: Any) -> None:
        kind = type(event)
        self.events[kind] += 1
        for listener in self._listeners.get(kind, ()):
            listener(node, event)

    def _wake(self, node: Node) -> None:
        node.wake_at = inf
        events = node.core.poll(self.now)
        for layer in node.layers:
            layer.poll(self.now)
        self.settle(node, events)


def _messages(node: Node) -> Counter[str]:
    traffic = node.core.traffic
    counts = Counter({kind.name: count for kind, count in traffic.sent.items()})
    counts["WHOAREYOU"] += traffic.challenges
    counts["HANDSHAKE"] += traffic.handshakes
    return counts
