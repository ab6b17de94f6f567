"""`pyrelay monitor` on a real geth with fifty peers: table, JSON, CSV, exporter, and its screen in tmux."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import re
import secrets
import shutil
import signal
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from relay.primitives.keys import NodeKey
from tests.aids.chain import OwnChain
from tests.aids.daemon import ROOT, RelayProcess
from tests.aids.geth import Geth
from tests.aids.http_client import exchange, request
from tests.aids.scripted_peer import ScriptedPeer, hello_of, says
from tests.aids.until import until

pytestmark = [pytest.mark.geth, pytest.mark.asyncio(loop_scope="module")]

PEERS = 50
SECONDS = 60.0
EVIL = "\x1b[2J\x1b]0;owned\x07<script>/v1.0/linux"
NAMES = (
    *["Geth/v1.17.8-stable-abcdef01/linux-amd64/go1.24.4"] * 20,
    *["reth/v2.5.1-7b3432d/x86_64-unknown-linux-gnu"] * 10,
    *["Nethermind/v1.36.0+1a2b3c4d/windows-x64/dotnet10.0.0"] * 10,
    *["besu/v26.3.0/osx-aarch_64/openjdk-java-21"] * 8,
    EVIL,
    "",
)


class Scene:
    def __init__(self, geth: Geth, peers: list[ScriptedPeer], folder: Path, http: int) -> None:
        self.geth, self.peers, self.folder, self.http = geth, peers, folder, http


def named(key: Any, name: str) -> Any:
    """A Hello whose client is any text; our own core would not make one."""
    hello = hello_of(key, (69,))
    return says(hello, hello_of(key, (69,), client=name))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(folder: Path, chain: OwnChain):
    flags = ["--http", "--http.addr", "127.0.0.1", "--http.port", "0", "--http.api", "eth,net,web3"]
    async with AsyncExitStack() as stack:
        geth = await stack.enter_async_context(Geth(folder / "geth", chain.genesis, flags=flags))
        peers = []
        for name in NAMES:
            peer = await ScriptedPeer.dial(geth.enode, chain.config, versions=(69,), **_identity(name))
            peers.append(await stack.enter_async_context(peer))
            await peer.join()
        await until(lambda: _count(geth, PEERS), f"{PEERS} peers\n{geth.tail()}", SECONDS)
        found = re.search(r"HTTP server started +endpoint=127\.0\.0\.1:(\d+) +auth=false", geth.log())
        assert found, geth.tail()
        yield Scene(geth, peers, folder, int(found[1]))


def _identity(name: str) -> dict[str, Any]:
    key = NodeKey.generate(secrets.token_bytes)
    return {"key": key, "hello": named(key, name)}


async def _count(geth: Geth, wanted: int) -> bool:
    return sum(isinstance(each["protocols"].get("eth"), dict) for each in await geth.peers()) == wanted


def command(folder: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "relay.cli.main", "monitor", *words, "--datadir", str(folder / "none")]


async def run(folder: Path, *words: str) -> tuple[int, str, str]:
    child = await asyncio.create_subprocess_exec(
        *command(folder, *words), cwd=ROOT, env=os.environ | {"COLUMNS": "120", "LC_ALL": "C.UTF-8"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(SECONDS):
        out, err = await child.communicate()
    assert child.returncode is not None
    return child.returncode, out.decode(), err.decode()


async def test_table_once(scene: Scene) -> None:
    code, out, err = await run(scene.folder, "--rpc", str(scene.geth.ipc_path), "--once")

    assert (code, err) == (0, "")
    assert f"{PEERS} peers: {PEERS} in, 0 out" in out
    assert re.search(r"clients .* geth 20 .* besu 8", out)
    assert "all 50 peers dialed the node" in out
    assert len(re.findall(r"\bloopback\b.*\b127\.0\.0\.1$", out, re.MULTILINE)) == PEERS
    assert all(line.isprintable() for line in out.splitlines())


async def test_json_once(scene: Scene) -> None:
    code, out, err = await run(
        scene.folder, "--rpc", str(scene.geth.ipc_path), "--once", "--json", "--addresses"
    )
    said, [one, *_] = json.loads(out), await scene.geth.peers()

    assert (code, err) == (0, "")
    assert said["counts"] | {"clients": None} == {
        "peers": PEERS, "inbound": PEERS, "outbound": 0, "refused": 0, "waiting": 0, "came": 0, "went": 0,
        "networks": {"loopback": PEERS}, "clients": None,
    }  # fmt: skip
    assert said["node"]["head"] == int((await scene.geth.head())["number"], 16)
    assert {each["id"] for each in said["peers"]} == {each["id"] for each in await scene.geth.peers()}
    [same] = [each for each in said["peers"] if each["id"] == one["id"]]
    assert (same["address"], same["enode"]) == (one["network"]["remoteAddress"], one["enode"])
    assert {each["eth"] for each in said["peers"]} == {69}
    assert {each["os"] for each in said["peers"]} == {"linux", "windows", "macos", None}


async def test_csv_once(scene: Scene) -> None:
    code, out, err = await run(scene.folder, "--rpc", str(scene.geth.ipc_path), "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))

    assert (code, err, len(rows)) == (0, "", PEERS)
    assert sum(row["client"] == "reth" and row["version"] == "v2.5.1" for row in rows) == 10


async def test_http_without_admin_says_what_to_do(scene: Scene) -> None:
    code, out, err = await run(scene.folder, "--rpc", f"http://127.0.0.1:{scene.http}", "--once")

    assert (code, out) == (1, "")
    assert "does not serve admin_peers here: give its unix socket (IPC)" in err


async def test_exporter_follows_a_peer_that_leaves(scene: Scene) -> None:
    child = await asyncio.create_subprocess_exec(
        *command(scene.folder, "--rpc", str(scene.geth.ipc_path), "--export", "0", "--interval", "0.2"),
        cwd=ROOT, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert child.stderr is not None
        async with asyncio.timeout(SECONDS):
            first = (await child.stderr.readline()).decode()
        port = int(first.split("/metrics")[0].rpartition(":")[2])

        async def scraped() -> dict[tuple[str, ...], float]:
            text = (await exchange(port, request(path="/metrics"), seconds=SECONDS)).body.decode()
            assert EVIL[-10:] not in text
            return {
                (sample.name, *sample.labels.values()): sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            }

        async def shows(count: int) -> bool:
            return (await scraped()).get(("peermon_peers", "inbound", "loopback")) == count

        await until(lambda: shows(PEERS), "all peers", SECONDS)
        found = await scraped()
        assert found["peermon_up",] == 1
        assert found["peermon_peers_by_client", "nethermind"] == 10
        assert found["peermon_peers_by_client", "other"] == 1
        assert found["peermon_peers_by_protocol", "eth", "69"] == PEERS
        assert found["peermon_anomaly", "eclipse_inbound"] == 1
        await scene.peers.pop().close()
        await until(lambda: shows(PEERS - 1), "one has left", SECONDS)
        assert (await scraped())["peermon_peer_disconnects_total", "left"] == 1
    finally:
        child.send_signal(signal.SIGTERM)
        assert await child.wait() == 0


class Tmux:
    """A server of tmux of its own, with one window."""

    def __init__(self, folder: Path) -> None:
        self._words = ["tmux", "-f", "/dev/null", "-S", str(folder / "tmux.sock")]

    async def __call__(self, *words: str) -> str:
        child = await asyncio.create_subprocess_exec(
            *self._words, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        out, _ = await child.communicate()
        return out.decode()

    async def screen(self) -> str:
        return await self("capture-pane", "-p")

    async def until(self, words: str) -> str:
        shown = ""

        async def there() -> bool:
            nonlocal shown
            shown = await self.screen()
            return words in shown

        await until(there, lambda: f"{words!r} on the screen:\n{shown}", SECONDS, 0.1)
        return shown


@asynccontextmanager
async def tmux(scene: Scene, columns: int, lines: int):
    if shutil.which("tmux") is None:
        pytest.skip("no tmux here: apt-get install tmux")
    terminal = Tmux(scene.folder)
    line = " ".join(command(scene.folder, "--rpc", str(scene.geth.ipc_path), "--interval", "0.3"))
    await terminal(
        "new-session", "-d", "-x", str(columns), "-y", str(lines), "-c", str(ROOT),
        f"env COLUMNS=80 LC_ALL=C.UTF-8 {line}; echo ended with $?; exec cat",
    )  # fmt: skip
    try:
        yield terminal
    finally:
        await terminal("kill-server")


async def test_live_screen_is_driven_by_keys(scene: Scene) -> None:
    async with tmux(scene, 100, 30) as terminal:
        shown = await terminal.until("peers: ")
        assert "Geth  chain 7799" in shown
        assert "owned" not in shown.splitlines()[0]
        await terminal("send-keys", "/", "client:reth os:linux", "Enter")
        await terminal.until("filter client:reth os:linux (10)")
        await terminal("send-keys", "Enter")
        await terminal.until("id         ")
        await terminal("send-keys", "a")
        await terminal.until("addresses shown")
        await terminal("send-keys", "q", "Escape", "s", "s", "r", "End")
        await terminal.until("network▼")
        await terminal("send-keys", "p")
        await terminal.until("PAUSED")
        await scene.peers.pop().close()
        await terminal("send-keys", "p", "h")
        await terminal.until("1 left")
        await terminal("send-keys", "?")
        await terminal.until("choose a peer")
        await terminal("send-keys", "q", "q")
        await terminal.until("ended with 0")


async def test_live_screen_survives_a_narrow_terminal(scene: Scene) -> None:
    async with tmux(scene, 40, 12) as terminal:
        shown = await terminal.until("peers: ")
        assert all(len(line) <= 40 for line in shown.splitlines())
        await terminal("send-keys", "q")
        await terminal.until("ended with 0")


async def test_pyrelay_is_watched_as_geth_is(scene: Scene, chain: OwnChain) -> None:
    async with AsyncExitStack() as stack:
        relay = RelayProcess(scene.folder / "relay", "--network", str(chain.genesis))
        await stack.enter_async_context(relay)
        peer = await stack.enter_async_context(await ScriptedPeer.dial(relay.enode, chain.config))
        await peer.join()
        await relay.until_peers(1)
        path = str(relay.directory / "pyrelay.ipc")
        code, out, err = await run(scene.folder, "--rpc", path, "--once", "--json")
        [served] = [each["address"] for each in relay.events("serving") if "127.0.0.1" in each["address"]]
        port = int(served.rpartition(":")[2])
        page = (await exchange(port, request(), seconds=SECONDS)).body.decode()
        peers = (await exchange(port, request(path="/peers/addresses"), seconds=SECONDS)).body.decode()

    assert (code, err) == (0, "")
    said = json.loads(out)
    assert said["node"]["client"].startswith("pyrelay/")
    assert said["counts"]["networks"] == {"loopback": 1}
    assert said["peers"][0]["client"] == "scripted"
    assert '<span id="total">1</span> peers' in page
    assert "<td>in</td><td>scripted/v1</td><td>71</td>" in peers
    assert "<td>127.0.0.1</td>" in peers
