"""A node that answers what a test says, over HTTP and a unix socket; and peers as values."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from relay.monitor.node import NodeView
from relay.monitor.peer import Peer, read_address, read_client

FIXTURES = Path(__file__).parent / "fixtures"


def fixture(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FIXTURES / f"{name}.json").read_text())
    return found


def peer(
    number: int,
    *,
    client: str = "Geth/v1.17.8/linux-amd64/go1.24",
    inbound: bool | None = False,
    address: str = "",
    **changes: Any,
) -> Peer:
    where = address or f"93.{number // 250}.{number % 250}.7:30303"
    return Peer(
        key=f"{number:064x}"[::-1],
        name=read_client(client),
        inbound=inbound,
        trusted=False,
        static=False,
        address=read_address(where),
        **{"eth": 69, "caps": ("eth/69",), "full_name": client, **changes},
    )


def view(*peers: Peer, identity: str = "node-1", head: int | None = 1000, **changes: Any) -> NodeView:
    said: dict[str, Any] = {
        "kind": "execution", "client": "Geth/v1.17.8", "chain": "mainnet", "syncing": False, "target": None,
    }  # fmt: skip
    return NodeView(identity=identity, head=head, peers=tuple(peers), **(said | changes))


Reply = dict[str, Any] | bytes | None
HANG = None
"""In place of a reply: nothing comes, ever."""


class FakeNode:
    """A server of JSON-RPC and of a beacon node's paths.

    Attributes:
        results: of a method, or of a path; a function is asked; an Exception's text is an error of JSON-RPC.
        raw: in place of all of them: the body, or HANG.
        status: of HTTP.
        port: of loopback.
        path: of the unix socket.
    """

    def __init__(self, folder: Path) -> None:
        self.results: dict[str, Any] = {}
        self.raw: bytes | None = b""
        self.status = 200
        self.port = 0
        self.path = folder / "node.ipc"
        self.asked: list[str] = []
        self._servers: list[asyncio.Server] = []
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._servers.append(await asyncio.start_server(self._http, "127.0.0.1", self.port))
        self.port = self._servers[0].sockets[0].getsockname()[1]
        self._servers.append(await asyncio.start_unix_server(self._lines, self.path))

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
        for writer in self._writers:
            writer.transport.abort()
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()
        self.path.unlink(missing_ok=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answers_of_geth(self, peers: list[Any], head: int = 23_900_768) -> None:
        self.results = {
            "admin_nodeInfo": {"id": "ab" * 32, "name": "Geth/v1.17.8-stable/linux-amd64/go1.24.4"},
            "eth_syncing": False,
            "eth_chainId": "0x1",
            "eth_blockNumber": hex(head),
            "admin_peers": peers,
        }

    def _body(self, name: str, call_id: object) -> bytes | None:
        self.asked.append(name)
        if self.raw != b"":
            return self.raw
        if name.startswith("/"):
            return json.dumps({"data": self.results[name]}).encode() if name in self.results else b"{}"
        if name not in self.results:
            error = {"code": -32601, "message": f"the method {name} does not exist/is not available"}
            return json.dumps({"jsonrpc": "2.0", "id": call_id, "error": error}).encode()
        result = self.results[name]
        if isinstance(result, Callable):
            result = result()
        if isinstance(result, Exception):
            error = {"code": -32000, "message": str(result)}
            return json.dumps({"jsonrpc": "2.0", "id": call_id, "error": error}).encode()
        return json.dumps({"jsonrpc": "2.0", "id": call_id, "result": result}).encode()

    async def _http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                lines = head.split("\r\n")
                length = next(
                    (int(line[15:]) for line in lines if line.lower().startswith("content-length:")), 0
                )
                data = await reader.readexactly(length)
                name, call_id = lines[0].split()[1], 0
                if data:
                    said = json.loads(data)
                    name, call_id = said["method"], said["id"]
                body = self._body(name, call_id)
                if body is HANG:
                    await reader.read()
                    return
                kind = "application/json" if self.status == 200 else "text/plain"
                writer.write(
                    f"HTTP/1.1 {self.status} X\r\nContent-Type: {kind}\r\n"
                    f"Content-Length: {len(body)}\r\n\r\n".encode()
                    + body
                )
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _lines(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while line := await reader.readline():
                said = json.loads(line)
                body = self._body(said["method"], said["id"])
                if body is HANG:
                    await reader.read()
                    return
                writer.write(body + b"\n")
        except ConnectionError:
            pass
        finally:
            writer.close()


@pytest_asyncio.fixture
async def node(tmp_path: Path) -> AsyncIterator[FakeNode]:
    fake = FakeNode(tmp_path)
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
def hostile_names() -> list[str]:
    return [
        "\x1b[2J\x1b]0;owned\x07Geth/v1",
        "<script>alert(1)</script>/v1.0",
        "[bold red]geth[/]/v1.0/linux",
        'geth"} 1\nevil_metric{x="',
        '=HYPERLINK("http://evil")/v1',
        "\u202egeth/v1.1/linux",
        "\ud800/v1",
        "漢" * 100,
        "A" * 65536,
        "",
        "///////",
    ]
