"""The daemon: builds its parts, starts them in the promised order, and ends them cleanly."""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any, Final

import structlog

from relay import __version__
from relay.app.anchor import follow_beacon
from relay.app.blobs import blob_verifier, relay_options
from relay.app.capabilities import capability_handlers, make_hello
from relay.app.datadir import DataDir
from relay.app.dht_jobs import DhtJobs, why_no_dht
from relay.app.discovering import Discovery
from relay.app.entry import is_near
from relay.app.guard import own_programs, set_tripwire
from relay.app.networks import current_fork_id, load_network
from relay.app.nodes import NodeFiles
from relay.app.observer import PeerCounts
from relay.app.onion_gate import onion_gate
from relay.app.outward import proxy_address, socket_rules, ways_out
from relay.app.private_broadcast import Acquaintance, private_side
from relay.app.record import OwnRecord
from relay.app.service import Service, naming
from relay.app.sources import Sources
from relay.app.startup import Startup
from relay.app.torside import TorSide, make_launched
from relay.app.views import MetricsAdapter, NodeAdapter, Relay
from relay.observe.pages import Readiness
from relay.peering.options import DialOptions, PeeringOptions
from relay.peering.peers import PeerSet
from relay.peering.scheduler import DialScheduler
from relay.peering.session import PeerSession
from relay.primitives.address import Address, TcpAddress
from relay.primitives.errors import LocalError
from relay.primitives.onion import OnionAddress
from relay.relaying.handler import EthRelay
from relay.relaying.pool import PooledTx
from relay.rpc.subscriptions import PendingFeed
from relay.settings import Settings
from relay.tor.launched import LaunchedTor
from relay.transports.first_byte import Gate
from relay.transports.listener import Label, serve
from relay.transports.sockets import SocketFactory

log = structlog.get_logger("relay.app")

CLIENT: Final = f"pyrelay/v{__version__}"
"""The name that peers see: one constant in every mode, without system, build or Python version."""
GOODBYE_SECONDS: Final = 2.0
STOP_SECONDS: Final = 4.5  # all in all; then whatever is left is cut
SAVE_SECONDS: Final = 300.0
ONION_SOCKET_MODE: Final = 0o666
"""Tor delivers as another user: the folder says who may connect; a port on 127.0.0.1 takes anybody, too."""


