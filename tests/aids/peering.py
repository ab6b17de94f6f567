"""Two ends of a connection in memory, a clock and an event loop moved by hand, and a tiny eth handler."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from relay.peering.interfaces import SilentObserver
from relay.peering.options import PeeringOptions
from relay.peering.peers import PeerSet
from relay.peering.session import Departure, PeerSession
from relay.primitives.errors import UselessPeer
from relay.primitives.forkid import ForkId
from relay.primitives.keys import NodeKey
from relay.protocols.devp2p.messages import Hello
from relay.protocols.eth.messages import Status
from relay.protocols.eth.versions import BY_VERSION
from relay.transports.listener import Label

EOF = object()
LOST = object()


class ManualLoop:
    """The part of an event loop that peering uses, moved by hand."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.soon: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self.later: list[tuple[float, Callable[..., object], tuple[Any, ...], ManualTimer]] = []

    def now(self) -> float:
        return self.time

    def call_soon(self, callback: Callable[..., object], *args: Any) -> Any:
        self.soon.append((callback, args))

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> Any:
        timer = ManualTimer()
        self.later.append((self.time + delay, callback, args, timer))
        return timer

    def turn(self) -> bool:
        """One iteration: what was there when it began."""
        for _ in range(count := len(self.soon)):
            callback, args = self.soon.popleft()
            callback(*args)
        return count > 0

    def drain(self) -> None:
        while self.turn():
            pass

    def advance(self, seconds: float) -> None:
        self.time += seconds
        due = [each for each in self.later if each[0] <= self.time]
        self.later = [each for each in self.later if each[0] > self.time]
        for _, callback, args, timer in due:
            if not timer.cancelled:
                callback(*args)


class ManualTimer:
    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class MemoryTransport(asyncio.Transport):
    """One end; what it wrote waits in its outbox until the test delivers it."""

    def __init__(self, loop: ManualLoop, protocol: asyncio.Protocol, **extra: object) -> None:
        super().__init__(extra)
        self.loop = loop
        self.protocol = protocol
        self.far: MemoryTransport
        self.outbox: deque[Any] = deque()
        self.reading = True
        self.closing = False
        self.lost = False
        self.eof_written = False
        self.high = 64 * 1024
        self.low = 16 * 1024
        self.full = False

    # -- asyncio's side
    def write(self, data: Any) -> None:
        assert data
        assert not self.eof_written, "write after write_eof"
        if self.closing:
            return
        self.outbox.append(bytes(data))
        if not self.full and self.get_write_buffer_size() > self.high:
            self.full = True
            self.protocol.pause_writing()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.eof_written = True
        self.outbox.append(EOF)

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            self.outbox.append(LOST)
            self.loop.call_soon(self._lose, None)

    def abort(self) -> None:
        if not self.lost:
            self.closing = True
            self.outbox.clear()
            self.outbox.append(LOST)
            self.loop.call_soon(self._lose, None)

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high is not None
        assert low is not None
        self.high, self.low = high, low

    def get_write_buffer_size(self) -> int:
        return sum(len(each) for each in self.outbox if isinstance(each, bytes))

    def _lose(self, error: Exception | None) -> None:
        if not self.lost:
            self.lost = True
            self.protocol.connection_lost(error)

    # -- the test's side
    @property
    def deliverable(self) -> bool:
        if not self.outbox or self.far.lost:
            return False
        return self.far.reading or self.outbox[0] is LOST

    def deliver(self, *, whole: bool = True) -> None:
        """Let the far end read one write, or all that came before the end."""
        item = self.outbox.popleft()
        if isinstance(item, bytes):
            while whole and self.outbox and isinstance(self.outbox[0], bytes):
                item += self.outbox.popleft()
            if not self.far.closing:
                self.far.protocol.data_received(item)
            if self.full and self.get_write_buffer_size() <= self.low:
                self.full = False
                self.protocol.resume_writing()
        elif item is EOF:
            if not self.far.closing and not self.far.protocol.eof_received():
                self.far.close()
        else:
            self.far.closing = True
            self.far.loop.call_soon(self.far._lose, None)

    def break_with(self, error: Exception) -> None:
        """The network fails on this side."""
        self.closing = True
        self.loop.call_soon(self._lose, error)


def couple(left: MemoryTransport, right: MemoryTransport) -> None:
    left.far, right.far = right, left
    left.protocol.connection_made(left)
    right.protocol.connection_made(right)


class EthStub:
    """Checks the network id and writes down everything else."""

    def __init__(self, network_id: int = 1) -> None:
        self.network_id = network_id
        self.seen: list[tuple[Any, ...]] = []
        self.on_message: Callable[[PeerSession, int, bytes], None] = lambda *_: None
        self.on_joined: Callable[[PeerSession], None] = lambda _: None

    def status(self, version: int) -> Status:
        fork_id = ForkId(b"fork", 0)
        return Status(version, self.network_id, b"g" * 32, fork_id, latest=1, latest_hash=b"h" * 32)

    def check_status(self, session: PeerSession, status: Status) -> None:
        if status.network_id != self.network_id:
            raise UselessPeer(f"network {status.network_id}")

    def joined(self, session: PeerSession) -> None:
        self.seen.append(("joined", session))
        self.on_joined(session)

    def message(self, session: PeerSession, code: int, payload: bytes) -> None:
        self.seen.append(("message", session, code, payload))
        self.on_message(session, code, payload)

    def left(self, session: PeerSession, reason: int) -> None:
        self.seen.append(("left", session, reason))

    def names(self) -> list[str]:
        return [each[0] for each in self.seen]

    def messages(self) -> list[tuple[int, bytes]]:
        return [each[2:] for each in self.seen if each[0] == "message"]


