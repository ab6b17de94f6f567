"""What people and tools connect to: the metrics and health page, and JSON-RPC."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager

import structlog

from relay import __version__
from relay.app.views import NodeAdapter
from relay.observe.loop_stall import LoopStallMonitor
from relay.observe.metrics import Metrics
from relay.observe.pages import Pages, Readiness
from relay.observe.snapshot import MetricsSource
from relay.primitives.address import Address, TcpAddress, UnixAddress
from relay.primitives.errors import LocalError
from relay.rpc.dispatcher import Dispatcher
from relay.rpc.httpd import HttpServer
from relay.rpc.ipc import IpcServer
from relay.rpc.methods import all_methods, dht_methods, select
from relay.rpc.over_http import JsonRpcOverHttp, RpcHttpOptions
from relay.rpc.subscriptions import PENDING, PendingFeed
from relay.rpc.views import DhtView
from relay.settings import Settings
from relay.transports.sockets import SocketFactory, StreamSocket

log = structlog.get_logger("relay.app")

IPC_MODULES = ("admin", "dht", "eth", "net", "txpool", "web3")


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
        self, source: MetricsSource, readiness: Callable[[], Sequence[Readiness]]
    ) -> None:
        """Serve metrics, health and readiness.

        Raises:
            LocalError: the port is taken.
        """
        self.stalls.start()
        self._open.callback(self.stalls.stop)
        loop = asyncio.get_running_loop()
        metrics = Metrics(source, self.stalls, version=__version__)
        pages = Pages(metrics, self.stalls, readiness, clock=loop.time)
        server = HttpServer(pages.answer)
        address = TcpAddress(self._settings.metrics_addr, self._settings.metrics_port)
        await server.start(self._listen("--metrics.port", address))
        self._open.push_async_callback(server.close)

    async def start_rpc(self, node: NodeAdapter, pending: PendingFeed, dht: DhtView) -> None:
        """Serve JSON-RPC on the unix socket, and over HTTP where it was asked for.

        Args:
            node: answers.
            pending: what eth_subscribe tells of, on the unix socket.
            dht: answers dht_*, on the unix socket too unless --http.api says otherwise.

        Raises:
            LocalError: socket or port is taken, or a module that does not exist.
        """
        methods = (*all_methods(node, node, node), *dht_methods(dht))
        clock = asyncio.get_running_loop().time
        dispatcher = Dispatcher(select(methods, IPC_MODULES), clock=clock)
        ipc = IpcServer(dispatcher, self._tasks, feeds={PENDING: pending})
        path = UnixAddress(str(self._settings.ipc_path.absolute()))
        await ipc.start(self._listen("--ipcpath", path))
        self._open.push_async_callback(ipc.close)
        if not self._settings.http:
            return
        modules = self._settings.http_api
        over_http = JsonRpcOverHttp(
            Dispatcher(select(methods, modules), clock=clock), options=RpcHttpOptions(modules=modules)
        )
        server = HttpServer(over_http.answer)
        address = TcpAddress(self._settings.http_addr, self._settings.http_port)
        await server.start(self._listen("--http.port", address))
        self._open.push_async_callback(server.close)

    def _listen(self, flag: str, address: Address) -> StreamSocket:
        with naming(flag):
            if isinstance(address, UnixAddress):
                sock = self._sockets.listen_unix(address.path)
            else:
                sock = self._sockets.listen_tcp(address.host, address.port, wildcard_ok=True)
                host, port = sock.getsockname()[:2]
                address = TcpAddress(host, port)
        log.info("serving", address=str(address))
        return sock

    async def close(self) -> None:
        """Hang up on everybody."""
        await self._open.aclose()


@contextmanager
def naming(flag: str) -> Iterator[None]:
    """Put the flag that would mend it in front of what went wrong."""
    try:
        yield
    except LocalError as error:
        raise LocalError(f"{flag}: {error}") from error


def settle_garbage() -> None:
    """Make the cyclic collector look less often, and never at what the start has built.

    A transaction in the pool is a dozen objects in no cycle; at Python's threshold of 700 the collector took
    a sixth of the time at full speed.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
