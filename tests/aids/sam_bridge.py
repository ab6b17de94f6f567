"""A scripted SAM bridge: keeps to version 3.1, joins its own sessions, and lies as told.

    async with SamServer() as bridge:
        bridge.lies["STREAM CONNECT"] = [b"STREAM STATUS RESULT=CANT_REACH_PEER\n"]
        ...                                    # dial through bridge.address
        assert bridge.said[0] == "HELLO VERSION MIN=3.1 MAX=3.1"

A lie stands in place of the answer to a request that begins so: bytes, after which the bridge goes on;
SILENT, CLOSE, or ENDLESS. Two programs reach each other through it as if by I2P. Destinations are random.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
from contextlib import suppress
from enum import Enum
from typing import Self

from relay.primitives.address import TcpAddress

__all__ = ["Lie", "SamServer", "make_destination", "make_key", "text_of"]


class Lie(Enum):
    """What is no answer."""

    SILENT = "never say a word again"
    CLOSE = "close"
    ENDLESS = "send a line without an end"


def make_destination(rand: bytes | None = None) -> bytes:
    """A destination of 391 bytes, of the form of those of ed25519; no key belongs to it."""
    return (rand or secrets.token_bytes(384))[:384].ljust(384, b"\0") + bytes((5, 0, 4, 0, 7, 0, 4))


def make_key(destination: bytes | None = None) -> bytes:
    """A destination with what stands where its private keys are."""
    return (destination or make_destination()) + secrets.token_bytes(288)


def text_of(raw: bytes) -> str:
    """I2P's base64."""
    return base64.b64encode(raw, altchars=b"-~").decode()


class SamServer:
    """The bridge.

    Attributes:
        lies: by the beginning of a request; each is told once, in order, the last one for ever.
        said: requests so far.
        sessions: name to destination, while they are held.
        waiting: name to accepts that wait.
        most_accepts: at a time of one session.
        forgets: leaves the accepts of a session open that has ended.
    """

    def __init__(self) -> None:
        self.lies: dict[str, list[bytes | Lie]] = {}
        self.said: list[str] = []
        self.sessions: dict[str, bytes] = {}
        self.waiting: dict[str, list[tuple[asyncio.StreamReader, asyncio.StreamWriter, asyncio.Event]]] = {}
        self.most_accepts = 16
        self.version = "3.1"
        self.forgets = False
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def address(self) -> TcpAddress:
        """Where it listens."""
        return TcpAddress("127.0.0.1", self.port)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen, on the port of before if there was one."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close everything, as a router that ends."""
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await self._server.wait_closed()
        while self._tasks:
            await asyncio.sleep(0)

    def cut(self) -> None:
        """Break all connections off; it still listens."""
        for writer in self._writers:
            writer.transport.abort()

    def asked(self, beginning: str) -> list[str]:
        """Requests that begin so."""
        return [each for each in self.said if each.startswith(beginning)]

    def name_of(self, destination: bytes) -> str:
        """The address."""
        digest = hashlib.sha256(destination).digest()
        return base64.b32encode(digest).decode().lower().rstrip("=") + ".b32.i2p"

    # -- inside ----------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        held: list[str] = []
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._one(reader, writer, held):
                    pass
        finally:
            for name in held:
                self.sessions.pop(name, None)
                for _, out, done in [] if self.forgets else self.waiting.pop(name, []):
                    out.transport.abort()
                    done.set()
            self._writers.discard(writer)
            self._tasks.discard(task)
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, held: list[str]) -> bool:
        line = (await reader.readuntil(b"\n")).decode().rstrip("\n")
        self.said.append(line)
        lie = self._lie(line)
        if lie is not None:
            return await _told(lie, reader, writer)
        words = dict(word.partition("=")[::2] for word in line.split(" ") if "=" in word)
        match line.split(" ")[:2]:
            case ["HELLO", _]:
                writer.write(f"HELLO REPLY RESULT=OK VERSION={self.version}\n".encode())
            case ["DEST", _]:
                key = make_key()
                writer.write(f"DEST REPLY PUB={text_of(key[:391])} PRIV={text_of(key)}\n".encode())
            case ["SESSION", _]:
                raw = base64.b64decode(words["DESTINATION"], altchars=b"-~")
                self.sessions[words["ID"]] = raw[:391]
                self.waiting[words["ID"]] = []
                held.append(words["ID"])
                writer.write(f"SESSION STATUS RESULT=OK DESTINATION={words['DESTINATION']}\n".encode())
            case ["NAMING", _]:
                writer.write(self._looked_up(words["NAME"]))
            case ["STREAM", "ACCEPT"]:
                return await self._accept(words["ID"], reader, writer)
            case ["STREAM", "CONNECT"]:
                await self._connect(words, reader, writer)
                return False
        return True

    def _lie(self, line: str) -> bytes | Lie | None:
        for beginning, lies in self.lies.items():
            if line.startswith(beginning) and lies:
                return lies.pop(0) if len(lies) > 1 else lies[0]
        return None

    def _looked_up(self, name: str) -> bytes:
        for destination in self.sessions.values():
            if self.name_of(destination) == name:
                return f"NAMING REPLY RESULT=OK NAME={name} VALUE={text_of(destination)}\n".encode()
        return f"NAMING REPLY RESULT=KEY_NOT_FOUND NAME={name}\n".encode()

    async def _accept(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if name not in self.sessions:
            writer.write(b"STREAM STATUS RESULT=INVALID_ID\n")
            return True
        if len(self.waiting[name]) >= self.most_accepts:
            writer.write(b'STREAM STATUS RESULT=I2P_ERROR MESSAGE="Already accepting"\n')
            return True
        writer.write(b"STREAM STATUS RESULT=OK\n")
        done = asyncio.Event()
        self.waiting[name].append((reader, writer, done))
        await done.wait()
        return False

    async def _connect(
        self, words: dict[str, str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        wanted = base64.b64decode(words["DESTINATION"], altchars=b"-~")
        for name, destination in self.sessions.items():
            if destination == wanted and self.waiting[name]:
                there, out, done = self.waiting[name].pop(0)
                break
        else:
            writer.write(b"STREAM STATUS RESULT=CANT_REACH_PEER\n")
            return
        writer.write(b"STREAM STATUS RESULT=OK\n")
        out.write(text_of(self.sessions[words["ID"]]).encode() + b"\n")
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_pump(reader, out))
                both.create_task(_pump(there, writer))
        finally:
            done.set()


async def _told(lie: bytes | Lie, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    if isinstance(lie, bytes):
        writer.write(lie)
        await writer.drain()
        return True
    if lie is Lie.SILENT:
        await reader.read()
    while lie is Lie.ENDLESS:
        writer.write(b"x" * 4096)
        await writer.drain()
    return False


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
