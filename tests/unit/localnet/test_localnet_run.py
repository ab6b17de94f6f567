"""A whole run with stand-ins for Tor and for the daemons; their sockets and pages are real, but in here."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from relay.localnet import run as module
from relay.localnet.board import Board
from relay.localnet.relays import RelayFiles
from relay.localnet.run import Interrupted, Localnet, LocalnetOptions, Outcome
from relay.primitives.errors import LocalError, StorageError, UsageError
from relay.primitives.hashing import keccak256
from relay.rpc.dispatcher import Dispatcher
from relay.rpc.ipc import IpcServer
from relay.rpc.methods import Method
from relay.rpc.params import DATA
from relay.rpc.subscriptions import PENDING, PendingFeed
from relay.transports.sockets import SocketFactory, SocketRules

SOCKETS = SocketFactory(SocketRules.anywhere())


class World:
    """The relays that run, and what becomes of transactions.

    Attributes:
        deaf: numbers of relays that never hear of a transaction.
        lonely: relays that have no peers.
        sent: raw transactions that relay 1 was given.
        log: what was started and stopped.
    """

    def __init__(self) -> None:
        self.deaf: set[int] = set()
        self.lonely: set[int] = set()
        self.partial = False
        self.ends: int | None = None
        self.relays: dict[int, Daemon] = {}
        self.sent: list[bytes] = []
        self.log: list[str] = []
        self.on_first: Callable[[], None] = lambda: None
        self.tor_failure: LocalError | None = None

    def take(self, raw: bytes) -> str:
        self.sent.append(raw)
        tx_hash = keccak256(raw)
        for number, relay in self.relays.items():
            if number not in self.deaf:
                relay.feed.publish(SimpleNamespace(hash=tx_hash))
        if len(self.sent) == 1:
            self.on_first()
        return "0x" + tx_hash.hex()

    def peers(self, number: int) -> str:
        if number in self.lonely:
            return "0x0"
        return "0x1" if self.partial else hex(len(self.relays) - 1)


class Tor:
    """Stands in for PrivateTor and its clients."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def start(self, progress: Callable[[int, str], None]) -> None:
        progress(50, "the authorities vote")
        if self.world.tor_failure is not None:
            raise self.world.tor_failure
        self.world.log.append("tor up")

    async def add_client(self, name: str, *, wait: bool) -> Any:
        assert not wait

        async def wait_bootstrapped(progress: Callable[[int, str], None]) -> None:
            progress(100, "done")

        return SimpleNamespace(wait_bootstrapped=wait_bootstrapped)

    async def stop(self) -> None:
        self.world.log.append("tor stopped")


class Daemon:
    """Stands in for RelayDaemon."""

    def __init__(self, world: World, files: RelayFiles) -> None:
        self.world, self.files = world, files
        self.feed = PendingFeed()
        self.stopped = asyncio.Event()

    async def start(self, _client: Any) -> None:
        number = self.files.number
        self.world.relays[number] = self
        methods = {
            "net_peerCount": Method("net_peerCount", lambda: self.world.peers(number)),
            "eth_sendRawTransaction": Method("eth_sendRawTransaction", self.world.take, (DATA,)),
        }
        self._tasks = asyncio.TaskGroup()
        await self._tasks.__aenter__()
        dispatcher = Dispatcher(methods, clock=time.monotonic)
        self._ipc = IpcServer(dispatcher, self._tasks, feeds={PENDING: self.feed})
        await self._ipc.start(SOCKETS.listen_unix(str(self.files.ipc_path)))
        self._page = await asyncio.start_server(self._serve, "127.0.0.1", self.files.metrics_port)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        peers = {"labels": {"network": "onion", "direction": "inbound"}, "value": 2.0}
        page = {"pyrelay_tor_bootstrap_percent": 100, "pyrelay_peers": [peers]}
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + json.dumps(page).encode())
        writer.close()

    async def watch(self) -> None:
        if self.world.ends == self.files.number:
            raise LocalError(f"{self.files.name} ended with status 1: full")
        await asyncio.Event().wait()

    async def stop(self) -> None:
        if not self.stopped.is_set():
            self.stopped.set()
            self.world.log.append(f"relay {self.files.number} stopped")
            self._page.close()
            await self._ipc.close()
            await self._tasks.__aexit__(None, None, None)

    def kill(self) -> None:
        self.world.log.append(f"relay {self.files.number} killed")


class Recorder:
    def __init__(self) -> None:
        self.words: list[str] = []
        self.closed: Board | None = None

    def update(self, board: Board) -> None:
        self.words.append(board.words)

    def close(self, board: Board) -> None:
        self.closed = board


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "ACCOUNTS", 10)
    monkeypatch.setattr(module, "DRAW_SECONDS", 0.01)
    monkeypatch.setattr(module, "COUNT_SECONDS", 0.005)
    monkeypatch.setattr(module, "MESH_SECONDS", 0.02)
    monkeypatch.setattr(module, "LAST_SECONDS", 0.02)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


