"""One port for several protocols: a connection's first byte says which one it speaks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Network
from typing import Final, cast

from relay.primitives.errors import DecodeError

__all__ = ["FirstByte", "FirstByteOptions", "FirstByteStats", "Gate", "Route", "parse_circuit_line"]

_FIRST_READ: Final = 4096  # bytes taken before the protocol is chosen; the rest waits in the kernel
_MAX_LINE: Final = 107  # bytes; the PROXY protocol, version 1
_BEGINNING: Final = b"PROXY TCP6 "
_CIRCUITS: Final = IPv6Network("fc00:dead:beef:4dad::/96")  # tor(1), HiddenServiceExportCircuitID


@dataclass(frozen=True, slots=True)
class Route:
    """A protocol and the first bytes that mean it.

    Attributes:
        first: what its connections begin with.
        make: makes its protocol; told Tor's id of the circuit, where the listener shows it.
        has_room: asked at each connection; False closes it.
    """

    first: range
    make: Callable[[int | None], asyncio.BaseProtocol]
    has_room: Callable[[], bool] = lambda: True


@dataclass(frozen=True, slots=True)
class FirstByteOptions:
    """Bounds.

    Attributes:
        patience: seconds until the first byte; who says nothing is closed.
        waiting: connections without a first byte; beyond, the one that waits for longest makes room, if it
            has done so for `spare` seconds; else the new one is closed at once.
        spare: time enough for whoever has something to say, over Tor as well.
        circuit_line: whether Tor writes a line with its circuit id before all else
            (HiddenServiceExportCircuitID haproxy in torrc). Where it does not, a peer could write its own.
    """

    patience: float = 30.0
    waiting: int = 64
    spare: float = 5.0
    circuit_line: bool = False


@dataclass(slots=True)
class FirstByteStats:
    """Counts since the start, but for `waiting`.

    Attributes:
        waiting: connections without a first byte now.
        chosen: connections that were handed on, by the position of their route.
        unknown: closed, since no protocol begins so.
        silent: closed, since the first byte did not come in time.
        full: closed, since the protocol, or the gate, had no room.
    """

    waiting: int = 0
    chosen: list[int] = field(default_factory=list)
    unknown: int = 0
    silent: int = 0
    full: int = 0


class Gate:
    """What the connections of one listener share. `gate.protocol` is what the listener is given.

    With `circuit_line` each connection opens with a PROXY line, and the protocol's first byte comes after it.
    The line is Tor's alone: a second one is a protocol that nobody speaks, and closes the connection.

    Args:
        routes: tried in order.
        clock: the event loop: `time` and `call_at`.
        options: bounds.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        *,
        clock: asyncio.AbstractEventLoop,
        options: FirstByteOptions | None = None,
    ) -> None:
        self._routes = tuple(routes)
        self._clock = clock
        self.options = options or FirstByteOptions()
        self._waiting: dict[
            FirstByte, float
        ] = {}  # in the order of their deadlines, as all wait equally long
        self._timer: asyncio.TimerHandle | None = None
        self.stats = FirstByteStats(chosen=[0] * len(self._routes))

    def has_room(self) -> bool:
        """Whether one more connection may wait for its first byte: for the listener to ask."""
        return len(self._waiting) < self.options.waiting or self._spare() is not None

    def protocol(self) -> FirstByte:
        """Make the protocol of a connection that has just come in."""
        return FirstByte(self)

    def close(self) -> None:
        """Close what waits."""
        for each in list(self._waiting):
            each.abort()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def enter(self, connection: FirstByte) -> bool:
        """Let a connection wait; False: there is no room."""
        if len(self._waiting) >= self.options.waiting:
            self.stats.full += 1
            spare = self._spare()
            if spare is None:
                return False
            spare.abort()
        self._waiting[connection] = self._clock.time() + self.options.patience
        self.stats.waiting = len(self._waiting)
        if self._timer is None:
            self._arm()
        return True

    def leave(self, connection: FirstByte) -> None:
        """Let a connection wait no more."""
        self._waiting.pop(connection, None)
        self.stats.waiting = len(self._waiting)

    def choose(self, first: int, circuit: int | None) -> asyncio.BaseProtocol | None:
        """Make the protocol that begins with a byte; None: there is none, or it has no room."""
        for number, route in enumerate(self._routes):
            if first in route.first:
                if not route.has_room():
                    self.stats.full += 1
                    return None
                self.stats.chosen[number] += 1
                return route.make(circuit)
        self.stats.unknown += 1
        return None

    def _spare(self) -> FirstByte | None:
        """Return who waits for longest, if that is long enough: silence must not keep others out."""
        began = self._clock.time() - self.options.spare
        connection, deadline = next(iter(self._waiting.items()), (None, 0.0))
        return connection if deadline - self.options.patience <= began else None

    def _arm(self) -> None:
        deadline = next(iter(self._waiting.values()), None)
        self._timer = None if deadline is None else self._clock.call_at(deadline, self._expire)

    def _expire(self) -> None:
        now = self._clock.time()
        for connection in [each for each, deadline in self._waiting.items() if deadline <= now]:
            self.stats.silent += 1
            connection.abort()
        self._arm()


