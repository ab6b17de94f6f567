"""Streams over Tor: dials that take their time and fail, streams that idle, fill up and end.

The rules are those of `relay.discovery.streams` and its dialer, with the same options: one stream for what we
dialed, others for what came in, bounds on both, a pace for dials, a bar after a dial that failed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from functools import partial
from itertools import count
from math import inf, log

from benchmarks.simulation.network import Node, VirtualNetwork
from relay.discovery.onion_dial import LEAST, MOST
from relay.discovery.onion_stream import StreamId, StreamOptions
from relay.protocols.discv5 import Failure
from relay.protocols.discv5.patience import Estimate
from relay.transports.pacing import ONION_PACE, Pace

__all__ = ["Tor", "TorTimes"]


@dataclass(frozen=True)
class TorTimes:
    """How long things take, as on the public network.

    A request over a new circuit then takes 5.4 s in the middle, 15 s at p90 and 50 s at p95
    (WalletWasabi #8900); a connection alone 3.6 to 8 s.

    Attributes:
        dial, dial_spread: median in seconds, and deviation of its logarithm, of a dial that works at once.
        slow: part of the dials that do not: circuits are built anew.
        slow_dial: seconds, least and most, of those.
        trip, trip_spread: one way on an open stream.
        refused, refused_spread: until Tor gives up a service that is gone.
        silent: part of the deaths that Tor does not notice (no power): dials run to their deadline and
            streams stay open; of the others the ends of streams are seen, and dials are refused.
    """

    dial: float = 4.0
    dial_spread: float = 0.6
    slow: float = 0.06
    slow_dial: tuple[float, float] = (20.0, 90.0)
    trip: float = 0.45
    trip_spread: float = 0.4
    refused: float = 10.0
    refused_spread: float = 0.5
    silent: float = 0.5


class _Stream:
    """Dialed by one node; the other one knows it by a name."""

    __slots__ = ("dialer", "endpoint", "listener", "name", "open", "trip", "used", "waiting")

    def __init__(self, dialer: Node, endpoint: Hashable, now: float) -> None:
        self.dialer = dialer
        self.endpoint = endpoint
        self.listener: Node | None = None
        self.name: StreamId | None = None
        self.open = False
        self.trip = 0.0
        self.used = now
        self.waiting: list[bytes] = []


class _Ways:
    __slots__ = (
        "accepted",
        "barred",
        "dialed",
        "dialing",
        "next_start",
        "pending",
        "queue",
        "timer",
        "times",
    )

    def __init__(self) -> None:
        self.times = Estimate(LEAST, MOST)
        self.dialed: dict[Hashable, _Stream] = {}
        self.accepted: dict[Hashable, _Stream] = {}
        self.barred: dict[Hashable, float] = {}
        self.queue: deque[_Stream] = deque()
        self.dialing = 0
        self.pending = 0
        self.next_start = 0.0
        self.timer = False


class Tor:
    """The links of onion nodes."""

    def __init__(
        self,
        times: TorTimes | None = None,
        options: StreamOptions | None = None,
        pace: Pace = ONION_PACE,
    ) -> None:
        self.dials = 0
        self.failed_dials = 0
        self.opened = 0
        self._times = times or TorTimes()
        self._options = options or StreamOptions()
        self._pace = pace
        self._names = count(1)
        self._silent: set[Hashable] = set()
        self._network: VirtualNetwork

    def attach(self, network: VirtualNetwork) -> None:
        self._network = network

    def joined(self, node: Node) -> None:
        node.ways = _Ways()

    def left(self, node: Node) -> None:
        ways: _Ways = node.ways
        silent = self._network.random.random() < self._times.silent
        if silent:
            self._silent.add(node.address)
        else:
            for stream in [*ways.dialed.values(), *ways.accepted.values()]:
                self._end(stream, node)
        ways.dialed.clear()
        ways.accepted.clear()
        ways.queue.clear()

    def send(self, node: Node, data: bytes, to: Hashable) -> None:
        ways: _Ways = node.ways
        now = self._network.now
        if type(to) is StreamId:
            stream = ways.accepted.get(to)
            if stream is not None:
                stream.used = now
                self._network.carry(now + stream.trip, stream.dialer, data, stream.endpoint)
            return
        stream = ways.dialed.get(to)
        if stream is None:
            self._dial(node, data, to)
        elif stream.open:
            stream.used = now
            assert stream.listener is not None
            self._network.carry(now + stream.trip, stream.listener, data, stream.name)
        elif len(stream.waiting) < self._options.waiting:
            stream.waiting.append(data)

    # -- dialing -----------------------------------------------------------------------------------------

    def _dial(self, node: Node, data: bytes, to: Hashable) -> None:
        ways: _Ways = node.ways
        now = self._network.now
        if ways.barred.get(to, now) > now:
            self._later(node, to, Failure.UNREACHABLE)
            return
        if ways.dialing >= self._options.dialing or not self._room(node, ways.dialed, self._options.dialed):
            self._later(node, to, Failure.BUSY)
            return
        stream = _Stream(node, to, now)
        stream.waiting.append(data)
        ways.dialed[to] = stream
        ways.dialing += 1
        ways.queue.append(stream)
        self._start(node)

    def _later(self, node: Node, to: Hashable, failure: Failure) -> None:
        # A core is never called back while its packets are being taken.
        def tell() -> None:
            if node.alive:
                self._network.close(node, to, failure)

        self._network.at(self._network.now, tell)

    def _start(self, node: Node) -> None:
        """Begin dials that have their turn."""
        ways: _Ways = node.ways
        now = self._network.now
        while ways.queue and ways.pending < self._pace.max_pending:
            if ways.next_start > now:
                if not ways.timer:
                    ways.timer = True
                    self._network.at(ways.next_start, partial(self._turn, node))
                return
            gap = (1 + self._pace.jitter * self._network.random.random()) / self._pace.per_second
            ways.next_start = now + gap
            ways.pending += 1
            self._begin(ways.queue.popleft())

    def _turn(self, node: Node) -> None:
        node.ways.timer = False
        if node.alive:
            self._start(node)

    def _begin(self, stream: _Stream) -> None:
        self.dials += 1
        times: Estimate = stream.dialer.ways.times
        takes = self._duration(stream.endpoint)
        late = takes >= times.timeout
        if late:
            takes = times.timeout
            times.missed()
        elif takes >= 0:
            times.took(takes)
        self._network.at(self._network.now + abs(takes), partial(self._dialed, stream, takes < 0, late))

    def _duration(self, to: Hashable) -> float:
        """Return how long a dial would take; negative: until it is refused."""
        times, draw = self._times, self._network.random
        if to in self._network.nodes:
            if draw.random() < times.slow:
                return draw.uniform(*times.slow_dial)
            return draw.lognormvariate(log(times.dial), times.dial_spread)
        if to in self._silent:
            return inf
        return -min(draw.lognormvariate(log(times.refused), times.refused_spread), MOST)

    def _dialed(self, stream: _Stream, refused: bool, late: bool) -> None:
        node = stream.dialer
        if not node.alive:
            return
        ways: _Ways = node.ways
        ways.dialing -= 1
        ways.pending -= 1
        self._start(node)
        listener = self._network.nodes.get(stream.endpoint)
        if refused or late or listener is None:
            self.failed_dials += 1
            del ways.dialed[stream.endpoint]
            if not late:
                self._bar(ways, stream.endpoint)
            self._network.close(node, stream.endpoint, Failure.TIMEOUT if late else Failure.UNREACHABLE)
            return
        self._open(stream, listener)

    def _bar(self, ways: _Ways, to: Hashable) -> None:
        ways.barred.pop(to, None)
        if len(ways.barred) >= self._options.bars:
            del ways.barred[next(iter(ways.barred))]
        ways.barred[to] = self._network.now + self._options.barred

    def _open(self, stream: _Stream, listener: Node) -> None:
        network, options = self._network, self._options
        now = network.now
        self.opened += 1
        stream.listener = listener
        stream.name = name = StreamId(next(self._names))
        stream.trip = network.random.lognormvariate(log(self._times.trip), self._times.trip_spread)
        stream.open = True
        stream.used = now
        if not self._room(listener, listener.ways.accepted, options.accepted):
            self._forget(stream, stream.dialer, Failure.LOST)
            return
        listener.ways.accepted[name] = stream
        for data in stream.waiting:
            network.carry(now + stream.trip, listener, data, name)
        stream.waiting.clear()
        network.opened(stream.dialer, stream.endpoint)
        network.at(now + options.idle, partial(self._look, stream))

    # -- ending ------------------------------------------------------------------------------------------

    def _look(self, stream: _Stream) -> None:
        """Close a stream that has been idle; who dialed does so before the other."""
        if not stream.open:
            return
        due = stream.used + self._options.idle
        if due > self._network.now:
            self._network.at(due, partial(self._look, stream))
        elif stream.dialer.alive:
            self._drop(stream, stream.dialer)
        else:
            assert stream.listener is not None
            later = due + self._options.idle_accepted - self._options.idle
            self._network.at(later, partial(self._forget, stream, stream.listener, Failure.LOST))

    def _room(self, node: Node, streams: dict[Hashable, _Stream], bound: int) -> bool:
        """Make room for another stream, where one has been unused for a while."""
        if len(streams) < bound:
            return True
        idle = min((each for each in streams.values() if each.open), key=_used, default=None)
        if idle is None or idle.used + self._options.spare > self._network.now:
            return False
        self._drop(idle, node)
        return True

    def _drop(self, stream: _Stream, by: Node) -> None:
        self._end(stream, by)
        self._forget(stream, by, Failure.LOST)

    def _end(self, stream: _Stream, by: Node) -> None:
        """Have the other side see the end."""
        other = stream.listener if by is stream.dialer else stream.dialer
        if not stream.open or other is None:
            return
        stream.open = False
        when = self._network.now + stream.trip
        self._network.at(when, partial(self._forget, stream, other, Failure.LOST))

    def _forget(self, stream: _Stream, node: Node, failure: Failure) -> None:
        if not node.alive:
            return
        ways: _Ways = node.ways
        dialed = node is stream.dialer
        streams, name = (ways.dialed, stream.endpoint) if dialed else (ways.accepted, stream.name)
        if streams.get(name) is stream:
            del streams[name]
            self._network.close(node, name, failure)


def _used(stream: _Stream) -> float:
    return stream.used