class Daemon:
    """One relay, from its settings to its end.

    Args:
        settings: checked.

    Raises:
        LocalError: keys or network can't be read, the data folder is taken; from `run`, too.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._startup = Startup()
        self._stop = asyncio.Event()
        self._broken = False
        self._tcp_port: int | None = None
        self._gate: Gate | None = None
        self._mode = settings.mode
        with self._startup.step("settings"):
            self._chain = load_network(settings.network)
        for warning in settings.warnings:
            log.warning(warning)
        with ExitStack() as guard:
            with self._startup.step("keys"):
                self._data = DataDir(settings.datadir)
                self._data.lock()
                guard.callback(self._data.unlock)
                self._node_key = self._data.node_key(settings.nodekey, secrets.token_bytes)
                self._onion_key = self._data.onion_key(settings.onion_key, secrets.token_bytes)
            self._launched: LaunchedTor | None = make_launched(settings, lambda: self._sockets)
            self._sockets = SocketFactory(socket_rules(settings, self._launched))
            self._build()
            guard.pop_all()

    def _build(self) -> None:
        loop = asyncio.get_running_loop()
        settings = self._settings
        self._counts = PeerCounts(loop.time, self._peer_joined)
        self._kzg = blob_verifier(settings)
        self._eth = EthRelay(
            self._chain, relay_options(settings), loop, time.time, secrets.token_bytes, self._kzg
        )
        self._peers = PeerSet(
            self._node_key,
            make_hello(CLIENT, self._node_key, settings.eth_versions),
            self._eth,
            options=PeeringOptions(
                max_peers=settings.maxpeers, dial_ratio=settings.dial_ratio, max_pending=settings.maxpendpeers
            ),
            timers=loop,
            now=loop.time,
            rand=secrets.token_bytes,
            on_bug=self._bug,
            observer=self._counts,
            handlers=capability_handlers(self._eth),
        )
        proxy = proxy_address(settings, self._launched)
        self._ways = ways_out(self._mode, self._sockets, proxy, lambda: (self.onion,))
        self._scheduler = DialScheduler(
            self._peers,
            self._ways.nodes,
            options=DialOptions(max_pending=settings.maxpendpeers, allow_private=is_near(settings)),
            now=loop.time,
            rand=secrets.token_bytes,
            observer=self._counts,
        )
        self._sources = Sources(settings, self._chain, self._peers, self._data, self._scheduler.wake)
        self._scheduler.add_source(self._sources.mix)
        self._files = NodeFiles(settings, self._scheduler)
        met = (Acquaintance(self._peers, self._scheduler, self._sources),)
        self._private = private_side(
            settings, self._chain, self._eth, self._ways, lambda: met, lambda: (self.onion,)
        )
        record = OwnRecord(self._node_key, self._data, fork_id=lambda: current_fork_id(self._chain))
        self._discovery = Discovery(settings, self._chain, self._node_key, record, self._sources, self._data)
        self._tor = self._make_tor() if settings.has_tor else None
        board = self._tor.board if self._tor else None
        self._relay = Relay(
            self._chain, self._peers, self._scheduler, self._eth, record, board, self._discovery
        )

    def _make_tor(self) -> TorSide:
        return TorSide(
            self._settings,
            self._sockets,
            self._launched,
            self._onion_key,
            on_up=self._onion_up,
            on_down=self._onion_down,
        )

    # -- life ------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until `stop`, a signal, or a bug of ours.

        Raises:
            LocalError: something that a start needs is not to be had: a port, a file, Tor's program. Or a
                bug, which is in the log: a traceback of Python's own would show what the log has to hide.
        """
        self._watch_signals()
        asyncio.get_running_loop().set_exception_handler(self._take_loop_error)
        try:
            await self._serve()
        except ExceptionGroup as group:
            self._explain(group)
        finally:
            self._sources.close()
            self._data.unlock()
        if self._broken:
            raise LocalError(f"stopped by a bug in pyrelay {__version__}: please report the traceback above")
        log.info("stopped")

    @property
    def onion(self) -> str:
        """Our own onion address, published or not: it follows from the key."""
        return self._settings.onion_address or self._onion_key.address

    def set_tripwire(self) -> None:
        """Watch this whole interpreter, where the mode hides the host: for a process that is nothing else.

        Raises:
            LocalError: something is loaded that could not be watched.
        """
        programs = own_programs(self._launched, self._kzg)
        self._relay.tripwire = set_tripwire(self._settings, self._sockets.rules, programs, self._bug)

    def stop(self) -> None:
        """Begin a clean stop."""
        self._stop.set()

    async def _serve(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            service = Service(self._settings, self._sockets, tasks)
            try:
                tasks.create_task(self._start(tasks, service))
                await self._stop.wait()
            finally:  # also when a task has failed, which cancels the wait above
                await self._end(service)
            raise _Stopped

    def _explain(self, group: ExceptionGroup[Exception]) -> None:
        """Tell an ordinary end from a failed start, and both from a bug."""
        _, failures = group.split(_Stopped)
        if failures is None:
            return
        _, bugs = failures.split(LocalError)
        if bugs is None:
            raise _first(failures) from None
        self._bug(bugs)

    async def _start(self, tasks: asyncio.TaskGroup, service: Service) -> None:
        """The steps of a start; one that waits, say for Tor, keeps what came before serving."""
        step = self._startup.step
        if self._private is not None:
            self._private.begin(tasks)
        with step("metrics"):
            source = MetricsAdapter(self._relay, self._counts, self._files, self._startup)
            await service.start_metrics(source, self._readiness)
        with step("rpc"):
            node = NodeAdapter(self._relay, CLIENT, str(self._settings.datadir))
            pending = PendingFeed(self._watch_pool, node.show_pending)
            jobs = DhtJobs(
                tasks,
                refusal=why_no_dht(self._settings),
                known=self._discovery.known_key,
                clock=asyncio.get_running_loop().time,
                data=self._data,
            )
            rpc = await service.start_rpc(node, pending, jobs, self._ways)
            self._relay.rpc_counts, self._relay.upstream_counts = rpc.counts, rpc.upstream_counts
            if rpc.judge is not None:
                self._eth.judge_by(rpc.judge)
        if self._tor is not None:
            with step("tor"):
                await self._tor.start(tasks)
        with step("listeners"):
            self._peers.start()
            self._eth.start()
            if self._kzg is not None:
                tasks.create_task(self._kzg.run())
            self._listen(tasks)
        if self._tor is not None:
            with step("onion service"):
                tasks.create_task(self._tor.run(self._relay.listeners.get(Label.ONION)))
                await self._tor.wait_published()
        with step("record"):
            log.info("record", enr=self._relay.record.record.to_text())
        with step("static nodes"):
            self._files.load()
        with step("discovery"), naming("--discovery"):
            await self._discovery.begin(self._sockets, self._ways, tasks, self._tcp_port)
            jobs.begin(self._discovery.onion)
        tasks.create_task(self._scheduler.run())
        tasks.create_task(self._sources.run())
        tasks.create_task(self._files.watch())
        tasks.create_task(self._maintain())
        tasks.create_task(follow_beacon(self._settings, self._sockets, self._ways, self._eth.ranges))
        self._startup.finish()

    def _listen(self, tasks: asyncio.TaskGroup) -> None:
        settings = self._settings
        if Label.CLEARNET in self._labels:
            with naming("--port"):
                address = self._open(
                    tasks, Label.CLEARNET, TcpAddress(settings.listen_address, settings.port)
                )
            assert isinstance(address, TcpAddress)
            self._tcp_port = address.port
            self._relay.record.listens(address.port)
        if Label.ONION in self._labels:
            with naming("--onion-listen"):
                self._open(tasks, Label.ONION, settings.onion_listener)

    @property
    def _labels(self) -> frozenset[Label]:
        """The listeners that these settings ask for."""
        clearnet = () if self._mode.hides_ip else (Label.CLEARNET,)
        onion = (Label.ONION,) if self._settings.wants_onion_service else ()
        return frozenset((*clearnet, *onion))

    def _open(self, tasks: asyncio.TaskGroup, label: Label, address: Address) -> Address:
        factory, has_room = self._inbound(label, tasks)
        listener = serve(
            tasks, self._sockets, address, factory, label, has_room=has_room, mode=ONION_SOCKET_MODE
        )
        self._relay.listeners[label] = listener.address
        log.info("listening", listener=str(label), address=str(listener.address))
        return listener.address

    def _inbound(
        self, label: Label, tasks: asyncio.TaskGroup
    ) -> tuple[Callable[[], asyncio.BaseProtocol], Callable[[], bool]]:
        """Who takes connections: peers, and on the onion's port discovery as well."""
        peers, has_room = self._peers.inbound_factory(label), self._peers.has_room
        onion = self._discovery.make_onion(self._ways, tasks) if label is Label.ONION else None
        if label is not Label.ONION:
            return peers, has_room
        self._gate = gate = onion_gate(
            (peers, has_room),
            None if onion is None else onion.streams,
            shows_circuits=self._settings.shows_circuits,
            waiting=self._peers.options.max_waiting,
        )
        if gate is None:
            return peers, has_room
        return gate.protocol, gate.has_room

    async def _maintain(self) -> None:
        """Save peers now and then, and sign the record anew when a fork has passed."""
        while True:
            await asyncio.sleep(SAVE_SECONDS)
            self._sources.save()
            self._relay.record.refresh()

    async def _end(self, service: Service) -> None:
        """Withdraw the service, say goodbye to the peers, save; all within STOP_SECONDS."""
        log.info("stopping")
        self._eth.stop()
        if self._private is not None:
            self._private.stop()
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                self._sources.save()
                self._discovery.stop()
                if self._gate is not None:
                    self._gate.close()
                if self._tor is not None:
                    self._tor.stop()
                await self._peers.close(GOODBYE_SECONDS)
                await service.close()
                if self._tor is not None:
                    await self._tor.wait_stopped()

    # -- what happens ----------------------------------------------------------------------------------

    def _peer_joined(self, session: PeerSession) -> None:
        self._discovery.joined(session)

    def _onion_up(self, address: OnionAddress) -> None:
        self._relay.onion = (address, self._settings.onion_port)
        if not self._settings.is_private:
            self._relay.record.publish(address, self._settings.onion_port)
        self._discovery.record_changed()
        self._scheduler.network_back()
        log.info("onion service up", onion=address, port=self._settings.onion_port)

    def _onion_down(self, _reason: str) -> None:
        self._relay.onion = None
        self._relay.record.withdraw()
        self._discovery.record_changed()

    def _watch_pool(self, listener: Callable[[PooledTx], None] | None) -> None:
        self._eth.pool.on_added = listener

    def _readiness(self) -> list[Readiness]:
        missing = [str(label) for label in self._labels if label not in self._relay.listeners]
        parts = [
            Readiness("started", self._startup.ready, self._startup.current or "all steps done"),
            Readiness("listening", not missing, ", ".join(sorted(missing))),
        ]
        return parts + (self._tor.readiness() if self._tor is not None else [])

    def _take_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A callback of ours that raised is a bug, too; the rest is asyncio's own to report.

        OSError is not ours: it comes out of asyncio's transports when a peer resets while they half-close.
        """
        error = context.get("exception")
        if "handle" in context and isinstance(error, OSError):
            log.debug("a connection broke while closing", cause=str(error))
        elif "handle" in context and isinstance(error, Exception):
            self._bug(error)
        else:
            loop.default_exception_handler(context)

    def _bug(self, error: Exception) -> None:
        """An exception that is nobody's fault but ours ends the daemon, loudly."""
        log.critical("a bug stops this daemon", exc_info=error)
        self._broken = True
        self._stop.set()

    def _watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload)

    def _reload(self) -> None:
        log.info("reloading node files")
        self._files.load()


class _Stopped(Exception):
    """Leaves the task group of a daemon that has said goodbye."""


def _first(group: ExceptionGroup[Exception]) -> LocalError:
    """The first error of a group: one line is what a person can use."""
    found: Exception = group
    while isinstance(found, ExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, LocalError)
    return found