class FirstByte(asyncio.BufferedProtocol):
    """An accepted connection until its protocol is known, which then takes over, told of everything so far.

    Args:
        gate: of its listener.
    """

    __slots__ = ("_buffer", "_circuit", "_gate", "_line", "_transport")

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._line = b""
        self._circuit: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait."""
        self._transport = cast(asyncio.Transport, transport)
        if not self._gate.enter(self):
            self._transport.abort()

    def get_buffer(self, sizehint: int) -> bytearray:
        """Return where to read to: little, since what is read goes through this hand."""
        self._buffer = bytearray(_FIRST_READ)
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Choose by what has come."""
        data = bytes(self._buffer[:nbytes])
        self._buffer = bytearray()
        if self._gate.options.circuit_line and self._circuit is None:
            data = self._take_line(data)
        if data and self._transport is not None and not self._transport.is_closing():
            self._hand_over(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._gate.leave(self)

    def abort(self) -> None:
        """Close at once."""
        self._gate.leave(self)
        if self._transport is not None:
            self._transport.abort()

    def _take_line(self, data: bytes) -> bytes:
        """Read the line of Tor; returns what follows it, which is nothing before the line is complete."""
        line, end, rest = (self._line + data).partition(b"\r\n")
        if not end and len(line) <= _MAX_LINE and _BEGINNING.startswith(line[: len(_BEGINNING)]):
            self._line = line
            return b""
        try:
            self._circuit = parse_circuit_line(line)
        except DecodeError:
            self._gate.stats.unknown += 1
            self.abort()
            return b""
        return rest

    def _hand_over(self, data: bytes) -> None:
        assert self._transport is not None
        self._gate.leave(self)
        protocol = self._gate.choose(data[0], self._circuit)
        if protocol is None:
            self._transport.abort()
            return
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        _feed(protocol, data, self._transport)


def parse_circuit_line(line: bytes) -> int:
    """Return the circuit id of "PROXY TCP6 fc00:dead:beef:4dad::<id> ::1 <port> <port>".

    Raises:
        DecodeError: it is another line.
    """
    words = line.split(b" ")
    if len(line) > _MAX_LINE or words[:2] != [b"PROXY", b"TCP6"] or len(words) != 6:
        raise DecodeError("not the line that tor writes before a connection")
    try:
        address = IPv6Address(words[2].decode("ascii"))
    except ValueError:
        raise DecodeError("the line before a connection names no address") from None
    if address not in _CIRCUITS:
        raise DecodeError("the line before a connection names no circuit")
    return int(address) & 0xFFFFFFFF


def _feed(protocol: asyncio.BaseProtocol, data: bytes, transport: asyncio.Transport) -> None:
    if isinstance(protocol, asyncio.Protocol):
        if not transport.is_closing():
            protocol.data_received(data)
        return
    assert isinstance(protocol, asyncio.BufferedProtocol)
    while data and not transport.is_closing():
        room = memoryview(protocol.get_buffer(len(data)))
        size = min(len(room), len(data))
        room[:size] = data[:size]
        protocol.buffer_updated(size)
        data = data[size:]
