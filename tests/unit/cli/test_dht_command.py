"""``pyrelay dht``: by a daemon, by a node of its own, and what it refuses. On real Tor: tests/e2e."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from relay.app.datadir import DataDir
from relay.cli.main import COMMANDS, main
from relay.discovery.peer_text import peer_text
from relay.primitives.onion import OnionKey
from relay.protocols.dht import parse_key
from relay.protocols.discv5.distance import xor_distance
from relay.settings import Settings, load_settings
from relay.settings.options import OPTIONS
from tests.aids.control_server import control_server
from tests.aids.daemon import ROOT
from tests.aids.onion_dht import ScriptedPeer, scripted_peer
from tests.aids.peering import rand_of
from tests.aids.running import running
from tests.aids.socks_server import SocksServer
from tests.aids.until import until

SECONDS = 30.0
ONION_KEY = OnionKey.generate(rand_of(5))
SERVICE = ONION_KEY.address.removesuffix(".onion")
PROXY = ("--only-onion", "--tor-proxy", "127.0.0.1:9")
SOME_PEER = (
    f"{ONION_KEY.address}:30303/02{'79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798'}"
)


async def dht(folder: Path, *words: object) -> tuple[int, str, str]:
    """Run it to its end: exit code, standard output, standard error."""
    child = await start(folder, *words)
    async with asyncio.timeout(SECONDS):
        out, err = await child.communicate()
    assert child.returncode is not None
    return child.returncode, out.decode(), err.decode()


async def start(folder: Path, *words: object) -> asyncio.subprocess.Process:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYRELAY_")}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "relay.cli.main", "dht", *map(str, words),
        cwd=ROOT, env=kept | {"XDG_DATA_HOME": str(folder / "xdg"), "COLUMNS": "80"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


def text_of(peer: ScriptedPeer) -> str:
    assert peer.node.onion is not None
    return peer_text(peer.key.public_key, peer.node.onion)


def test_it_is_a_command() -> None:
    assert COMMANDS["dht"] == "relay.cli.dht"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "arguments are required"),
        (["seek"], "invalid choice: 'seek'"),
        (["find"], "KEY is missing"),
        (["find", "x", "--peer", SOME_PEER, "y"], "--peer y: 'y' is no peer"),
        (["find", "--peer", SOME_PEER], "KEY is missing; put it before --peer"),
        (["provide"], "KEY is missing"),
        (["provide", *map(str, range(65))], "65 keys; one node provides 64 at most"),
        (["find", ""], "KEY: a key in text has 1 to 4096 bytes"),
        (["find", "x", "--timeout", "soon"], "'soon' is no number of seconds"),
        (["find", "x"], "needs Tor: add --tor-proxy 127.0.0.1:9050, or --tor-launch"),
        (["find", "x", *PROXY], "nobody to begin with: give --peer"),
        (["find", "x", *PROXY, "--peer", "enr:abc"], "--peer enr:abc: "),
        (["find", "x", *PROXY, "--peer", f"{ONION_KEY.address}:1/{'ab' * 32}"], "only the hash of a public"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_a_usage_error_says_what_to_give(monkeypatch, tmp_path, capsys, words, text) -> None:
    for option in OPTIONS:
        monkeypatch.delenv(option.variable, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr("relay.cli.dht.configure", lambda _: None)
    try:
        code = main(["dht", *words])
    except SystemExit as end:
        code = end.code
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert text in err.replace("\n", " ")
    assert "Traceback" not in err


async def test_socket_without_a_daemon_is_an_error_where_it_was_named(tmp_path: Path) -> None:
    code, _, err = await dht(tmp_path, "find", "x", "--ipcpath", tmp_path / "none.ipc")
    assert code == 1
    assert err == f"pyrelay: {tmp_path}/none.ipc: there is no socket: is the daemon running?\n"
    code, _, err = await dht(tmp_path, "provide", "--stop", "x", "--datadir", tmp_path)
    assert (code, "is the daemon running?" in err) == (1, True)


async def test_data_folder_that_is_held_by_a_daemon_without_socket_is_not_taken(tmp_path: Path) -> None:
    data = DataDir(tmp_path / "relay")
    data.lock()
    code, _, err = await dht(tmp_path, "find", "x", *PROXY, "--datadir", data.path)
    data.unlock()
    assert code == 1
    assert f"(process {os.getpid()}), but has no socket at {data.path}/pyrelay.ipc: name it" in err


async def test_node_of_its_own_finds_and_says_when_there_is_nobody(tmp_path: Path) -> None:
    async with (
        SocksServer(routes={}) as proxy,
        scripted_peer(proxy) as keeper,
        scripted_peer(proxy, keeper.node) as giver,
    ):
        await giver.providers.provide(parse_key("x"))
        flags = ["--only-onion", "--tor-proxy", proxy.address, "--peer", text_of(keeper)]
        code, out, err = await dht(tmp_path, "find", "x", *flags)
        assert code == 0, err
        lines = out.splitlines()
        assert lines[0].endswith(", 1 hop away")
        assert lines[1:4] == [
            f"  onion    {giver.node.onion.host}:30303",
            f"  node id  {giver.key.node_id.hex()}",
            f"  peer     {text_of(giver)}",
        ]
        assert lines[4].startswith("  enr      enr:-")
        assert max(map(len, lines[:3])) <= 80

        code, out, err = await dht(tmp_path, "find", "0x" + parse_key("x").hex(), *flags, "--json")
        told = json.loads(out)
        assert (code, set(told)) == (0, {"key", "providers", "seconds"})
        assert told["key"] == "0x" + parse_key("x").hex()
        assert [each["peer"] for each in told["providers"]] == [text_of(giver)]

        code, out, err = await dht(tmp_path, "find", "y", *flags, "--json")
        assert (code, json.loads(out)["providers"]) == (1, [])
        assert "nobody provides 'y'" in err

        proxy.routes.clear()
        code, out, err = await dht(tmp_path, "find", "x", *flags, "--timeout", 6)
        assert (code, out) == (1, "")
        assert err.splitlines()[1] == "no peer answers yet; trying again"
        assert err.endswith("(--timeout 6)\n")
    assert not (tmp_path / "xdg").exists()


async def test_provider_is_found_though_the_peer_is_nearest_to_the_key_and_keeps_nothing(
    tmp_path: Path,
) -> None:
    async with (
        SocksServer(routes={}) as proxy,
        scripted_peer(proxy) as keeper,
        scripted_peer(proxy, keeper.node) as giver,
        scripted_peer(proxy, keeper.node, begin=False) as newcomer,
    ):
        others = (keeper.key.node_id, giver.key.node_id)
        text = next(
            text
            for text in map(str, range(1000))
            if all(
                xor_distance(newcomer.key.node_id, parse_key(text)) < xor_distance(other, parse_key(text))
                for other in others
            )
        )
        await giver.providers.provide(parse_key(text))
        entering = asyncio.create_task(newcomer.onion.run())
        table = newcomer.onion.driver.core.table
        await until(lambda: any(each.live for each in table.entries.values()), "the newcomer knows a node")
        flags = ["--only-onion", "--tor-proxy", proxy.address, "--peer", text_of(newcomer), "--json"]
        code, out, err = await dht(tmp_path, "find", text, *flags)
        entering.cancel()
    assert code == 0, err
    assert [each["peer"] for each in json.loads(out)["providers"]] == [text_of(giver)]


@asynccontextmanager
async def tor(folder: Path):
    """A proxy and a control port, and a data folder whose onion key the latter knows."""
    data = DataDir(folder / "relay")
    (data.path / "onion_key").write_bytes(ONION_KEY.to_tor_file())
    async with SocksServer(routes={}) as proxy, control_server(folder, service_id=SERVICE) as control:
        yield proxy, control


def flags_of(proxy: SocksServer, control: Any) -> dict[str, str]:
    return {"tor-proxy": proxy.address, "tor-control": f"127.0.0.1:{control.port}", "only-onion": "true"}


async def test_node_of_its_own_provides_as_the_relay_of_the_data_folder_until_it_is_interrupted(
    tmp_path: Path,
) -> None:
    async with tor(tmp_path) as (proxy, control), scripted_peer(proxy) as keeper:
        flags = [word for name, value in flags_of(proxy, control).items() for word in (f"--{name}", value)]
        child = await start(
            tmp_path, "provide", "a", "b", *flags, "--datadir", tmp_path / "relay", "--json",
            "--peer", text_of(keeper),
        )  # fmt: skip
        said = await lines_until(child, "provided: 'b'", "provided: 'a'")
        assert f"this node is the relay of {tmp_path}/relay" in said
        assert any(line.startswith(f"this node is {ONION_KEY.address}:30303/0") for line in said)
        code, _, err = await dht(
            tmp_path, "provide", "x", *flags, "--datadir", tmp_path / "relay", "--onion-service", "auto"
        )
        assert (code, "unrecognized arguments" in err) == (2, True)
        child.send_signal(signal.SIGINT)
        async with asyncio.timeout(SECONDS):
            out, _ = await child.communicate()
        assert child.returncode == 0
        assert [each["stored"] for each in json.loads(out)["keys"]] == [1, 1]
        assert control.matching("DEL_ONION") == [f"DEL_ONION {SERVICE}"]


async def test_providing_that_nobody_takes_in_time_is_exit_code_1_and_says_once_what_it_waits_for(
    tmp_path: Path,
) -> None:
    async with tor(tmp_path) as (proxy, control):
        flags = [word for name, value in flags_of(proxy, control).items() for word in (f"--{name}", value)]
        code, out, err = await dht(
            tmp_path, "provide", "a", "b", *flags, "--datadir", tmp_path / "relay", "--timeout", 1.5
        )
    assert (code, out) == (1, "")
    assert err.count("waiting: no peer yet") == 1
    assert err.endswith("pyrelay: not provided (--timeout 1.5)\n")


async def lines_until(child: asyncio.subprocess.Process, *beginnings: str) -> list[str]:
    assert child.stderr is not None
    said: list[str] = []
    async with asyncio.timeout(SECONDS):
        while not all(any(line.startswith(each) for line in said) for each in beginnings):
            line = await child.stderr.readline()
            assert line, said
            said.append(line.decode().rstrip())
    return said


def settings(folder: Path, **flags: str) -> Settings:
    base = {"datadir": str(folder / "relay"), "metrics.port": "0", "port": "0", "listen-address": "127.0.0.1"}
    return load_settings(base | {name.replace("_", "-"): value for name, value in flags.items()}, {})


async def test_daemon_provides_and_finds(tmp_path: Path) -> None:
    async with (
        tor(tmp_path) as (proxy, control),
        scripted_peer(proxy) as keeper,
        scripted_peer(proxy, keeper.node) as giver,
    ):
        daemon = settings(tmp_path, **flags_of(proxy, control), discovery="onion,dht")
        await giver.providers.provide(parse_key("x"))
        async with running(daemon):
            at = ["--datadir", tmp_path / "relay"]
            code, _, err = await dht(tmp_path, "provide", "mine", "--peer", text_of(keeper), *at)
            assert code == 0, err
            assert "provided: 'mine', kept by " in err
            code, out, err = await dht(tmp_path, "find", "x", *at)
            assert (code, f"  peer     {text_of(giver)}" in out.splitlines()) == (0, True)
            assert f"asked by the daemon at {tmp_path}/relay/pyrelay.ipc" in err
            code, out, err = await dht(tmp_path, "find", "y", "--json", *at)
            assert (code, json.loads(out)["providers"]) == (1, [])
            code, _, err = await dht(tmp_path, "find", "x", "--peer", f"{SERVICE}:1/{'ab' * 32}", *at)
            assert (code, err.splitlines()[-1].startswith(f"pyrelay: --peer {SERVICE[:20]}")) == (2, True)
            assert "only the hash of a public key" in err
            code, _, err = await dht(tmp_path, "provide", "--stop", "mine", *at)
            assert (code, err) == (0, "no longer provided: 'mine'\n")
            code, _, err = await dht(tmp_path, "provide", "--stop", "mine", *at)
            assert (code, err) == (1, "was not provided: 'mine'\n")


async def test_daemon_without_dht_says_which_flag_it_lacks(tmp_path: Path) -> None:
    async with running(settings(tmp_path, discovery="off")):
        code, out, err = await dht(tmp_path, "find", "x", "--datadir", tmp_path / "relay")
    assert (code, out) == (1, "")
    assert "--discovery onion,dht" in err.splitlines()[-1]
