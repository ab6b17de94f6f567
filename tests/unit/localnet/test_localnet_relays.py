from __future__ import annotations

import asyncio
import json
import random
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from relay.cli.arguments import daemon_parser, given_options
from relay.discovery.static_nodes import parse_static_nodes
from relay.localnet import relays as module
from relay.localnet.relays import RelayDaemon, RelayFiles, make_relays, write_relays
from relay.primitives.errors import LocalError, StorageError, UsageError
from relay.primitives.onion import OnionKey
from relay.settings import load_settings
from relay.transports.policy import Mode

GENESIS: dict[str, object] = {"config": {}}
CLIENT: Any = SimpleNamespace(socks="127.0.0.1:9", control="127.0.0.1:10")


@pytest.fixture
def relays(tmp_path: Path) -> Iterator[list[RelayFiles]]:
    made = make_relays(tmp_path, 3, [7001, 7002, 7003], random.Random(5).randbytes)
    write_relays(made, GENESIS)
    return made


def test_each_relay_finds_its_keys_and_nobody_else_can_read_them(relays):
    for relay in relays:
        assert stat.S_IMODE(relay.directory.stat().st_mode) == 0o700
        for name in ("nodekey", "onion_key"):
            assert stat.S_IMODE((relay.directory / name).stat().st_mode) == 0o600
        assert (relay.directory / "nodekey").read_text() == relay.node_key.secret.hex()
        assert OnionKey.from_tor_file((relay.directory / "onion_key").read_bytes()) == relay.onion_key
    assert json.loads(relays[0].genesis.read_text()) == GENESIS


def test_each_relay_knows_the_others_by_onion_and_not_itself(relays):
    for relay in relays:
        data = (relay.directory / "static-nodes.json").read_bytes()
        found = parse_static_nodes(data, "static-nodes.json")
        assert not found.rejected
        assert {node.public_key for node in found.nodes} == {
            other.node_key.public_key for other in relays if other is not relay
        }
        assert {node.onion.host for node in found.nodes} == {
            other.onion_key.address for other in relays if other is not relay
        }


def test_command_line_is_an_only_onion_relay_of_its_own(relays):
    arguments = relays[1].arguments("127.0.0.1:9050", "127.0.0.1:9051")
    settings = load_settings(given_options(daemon_parser().parse_args(arguments)), {})
    assert settings.mode is Mode.ONLY_ONION
    assert (str(settings.tor_proxy), str(settings.tor_control)) == ("127.0.0.1:9050", "127.0.0.1:9051")
    assert (settings.datadir, settings.metrics_port) == (relays[1].directory, 7002)
    assert settings.ipc_path == relays[1].ipc_path
    assert settings.network == str(relays[0].genesis)


def test_path_that_no_socket_fits_under_is_refused():
    with pytest.raises(UsageError, match="too long"):
        make_relays(Path("/tmp") / ("x" * 100), 2, [1, 2], random.Random(6).randbytes)


def test_folder_that_can_not_be_written_is_named(tmp_path):
    made = make_relays(tmp_path / "missing", 2, [1, 2], random.Random(7).randbytes)
    with pytest.raises(StorageError, match="missing"):
        write_relays(made, GENESIS)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A module in place of the daemon's; it is found by the working directory of python -m."""
    folder = tmp_path / "modules"
    folder.mkdir()
    monkeypatch.chdir(folder)
    # -m puts the working directory first on the path, so the package must be told where it is.
    monkeypatch.setenv("PYTHONPATH", str(Path(module.__file__).parents[2]))
    monkeypatch.setattr(module, "MODULE", "stand_in")
    return folder / "stand_in.py"


async def test_daemon_that_ends_is_told_with_its_last_words(relays, script):
    script.write_text("import sys\nprint('pyrelay: it is full')\nprint()\nsys.exit(3)\n")
    daemon = RelayDaemon(relays[0])
    async with asyncio.timeout(10):
        await daemon.start(CLIENT)
        with pytest.raises(LocalError, match="relay 1 ended with status 3: pyrelay: it is full"):
            await daemon.watch()
        await daemon.stop()
    assert not daemon.running


async def test_daemon_gets_its_arguments_and_ends_by_a_signal(relays, script):
    script.write_text("import sys, time\nprint(sys.argv[1:], flush=True)\ntime.sleep(60)\n")
    daemon = RelayDaemon(relays[0])
    assert daemon.last_words() == "it said nothing"
    async with asyncio.timeout(10):
        await daemon.start(CLIENT)
        while not relays[0].log_path.read_text():
            await asyncio.sleep(0.01)
        await daemon.stop()
    assert not daemon.running
    assert "'--tor-proxy', '127.0.0.1:9'" in daemon.last_words()


async def test_daemon_that_does_not_listen_to_signals_is_killed(relays, script, monkeypatch):
    monkeypatch.setattr(module, "STOP_SECONDS", 0.05)
    script.write_text(
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('deaf', flush=True)\ntime.sleep(60)\n"
    )
    daemon = RelayDaemon(relays[0])
    async with asyncio.timeout(10):
        await daemon.start(CLIENT)
        while not relays[0].log_path.read_text():
            await asyncio.sleep(0.01)
        await daemon.stop()
    assert not daemon.running


async def test_daemon_that_never_started_can_be_stopped(relays):
    daemon = RelayDaemon(relays[0])
    daemon.kill()
    await daemon.stop()


async def test_process_ends_when_its_starter_is_gone(script):
    script.write_text(
        "import signal, sys, time\n"
        "def end(*_):\n    print('ended in order', flush=True)\n    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\nprint('ready', flush=True)\n"
        "while True:\n    time.sleep(0.01)\n"
    )
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "relay.localnet.leash",
        "stand_in",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    async with asyncio.timeout(10):
        assert await child.stdout.readline() == b"ready\n"
        child.stdin.close()  # what the kernel does when the starter dies
        assert await child.stdout.read() == b"ended in order\n"
        assert await child.wait() == 0
