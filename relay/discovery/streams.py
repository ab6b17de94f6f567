"""All discovery streams over Tor: dialed when a packet needs one, kept for reuse, bounded.

    streams = OnionStreams(onion_dial(...), tasks=tasks, clock=loop)
    driver = CoreDriver(core, streams.send, clock=loop)
    streams.attach(driver)
    gate = Gate([..., Route(range(0x64, 0x65), streams.protocol, streams.has_room)], clock=loop)

The core calls a stream that we dialed by its onion endpoint and one that came in by its `StreamId`; sessions
made on a stream end with it. Everything runs in callbacks; only a dial is a task.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import structlog

from relay.discovery.buckets import Buckets
from relay.discovery.driver import Clock
from relay.discovery.onion_dial import NoTurn
from relay.discovery.onion_stream import Drop, End, OnionStream, StreamId, StreamOptions, StreamStats
from relay.primitives.endpoint import Endpoint
from relay.primitives.errors import ConnectTimeout, DecodeError, ProxyFailed, Retry, SamFailed, TransportError
from relay.protocols.discv5 import Address, Event, Failure, Reason, SessionEstablished

__all__ = ["Dial", "OnionStreams", "Sink"]

_log = structlog.get_logger("relay.discovery")

_READ_SIZE: Final = 16_384  # bytes of one read, and so the most that waits of a stream over its rate
_NOT_A_PACKET: Final = frozenset({Reason.NOT_DISCV5, Reason.HEADER, Reason.OVERSIZE})
"""Nothing gets mixed up on a stream: who begins so means another protocol, or another node.

Later it may be that a liar gave our onion to somebody who knows us already: what was proved stays.
"""


class Dial(Protocol):
    """Connects to an onion; see `onion_dial`."""

    def __call__(
        self, to: Endpoint, factory: Callable[[], OnionStream], /
    ) -> Awaitable[tuple[asyncio.Transport, OnionStream]]:
        """Connect, or raise TransportError; cancelling leaves nothing behind."""


class Sink(Protocol):
    """What the pool needs of a `CoreDriver`."""

    def receive(self, data: bytes, source: Address) -> Reason | None:
        """Take a packet."""

    def opened(self, address: Address) -> None:
        """Learn that a dial has come through."""

    def closed(self, address: Address, failure: Failure) -> None:
        """Learn that a stream is gone, or was not to be had."""

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Have events told."""


class _Dialing:
    """A dial under way, and the packets that wait for it."""

    __slots__ = ("packets", "task")

    def __init__(self) -> None:
        self.packets: deque[bytes] = deque()
        self.task: asyncio.Task[None] | None = None


