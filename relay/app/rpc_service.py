"""JSON-RPC as the daemon serves it: unix socket, HTTP, WebSocket, and the upstreams behind them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from relay.app.judge import NodeJudge
from relay.app.outward import WaysOut
from relay.app.own_answers import own_answers
from relay.app.private_view import pool_of_insiders, view_of_private
from relay.app.rpc_upstreams import AlsoUpstream, RuledUpstream, make_upstreams
from relay.app.views import NodeAdapter
from relay.discovery.files import read_regular
from relay.primitives.address import Address, UnixAddress
from relay.primitives.errors import LocalError, UsageError
from relay.rpc.dispatcher import Dispatcher
from relay.rpc.errors import method_not_found
from relay.rpc.forwarding import Forwarding
from relay.rpc.httpd import HttpOptions, HttpServer
from relay.rpc.ipc import IpcServer
from relay.rpc.jwt import Bearer, parse_secret
from relay.rpc.messages import Call
from relay.rpc.meters import Meters
from relay.rpc.methods import NAMESPACES, Method, all_methods, dht_methods, select
from relay.rpc.over_http import JsonRpcOverHttp, RpcHttpOptions
from relay.rpc.over_ws import JsonRpcOverWs, RpcWsOptions
from relay.rpc.private import private_methods
from relay.rpc.subscriptions import PENDING, PendingFeed
from relay.rpc.upstream.policy import MethodRules
from relay.rpc.views import DhtView, TxSubmitter
from relay.settings import Settings
from relay.transports.sockets import SocketFactory, StreamSocket
from relay.transports.socks_dialer import Purpose

if TYPE_CHECKING:
    from relay.rpc.upstream.upstreams import Upstreams

__all__ = ["IPC_MODULES", "RpcService"]

IPC_MODULES: Final = ("admin", "dht", "eth", "net", "relay", "txpool", "web3")
MAX_SECRET: Final = 4096  # bytes of a secret's file
_MIB: Final = 1024 * 1024

Listen = Callable[[str, Address], StreamSocket]
"""Makes the listening socket of an address; the flag that named it goes into what is told of a failure."""


class RpcService:
    """JSON-RPC of one daemon.

    Args:
        settings: the flags.
        sockets: of the process.
        ways: out of this host.
        tasks: where clients and upstreams live.
        listen: makes listening sockets.

    Attributes:
        counts: what clients were refused, by event.
        upstream_counts: what upstreams have done, by event.
        judge: who rules on transactions of peers; None where policy is enough.
    """

    def __init__(
        self,
        settings: Settings,
        sockets: SocketFactory,
        ways: WaysOut,
        tasks: asyncio.TaskGroup,
        listen: Listen,
    ) -> None:
        self._settings, self._sockets, self._ways = settings, sockets, ways
        self._tasks, self._listen = tasks, listen
        self._clock = asyncio.get_running_loop().time
        self._open = AsyncExitStack()
        self.counts: Counter[str] = Counter()
        self.upstream_counts: Mapping[str, int] = {}
        self.judge: NodeJudge | None = None
        self._rules = MethodRules(settings.rpc_allow, settings.rpc_deny)
        self._meters = (
            None if settings.rpc_rate is None else Meters(settings.rpc_rate, self._clock, self.counts)
        )

    async def start(self, node: NodeAdapter, pending: PendingFeed, dht: DhtView) -> None:
        """Serve on the unix socket, and on what else was asked for.

        Args:
            node: answers.
            pending: what eth_subscribe tells of.
            dht: answers dht_*, on the unix socket too unless --http.api says otherwise.

        Raises:
            LocalError: socket or port is taken, the secret's file holds none, or a module does not exist.
        """
        refusal = _bearer(self._settings.http_jwtsecret, self.counts)
        upstreams = self._upstreams(node.chain_id, Purpose.RPC, self._settings.rpc_cache * _MIB)
        if upstreams is not None:
            self.upstream_counts = upstreams.counters
        ruled = None if upstreams is None else RuledUpstream(upstreams, self._rules)
        answers, forwarding = own_answers(node, ruled)
        common = (*all_methods(node, self._submitter(node), node), *dht_methods(dht))
        inside, _ = own_answers(node, ruled, pool_of_insiders(node))
        insider = (*common, *inside, *private_methods(view_of_private(node)))
        served = _Served((*common, *answers), insider, forwarding, {PENDING: pending}, upstreams)
        self.judge = self._make_judge(node.chain_id)
        await self._start_ipc(served)
        await self._start_http(served, refusal)

    async def close(self) -> None:
        """Hang up on everybody."""
        await self._open.aclose()

    def _upstreams(self, chain_id: int, purpose: Purpose, cache_bytes: int = 0) -> Upstreams | None:
        made = make_upstreams(
            self._settings,
            chain_id,
            self._sockets,
            self._ways,
            self._tasks,
            purpose=purpose,
            cache_bytes=cache_bytes,
        )
        if made is not None:
            self._open.callback(made.close)
            self._tasks.create_task(made.run(), name=f"upstreams for {purpose}")
        return made

    def _submitter(self, node: NodeAdapter) -> TxSubmitter:
        if not self._settings.also_submit_upstream:
            return node
        takers = self._upstreams(node.chain_id, Purpose.BROADCAST)
        assert takers is not None, "the settings have checked it"
        return AlsoUpstream(node, takers, self._tasks)

    def _make_judge(self, chain_id: int) -> NodeJudge | None:
        if self._settings.verdict == "none":
            return None
        node = self._upstreams(chain_id, Purpose.VERDICT)
        assert node is not None, "the settings have checked it"
        return NodeJudge(node, self._tasks)

    async def _start_ipc(self, served: _Served) -> None:
        dispatcher = Dispatcher(
            select(served.insider, IPC_MODULES), clock=self._clock, fallback=served.forwarding.answer
        )
        ipc = IpcServer(
            dispatcher,
            self._tasks,
            feeds=served.feeds,
            pushing=served.upstreams,
            meters=None if self._meters is None else self._meters.of_connection,
            counters=self.counts,
        )
        path = UnixAddress(str(self._settings.ipc_path.absolute()))
        await ipc.start(self._listen("--ipcpath", path))
        self._open.push_async_callback(ipc.close)

    async def _start_http(self, served: _Served, refusal: Callable[[str], str] | None) -> None:
        """Serve HTTP and WebSocket, on one port where both are given the same."""
        settings = self._settings
        http = ws = None
        if settings.http:
            http = settings.http_address
        if settings.ws:
            ws = settings.ws_address
        for flag, address in (("--http.port", http), ("--ws.port", ws if ws != http else None)):
            if address is None:
                continue
            server = HttpServer(
                self._over_http(served).answer if address == http else None,
                options=HttpOptions(vhosts=settings.http_vhosts),
                sockets=self._over_ws(served) if address == ws else None,
                refusal=refusal,
            )
            await server.start(self._listen(flag, address))
            self._open.push_async_callback(server.close)

    def _over_http(self, served: _Served) -> JsonRpcOverHttp:
        settings = self._settings
        return JsonRpcOverHttp(
            self._exposed(served, settings.http_api),
            options=RpcHttpOptions(settings.http_api, cors_origins=settings.http_corsdomain),
            meters=self._meters,
        )

    def _over_ws(self, served: _Served) -> JsonRpcOverWs:
        return JsonRpcOverWs(
            self._exposed(served, self._settings.ws_api),
            feeds=served.feeds,
            pushing=served.upstreams,
            options=RpcWsOptions(self._settings.ws_origins),
            meters=self._meters,
            counters=self.counts,
        )

    def _exposed(self, served: _Served, modules: Sequence[str]) -> Dispatcher:
        """Return who answers on a port: of the modules offered there, what the user's lists let through."""
        own = select(served.methods, [module for module in modules if module in NAMESPACES])
        table = {name: method for name, method in own.items() if self._rules.serves(name)}
        forward = served.forwarding.within(modules)

        async def fallback(call: Call) -> object:
            if not self._rules.serves(call.method):
                raise method_not_found(call.method)
            return await forward(call)

        return Dispatcher(table, clock=self._clock, fallback=fallback)


@dataclass(frozen=True, slots=True)
class _Served:
    """What every server offers, as far as it offers it; `insider`: what the unix socket has of that."""

    methods: tuple[Method, ...]
    insider: tuple[Method, ...]
    forwarding: Forwarding
    feeds: Mapping[str, PendingFeed]
    upstreams: Upstreams | None


def _bearer(path: Path | None, counters: Counter[str]) -> Callable[[str], str] | None:
    """Return who checks callers of the open ports; None where anybody may call."""
    if path is None:
        return None
    try:
        text = read_regular(path, MAX_SECRET).decode("ascii", "replace")
        secret = parse_secret(text)
    except OSError as error:
        raise LocalError(
            f"--http.jwtsecret {path}: {(error.strerror or 'it can not be read').lower()}"
        ) from None
    except UsageError as error:
        raise LocalError(f"--http.jwtsecret {path}: {error}") from None
    bearer = Bearer(secret, time.time)

    def refusal(authorization: str) -> str:
        words = bearer.refusal(authorization)
        if words:
            counters["token refused"] += 1
        return words

    return refusal
