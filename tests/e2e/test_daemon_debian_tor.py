"""The literal command against a Tor configured as Debian's, and --tor-launch; both on the private network."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from relay.localnet.network import PrivateTor
from relay.primitives.enode import Enode
from relay.tor.process import TorProcess, find_tor
from tests.aids.daemon import RelayProcess
from tests.aids.kernel import children, command, needs_proc, speaks_only_to
from tests.aids.lab import Chain, OnionRelay, through
from tests.aids.tor_clients import tor_clients
from tests.aids.until import until

pytestmark = [pytest.mark.tor, pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

READY = 60.0  # seconds
STOP_SECONDS = 5.0
RUN = Path("/run/tor")
SOCKS_PORT, METRICS_PORT = 9050, 6060
COMMAND = Path(sys.executable).with_name("pyrelay")
WORDS = ("--tor-proxy", f"127.0.0.1:{SOCKS_PORT}", "--only-onion")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Whose path is short: sockets are below it."""
    with tempfile.TemporaryDirectory(prefix="pr-") as name:
        yield Path(name)


def debian_torrc(data: Path) -> list[str]:
    """Debian's tor-service-defaults-torrc, without what makes it a service of another user."""
    return [
        f"DataDirectory {data}",
        f"ControlSocket {RUN / 'control'} GroupWritable RelaxDirModeCheck",
        "ControlSocketsGroupWritable 1",
        f"SocksPort unix:{RUN / 'socks'} WorldWritable",
        f"SocksPort {SOCKS_PORT}",
        "CookieAuthentication 1",
        "CookieAuthFileGroupReadable 1",
        f"CookieAuthFile {RUN / 'control.authcookie'}",
        "Log notice stdout",
        f"__OwningControllerProcess {os.getpid()}",
    ]


def taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def why_not() -> str:
    """Why a Tor like Debian's cannot run here; empty when it can."""
    if RUN.exists():
        return f"{RUN} is there: a Tor of this system has it"
    if not os.access(RUN.parent, os.W_OK):
        return f"{RUN.parent} is not writable for this user"
    if taken(SOCKS_PORT):
        return f"port {SOCKS_PORT} is taken"
    return "" if COMMAND.exists() else f"{COMMAND} is not installed"


@pytest_asyncio.fixture(loop_scope="session")
async def debian_tor(private_tor: PrivateTor, tmp_path: Path) -> AsyncIterator[TorProcess]:
    if reason := why_not():
        pytest.skip(reason)
    RUN.mkdir(mode=0o755)
    lines = [*debian_torrc(tmp_path / "data"), *private_tor.client_lines]
    tor = TorProcess(find_tor(), tmp_path / "tor", lines)
    try:
        await tor.start()
        await until((RUN / "control.authcookie").exists, lambda: f"a cookie: {tor.last_log_lines()}", READY)
        yield tor
    finally:
        await tor.stop()
        shutil.rmtree(RUN)


class LiteralCommand(RelayProcess):
    """The installed program with exactly the documented words; its folder is where XDG says."""

    def __init__(self, home: Path) -> None:
        self.home = home
        super().__init__(home / ".local" / "share" / "pyrelay")
        self.directory.rmdir()  # the program makes it
        self.log_path = home / "log"

    def launch(self) -> None:
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        environment = kept | {"HOME": str(self.home)}
        if taken(METRICS_PORT):
            environment["PYRELAY_METRICS_PORT"] = "0"
        with self.log_path.open("ab") as log:
            self._child = subprocess.Popen([COMMAND, *WORDS], env=environment, stdout=log, stderr=log)


async def test_literal_command_runs_on_a_debian_tor(
    debian_tor: TorProcess, private_tor: PrivateTor, folder: Path
) -> None:
    assert stat.S_IMODE((RUN / "control.authcookie").stat().st_mode) == 0o640
    relay = LiteralCommand(folder)
    peer = OnionRelay(
        folder / "peer", "mainnet", "--only-onion", *through((await tor_clients(private_tor, 1))[0])
    )
    try:
        relay.launch()
        await relay.wait_ready(READY)

        assert stat.S_IMODE(relay.directory.stat().st_mode) == 0o700
        for name in ("nodekey", "onion_key", "record.json", "pyrelay.ipc", "nodes.sqlite"):
            assert stat.S_IMODE((relay.directory / name).stat().st_mode) == 0o600
        steps = [each["step"] for each in relay.events("start-up step done")]
        assert steps[:4] == ["settings", "keys", "metrics", "rpc"]
        assert steps[4:] == ["tor", "listeners", "onion service", "record", "static nodes", "discovery"]
        onion = relay.events("onion service up")[0]["onion"]
        enode = (await relay.rpc("admin_nodeInfo"))["enode"]
        assert enode == Enode(relay.node_key.public_key, onion, 30303, 0).url

        peer.write_static_nodes([enode])
        await peer.start(READY)
        await peer.until_peers(1, READY)
        await relay.until_peers(1, READY)

        relay.signal(signal.SIGINT)
        assert await relay.wait_exit(STOP_SECONDS) == 0
        await peer.until_peers(0, STOP_SECONDS)
    finally:
        await relay.stop()
        await peer.stop()


@pytest.fixture
def joining_tor(private_tor: PrivateTor, tmp_path: Path) -> Path:
    """A folder with a program tor that is the real one, joined to the private network by its defaults."""
    defaults = tmp_path / "private.torrc"
    defaults.write_text("\n".join(private_tor.client_lines) + "\n")
    program = tmp_path / "bin" / "tor"
    program.parent.mkdir()
    tor, own = shlex.quote(find_tor()), shlex.quote(str(defaults))
    program.write_text(
        "#!/bin/sh\n"
        f'if [ "$1" = --defaults-torrc ]; then shift 2; exec {tor} --defaults-torrc {own} "$@"; fi\n'
        f'exec {tor} "$@"\n'
    )
    program.chmod(0o755)
    return program.parent


def tors_of(relay: OnionRelay) -> list[int]:
    """Its children but for the process that verifies blobs."""
    return [each for each in children(relay.pid) if not command(each).startswith("python")]


@needs_proc
async def test_launched_tor_is_owned_started_again_and_ended(
    private_tor: PrivateTor, joining_tor: Path, folder: Path
) -> None:
    chain = Chain(folder)
    environment = {"PATH": f"{joining_tor}:{os.environ['PATH']}"}
    flags = ("--tor-launch", "--only-onion")
    relay = OnionRelay(folder / "relay", chain.path, *flags, environment=environment)
    client = (await tor_clients(private_tor, 1))[0]
    peer = OnionRelay(folder / "peer", chain.path, "--only-onion", *through(client))
    try:
        async with asyncio.TaskGroup() as starts:
            starts.create_task(relay.start(READY))
            starts.create_task(peer.start(READY))
        relay.name_static_nodes(peer.onion_enode)
        peer.name_static_nodes(relay.onion_enode)
        await relay.joined(peer)
        await peer.joined(relay)

        (first,) = tors_of(relay)
        speaks_only_to(relay, first)

        os.kill(first, signal.SIGKILL)
        await relay.until_metric("pyrelay_onion_service_up", 0)
        await relay.wait_ready(READY)
        await relay.joined(peer)
        (second,) = tors_of(relay)
        assert second != first
        assert (await relay.rpc("admin_nodeInfo"))["enode"] == relay.onion_enode

        assert await relay.timed_stop() < STOP_SECONDS
        with pytest.raises(ProcessLookupError):
            os.kill(second, 0)
    finally:
        await relay.stop()
        await peer.stop()