async def go(world: World, recorder: Recorder, **options: Any) -> Outcome:
    values = {"once": True, "transactions": 10, "rate": 1000.0, "patience": 0.1} | options
    localnet = Localnet(
        LocalnetOptions(**values),
        recorder,
        time.monotonic(),
        network=lambda _directory: Tor(world),  # type: ignore[arg-type, return-value]
        daemon=lambda files: Daemon(world, files),  # type: ignore[arg-type, return-value]
    )
    async with asyncio.timeout(10):
        return await localnet.run()


def everything_ended(world: World, relays: int = 3) -> bool:
    stopped = {f"relay {number} stopped" for number in range(1, relays + 1)}
    return stopped <= set(world.log) and world.log[-1] == "tor stopped"


async def test_run_ends_when_the_first_transactions_arrived_everywhere(world, recorder, tmp_path):
    outcome = await go(world, recorder)
    result = outcome.result
    assert outcome.good
    assert (result.relays, result.onion_peers) == (3, 6)
    assert (result.transactions_sent, result.transactions_arrived) == (10, 10)
    assert result.p50 is not None
    assert result.bootstrap_seconds is not None
    assert outcome.first_arrival is not None
    assert len(set(world.sent)) == 10
    assert everything_ended(world)
    assert list(tmp_path.iterdir()) == []
    assert recorder.closed is not None
    assert len(recorder.closed.log) == 10


async def test_what_does_not_arrive_is_counted_and_the_run_is_not_good(world, recorder):
    world.deaf = {3}
    outcome = await go(world, recorder)
    assert not outcome.good
    assert (outcome.result.transactions_sent, outcome.result.transactions_arrived) == (10, 0)
    assert outcome.overdue == 10
    assert recorder.closed is not None
    assert all(line.overdue and set(line.latencies) == {2} for line in recorder.closed.log)


async def test_traffic_starts_without_every_pair_after_a_while(world, recorder):
    world.partial = True
    assert (await go(world, recorder)).good


async def test_relays_that_never_connect_end_the_run(world, recorder):
    world.lonely = {2}
    with pytest.raises(LocalError, match=r"the relays did not connect to each other in 0\.5 s"):
        await go(world, recorder, start_seconds=0.5)
    assert everything_ended(world)


async def test_daemon_that_ends_ends_the_run_with_its_words(world, recorder):
    world.ends = 2
    with pytest.raises(LocalError, match="relay 2 ended with status 1: full"):
        await go(world, recorder, once=False)
    assert everything_ended(world)


async def test_tor_that_does_not_start_is_told_and_ended(world, recorder, tmp_path):
    world.tor_failure = LocalError("no consensus")
    with pytest.raises(LocalError, match="no consensus"):
        await go(world, recorder)
    assert world.log == ["tor stopped"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_signal_ends_a_run_that_would_go_on(world, recorder, number):
    world.on_first = lambda: asyncio.get_running_loop().call_later(0.05, os.kill, os.getpid(), number)
    outcome = await go(world, recorder, once=False, rate=200.0)
    assert outcome.good
    assert outcome.result.transactions_sent > 1
    assert everything_ended(world)


async def test_signal_gives_what_is_on_its_way_a_last_moment_only(world, recorder):
    world.deaf = {3}
    world.on_first = lambda: os.kill(os.getpid(), signal.SIGINT)
    outcome = await go(world, recorder, once=False, patience=60.0)
    assert (outcome.result.transactions_sent, outcome.overdue) == (1, 0)
    assert everything_ended(world)


async def test_signal_before_any_traffic_is_an_interruption(world, recorder):
    world.lonely = {2}
    asyncio.get_running_loop().call_later(0.3, os.kill, os.getpid(), signal.SIGTERM)
    with pytest.raises(Interrupted) as caught:
        await go(world, recorder)
    assert caught.value.exit_code == 1
    assert everything_ended(world)


async def test_second_signal_kills(world, recorder):
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGINT)

    world.deaf = {3}
    world.on_first = twice
    await go(world, recorder, once=False)
    assert "relay 1 killed" in world.log


async def test_keep_leaves_everything_and_says_where(world, recorder, tmp_path):
    kept = tmp_path / "new" / "folder"
    outcome = await go(world, recorder, keep=kept)
    assert outcome.kept == str(kept)
    assert (kept / "genesis.json").exists()
    assert (kept / "relay3" / "static-nodes.json").exists()
    assert recorder.closed is not None


async def test_keep_refuses_a_folder_that_holds_something(world, recorder, tmp_path):
    (tmp_path / "mine").touch()
    with pytest.raises(UsageError, match="it is not empty"):
        await go(world, recorder, keep=tmp_path)
    assert world.log == []


async def test_keep_names_a_folder_that_can_not_be_made(world, recorder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file/below"):
        await go(world, recorder, keep=tmp_path / "file" / "below")
