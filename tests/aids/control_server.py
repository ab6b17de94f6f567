"""A scripted Tor control port: honest by default, and in every way that a test asks for, not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from relay.tor.authentication import client_proof, server_proof

SERVER_NONCE = bytes(range(32))
DROP = object()
SILENCE = object()

Answer = bytes | object | Callable[[str], "bytes | object"]


@dataclass
class ControlServer:
    """What it holds may be changed while it runs.

    Attributes:
        cookie: content of the cookie file, which is written at the start.
        answers: by keyword, or by "GETINFO key": bytes to send, DROP, SILENCE, or a function of the line.
        commands: every line that came, in order.
        chunk: bytes a write, to split answers; 0 for whole ones.
        methods: what PROTOCOLINFO offers.
        services: addresses that ADD_ONION made on the present connection.
        uploaded: whether an HS_DESC UPLOADED follows an ADD_ONION.
    """

    cookie_path: Path
    port: int = 0
    cookie: bytes = bytes(range(100, 132))
    methods: str = "COOKIE,SAFECOOKIE"
    password: str | None = None
    answers: dict[str, Answer] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    chunk: int = 0
    percent: int = 100
    service_id: str = ""
    services: list[str] = field(default_factory=list)
    uploaded: bool = True
    connections: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    _client_nonce: bytes = b""
    _came: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def open_stream(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """What the client under test is given."""
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def wait_for(self, beginning: str, count: int = 1) -> list[str]:
        """Wait until that many commands began so."""
        async with asyncio.timeout(5), self._came:
            await self._came.wait_for(lambda: len(self.matching(beginning)) >= count)
        return self.matching(beginning)

    def matching(self, beginning: str) -> list[str]:
        """Commands that began so."""
        return [line for line in self.commands if line.startswith(beginning)]

    def emit(self, data: bytes) -> None:
        """Send something unasked on the newest connection."""
        self.writers[-1].write(data)

    def drop(self) -> None:
        """Cut every connection, as a Tor that dies does."""
        for writer in self.writers:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        self.writers.append(writer)
        self.services = []
        try:
            while line := (await reader.readline()).decode().rstrip("\r\n"):
                async with self._came:
                    self.commands.append(line)
                    self._came.notify_all()
                if not await self._respond(line, writer):
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()
            self.writers.remove(writer)

    async def _respond(self, line: str, writer: asyncio.StreamWriter) -> bool:
        keyword = line.split(" ")[0]
        scripted = self.answers.get(line, self.answers.get(keyword))
        answer = self._honest(line) if scripted is None else scripted
        if callable(answer):
            answer = answer(line)
        if answer is None:
            answer = self._honest(line)
        if answer is DROP:
            return False
        if answer is SILENCE:
            return True
        assert isinstance(answer, bytes)
        for at in range(0, len(answer), self.chunk or len(answer)):
            writer.write(answer[at : at + (self.chunk or len(answer))])
            await writer.drain()
            if self.chunk:
                await asyncio.sleep(0)
        return True

    def _honest(self, line: str) -> bytes:
        keyword, *rest = line.split(" ")
        match keyword:
            case "PROTOCOLINFO":
                return self._protocol_info()
            case "AUTHCHALLENGE":
                self._client_nonce = bytes.fromhex(rest[1])
                proof = server_proof(self.cookie, self._client_nonce, SERVER_NONCE)
                nonce = SERVER_NONCE.hex()
                return f"250 AUTHCHALLENGE SERVERHASH={proof.hex().upper()} SERVERNONCE={nonce}\r\n".encode()
            case "AUTHENTICATE":
                return self._authenticate(" ".join(rest))
            case "GETINFO":
                return self._info(rest[0])
            case "ADD_ONION":
                return self._add_onion()
            case "DEL_ONION":
                if rest[0] not in self.services:
                    return b"552 Unknown Onion Service id\r\n"
                self.services.remove(rest[0])
        return b"250 OK\r\n"

    def _protocol_info(self) -> bytes:
        path = str(self.cookie_path).replace("\\", "\\\\").replace('"', '\\"')
        return (
            f'250-PROTOCOLINFO 1\r\n250-AUTH METHODS={self.methods} COOKIEFILE="{path}"\r\n'
            '250-VERSION Tor="0.4.9.11"\r\n250 OK\r\n'
        ).encode()

    def _authenticate(self, argument: str) -> bytes:
        expected = client_proof(self.cookie, self._client_nonce, SERVER_NONCE).hex()
        good = argument == expected or (self.password is not None and argument == f'"{self.password}"')
        return b"250 OK\r\n" if good or "NULL" in self.methods else b"515 Authentication failed\r\n"

    def _info(self, key: str) -> bytes:
        values = {
            "status/bootstrap-phase": f'NOTICE BOOTSTRAP PROGRESS={self.percent} SUMMARY="At {self.percent}"',
            "network-liveness": "up",
        }
        if key == "onions/current":
            return (
                "250+onions/current=\r\n"
                + "".join(f"{each}\r\n" for each in self.services)
                + ".\r\n250 OK\r\n"
            ).encode()
        if key not in values:
            return f'552 Unrecognized key "{key}"\r\n'.encode()
        return f"250-{key}={values[key]}\r\n250 OK\r\n".encode()

    def _add_onion(self) -> bytes:
        self.services.append(self.service_id)
        reply = f"250-ServiceID={self.service_id}\r\n250 OK\r\n"
        if self.uploaded:
            reply += f"650 HS_DESC UPLOADED {self.service_id} UNKNOWN $AB~relay\r\n"
        return reply.encode()


@asynccontextmanager
async def control_server(folder: Path, **settings: object) -> AsyncIterator[ControlServer]:
    """Serve on a free port of loopback until the end of the block."""
    server = ControlServer(folder / "control auth cookie", **settings)  # type: ignore[arg-type]
    server.cookie_path.write_bytes(server.cookie)
    async with asyncio.TaskGroup() as tasks:
        listening = await asyncio.start_server(
            lambda reader, writer: tasks.create_task(server.serve(reader, writer)), "127.0.0.1", 0
        )
        server.port = listening.sockets[0].getsockname()[1]
        try:
            yield server
        finally:
            listening.close()
            server.drop()