class Tally(SilentObserver):
    """Keeps why connections did not join."""

    def __init__(self) -> None:
        self.refusals: list[Departure] = []
        self.departures: list[Departure] = []
        self.dials: list[tuple[str, str | None]] = []
        self.seconds: list[float] = []

    def refused(self, inbound: bool, departure: Departure) -> None:
        self.refusals.append(departure)

    def left(self, session: PeerSession, departure: Departure) -> None:
        self.departures.append(departure)

    def dialed(self, way: str, error: str | None) -> None:
        self.dials.append((way, error))

    def handshake_seconds(self, seconds: float, inbound: bool) -> None:
        self.seconds.append(seconds)

    def categories(self) -> list[str]:
        return [each.category for each in self.refusals]


def rand_of(seed: int) -> Callable[[int], bytes]:
    state = [seed.to_bytes(8, "big")]

    def rand(count: int) -> bytes:
        state[0] = hashlib.sha256(state[0]).digest()
        return hashlib.shake_128(state[0]).digest(count)

    return rand


def key_of(number: int) -> NodeKey:
    return NodeKey(hashlib.sha256(number.to_bytes(8, "big")).digest())


def sorted_keys(count: int) -> list[NodeKey]:
    """Keys in the order of their public keys, lowest first."""
    return sorted((key_of(number + 1) for number in range(count)), key=lambda key: key.public_key)


def hello_of(key: NodeKey, *versions: int) -> Hello:
    capabilities = tuple(BY_VERSION[each].capability for each in versions or (69, 70))
    return Hello(5, "pyrelay/test", capabilities, 0, key.public_key)


@dataclass
class End:
    """A node: its peers, handler, loop and whatever it complained of."""

    key: NodeKey
    loop: ManualLoop
    eth: EthStub
    tally: Tally
    bugs: list[Exception]
    peers: PeerSet


def make_end(
    key: NodeKey,
    loop: ManualLoop | None = None,
    *,
    options: PeeringOptions | None = None,
    network_id: int = 1,
    versions: tuple[int, ...] = (69, 70),
    timers: Any = None,
    now: Callable[[], float] | None = None,
    **more: Any,
) -> End:
    loop = loop or ManualLoop()
    eth, tally, bugs = EthStub(network_id), Tally(), []
    peers = PeerSet(
        key,
        hello_of(key, *versions),
        eth,
        options=options or PeeringOptions(),
        timers=timers or loop,
        now=now or loop.now,
        rand=rand_of(int.from_bytes(key.secret[:4], "big")),
        on_bug=bugs.append,
        observer=tally,
        **more,
    )
    return End(key, loop, eth, tally, bugs, peers)


@dataclass
class Link:
    """A connection between two ends."""

    near: MemoryTransport
    far: MemoryTransport
    dialer: PeerSession = field(init=False)
    listener: PeerSession = field(init=False)

    def __post_init__(self) -> None:
        assert isinstance(self.near.protocol, PeerSession)
        self.dialer = self.near.protocol
        assert isinstance(self.far.protocol, PeerSession)
        self.listener = self.far.protocol

    def directions(self) -> list[MemoryTransport]:
        return [self.near, self.far]


def connect(
    dialing: End,
    listening: End,
    *,
    address: str = "127.0.0.1",
    label: Label = Label.CLEARNET,
    static: bool = False,
) -> Link:
    """Open a connection; nothing is delivered yet."""
    session = dialing.peers.outbound(listening.key.public_key, via_tor=False, static=static)
    near = MemoryTransport(dialing.loop, session, sockname=("127.0.0.1", 40000))
    accepted = listening.peers.inbound_factory(label)()
    peername = (address, 40000) if label is Label.CLEARNET else ""
    far = MemoryTransport(listening.loop, accepted, peername=peername, sockname=("127.0.0.1", 30303))
    couple(near, far)
    return Link(near, far)


def accept_raw(end: End, *, address: str = "127.0.0.1", label: Label = Label.CLEARNET) -> MemoryTransport:
    """Open a connection to an end from a test that speaks for itself; returns the end's transport."""
    accepted = end.peers.inbound_factory(label)()
    transport = MemoryTransport(
        end.loop, accepted, peername=(address, 40000) if label is Label.CLEARNET else ""
    )
    couple(transport, MemoryTransport(end.loop, asyncio.Protocol()))
    return transport


def settle(loops: list[ManualLoop], links: list[Link]) -> None:
    """Deliver everything and run every callback until nothing moves."""
    moved = True
    while moved:
        moved = sum(loop.turn() for loop in loops) > 0
        for link in links:
            for direction in link.directions():
                while direction.deliverable:
                    direction.deliver()
                    moved = True
