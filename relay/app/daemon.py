"""The daemon: builds its parts, starts them in the promised order, and ends them cleanly.

What a peer sees is an identity's (`relay.app.identity`), of which there are one or two. Here is what a
process has once: its settings, its Tor, JSON-RPC, metrics, the private broadcast of its users' transactions.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
from contextlib import ExitStack, suppress
from typing import Any, Final

import structlog

from relay import __version__
from relay.app.adaptive import carry_bulk
from relay.app.blobs import blob_verifier
from relay.app.datadir import DataDir
from relay.app.dht_jobs import DhtJobs, why_no_dht
from relay.app.guard import own_programs, set_tripwire
from relay.app.i2pside import make_i2p
from relay.app.identity import CLIENT, Process
from relay.app.networks import load_network
from relay.app.nodes import NodeFiles
from relay.app.outward import proxy_address, socket_rules, ways_out
from relay.app.pair import NamedNodes, bridge_of, make_identities
from relay.app.private_broadcast import Acquaintance, private_side
from relay.app.service import Service
from relay.app.startup import Startup, naming
from relay.app.status_side import StatusAdapter
from relay.app.torside import TorSide, make_launched
from relay.app.views import MetricsAdapter, NodeAdapter, Relay
from relay.observe.pages import Readiness
from relay.primitives.errors import LocalError
from relay.rpc.subscriptions import PendingFeed
from relay.settings import Settings
from relay.tor.launched import LaunchedTor
from relay.transports.listener import Label
from relay.transports.sockets import SocketFactory

__all__ = ["CLIENT", "Daemon"]

log = structlog.get_logger("relay.app")

STOP_SECONDS: Final = 4.5  # all in all; then whatever is left is cut
SAVE_SECONDS: Final = 300.0


class Daemon:
    """One relay, from its settings to its end.

    Args:
        settings: checked.

    Attributes:
        identities: the nodes that it is, the main one first.
        main: the one that its own URL names, and that our users' transactions enter by.

    Raises:
        LocalError: keys or network can't be read, the data folder is taken; from `run`, too.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._startup = Startup()
        self._stop = asyncio.Event()
        self._broken = False
        with self._startup.step("settings"):
            self._chain = load_network(settings.network)
        for warning in settings.warnings:
            log.warning(warning)
        with ExitStack() as guard:
            with self._startup.step("keys"):
                self._data = DataDir(settings.datadir)
                self._data.lock()
                guard.callback(self._data.unlock)
                node_key = self._data.node_key(settings.nodekey, secrets.token_bytes)
                self._onion_key = self._data.onion_key(settings.onion_key, secrets.token_bytes)
            self._launched: LaunchedTor | None = make_launched(settings, lambda: self._sockets)
            self._sockets = SocketFactory(socket_rules(settings, self._launched))
            self._kzg = blob_verifier(settings)
            proxy = proxy_address(settings, self._launched)
            self.i2p = make_i2p(settings, self._sockets, self._data)
            over_i2p = None if self.i2p is None else self.i2p.dialer
            self._ways = ways_out(settings.mode, self._sockets, proxy, lambda: (self.onion,), over_i2p)
            process = Process(self._chain, self._sockets, self._kzg, self._bug)
            self.identities = make_identities(settings, process, node_key, self._data, self._ways)
            self.main = self.identities[0]
            for identity in self.identities:
                guard.callback(identity.data.unlock)
            self._build()
            guard.pop_all()

    def _build(self) -> None:
        settings = self._settings
        named = NamedNodes(settings.mode, self.identities)
        self._files = NodeFiles(settings, named)
        self._bridge = bridge_of(self.identities, asyncio.get_running_loop())
        met = tuple(Acquaintance(each.peers, each.scheduler, each.sources) for each in self.identities)
        self._private = private_side(
            settings, self._chain, self.main.eth, self._ways, lambda: met, lambda: (self.onion,)
        )
        self._tor = self._make_tor() if settings.has_tor else None
        board = self._tor.board if self._tor else None
        self._relay = Relay(self._chain, self.identities, named, board)

    def _make_tor(self) -> TorSide:
        return TorSide(
            self._settings,
            self._sockets,
            self._launched,
            self._onion_key,
            on_up=self.main.onion_up,
            on_down=lambda _reason: self.main.onion_down(),
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
            for identity in self.identities:
                identity.sources.close()
                identity.data.unlock()
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
            source = MetricsAdapter(self._relay, self._files, self._startup)
            await service.start_metrics(source, self._readiness, StatusAdapter(self._relay))
        with step("rpc"):
            jobs = await self._start_rpc(tasks, service)
        if self._tor is not None:
            with step("tor"):
                await self._tor.start(tasks)
        with step("listeners"):
            if self._kzg is not None:
                tasks.create_task(self._kzg.run())
            for identity in self.identities:
                identity.listen(tasks)
        if self._tor is not None:
            with step("onion service"):
                tasks.create_task(self._tor.run(self.main.listeners.get(Label.ONION)))
                await self._tor.wait_published()
        if self.i2p is not None:
            with step("i2p"):
                self.main.serve_i2p(self.i2p, tasks)
                await self.i2p.wait_up()
        with step("record"):
            for identity in self.identities:
                whose = {} if identity.side is None else {"identity": str(identity.side)}
                log.info("record", enr=identity.record.record.to_text(), **whose)
        with step("static nodes"):
            self._files.load()
        with step("discovery"), naming("--discovery"):
            for identity in self.identities:
                await identity.discover(tasks)
            jobs.begin(self.main.discovery.onion)
        self._begin(tasks)
        self._startup.finish()

    async def _start_rpc(self, tasks: asyncio.TaskGroup, service: Service) -> DhtJobs:
        node = NodeAdapter(self._relay, CLIENT, str(self._settings.datadir))
        jobs = DhtJobs(
            tasks,
            refusal=why_no_dht(self._settings),
            known=self.main.discovery.known_key,
            clock=asyncio.get_running_loop().time,
            data=self._data,
        )
        rpc = await service.start_rpc(node, PendingFeed(node.watch_pool, node.show_pending), jobs, self._ways)
        self._relay.rpc_counts, self._relay.upstream_counts = rpc.counts, rpc.upstream_counts
        if rpc.judge is not None:
            for identity in self.identities:
                identity.eth.judge_by(rpc.judge)
        return jobs

    def _begin(self, tasks: asyncio.TaskGroup) -> None:
        """Do what is done from now on."""
        for identity in self.identities:
            identity.begin(tasks)
            identity.follow(self._settings, self._ways, tasks)
        if self._bridge is not None:
            self._bridge.begin()
        tasks.create_task(carry_bulk(self._settings, self.identities))
        tasks.create_task(self._files.watch())
        tasks.create_task(self._maintain())

    async def _maintain(self) -> None:
        """Save peers now and then, and sign the records anew when a fork has passed."""
        while True:
            await asyncio.sleep(SAVE_SECONDS)
            for identity in self.identities:
                identity.save()

    async def _end(self, service: Service) -> None:
        """Withdraw the service, say goodbye to the peers, save; all within STOP_SECONDS."""
        log.info("stopping")
        if self._bridge is not None:
            self._bridge.stop()
        for identity in self.identities:
            identity.eth.stop()
        if self._private is not None:
            self._private.stop()
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                for identity in self.identities:
                    identity.stop()
                if self._tor is not None:
                    self._tor.stop()
                async with asyncio.TaskGroup() as goodbyes:
                    for identity in self.identities:
                        goodbyes.create_task(identity.goodbye())
                await service.close()
                if self._tor is not None:
                    await self._tor.wait_stopped()

    # -- what happens ----------------------------------------------------------------------------------

    def _readiness(self) -> list[Readiness]:
        missing = [
            str(label) for each in self.identities for label in each.labels if label not in each.listeners
        ]
        parts = [
            Readiness("started", self._startup.ready, self._startup.current or "all steps done"),
            Readiness("listening", not missing, ", ".join(sorted(missing))),
        ]
        parts += self._tor.readiness() if self._tor is not None else []
        return parts + (self.i2p.readiness() if self.i2p is not None else [])

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
