"""How one transaction gets around, event by event, and what the spy's relays see of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import exp, isqrt, log
from types import SimpleNamespace
from typing import Any, NamedTuple

from benchmarks.privacy.graph import JITTER, World
from relay.relaying.dandelion import StemOptions, StemRoutes
from relay.relaying.options import RelayOptions
from relay.relaying.private.broadcast import PrivateBroadcast
from relay.relaying.private.courier import Addressee, Receipt
from relay.relaying.private.letters import Letter
from relay.relaying.private.options import PrivateOptions
from relay.relaying.trickle import TrickleClocks, TrickleOptions

SETUP = 3.0  # seconds until a short connection stands: median, by Tor
SETUP_SPREAD = 0.5
LISTENERS = 4  # at most, of our own transactions (relay.relaying.own)
PEERS_PER_LISTENER = 8


@dataclass(frozen=True)
class Defence:
    """What relays do.

    Attributes:
        name: in results.
        trickle: when peers are told; off: at once.
        stem: with `own` on, transactions begin with a stem.
        private: transactions begin with a private broadcast.
        drops: the spy's relays carry no stems.
        strangers: a private broadcast prefers who is no peer.
    """

    name: str
    trickle: TrickleOptions = field(default_factory=TrickleOptions)
    stem: StemOptions = field(default_factory=StemOptions)
    private: bool = False
    drops: bool = False
    strangers: bool = False


class Sight(NamedTuple):
    """One thing that a relay of the spy saw: at `when`, `source` told `spy`; on a stem, or by gossip."""

    when: float
    source: int
    spy: int
    stem: bool


@dataclass
class Trace:
    """What came of one transaction.

    Attributes:
        sights: what the spy saw, in order.
        times: by relay, when it had the transaction, unless it was on its stem; None where it never had.
        began: when it was submitted.
        receivers: of the private broadcast.
        ends: by relay, where the spy would meet a stem of its own at this time: a link, or where it ends.
    """

    origin: int
    began: float
    sights: list[Sight] = field(default_factory=list)
    times: dict[int, float] = field(default_factory=dict)
    receivers: list[int] = field(default_factory=list)
    ends: dict[int, object] = field(default_factory=dict)


class Agenda:
    """Events in order of time; a `relay.relaying.seams.Loop` for the relay's own classes."""

    def __init__(self, now: float) -> None:
        self.now = now
        self._heap: list[tuple[float, int, list[Any]]] = []
        self._count = 0

    def time(self) -> float:
        return self.now

    def put(self, when: float, call: Callable[..., None], *args: Any) -> list[Any]:
        self._count += 1
        event = [call, args]
        heappush(self._heap, (when, self._count, event))
        return event

    def call_later(self, delay: float, callback: Callable[[], None]) -> Any:
        event = self.put(self.now + delay, callback)
        return SimpleNamespace(cancel=lambda: event.__setitem__(0, None))

    def call_soon(self, callback: Callable[[], None]) -> Any:
        return self.call_later(0.0, callback)

    def run(self, until: Callable[[], bool]) -> None:
        while self._heap and not until():
            self.now, _, (call, args) = heappop(self._heap)
            if call is not None:
                call(*args)


