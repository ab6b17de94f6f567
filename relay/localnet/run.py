"""The whole of ``pyrelay localnet``: a private Tor network, relays on it, their traffic, and their end."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from relay.localnet.accounts import ACCOUNTS, Transfers, make_accounts
from relay.localnet.board import Board, RelayRow, Reporter
from relay.localnet.client import ClientHandle
from relay.localnet.genesis import throwaway_genesis
from relay.localnet.link import DaemonLink
from relay.localnet.network import PrivateTor
from relay.localnet.ports import free_ports
from relay.localnet.relays import RelayDaemon, RelayFiles, make_relays, write_relays
from relay.localnet.result import Outcome, Result
from relay.localnet.scrape import read_metrics
from relay.localnet.traffic import Delivery, Ledger
from relay.primitives.errors import LocalError, StorageError, UsageError
from relay.transports.sockets import SocketFactory, SocketRules

__all__ = [
    "FEWEST_RELAYS",
    "MOST_RELAYS",
    "Interrupted",
    "Localnet",
    "LocalnetOptions",
    "Outcome",
    "first_error",
    "make_directory",
]

FEWEST_RELAYS: Final = 2
MOST_RELAYS: Final = 20
NETWORK_SHARE: Final = 60  # percent of Tor's bar that the network takes; the clients take the rest
DRAW_SECONDS: Final = 0.25
SCRAPE_SECONDS: Final = 1.0
COUNT_SECONDS: Final = 0.1  # between two looks at how many are connected
LAST_SECONDS: Final = 1.0  # for what is on its way when the end is asked for
MESH_SECONDS: Final = 10.0  # that traffic waits for every pair, once every relay has a peer


@dataclass(frozen=True, slots=True)
class LocalnetOptions:
    """How a run goes.

    Attributes:
        relays: daemons, 2 to 20.
        once: end when the first transactions have arrived everywhere.
        keep: a new or empty folder for everything; None for a temporary one.
        transactions: that `once` sends.
        rate: transactions a second.
        patience: seconds after which a transaction counts as lost.
        start_seconds: until every relay has a peer.
    """

    relays: int = 3
    once: bool = False
    keep: Path | None = None
    transactions: int = 100
    rate: float = 20.0
    patience: float = 30.0
    start_seconds: float = 180.0


class Interrupted(LocalError):
    """Asked to end before any transaction was sent; everything has been ended."""

    exit_code = 1


class _Ended(Exception):
    """Leaves the run's task group: it is complete, or somebody asked for the end."""


