"""`pyrelay localnet` as people start it: real Tor, real daemons, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from relay.localnet.board import Board
from relay.localnet.relays import RelayDaemon
from relay.localnet.run import Localnet, LocalnetOptions

pytestmark = [pytest.mark.tor, pytest.mark.slow]

COMMAND = [sys.executable, "-m", "relay.cli.main", "localnet"]
DEADLINE = 150  # seconds; a quiet machine with two cores takes 25
FIRST_DELIVERY = 60  # seconds; what is promised


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A temporary folder whose path leaves room for sockets below it."""
    with tempfile.TemporaryDirectory(prefix="lab-") as folder:
        yield Path(folder)


def processes_of(folder: Path) -> list[str]:
    """Command lines of all processes that name a folder: every Tor and every daemon of a run does."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            line = entry.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            if str(folder) in line and entry.parent.name != str(os.getpid()):
                found.append(line)
    return found


def test_once_as_json_tells_that_everything_arrived_and_leaves_nothing(short_folder: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(short_folder)}
    done = subprocess.run(
        [*COMMAND, "--once", "--json"], capture_output=True, text=True, timeout=DEADLINE, env=environment
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert set(result) == {
        "relays",
        "bootstrap_seconds",
        "onion_peers",
        "transactions_sent",
        "transactions_arrived",
        "latency_ms",
    }
    assert (result["relays"], result["onion_peers"]) == (3, 6)
    assert result["transactions_sent"] == result["transactions_arrived"] == 100
    assert 0 < result["latency_ms"]["p50"] <= result["latency_ms"]["p99"]
    first = next(line for line in done.stderr.splitlines() if "0x" in line)
    assert float(first.split()[0]) < FIRST_DELIVERY
    assert processes_of(short_folder) == []
    assert list(short_folder.iterdir()) == []


def test_killed_relay_ends_the_run_by_exit_code_1_and_kept_files_stay(short_folder: Path) -> None:
    kept = short_folder / "kept"
    child = subprocess.Popen(
        [*COMMAND, "--relays", "2", "--keep", str(kept)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        for line in child.stdout:
            if "transactions: sent" in line:
                os.kill(daemon_pid(kept / "relay2"), signal.SIGKILL)
                break
        _, errors = child.communicate(timeout=DEADLINE)
    finally:
        child.kill()
        child.wait()
    assert child.returncode == 1
    assert "relay 2 ended with status -9" in errors
    assert processes_of(kept) == []
    for name in ("genesis.json", "relay1/nodekey", "relay1/onion_key", "relay2/pyrelay.log"):
        assert (kept / name).exists(), name


def daemon_pid(datadir: Path) -> int:
    """The holder of a data folder's lock."""
    return int((datadir / "LOCK").read_text())


class Stopper:
    """Freezes a relay's process as soon as transactions flow, as a machine that hangs would."""

    def __init__(self, daemons: list[RelayDaemon]) -> None:
        self._daemons = daemons
        self.frozen = False

    def update(self, board: Board) -> None:
        if board.arrived and not self.frozen:
            self.frozen = True
            os.kill(daemon_pid(self._daemons[-1].files.directory), signal.SIGSTOP)

    def close(self, board: Board) -> None:
        pass


async def test_transactions_that_do_not_arrive_make_a_run_that_is_not_good() -> None:
    daemons: list[RelayDaemon] = []

    def make(files):
        daemons.append(RelayDaemon(files))
        return daemons[-1]

    options = LocalnetOptions(relays=3, once=True, transactions=40, patience=3.0)
    stopper = Stopper(daemons)
    async with asyncio.timeout(DEADLINE):
        outcome = await Localnet(options, stopper, time.monotonic(), daemon=make).run()
    assert stopper.frozen
    assert not outcome.good
    assert outcome.result.transactions_sent == 40
    assert 0 < outcome.result.transactions_arrived < 40
    assert outcome.overdue == 40 - outcome.result.transactions_arrived
    assert not any(daemon.running for daemon in daemons)


async def test_three_relays_deliver_by_private_broadcast_too() -> None:
    daemons: list[RelayDaemon] = []

    def make(files):
        daemons.append(RelayDaemon(replace(files, flags=(*files.flags, "--private-broadcast", "on"))))
        return daemons[-1]

    options = LocalnetOptions(relays=3, once=True, transactions=12, rate=0.7, patience=60.0)
    async with asyncio.timeout(DEADLINE):
        outcome = await Localnet(options, Silent(), time.monotonic(), daemon=make).run()
    assert outcome.good
    assert outcome.result.transactions_arrived == outcome.result.transactions_sent == 12


class Silent:
    """Shows nothing."""

    def update(self, board: Board) -> None:
        pass

    def close(self, board: Board) -> None:
        pass
