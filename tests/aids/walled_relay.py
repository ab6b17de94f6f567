"""A relay behind walls, and the proxy on the loopback that it shares."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.aids.http_client import Reply, read_reply, request
from tests.aids.lab import OnionRelay
from tests.aids.socks_server import SocksServer
from tests.aids.walled import Walled

__all__ = ["HTTP", "METRICS", "WalledRelay", "WalledSocks"]

METRICS, HTTP = 46060, 48545


class WalledSocks(SocksServer):
    """The proxy, on the loopback behind the walls."""

    walls: Walled

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._handle, sock=self.walls.listen(self.port))
        self.port = self._server.sockets[0].getsockname()[1]


class WalledRelay(OnionRelay):
    """The daemon behind the walls."""

    walls: Walled

    def launch(self) -> None:
        self.module = "tests.aids.leaky"
        with self.walls.entered():
            super().launch()

    async def page(self, path: str, *, accept: str = "text/plain") -> tuple[int, bytes]:
        headers = {"Accept": accept, "Connection": "close"}
        reply = await self._exchange(METRICS, request(path=path, headers=headers))
        return reply.status, reply.body

    async def post(self, method: str, *params: object) -> Any:
        """JSON-RPC over HTTP."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        headers = {"Content-Type": "application/json", "Connection": "close"}
        return json.loads((await self._exchange(HTTP, request("POST", body=body, headers=headers))).body)

    @property
    def metrics_port(self) -> int | None:
        return METRICS

    async def _exchange(self, port: int, raw: bytes) -> Reply:
        sock = self.walls.stream_socket()
        async with asyncio.timeout(5):
            try:
                await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
            except OSError:
                sock.close()
                raise
            reader, writer = await asyncio.open_connection(sock=sock)
            try:
                writer.write(raw)
                return await read_reply(reader)
            finally:
                writer.close()