class Localnet:
    """One run.

    Args:
        options: checked by the command line.
        reporter: shows it.
        began: monotonic seconds at which the command started.
        network: makes the Tor network in a folder.
        daemon: makes a relay's process.
    """

    def __init__(
        self,
        options: LocalnetOptions,
        reporter: Reporter,
        began: float,
        *,
        network: Callable[[Path], PrivateTor] = PrivateTor,
        daemon: Callable[[RelayFiles], RelayDaemon] = RelayDaemon,
    ) -> None:
        self._make_network, self._make_daemon = network, daemon
        self._options = options
        self._reporter = reporter
        self._began = began
        self._board = Board()
        self._stop = asyncio.Event()
        self._sockets = SocketFactory(SocketRules.anywhere())
        receivers = frozenset(range(2, options.relays + 1))
        self._ledger = Ledger(receivers, options.patience)
        self._daemons: list[RelayDaemon] = []
        self._links: dict[int, DaemonLink] = {}
        self._tor: PrivateTor | None = None
        self._client_percent: dict[int, int] = {}
        self._bootstrapped: float | None = None

    async def run(self) -> Outcome:
        """Run to the end, which leaves no process and, without `keep`, no file.

        Raises:
            Interrupted: by a signal, before there was traffic.
            LocalError: something could not be started, or ended before its time.
        """
        directory = make_directory(self._options.keep)
        self._board.kept = str(self._options.keep or "")
        self._watch_signals()
        try:
            await self._work(directory)
        finally:
            self._count()
            await self._end()
            self._reporter.close(self._board)
            if self._options.keep is None:
                await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
        if not self._ledger.sent:
            raise Interrupted("ended before a transaction was sent")
        return Outcome(
            self._result(),
            overdue=self._ledger.overdue,
            first_arrival=self._board.first_arrival,
            wanted=self._options.transactions if self._options.once else 0,
            kept=self._board.kept,
        )

    async def _work(self, directory: Path) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._until_stopped())
                tasks.create_task(self._draw())
                tasks.create_task(self._scrape())
                await self._start(directory, tasks)
                await self._send_all()
                await self._scrape_once()
                raise _Ended
        except* _Ended:
            pass
        except* LocalError as group:
            raise first_error(group) from None

    # -- start

    async def _start(self, directory: Path, tasks: asyncio.TaskGroup) -> None:
        accounts = make_accounts(ACCOUNTS, secrets.token_bytes)
        chain_id = 10**6 + secrets.randbelow(10**9)
        self._transfers = Transfers(accounts, chain_id)
        ports = free_ports(self._options.relays, self._sockets, secrets.token_bytes)
        relays = make_relays(directory, self._options.relays, ports, secrets.token_bytes)
        genesis = throwaway_genesis(chain_id, (account.address for account in accounts), int(time.time()))
        write_relays(relays, genesis)
        self._board.rows = [RelayRow(files.number, files.onion_key.address) for files in relays]
        self._tor = self._make_network(directory / "tor")
        await self._tor.start(self._network_progress)
        for files in relays:
            daemon = self._make_daemon(files)
            self._daemons.append(daemon)
            link = self._links[files.number] = DaemonLink(files.ipc_path, files.name)
            tasks.create_task(link.run())
            tasks.create_task(self._tend(daemon, self._tor))
        await self._in_time(self._linked, "the relays did not open their sockets")
        await self._in_time(self._connected, "the relays did not connect to each other")

    async def _tend(self, daemon: RelayDaemon, tor: PrivateTor) -> None:
        """Start a relay's Tor client, the relay as soon as that can be spoken to, and watch it to the end."""
        number = daemon.files.number
        client = await tor.add_client(f"client{number}", wait=False)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._bootstrap(number, client))
            await daemon.start(client)
            self._board.rows[number - 1].started = True
            await daemon.watch()

    async def _bootstrap(self, number: int, client: ClientHandle) -> None:
        def progress(percent: int, _words: str) -> None:
            self._client_percent[number] = percent
            relays = self._options.relays
            done = sum(self._client_percent.values()) / relays
            self._board.percent = NETWORK_SHARE + int(done * (100 - NETWORK_SHARE) / 100)
            ready = sum(each == 100 for each in self._client_percent.values())
            self._board.words = f"clients of the relays, {ready} of {relays} ready"
            if ready == relays and self._bootstrapped is None:
                self._bootstrapped = self._now()

        await client.wait_bootstrapped(progress)

    async def _linked(self) -> None:
        for number, link in self._links.items():
            await link.opened.wait()
            if number > 1:
                await link.subscribe("newPendingTransactions", partial(self._arrived, number))

    def _network_progress(self, percent: int, words: str) -> None:
        self._board.percent = percent * NETWORK_SHARE // 100
        self._board.words = words

    async def _connected(self) -> None:
        """Wait until every relay has a peer, and, for a while, until every two are peers."""
        others = self._options.relays - 1
        patience_from: float | None = None
        while True:
            counts = [int(await link.call("net_peerCount"), 16) for link in self._links.values()]
            if all(count >= others for count in counts):
                return
            if all(counts):
                patience_from = patience_from or self._now()
                if self._now() - patience_from > MESH_SECONDS:
                    return
            await asyncio.sleep(COUNT_SECONDS)

    async def _in_time(self, wait: Callable[[], Awaitable[None]], otherwise: str) -> None:
        try:
            async with asyncio.timeout(self._options.start_seconds - self._now()):
                await wait()
        except TimeoutError:
            raise LocalError(f"{otherwise} in {self._options.start_seconds:g} s") from None

    # -- traffic

    async def _send_all(self) -> None:
        """Send at an even rate, and see to it that each transaction's fate becomes known."""
        link = self._links[1]
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not self._stop.is_set() and self._wants_more():
            tx_hash, raw = self._transfers.next()
            await asyncio.sleep(due - loop.time())
            self._ledger.submit(tx_hash, loop.time())
            await link.call("eth_sendRawTransaction", "0x" + raw.hex())
            self._settled(self._ledger.accept(tx_hash))
            self._expire()
            due = max(due + 1 / self._options.rate, loop.time())
        while self._ledger.waiting:
            await asyncio.sleep(0.02)
            self._expire()

    def _wants_more(self) -> bool:
        return not self._options.once or self._ledger.sent < self._options.transactions

    def _arrived(self, number: int, told: object) -> None:
        if isinstance(told, str):
            tx_hash = bytes.fromhex(told.removeprefix("0x"))
            self._settled(self._ledger.arrive(number, tx_hash, asyncio.get_running_loop().time()))

    def _settled(self, delivery: Delivery | None) -> None:
        if delivery is None:
            return
        if self._board.first_arrival is None:
            self._board.first_arrival = self._now()
        self._board.elapsed = self._now()
        self._board.add_line(delivery)

    def _expire(self) -> None:
        for delivery in self._ledger.expire(asyncio.get_running_loop().time()):
            self._board.add_line(delivery)

    # -- what is shown

    def _now(self) -> float:
        """Seconds since the command."""
        return time.monotonic() - self._began

    async def _draw(self) -> None:
        while True:
            self._count()
            self._reporter.update(self._board)
            await asyncio.sleep(DRAW_SECONDS)

    def _count(self) -> None:
        board, ledger = self._board, self._ledger
        board.elapsed = self._now()
        board.sent, board.arrived = ledger.sent, ledger.arrived
        board.waiting, board.overdue = len(ledger.waiting), ledger.overdue
        board.rate = ledger.rate(asyncio.get_running_loop().time())
        board.p50, board.p99 = ledger.latency_ms(50), ledger.latency_ms(99)

    async def _scrape(self) -> None:
        while True:
            await self._scrape_once()
            await asyncio.sleep(SCRAPE_SECONDS)

    async def _scrape_once(self) -> None:
        for daemon in tuple(self._daemons):
            reading = await read_metrics(self._sockets, daemon.files.metrics_port)
            if reading is not None:
                self._board.rows[daemon.files.number - 1].reading = reading

    def _result(self) -> Result:
        ledger = self._ledger
        return Result(
            relays=self._options.relays,
            bootstrap_seconds=self._bootstrapped,
            onion_peers=self._board.onion_peers,
            transactions_sent=ledger.sent,
            transactions_arrived=ledger.arrived,
            p50=ledger.latency_ms(50),
            p99=ledger.latency_ms(99),
        )

    # -- end

    def _watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._signalled)

    def _signalled(self) -> None:
        """The first asks for an orderly end; a second one means that it takes too long."""
        if self._stop.is_set():
            for daemon in self._daemons:
                daemon.kill()
        self._stop.set()

    async def _until_stopped(self) -> None:
        await self._stop.wait()
        if self._ledger.waiting:
            await asyncio.sleep(LAST_SECONDS)
        raise _Ended

    async def _end(self) -> None:
        """End the daemons, which withdraw their services, then Tor."""
        async with asyncio.TaskGroup() as stops:
            for daemon in self._daemons:
                stops.create_task(daemon.stop())
        if self._tor is not None:
            await self._tor.stop()


def make_directory(keep: Path | None) -> Path:
    """Make the folder of a run.

    Raises:
        UsageError: `keep` holds something already.
        StorageError: it cannot be made.
    """
    try:
        if keep is None:
            return Path(tempfile.mkdtemp(prefix="pyrelay-"))
        keep.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(keep.iterdir()):
            raise UsageError(f"--keep {keep}: it is not empty; give a new or an empty folder")
        return keep.absolute()
    except OSError as error:
        raise StorageError(f"{keep or 'temporary folder'}: {error.strerror}") from None


def first_error(group: BaseExceptionGroup[LocalError]) -> LocalError:
    """The first error of a group: one line is what a person can use."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, LocalError)
    return found
