"""The programs, each built of the rooms' parts: what the command line calls."""

from __future__ import annotations

import asyncio
import random
import secrets
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

import structlog

from relay.kubernetes.checking import OnionChecks
from relay.kubernetes.connect import connected
from relay.kubernetes.discovery import Discovery, Seams
from relay.kubernetes.events import EventWriter
from relay.kubernetes.identity import (
    Identity,
    IdentityOptions,
    VolumeLock,
    load_identity,
    make_identity,
)
from relay.kubernetes.joining import Daemon, ask_node, enode_of, join_url
from relay.kubernetes.once import count_pods, publish_once, write_static_nodes
from relay.kubernetes.options import ApiOptions, BookOptions, DiscoveryOptions, Own
from relay.kubernetes.pages import DiscoveryPages, NodeInfoPage
from relay.kubernetes.peers_file import short_onion
from relay.kubernetes.prune import Pruned, prune
from relay.kubernetes.publisher import Publisher
from relay.primitives.address import Address, TcpAddress
from relay.primitives.errors import LocalError, UsageError
from relay.rpc.httpd import HttpOptions, HttpServer
from relay.rpc.upstream.urls import UpstreamUrl
from relay.transports.dialer import Dialer, TcpDialer
from relay.transports.sockets import SocketFactory, SocketRules
from relay.transports.socks_dialer import Isolation, Purpose, SocksDialer

__all__ = ["Task", "run_discovery", "run_identity", "run_join", "run_prune", "run_static_nodes"]

log = structlog.get_logger("relay.kubernetes")

INIT_SECONDS: Final = 20.0  # that an init container waits for the API server: the relay can do without
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Task:
    """What every program needs. say: prints a line of the log that people read."""

    api: ApiOptions
    own: Own
    book: BookOptions
    say: Say


async def run_identity(task: Task, options: IdentityOptions, *, publish: bool) -> None:
    """Make or load the keys, and publish the entry: the init container before Tor."""
    task.say(f"Pod: {task.own.place.pod}")
    identity = make_identity(options, secrets.token_bytes)
    made = "made" if identity.made else "loaded"
    task.say(f"Found .onion address: {short_onion(identity.onion.address)} (keys {made})")
    if publish:
        await _publish(task, identity)


async def run_static_nodes(task: Task, options: DiscoveryOptions) -> None:
    """Publish the entry, write static-nodes.json from what is there: the init container before the relay."""
    task.say("Starting Tor peer discovery")
    task.say(f"Pod: {task.own.place.pod}")
    identity = load_identity(task.own.datadir)
    task.say(f"Found .onion address: {short_onion(identity.onion.address)}")
    await _publish(task, identity)
    task.say("Building static-nodes.json from cluster peers")
    async with connected(task.api, task.own.place.namespace) as api:
        await write_static_nodes(
            api, task.own, identity, task.book, options.static_nodes, seconds=INIT_SECONDS, say=task.say
        )
    task.say("Discovery complete")


async def run_discovery(task: Task, options: DiscoveryOptions, node_info: tuple[str, int] | None) -> None:
    """Run the sidecar until SIGTERM or SIGINT."""
    identity = load_identity(task.own.datadir)
    lock = VolumeLock(task.own.datadir)
    lock.take()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stopping.set)
    sockets = SocketFactory(_rules(options.tor_proxy, *map(join_url, options.joins)))
    async with AsyncExitStack() as stack:
        stack.callback(lock.release)
        api = await stack.enter_async_context(connected(task.api, task.own.place.namespace))
        discovery = Discovery(
            api, task.own, identity, task.book, options, _seams(),
            checks=_checks(options, sockets), join=_joiner(options.tor_proxy, sockets),
        )  # fmt: skip
        pages = DiscoveryPages(discovery.counts)
        await _serve(stack, sockets, "--metrics", options.metrics, HttpServer(pages.answer))
        told = NodeInfoPage(lambda: discovery.info)
        # Any name: it is an onion's, which Tor alone delivers to.
        server = HttpServer(told.answer, options=HttpOptions(vhosts=("*",)))
        await _serve(stack, sockets, "--node-info", node_info, server)
        log.info("discovery runs", pod=task.own.place.pod, book=task.book.name, mode=task.book.mode.value)
        await _until(stopping, discovery.run)
    log.info("discovery ended")