class Simulation:
    """Relays of one world with one defence; the same seed gives the same run."""

    def __init__(self, world: World, defence: Defence, seed: int) -> None:
        self.world, self.defence = world, defence
        self._draw = random.Random(f"{defence.name} {seed}")
        rand = self._draw.randbytes
        self._options = RelayOptions()
        self.clocks = [TrickleClocks(defence.trickle, rand) for _ in range(world.size)]
        self.routes: list[StemRoutes[int]] = [StemRoutes(defence.stem, rand) for _ in range(world.size)]
        self.distances: dict[int, dict[int, float]] = {}  # of estimators
        self.dialed = [frozenset(others) for others in world.dialed]
        self.direct = [self._buckets(relay) for relay in range(world.size)]

    def _buckets(self, relay: int) -> list[frozenset[int]]:
        """Who gets transactions whole, by bucket of senders: the square root of all, dealt out."""
        others = list(self.world.neighbours[relay])
        self._draw.shuffle(others)
        count = isqrt(max(len(others) - 1, 0)) + 1
        return [
            frozenset(others[(start * count + place) % len(others)] for place in range(count))
            for start in range(16)
        ]

    def send(self, origin: int, now: float) -> Trace:
        """Have a relay's own user send one; run until all honest relays have it."""
        run = _Run(self, Trace(origin, now), Agenda(now))
        if self.defence.private:
            run.broadcast()
        elif self.defence.stem.own:
            run.begin_stem()
        else:
            run.tell_own()
        trace = run.finish()
        if self.defence.stem.own:
            trace.ends = {relay: self._end(relay, now) for relay in self.world.honest}
        return trace

    def receivers(self, origin: int, now: float) -> list[int]:
        """Whom a private broadcast is sent to in its first round."""
        run = _Run(self, Trace(origin, now), Agenda(now))
        run.broadcast()
        return run.trace.receivers

    def _end(self, origin: int, now: float) -> object:
        relay, way = origin, self.routes[origin].begin(self.world.dialed[origin], now)
        passed: set[tuple[int, int]] = set()
        while way is not None and (relay, way) not in passed:
            passed.add((relay, way))
            if self.world.is_spy(way):
                return relay, way
            relay, way = way, self.routes[way].carry(relay, self.world.dialed[way], now)
        return relay

    def tag(self, target: int, now: float) -> Trace:
        """Give one relay a transaction that nobody else has."""
        run = _Run(self, Trace(target, now), Agenda(now))
        run.whole(target, None)
        return run.finish()


