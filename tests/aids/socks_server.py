"""A scripted SOCKS5 server: records what it is asked, misbehaves as told, splices to real targets.

    async with SocksServer(routes={(onion, 30303): ("127.0.0.1", port)}) as proxy:
        ...                      # dial through proxy.address
        assert proxy.asked == [Asked(ATYP_NAME, onion, 30303, username, password)]

With `routes` two daemons connect through it as if by onion. An address without a route is answered with
`proxy.unrouted` (0xF0, descriptor not found); `record_only=True` answers success and then holds the line.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Self

ATYP_IPV4 = 1
ATYP_NAME = 3
ATYP_IPV6 = 4
RESOLVE = 0xF0

Route = tuple[str, int] | str
"""Host and port, or the path of a unix socket."""


class Act(Enum):
    """What the server does with a connection, and at which point it leaves the standard."""

    OK = "follow the standard"
    REFUSE = "answer the request with a code"
    NO_AUTH = "refuse user name and password"
    CHOOSE_NONE = "choose the method none, though it was not offered"
    BAD_PASSWORD = "refuse the password"
    SILENT = "accept, and never say a word"
    SILENT_REPLY = "follow the standard, but never answer the request"
    HTTP = "answer as a web server"
    SOCKS4 = "answer as SOCKS4"
    CONTROL = "answer as Tor's control port"
    GARBAGE = "answer the request with garbage"
    GARBAGE_AUTH = "answer the password with garbage"
    BAD_ATYP = "name an address of a type that is none"
    PARTIAL = "send half of the reply, then close"
    SLOW = "send everything byte by byte, then go on as by the standard"
    CLOSE = "close at once"
    CLOSE_AFTER_REQUEST = "close in place of a reply"
    RESET = "reset in place of a reply"
    LONG_NAME = "follow the standard, with a bound address of 255 characters"
    GREET = "follow the standard, with the destination's first bytes in the same packet as the reply"


@dataclass(frozen=True, slots=True)
class Script:
    """An act, with the reply code of REFUSE or the bytes of GARBAGE and GREET."""

    act: Act = Act.OK
    code: int = 0x01
    data: bytes = b"\xff" * 64


@dataclass(frozen=True, slots=True)
class Asked:
    """One CONNECT as it came."""

    address_type: int
    host: str
    port: int
    username: bytes | None
    password: bytes | None


class _Over(Exception):
    """The script ends here."""


@dataclass
class SocksServer:
    """See the module. Change `script` at any time: it holds for the connections to come.

    Attributes:
        routes: where a CONNECT really leads; or a function that says so.
        script: what to do; `scripts` are used up first, one a connection.
        unrouted: reply code for a destination without a route.
        record_only: answer success to what has no route, and hold the line.
        path: listen on this unix socket instead of TCP.
        is_tor: answer Tor's RESOLVE of 127.0.0.1, which every other proxy refuses.
        connections: accepted so far, also those that never asked.
        asked: every CONNECT, in order.
    """

    routes: dict[tuple[str, int], Route] | Callable[[str, int], Route | None] = field(default_factory=dict)
    script: Script = field(default_factory=Script)
    unrouted: int = 0xF0
    record_only: bool = False
    path: str | None = None
    host: str = "127.0.0.1"
    is_tor: bool = True
    scripts: list[Script] = field(default_factory=list)
    connections: int = 0
    spliced: int = 0
    asked: list[Asked] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._handlers: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Condition()
        self.port = 0

    @property
    def address(self) -> str:
        """What --tor-proxy takes."""
        return f"unix:{self.path}" if self.path else f"{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; after a stop on the same port again, as a proxy that was restarted."""
        if self.path:
            self._server = await asyncio.start_unix_server(self._handle, self.path)
            return
        self._server = await asyncio.start_server(self._handle, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the listener and cut every connection, as a proxy that dies."""
        if self._server is None:
            return
        self._server.close()
        self.cut()
        for task in list(self._handlers):
            task.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    def cut(self) -> None:
        """Cut every connection that runs through here."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def wait_asked(self, count: int, deadline: float = 5.0) -> list[Asked]:
        """Return the requests once there are so many."""
        async with asyncio.timeout(deadline), self._changed:
            await self._changed.wait_for(lambda: len(self.asked) >= count)
        return self.asked[:count]

    async def wait_connections(self, count: int, deadline: float = 5.0) -> None:
        """Return once so many connections were accepted."""
        async with asyncio.timeout(deadline), self._changed:
            await self._changed.wait_for(lambda: self.connections >= count)

    async def wait_idle(self, deadline: float = 5.0) -> None:
        """Return once no connection is open: whoever dialed has closed its socket."""
        async with asyncio.timeout(deadline):
            while self._handlers:
                await asyncio.wait(self._handlers)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        self._writers.add(writer)
        script = self.scripts.pop(0) if self.scripts else self.script
        await self._note(connection=1)
        try:
            await self._play(script, reader, writer)
        except (_Over, OSError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:
            pass  # stop(): asyncio's server would log the cancellation of its own task
        finally:
            writer.close()
            self._writers.discard(writer)
            self._handlers.discard(task)

    async def _note(self, asked: Asked | None = None, connection: int = 0) -> None:
        async with self._changed:
            self.connections += connection
            if asked is not None:
                self.asked.append(asked)
            self._changed.notify_all()

    async def _play(self, script: Script, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        act = script.act
        if act is Act.CLOSE:
            return
        methods = await self._greeting(reader)
        if act is Act.SILENT:
            await reader.read()
            return
        if (stranger := _STRANGERS.get(act)) is not None:
            await _send(script, writer, stranger)
            return
        username, password = await self._authenticate(script, methods, reader, writer)
        command, asked = await _request(reader, username, password)
        if command == RESOLVE:
            await _send(script, writer, _RESOLVED if self.is_tor else bytes((5, 7, 0, 1)) + bytes(6))
            return
        await self._note(asked=asked)
        await self._answer(script, asked, reader, writer)

    async def _greeting(self, reader: asyncio.StreamReader) -> bytes:
        version, count = await reader.readexactly(2)
        assert version == 5, f"the client speaks SOCKS version {version}"
        return await reader.readexactly(count)

    async def _authenticate(
        self, script: Script, methods: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[bytes | None, bytes | None]:
        if script.act is Act.NO_AUTH:
            await _send(script, writer, b"\x05\xff")
            raise _Over
        if script.act is Act.CHOOSE_NONE or 0x02 not in methods:
            await _send(script, writer, b"\x05\x00")
            return None, None
        await _send(script, writer, b"\x05\x02")
        assert await reader.readexactly(1) == b"\x01"
        username = await _field(reader)
        password = await _field(reader)
        if script.act is Act.GARBAGE_AUTH:
            await _send(script, writer, script.data)
            raise _Over
        if script.act is Act.BAD_PASSWORD:
            await _send(script, writer, b"\x01\x01")
            raise _Over
        await _send(script, writer, b"\x01\x00")
        return username, password

    async def _answer(
        self, script: Script, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        act = script.act
        if act in _REPLIES:
            await _send(script, writer, _REPLIES[act])
        elif act is Act.REFUSE:
            await _send(script, writer, bytes((5, script.code, 0, 1)) + bytes(6))
        elif act is Act.GARBAGE:
            await _send(script, writer, script.data)
        elif act is Act.RESET:
            # Without lingering a close is a reset.
            writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            writer.transport.abort()
        elif act is Act.SILENT_REPLY:
            await reader.read()
        elif act is not Act.CLOSE_AFTER_REQUEST:
            await self._connect(script, asked, reader, writer)

    async def _connect(
        self, script: Script, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        route = self._route(asked)
        if route is None:
            if not self.record_only:
                await _send(script, writer, bytes((5, self.unrouted, 0, 1)) + bytes(6))
                return
            await _send(script, writer, _success(script))
            await reader.read()
            return
        try:
            if isinstance(route, str):
                there = await asyncio.open_unix_connection(route)
            else:
                there = await asyncio.open_connection(*route)
        except OSError:
            await _send(script, writer, b"\x05\x05\x00\x01" + bytes(6))
            return
        self._writers.add(there[1])
        self.spliced += 1
        try:
            await _send(script, writer, _success(script))
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(_pump(reader, there[1]))
                pumps.create_task(_pump(there[0], writer))
        finally:
            there[1].close()
            self._writers.discard(there[1])

    def _route(self, asked: Asked) -> Route | None:
        if callable(self.routes):
            return self.routes(asked.host, asked.port)
        return self.routes.get((asked.host, asked.port))


_STRANGERS = {
    Act.HTTP: b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
    Act.SOCKS4: b"\x00\x5b" + bytes(6),
    Act.CONTROL: b"514 Authentication required.\r\n",
}
_RESOLVED = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00"
_REPLIES = {
    Act.PARTIAL: b"\x05\x00\x00\x01\x7f",
    Act.BAD_ATYP: b"\x05\x00\x00\x09" + bytes(6),
}


def _success(script: Script) -> bytes:
    if script.act is Act.LONG_NAME:
        return b"\x05\x00\x00\x03\xff" + b"n" * 255 + b"\x00\x50"
    greeting = script.data if script.act is Act.GREET else b""
    return b"\x05\x00\x00\x01" + bytes(6) + greeting


async def _request(
    reader: asyncio.StreamReader, username: bytes | None, password: bytes | None
) -> tuple[int, Asked]:
    version, command, _, address_type = await reader.readexactly(4)
    assert (version, command) in ((5, 1), (5, RESOLVE)), "not a request of SOCKS5"
    if address_type == ATYP_NAME:
        host = (await _field(reader)).decode("ascii")
    else:
        packed = await reader.readexactly({ATYP_IPV4: 4, ATYP_IPV6: 16}[address_type])
        host = str(ipaddress.ip_address(packed))
    port = int.from_bytes(await reader.readexactly(2), "big")
    return command, Asked(address_type, host, port, username, password)


async def _field(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly((await reader.readexactly(1))[0])


async def _send(script: Script, writer: asyncio.StreamWriter, data: bytes) -> None:
    if script.act is not Act.SLOW:
        writer.write(data)
        await writer.drain()
        return
    for value in data:
        writer.write(bytes((value,)))
        await writer.drain()
        await asyncio.sleep(0)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy one direction; an end of file or a break passes to the other side as such."""
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        with suppress(OSError):
            writer.transport.abort()
