"""One discovery stream over Tor: a connection that we dialed, or one that came in by our onion service."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol, cast

from relay.discovery.buckets import Rate
from relay.primitives.endpoint import Endpoint
from relay.protocols.discv5.streams import PREFACE, PacketReader, encode_frame

__all__ = ["Drop", "End", "OnionStream", "Owner", "StreamId", "StreamOptions", "StreamStats"]

RATE: Final = Rate(200.0, 400.0)
TOTAL: Final = Rate(1500.0, 3000.0)


@dataclass(frozen=True, slots=True)
class StreamId:
    """What a stream that came in is called: it has no address. Never used twice."""

    number: int


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """Bounds and times of the pool.

    Attributes:
        dialed: streams that we dialed, dials under way included.
        accepted: streams that came in.
        accepted_per_circuit: of those, by one of Tor's circuits, where the listener shows circuits.
        dialing: dials under way; a further one fails as BUSY.
        waiting: packets that wait for one dial; later ones are dropped.
        idle: seconds without a packet after which a stream that we dialed is closed.
        idle_accepted: the same for one that came in: longer, so that who pays for the circuit decides.
        spare: seconds without a packet after which a stream may go to make room for another.
        proof: seconds until a stream must have carried a handshake that held.
        barred: seconds in which an onion isn't dialed again after a failed dial.
        barred_long: the same where Tor says that another try soon is of no use.
        bars: onions that are remembered so; the oldest go first.
        rate: packets that are read from one stream, or from one circuit where circuits are shown; beyond, it
            is read later.
        total: the same for all streams together.
        turn: packets of one stream that are taken before others have their turn.
        unsent: bytes that may wait for a slow reader; it is closed at more.
        idle_left: the same for one that we dialed and that is to give way to a new circuit.
        sweep: seconds between looks at what is idle.
        backlog: seconds until streams over their rate are read again.
    """

    dialed: int = 96
    accepted: int = 128
    accepted_per_circuit: int = 2
    dialing: int = 32
    waiting: int = 16
    idle: float = 600.0
    idle_accepted: float = 900.0
    idle_left: float = 5.0
    spare: float = 20.0
    proof: float = 60.0
    barred: float = 30.0
    barred_long: float = 600.0
    bars: int = 1024
    rate: Rate = RATE
    total: Rate = TOTAL
    turn: int = 16
    unsent: int = 65_536
    sweep: float = 5.0
    backlog: float = 0.05


class End(StrEnum):
    """Why a stream ended; the label of a counter."""

    REMOTE = "remote"
    """By the other side, or Tor."""
    IDLE = "idle"
    ROOM = "room"
    """Made room for another one."""
    UNPROVED = "unproved"
    """No handshake in time."""
    MALFORMED = "malformed"
    """Wrong preface, a size that no packet has, or a packet that is none."""
    SLOW = "slow"
    """It did not read."""
    FULL = "full"
    """Came in while there was no room."""
    OURS = "ours"
    """We stop."""


class Drop(StrEnum):
    """Why a packet of ours was not sent; the label of a counter."""

    GONE = "gone"
    """The stream has ended."""
    WAITING = "waiting"
    """Too many wait for the dial."""
    NO_ROOM = "no_room"
    """No room for another dial or stream."""
    BARRED = "barred"
    """The dial has failed lately."""


@dataclass(slots=True)
class StreamStats:
    """Counts since the start, but for `dialed`, `accepted` and `dialing`.

    Attributes:
        dialed: open streams that we dialed.
        accepted: open streams that came in.
        dialing: dials under way.
        dials: dials that were begun.
        dials_failed: those that came to nothing.
        packets_in, packets_out: packets.
        bytes_in, bytes_out: with frames and prefaces.
        delayed: times that a packet had to wait, since its stream or all together were over their rate.
        ended: streams by the reason of their end.
        dropped: packets of ours that were not sent, by reason.
    """

    dialed: int = 0
    accepted: int = 0
    dialing: int = 0
    dials: int = 0
    dials_failed: int = 0
    packets_in: int = 0
    packets_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    delayed: int = 0
    ended: Counter[End] = field(default_factory=Counter)
    dropped: Counter[Drop] = field(default_factory=Counter)


class Owner(Protocol):
    """The pool, as a stream sees it."""

    stats: StreamStats
    options: StreamOptions
    buffer: memoryview

    def opened(self, stream: OnionStream) -> None:
        """Learn that its transport is there."""

    def read(self, stream: OnionStream) -> None:
        """Take what it has read."""

    def over(self, stream: OnionStream) -> None:
        """Learn that its transport is gone."""


class OnionStream(asyncio.BufferedProtocol):
    """Frames over one transport. Made by `OnionStreams`, which decides when it ends.

    Args:
        owner: the pool.
        address: the endpoint that was dialed, or the name of a stream that came in.
        circuit: by which it came in, where the listener shows it.

    Attributes:
        proved: whether a handshake over it held.
        used: when a packet last went either way, seconds of the clock.
        delayed: whether it waits to be read on.
        ended: whether the pool has let go of it.
    """

    __slots__ = (
        "_greeting", "_held", "_owner", "_reader", "_transport", "address", "circuit", "delayed",
        "ended", "opened_at", "proved", "used",
    )  # fmt: skip

    def __init__(self, owner: Owner, address: Endpoint | StreamId, circuit: int | None = None) -> None:
        self.address = address
        self.circuit = circuit
        self.proved = False
        self.opened_at = self.used = 0.0
        self.delayed = False
        self.ended = False
        self._owner = owner
        # Goes out with the first packet: one cell of Tor less.
        self._greeting = PREFACE if self.is_dialed else b""
        self._held: bytes | None = None
        self._reader = PacketReader(preface=not self.is_dialed)
        self._transport: asyncio.Transport | None = None

    @property
    def is_dialed(self) -> bool:
        """Whether we dialed it."""
        return isinstance(self.address, Endpoint)

    # -- transport callbacks ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast(asyncio.Transport, transport)
        self._owner.opened(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer that all streams share: what is in it is taken at once."""
        return self._owner.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take bytes."""
        if self.ended:
            return
        self._owner.stats.bytes_in += nbytes
        self._reader.receive(self._owner.buffer[:nbytes])
        self._owner.read(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end."""
        self._owner.over(self)

    # -- for the pool ----------------------------------------------------------------------------------

    def peek(self) -> bytes | None:
        """Return the next packet, which stays until `take`.

        Raises:
            DecodeError: the other side does not speak this protocol.
        """
        if self._held is None:
            self._held = self._reader.next_packet()
        return self._held

    def take(self) -> None:
        """Let go of the packet that was peeked at."""
        self._held = None

    def send(self, packet: bytes) -> bool:
        """Write a packet; returns False when the other side does not read."""
        assert self._transport is not None
        if self._transport.get_write_buffer_size() > self._owner.options.unsent:
            return False
        data = self._greeting + encode_frame(packet)
        self._greeting = b""
        self._transport.write(data)
        self._owner.stats.packets_out += 1
        self._owner.stats.bytes_out += len(data)
        return True

    def pause(self) -> None:
        """Read no more for now, so that the other side feels it."""
        if not self.delayed and self._transport is not None:
            self.delayed = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self.delayed and self._transport is not None:
            self.delayed = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def abort(self) -> None:
        """Cut the connection."""
        self.ended = True
        if self._transport is not None:
            self._transport.abort()
