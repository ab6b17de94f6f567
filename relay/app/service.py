"""What people and tools connect to: the metrics and health page, and JSON-RPC."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import structlog

from relay import __version__
from relay.app.outward import WaysOut
from relay.app.rpc_service import RpcService
from relay.app.startup import naming
from relay.app.views import NodeAdapter
from relay.observe.loop_stall import LoopStallMonitor
from relay.observe.metrics import Metrics
from relay.observe.pages import Pages, Readiness
from relay.observe.snapshot import MetricsSource
from relay.observe.status_page.site import StatusSite
from relay.observe.status_page.source import StatusSource
from relay.primitives.address import Address, TcpAddress, UnixAddress
from relay.rpc.httpd import HttpServer
from relay.rpc.subscriptions import PendingFeed
from relay.rpc.views import DhtView
from relay.settings import Settings
from relay.transports.sockets import SocketFactory, StreamSocket

log = structlog.get_logger("relay.app")


class Service:
    """The daemon's own servers.

    Args:
        settings: addresses and ports.
        sockets: makes the listening sockets.
        tasks: where clients of the unix socket live.
    """

    def __init__(self, settings: Settings, sockets: SocketFactory, tasks: asyncio.TaskGroup) -> None:
        self._settings, self._sockets, self._tasks = settings, sockets, tasks
        self._open = AsyncExitStack()
        self.stalls = LoopStallMonitor(asyncio.get_running_loop())

    async def start_metrics(
        self, source: MetricsSource, readiness: Callable[[], Sequence[Readiness]], status: StatusSource
    ) -> None:
        """Serve metrics, health, readiness and the status page.

        Raises:
            LocalError: the port is taken.
        """
        self.stalls.start()
        self._open.callback(self.stalls.stop)
        loop = asyncio.get_running_loop()
        metrics = Metrics(source, self.stalls, version=__version__)
        stalls = self.stalls
        site = StatusSite(source, status, readiness, lambda: stalls.recent_max, loop, version=__version__)
        site.pulse.start()
        self._open.callback(site.pulse.stop)
        pages = Pages(metrics, stalls, readiness, clock=loop.time, site=site)
        server = HttpServer(pages.answer)
        await server.start(self._listen("--metrics.port", self._settings.metrics_address))
        self._open.push_async_callback(server.close)

    async def start_rpc(
        self, node: NodeAdapter, pending: PendingFeed, dht: DhtView, ways: WaysOut
    ) -> RpcService:
        """Serve JSON-RPC; see `RpcService.start`. ways: out of this host, to upstreams."""
        rpc = RpcService(self._settings, self._sockets, ways, self._tasks, self._listen)
        self._open.push_async_callback(rpc.close)
        await rpc.start(node, pending, dht)
        return rpc

    def _listen(self, flag: str, address: Address) -> StreamSocket:
        with naming(flag):
            if isinstance(address, UnixAddress):
                sock = self._sockets.listen_unix(address.path)
                self._open.callback(_remove, Path(address.path), os.lstat(address.path).st_ino)
            else:
                sock = self._sockets.listen_tcp(address.host, address.port, wildcard_ok=True)
                host, port = sock.getsockname()[:2]
                address = TcpAddress(host, port)
        log.info("serving", address=str(address))
        return sock

    async def close(self) -> None:
        """Hang up on everybody."""
        await self._open.aclose()


def _remove(path: Path, inode: int) -> None:
    """Remove a unix socket's file, unless another process has put its own there since."""
    with suppress(OSError):
        if os.lstat(path).st_ino == inode:
            path.unlink()


def settle_garbage() -> None:
    """Make the cyclic collector look less often, and never at what the start has built.

    A transaction in the pool is a dozen objects in no cycle; at Python's threshold of 700 the collector took
    a sixth of the time at full speed.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