class OnionStreams:
    """The pool.

    Args:
        dial: connects to an onion.
        tasks: where dials live.
        clock: the event loop.
        options: bounds and times.

    Attributes:
        stats: counts; read them, never write.
    """

    def __init__(
        self,
        dial: Dial,
        *,
        tasks: asyncio.TaskGroup,
        clock: Clock,
        options: StreamOptions | None = None,
    ) -> None:
        self.options = options or StreamOptions()
        self.stats = StreamStats()
        self.buffer = memoryview(bytearray(_READ_SIZE))
        self._dial = dial
        self._tasks = tasks
        self._clock = clock
        self._sink: Sink | None = None
        self._serial = 0
        self._closed = False
        self._left_at = float("-inf")
        # All in the order of their last packet, so that the first one is idle for longest.
        self._open: dict[Address, OnionStream] = {}
        self._dialing: dict[Endpoint, _Dialing] = {}
        self._unproved: dict[OnionStream, None] = {}
        self._circuits: Counter[int] = Counter()
        self._barred: dict[str, float] = {}
        self._buckets = Buckets(self.options.rate, self.options.dialed + self.options.accepted)
        self._total = Buckets(self.options.total, 1)
        self._backlog: dict[OnionStream, None] = {}
        self._reports: dict[Address, Failure] = {}
        self._timers: dict[Callable[[], None], asyncio.TimerHandle] = {}

    def attach(self, sink: Sink) -> None:
        """Name the driver that packets go to."""
        self._sink = sink
        sink.listen(self._learn)

    def send(self, data: bytes, to: Address) -> None:
        """Send a packet; dials where there is no stream. Never calls the driver back before it returns."""
        stream = self._open.get(to)
        if self._closed or to in self._reports:
            self.stats.dropped[Drop.GONE] += 1
        elif stream is not None:
            self._touch(stream)
            if not stream.send(data):
                self._end(stream, End.SLOW, later=True)
        elif isinstance(to, Endpoint):
            self._send_by_dial(data, to)
        else:
            self.stats.dropped[Drop.GONE] += 1
            self._report(to, Failure.LOST, later=True)

    def pardon(self, to: Endpoint) -> None:
        """Let an onion be dialed at once, whatever came of the last dial: for nodes of our own choice."""
        self._barred.pop(to.host, None)

    def has_room(self) -> bool:
        """Whether a stream may come in: for the listener to ask."""
        return not self._closed and (
            self.stats.accepted < self.options.accepted or self._spare(dialed=False) is not None
        )

    def protocol(self, circuit: int | None = None) -> asyncio.BufferedProtocol:
        """Make the protocol of a stream that comes in.

        Args:
            circuit: Tor's id of the circuit that it came by, where the listener shows it.
        """
        self._serial += 1
        return OnionStream(self, StreamId(self._serial), circuit)

    def leave(self) -> None:
        """Have the streams of now that we dialed end as soon as nothing is said on them; later ones stay."""
        self._left_at = self._clock.time()

    def close(self) -> None:
        """Cut all streams, cancel all dials; nothing is sent or reported any more."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for dialing in self._dialing.values():
            if dialing.task is not None:
                dialing.task.cancel()
        self._dialing.clear()
        self.stats.dialing = 0
        for stream in list(self._open.values()):
            self._end(stream, End.OURS)

    # -- for streams -----------------------------------------------------------------------------------

    def opened(self, stream: OnionStream) -> None:
        """Learn that the transport of a stream is there."""
        if self._closed or not (stream.is_dialed or self._admits(stream)):
            self.stats.ended[End.OURS if self._closed else End.FULL] += 1
            stream.abort()
            return
        stream.opened_at = stream.used = self._clock.time()
        self._open[stream.address] = stream
        self._unproved[stream] = None
        self._count(stream, 1)
        self._after(self.options.sweep, self._sweep)
        dialing = self._dialing.pop(stream.address, None) if isinstance(stream.address, Endpoint) else None
        if dialing is not None:
            self.stats.dialing = len(self._dialing)
            for packet in dialing.packets:
                stream.send(packet)
            if self._sink is not None:
                self._sink.opened(stream.address)

    def read(self, stream: OnionStream) -> None:
        """Take packets of a stream, as many as its rate and everybody's allow; later ones wait."""
        try:
            for _ in range(self.options.turn):
                packet = stream.peek()
                if packet is None:
                    stream.resume()
                    return
                now = self._clock.time()
                source = stream.address if stream.circuit is None else stream.circuit
                if not (self._buckets.take(source, now) and self._total.take(None, now)):
                    self.stats.delayed += 1
                    break
                stream.take()
                self._deliver(stream, packet)
                if stream.ended:
                    return
        except DecodeError:
            self._end(stream, End.MALFORMED)
            return
        stream.pause()
        self._backlog[stream] = None
        self._after(self.options.backlog, self._read_on)

    def over(self, stream: OnionStream) -> None:
        """Learn that the transport of a stream is gone."""
        if self._open.get(stream.address) is stream:
            self._end(stream, End.REMOTE)

    # -- the driver's side -----------------------------------------------------------------------------

    def _deliver(self, stream: OnionStream, packet: bytes) -> None:
        self.stats.packets_in += 1
        self._touch(stream)
        if self._sink is None:
            return
        if self._sink.receive(packet, stream.address) in _NOT_A_PACKET and not stream.proved:
            self._end(stream, End.MALFORMED)

    def _learn(self, event: Event) -> None:
        if isinstance(event, SessionEstablished):
            stream = self._open.get(event.contact.address)
            if stream is not None:
                stream.proved = True
                self._unproved.pop(stream, None)

    def _report(self, address: Address, failure: Failure, *, later: bool = False) -> None:
        """Tell the driver; later, where it is the one who has called us."""
        if self._closed or self._sink is None:
            return
        if later:
            self._reports[address] = failure
            self._after(0.0, self._report_all)
        else:
            self._sink.closed(address, failure)

    def _report_all(self) -> None:
        reports, self._reports = self._reports, {}
        for address, failure in reports.items():
            self._report(address, failure)

    # -- dials -----------------------------------------------------------------------------------------

    def _send_by_dial(self, data: bytes, to: Endpoint) -> None:
        dialing = self._dialing.get(to)
        if dialing is None:
            refusal = self._refusal(to)
            if refusal is not None:
                drop, failure = refusal
                self.stats.dropped[drop] += 1
                self._report(to, failure, later=True)
                return
            dialing = self._dialing[to] = _Dialing()
            self.stats.dialing = len(self._dialing)
            dialing.task = self._tasks.create_task(self._connect(to, dialing), name="dial discovery")
        if len(dialing.packets) >= self.options.waiting:
            self.stats.dropped[Drop.WAITING] += 1
        else:
            dialing.packets.append(data)

    def _refusal(self, to: Endpoint) -> tuple[Drop, Failure] | None:
        """Say why an endpoint is not dialed now."""
        until = self._barred.get(to.host)
        if until is not None:
            if until > self._clock.time():
                return Drop.BARRED, Failure.UNREACHABLE
            del self._barred[to.host]
        if len(self._dialing) >= self.options.dialing:
            return Drop.NO_ROOM, Failure.BUSY
        if self.stats.dialed + len(self._dialing) >= self.options.dialed:
            spare = self._spare(dialed=True)
            if spare is None:
                return Drop.NO_ROOM, Failure.BUSY
            self._end(spare, End.ROOM, later=True)
        return None

    async def _connect(self, to: Endpoint, dialing: _Dialing) -> None:
        self.stats.dials += 1
        failure: TransportError | None = None
        try:
            await self._dial(to, lambda: OnionStream(self, to))
        except TransportError as error:
            failure = error
        finally:
            # Still there only if no stream came of it: failed, or cancelled.
            if self._dialing.get(to) is dialing:
                del self._dialing[to]
                self.stats.dialing = len(self._dialing)
        if failure is not None:
            self._failed(to, failure)

    def _failed(self, to: Endpoint, error: TransportError) -> None:
        self.stats.dials_failed += 1
        # Without a reply code it is the proxy or bridge that does not work: that says nothing of the node.
        ours = (
            isinstance(error, NoTurn)
            or (isinstance(error, ProxyFailed) and not error.code)
            or (isinstance(error, SamFailed) and not error.result)
        )
        # Some circuits are slow where the next one is not: a dial that we gave up may be tried again at once.
        late = isinstance(error, ConnectTimeout)
        _log.debug("discovery dial failed", cause=str(error), ours=ours)
        if not (ours or late):
            self._bar(
                to.host, self.options.barred if error.retry is Retry.SHORT else self.options.barred_long
            )
        self._report(to, Failure.BUSY if ours else Failure.TIMEOUT if late else Failure.UNREACHABLE)

    def _bar(self, host: str, seconds: float) -> None:
        self._barred.pop(host, None)
        if len(self._barred) >= self.options.bars:
            del self._barred[next(iter(self._barred))]
        self._barred[host] = self._clock.time() + seconds

    # -- bounds ----------------------------------------------------------------------------------------

    def _admits(self, stream: OnionStream) -> bool:
        """Make room for a stream that came in; returns whether there is."""
        if stream.circuit is not None and self._circuits[stream.circuit] >= self.options.accepted_per_circuit:
            return False
        if self.stats.accepted < self.options.accepted:
            return True
        spare = self._spare(dialed=False)
        if spare is not None:
            self._end(spare, End.ROOM)
        return spare is not None

    def _spare(self, *, dialed: bool) -> OnionStream | None:
        """Return the stream that is idle for longest, if it is idle at all; one without proof goes first."""
        latest = self._clock.time() - self.options.spare
        for streams in (self._unproved, self._open.values()):
            for stream in streams:
                if stream.is_dialed is dialed and stream.used <= latest:
                    return stream
        return None

    def _touch(self, stream: OnionStream) -> None:
        stream.used = self._clock.time()
        if self._open.pop(stream.address, None) is not None:
            self._open[stream.address] = stream

    def _count(self, stream: OnionStream, step: int) -> None:
        if stream.is_dialed:
            self.stats.dialed += step
        else:
            self.stats.accepted += step
        if stream.circuit is not None:
            self._circuits[stream.circuit] += step
            if not self._circuits[stream.circuit]:
                del self._circuits[stream.circuit]

    def _end(self, stream: OnionStream, why: End, *, later: bool = False) -> None:
        """Let go of a stream and of the sessions that were made on it."""
        if self._open.pop(stream.address, None) is None:
            return
        self._unproved.pop(stream, None)
        self._backlog.pop(stream, None)
        self._count(stream, -1)
        self.stats.ended[why] += 1
        stream.abort()
        nobody_there = why in {End.MALFORMED, End.UNPROVED} and not stream.proved
        if isinstance(stream.address, Endpoint) and nobody_there:
            # Something answers, but no node. An end by the other side says less: a liar may have sent us to a
            # node that knows nobody of that id, and that node is still there.
            self._bar(stream.address.host, self.options.barred)
        self._report(stream.address, Failure.UNREACHABLE if nobody_there else Failure.LOST, later=later)

    # -- timers ----------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        now, options = self._clock.time(), self.options
        late = [each for each in self._unproved if each.opened_at + options.proof <= now]
        for stream in late:
            self._end(stream, End.UNPROVED)
        for stream in list(self._open.values()):
            if stream.used + min(options.idle, options.idle_accepted, options.idle_left) > now:
                break
            if stream.used + self._idle(stream) <= now:
                self._end(stream, End.IDLE)
        if self._open:
            self._after(options.sweep, self._sweep)

    def _idle(self, stream: OnionStream) -> float:
        """Return how long a stream may be without a packet."""
        if not stream.is_dialed:
            return self.options.idle_accepted
        return self.options.idle_left if stream.opened_at <= self._left_at else self.options.idle

    def _read_on(self) -> None:
        waiting, self._backlog = self._backlog, {}
        for stream in waiting:
            if not stream.ended:
                self.read(stream)

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        """Call back once; a call that is set already stands."""
        if self._closed or action in self._timers:
            return

        def fire() -> None:
            del self._timers[action]
            action()

        self._timers[action] = self._clock.call_at(self._clock.time() + seconds, fire)
