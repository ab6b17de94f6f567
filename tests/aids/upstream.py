"""A scripted upstream of JSON-RPC on loopback or a unix socket: misbehaves as told, records what it got.

async with ScriptedHttp() as node:
    node.results["eth_blockNumber"] = "0x10"
    node.scripts.append(Script(Act.STATUS, status=429, headers={"Retry-After": "3"}))
    ...                      # ask node.url
    assert node.methods == ["eth_chainId", "eth_blockNumber"]
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Self

from aiohttp import WSMsgType, web

CHAIN = 0x1E77


class Act(Enum):
    """What it does with a request."""

    ANSWER = "answer"
    ERROR = "answer with an error of its own"
    RAW = "answer status 200 with these bytes as the body"
    STATUS = "answer with an HTTP status"
    HANG = "say nothing until it is closed"
    RESET = "break the connection"
    CUT = "break the connection in the middle of the answer"
    ENDLESS = "send bytes without an end"
    LATE = "answer once `released` is set"


@dataclass(frozen=True, slots=True)
class Script:
    """An act with its particulars."""

    act: Act = Act.ANSWER
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    error: dict[str, object] = field(default_factory=dict)


@dataclass
class Scripted:
    """What both kinds share.

    Attributes:
        results: by method: a value, or a function of the params.
        scripts: used up first, one a request that is not eth_chainId; then `script` holds.
        calls: method and params of each request, in order.
        released: lets LATE answers go.
    """

    results: dict[str, Any] = field(default_factory=dict)
    script: Script = field(default_factory=Script)
    scripts: list[Script] = field(default_factory=list)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    chain: int = CHAIN
    connections: int = 0

    @property
    def methods(self) -> list[str]:
        """The methods that were asked for, but for the chain's id, which comes first on its own."""
        return [method for method, _ in self.calls if method != "eth_chainId"]

    def _next(self, method: str) -> Script:
        if method == "eth_chainId":
            return Script()
        return self.scripts.pop(0) if self.scripts else self.script

    def _answer(self, call: dict[str, Any], script: Script) -> bytes:
        head = {"jsonrpc": "2.0", "id": call["id"]}
        if script.act is Act.ERROR:
            return json.dumps({**head, "error": script.error}, separators=(",", ":")).encode()
        result = self.results.get(call["method"], hex(self.chain))
        if isinstance(result, Callable):  # type: ignore[arg-type]
            result = result(call["params"])
        return json.dumps({**head, "result": result}, separators=(",", ":")).encode()


@dataclass
class ScriptedHttp(Scripted):
    """By HTTP, on a free port of loopback or the given one. `raw` records heads as they came."""

    port: int = 0
    ssl: Any = None
    heads: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """What --rpc-upstream takes."""
        return f"{'https' if self.ssl else 'http'}://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.ssl)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Close the port and break every connection."""
        if self._server is None:
            return
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        self.connections += 1
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)
            self._writers.discard(writer)

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        fields = dict(line.lower().split(": ", 1) for line in head.splitlines()[1:] if line)
        call = json.loads(await reader.readexactly(int(fields["content-length"])))
        self.calls.append((call["method"], call["params"]))
        script = self._next(call["method"])
        return await self._play(script, call, writer)

    async def _play(self, script: Script, call: dict[str, Any], writer: asyncio.StreamWriter) -> bool:
        match script.act:
            case Act.HANG:
                await asyncio.Event().wait()
            case Act.RESET:
                return False
            case Act.ENDLESS:
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                while True:
                    writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
                    await writer.drain()
            case Act.LATE:
                await self.released.wait()
        body = script.body if script.act in (Act.RAW, Act.STATUS) else self._answer(call, script)
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **script.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"HTTP/1.1 {script.status} X\r\n{lines}\r\n".encode())
        writer.write(body[: len(body) // 2] if script.act is Act.CUT else body)
        await writer.drain()
        return script.act is not Act.CUT


@dataclass
class ScriptedUnix(Scripted):
    """By a unix socket, answers ended by `ending`. `push` tells subscribers."""

    path: str = ""
    ending: bytes = b"\n"
    before: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """What --rpc-upstream takes."""
        return self.path

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._serve, self.path, limit=1 << 24)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Break every connection."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    def push(self, key: str, result: object) -> None:
        """Notify of a subscription."""
        for writer in self._writers:
            writer.write(notification(key, result) + self.ending)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        self.connections += 1
        try:
            async with asyncio.TaskGroup() as answers:
                while line := await reader.readline():
                    answers.create_task(self._one(json.loads(line), writer))
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)
            self._writers.discard(writer)

    async def _one(self, call: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        self.calls.append((call["method"], call["params"]))
        script = self._next(call["method"])
        match script.act:
            case Act.HANG:
                await asyncio.Event().wait()
            case Act.RESET:
                writer.transport.abort()
                return
            case Act.LATE:
                await self.released.wait()
            case Act.ENDLESS:
                with suppress(OSError):
                    while True:
                        writer.write(b'"' + b" " * 0x10000)
                        await writer.drain()
                return
        body = script.body if script.act is Act.RAW else self._answer(call, script)
        early = self.before.pop(0) + self.ending if self.before else b""
        writer.write(early + body + self.ending)


@dataclass
class ScriptedWs(Scripted):
    """By WebSocket (aiohttp's server)."""

    port: int = 0
    ssl: Any = None
    binary: bool = False
    heads: list[dict[str, str]] = field(default_factory=list)
    refuse: int = 0

    def __post_init__(self) -> None:
        self._runner: web.ServerRunner | None = None
        self._sockets: set[web.WebSocketResponse] = set()

    @property
    def url(self) -> str:
        """What --rpc-upstream takes."""
        return f"{'wss' if self.ssl else 'ws'}://127.0.0.1:{self.port}/"

    async def __aenter__(self) -> Self:
        self._runner = web.ServerRunner(web.Server(self._serve, access_log=None), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self.ssl).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        for socket in tuple(self._sockets):
            await socket.close()
        await self._runner.cleanup()

    async def push(self, key: str, result: object) -> None:
        """Notify of a subscription."""
        for socket in self._sockets:
            await socket.send_str(notification(key, result).decode())

    async def cut(self) -> None:
        """Close every connection."""
        for socket in tuple(self._sockets):
            await socket.close()

    async def ping(self) -> None:
        """Send a ping on every connection."""
        for socket in self._sockets:
            await socket.ping()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        self.heads.append(dict(request.headers))
        if self.refuse:
            return web.Response(status=self.refuse)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._sockets.add(socket)
        self.connections += 1
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    await self._one(json.loads(message.data), socket)
        finally:
            self._sockets.discard(socket)
        return socket

    async def _one(self, call: dict[str, Any], socket: web.WebSocketResponse) -> None:
        self.calls.append((call["method"], call["params"]))
        script = self._next(call["method"])
        if script.act is Act.HANG:
            return
        if script.act is Act.RESET:
            await socket.close()
            return
        body = script.body if script.act is Act.RAW else self._answer(call, script)
        if self.binary:
            await socket.send_bytes(body)
        else:
            await socket.send_str(body.decode())


def notification(key: str, result: object) -> bytes:
    """A notification as geth writes it."""
    told = {"subscription": key, "result": result}
    value = {"jsonrpc": "2.0", "method": "eth_subscription", "params": told}
    return json.dumps(value, separators=(",", ":")).encode()