class _Run:
    def __init__(self, simulation: Simulation, trace: Trace, agenda: Agenda) -> None:
        self.sim, self.world, self.defence = simulation, simulation.world, simulation.defence
        self.trace, self.agenda = trace, agenda
        self._draw = simulation._draw
        self._options = simulation._options
        self._bucket = [self._draw.randrange(16) for _ in range(self.world.size)]
        self._told: list[set[int]] = [set() for _ in range(self.world.size)]  # by relay, who told it
        self._asked: set[int] = set()
        self._stems: set[tuple[int, int]] = set()
        self._broadcast: PrivateBroadcast | None = None

    def finish(self) -> Trace:
        honest = len(self.world.honest)
        self.agenda.run(lambda: len(self.trace.times) >= honest)
        self.trace.sights.sort()
        return self.trace

    # -- gossip ----------------------------------------------------------------------------------------

    def tell_own(self) -> None:
        """As `relay.relaying.own`: a few peers are left out for some seconds."""
        origin, now = self.trace.origin, self.agenda.now
        self.trace.times[origin] = now
        others = list(self.world.neighbours[origin])
        late: list[int] = []
        if not self.defence.trickle.is_on and len(others) > 1:
            late = self._draw.sample(others, max(1, min(LISTENERS, len(others) // PEERS_PER_LISTENER)))
        self._tell(origin, [other for other in others if other not in late])
        for other in late:
            self.agenda.put(now + self._options.own_listen_seconds, self._announce_late, origin, other)

    def whole(self, relay: int, source: int | None) -> None:
        """A relay gets the transaction."""
        if source is not None:
            self._told[relay].add(source)
        if relay in self.trace.times or self.world.is_spy(relay):
            return
        self.trace.times[relay] = self.agenda.now
        if relay == self.trace.origin and self._broadcast is not None:
            self._broadcast.arrived(b"")
        self._tell(relay, self.world.neighbours[relay])

    def _tell(self, relay: int, others: list[int]) -> None:
        now, trickle = self.agenda.now, self.defence.trickle
        if not trickle.is_on:
            for other in others:
                self._deliver(relay, other)
            return
        clocks = self.sim.clocks[relay]
        dialed = self.sim.dialed[relay]
        came = []
        for other in others:
            if other in dialed:
                self.agenda.put(clocks.outbound(other, now), self._deliver, relay, other)
            else:
                came.append(other)
        if came:
            self.agenda.put(clocks.inbound(now), self._deliver_all, relay, came)

    def _announce_late(self, relay: int, other: int) -> None:
        if other not in self._told[relay]:
            self._send(relay, other, self._heard)

    def _deliver_all(self, relay: int, others: list[int]) -> None:
        for other in others:
            self._deliver(relay, other)

    def _deliver(self, relay: int, other: int) -> None:
        if other not in self._told[relay]:
            direct = other in self.sim.direct[relay][self._bucket[relay]]
            self._send(relay, other, self.whole if direct else self._heard)

    def _send(self, relay: int, other: int, what: Callable[[int, int], None]) -> None:
        if other in self.trace.times and not self.defence.trickle.is_on:
            return  # it has told everybody whom it tells
        arrival = self.agenda.now + self._latency(relay, other)
        if self.world.is_spy(other):
            self._see(arrival, relay, other, stem=False)
        else:
            self.agenda.put(arrival, what, other, relay)

    def _heard(self, relay: int, source: int) -> None:
        """A relay is told the hash: it asks the first who told, after a short wait for a direct copy."""
        self._told[relay].add(source)
        if relay in self.trace.times or relay in self._asked:
            return
        self._asked.add(relay)
        wait = self._options.fetch_wait_max
        trip = wait + self._latency(relay, source) + self._latency(source, relay)
        self.agenda.put(self.agenda.now + trip, self.whole, relay, source)

    def _latency(self, one: int, other: int) -> float:
        return self.world.latency[one, other] + self._draw.expovariate(1.0 / JITTER)

    def _see(self, when: float, source: int, spy: int, *, stem: bool) -> None:
        if not self.world.is_spy(source):
            self.trace.sights.append(Sight(when, source, spy, stem))

    # -- stems -----------------------------------------------------------------------------------------

    def begin_stem(self) -> None:
        origin = self.trace.origin
        way = self.sim.routes[origin].begin(self.world.dialed[origin], self.agenda.now)
        if way is None:
            self._fluff(origin)
        else:
            self._pass(origin, way)

    def _pass(self, relay: int, way: int) -> None:
        now = self.agenda.now
        if not self.world.is_spy(relay):
            self.agenda.put(now + self.sim.routes[relay].embargo(), self._fluff, relay)
        arrival = now + self._latency(relay, way)
        if self.world.is_spy(way):
            self._see(arrival, relay, way, stem=True)
        self.agenda.put(arrival, self._carry, way, relay)

    def _carry(self, relay: int, source: int) -> None:
        if relay in self.trace.times or (self.defence.drops and self.world.is_spy(relay)):
            return
        way = self.sim.routes[relay].carry(source, self.world.dialed[relay], self.agenda.now)
        if way is None or (source, relay) in self._stems:
            self._fluff(relay)
            return
        self._stems.add((source, relay))
        self._pass(relay, way)

    def _fluff(self, relay: int) -> None:
        if self.world.is_spy(
            relay
        ):  # somebody has to: a relay of the spy that passes nothing on is found out
            for other in self.world.neighbours[relay]:
                self.agenda.put(self.agenda.now + self._latency(relay, other), self.whole, other, relay)
        elif relay not in self.trace.times:
            self.whole(relay, None)

    # -- private broadcast -----------------------------------------------------------------------------

    def broadcast(self) -> None:
        """By the real schedule: three short connections, others if nobody brings it back."""
        broadcast = PrivateBroadcast(
            self,
            PrivateOptions(strangers_first=self.defence.strangers),
            self.agenda,
            self._draw.randbytes,
            objection=lambda _tx: None,
            outbids=lambda _tx, _rival: False,
        )
        self._broadcast = broadcast
        tx: Any = SimpleNamespace(hash=b"", signer=b"", nonce=0, size=0)
        broadcast.submit(Letter(tx, b"", b"", self.agenda.now))

    def addressees(self) -> list[Addressee]:
        origin = self.trace.origin
        peers = set(self.world.neighbours[origin])
        return [
            Addressee(relay.to_bytes(4, "big"), is_peer=relay in peers)
            for relay in range(self.world.size)
            if relay != origin
        ]

    def carry(self, to: Addressee, _letter: Letter, done: Callable[[Receipt], None]) -> Any:
        relay = int.from_bytes(to.key, "big")
        self.trace.receivers.append(relay)

        def delivered() -> None:
            done(Receipt(delivered=True))
            self.whole(relay, None)

        return self.agenda.call_later(exp(self._draw.gauss(log(SETUP), SETUP_SPREAD)), delivered)