async def run_prune(task: Task, oldest: float, *, dry_run: bool) -> Pruned:
    """Remove entries that nobody renews."""
    async with connected(task.api, task.own.place.namespace) as api:
        return await prune(api, task.book.name, oldest, dry_run=dry_run)


async def run_join(url: UpstreamUrl, ipc: str, proxy: Address | None, say: Say) -> None:
    """Ask another daemon for its node, and have ours dial it.

    Raises:
        LocalError: one of the two can not be reached, or says no.
    """
    sockets = SocketFactory(_rules(proxy, url))
    node = await ask_node(url, _dialer(url, proxy, sockets), sockets)
    enode = enode_of(node)
    own = Daemon(ipc)
    info = await own.info()
    if node.public_key.hex() in str(info.get("enode", "")):
        raise LocalError(f"{url} is this relay itself")
    await own.add_peer(enode)
    say(f"Adding peer: {url} -> {enode}")


class _Stopped(Exception):
    """Asked to end."""


async def _until(stopping: asyncio.Event, work: Callable[[], Awaitable[None]]) -> None:
    """Work until somebody asks to stop."""

    async def stop() -> None:
        await stopping.wait()
        raise _Stopped

    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(stop())
            await work()
    except* _Stopped:
        pass


# -- parts -------------------------------------------------------------------------------------------------


async def _publish(task: Task, identity: Identity) -> None:
    seams = _seams()
    async with connected(task.api, task.own.place.namespace) as api:
        events = EventWriter(api, task.own, clock=seams.clock, wall=seams.wall, rand=seams.rand)
        size = await count_pods(api, task.book, seconds=INIT_SECONDS)
        publisher = Publisher(
            api, task.own, identity, task.book, wall=seams.wall, random=seams.random, size=lambda: size
        )
        if await publish_once(publisher, events, seconds=INIT_SECONDS):
            task.say("ConfigMap updated successfully")


def _seams() -> Seams:
    return Seams(time.monotonic, time.time, random.SystemRandom().random, secrets.token_bytes)


def _rules(proxy: Address | None, *urls: UpstreamUrl) -> SocketRules:
    """Nothing but the proxy and the pods that are named: the API server's way has rules of its own."""
    direct = [
        TcpAddress(url.endpoint.host, url.endpoint.port)
        for url in urls
        if url.endpoint is not None and not url.is_onion
    ]
    return SocketRules.only(*direct, *([] if proxy is None else [proxy]))


def _dialer(url: UpstreamUrl, proxy: Address | None, sockets: SocketFactory) -> Dialer:
    if not url.is_onion:
        return TcpDialer(sockets)
    if proxy is None:
        raise UsageError(f"{url} is reached through Tor only: give --tor-proxy HOST:PORT")
    return _socks(proxy, sockets, Purpose.RPC)


def _socks(proxy: Address, sockets: SocketFactory, purpose: Purpose) -> SocksDialer:
    return SocksDialer(sockets, proxy, Isolation(secrets.token_bytes), purpose=purpose, exits=False)


def _checks(options: DiscoveryOptions, sockets: SocketFactory) -> OnionChecks | None:
    if not options.check_peers:
        return None
    if options.tor_proxy is None:
        raise UsageError("--check-peers dials onions: give --tor-proxy HOST:PORT")
    return OnionChecks(_socks(options.tor_proxy, sockets, Purpose.PROBE), clock=time.monotonic)


def _joiner(proxy: Address | None, sockets: SocketFactory) -> Callable[[str], Awaitable[str]]:
    async def join(text: str) -> str:
        url = join_url(text)
        return enode_of(await ask_node(url, _dialer(url, proxy, sockets), sockets))

    return join


async def _serve(
    stack: AsyncExitStack,
    sockets: SocketFactory,
    flag: str,
    address: tuple[str, int] | None,
    server: HttpServer,
) -> None:
    if address is None:
        return
    try:
        # Every interface of a pod is what Prometheus needs; the onion's target is the pod's own address.
        sock = sockets.listen_tcp(*address, wildcard_ok=flag == "--metrics")
    except LocalError as error:
        raise LocalError(f"{flag}: {error}") from None
    await server.start(sock)
    stack.push_async_callback(server.close)
