"""``pyrelay monitor`` as a process: what it prints, its exit codes, its screen in a pseudo terminal."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import pty
import signal
import sys
import termios
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.aids.daemon import ROOT
from tests.aids.http_client import exchange, request
from tests.aids.until import until
from tests.unit.monitor.conftest import FakeNode, fixture

pytestmark = pytest.mark.slow  # each starts a program; on a busy machine that alone takes seconds

SECONDS = 60.0
PIPE = asyncio.subprocess.PIPE


def environment(**changes: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYRELAY_")}
    return kept | {"COLUMNS": "80", "LC_ALL": "C.UTF-8"} | changes


async def start(folder: Path, *words: str, **options: object) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "relay.cli.main", "monitor", *words, "--datadir", str(folder),
        cwd=ROOT,
        **{"env": environment(), "stdout": PIPE, "stderr": PIPE} | options,
    )  # fmt: skip


async def run(folder: Path, *words: str, **changes: str) -> tuple[int, str, str]:
    child = await start(folder, *words, env=environment(**changes))
    async with asyncio.timeout(SECONDS):
        out, err = await child.communicate()
    assert child.returncode is not None
    return child.returncode, out.decode(), err.decode()


async def test_table_is_printed_once(node: FakeNode, tmp_path: Path) -> None:
    node.answers_of_geth(fixture("geth")["result"])

    code, out, err = await run(tmp_path, "--rpc", str(node.path), "--once")

    assert (code, err) == (0, "")
    assert "Geth  mainnet  head 23,900,768  synced" in out
    assert "3 peers: 2 in, 1 out" in out
    assert "203.0.113.7" not in out
    assert "\x1b" not in out


async def test_own_daemon_is_watched_without_further_words(node: FakeNode, tmp_path: Path) -> None:
    node.answers_of_geth(fixture("pyrelay")["result"])
    node.results["admin_nodeInfo"] = {"id": "aa", "name": "pyrelay/v0.1.0"}
    (tmp_path / "pyrelay.ipc").symlink_to(node.path)

    code, out, err = await run(tmp_path, "--once", "--json")

    assert (code, err) == (0, "")
    assert json.loads(out)["counts"]["networks"] == {"onion": 2}


async def test_csv_and_narrow_and_plain_terminals(node: FakeNode, tmp_path: Path) -> None:
    entries = [{"id": "ab" * 32, "name": "\x1b[31m漢字/v1", "network": {"inbound": True}}]
    node.answers_of_geth(entries)

    _, table, _ = await run(tmp_path, "--rpc", node.url, "--csv", "--addresses")
    code, plain, err = await run(
        tmp_path, "--rpc", node.url, "--once", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0"
    )

    assert next(csv.DictReader(io.StringIO(table)))["id"] == "ab" * 32
    assert (code, err) == (0, "")
    assert plain.isascii()
    assert "1 peer: 1 in, 0 out" in plain


@pytest.mark.parametrize("flag", ["--rpc", "--beacon"])
async def test_an_address_that_is_empty_is_a_mistake(tmp_path: Path, flag: str) -> None:
    """As of a variable of a shell that is not set: it is not the folder where one stands."""
    code, out, err = await run(tmp_path, flag, "", "--once")

    assert (code, out) == (2, "")
    assert f"argument {flag}: it is empty" in err


async def test_modes_that_hide_the_host_do_not_dial_directly(tmp_path: Path) -> None:
    """The port of the proxy is closed: whoever went around it would say something else."""
    code, _, err = await run(
        tmp_path, "--rpc", "http://192.0.2.1:8545", "--once", "--only-onion", "--tor-proxy", "127.0.0.1:1"
    )

    assert code == 1
    assert "192.0.2.1" in err
    assert "timed out" not in err


async def test_lines_of_json_go_on_until_the_pipe_is_closed(node: FakeNode, tmp_path: Path) -> None:
    node.answers_of_geth(fixture("geth")["result"])
    child = await start(tmp_path, "--rpc", str(node.path), "--json", "--interval", "0.05")
    assert child.stdout is not None
    assert child.stderr is not None
    async with asyncio.timeout(SECONDS):
        looks = [json.loads(await child.stdout.readline()) for _ in range(3)]
        child._transport.get_pipe_transport(1).close()
        code, err = await child.wait(), await child.stderr.read()

    assert [look["counts"]["peers"] for look in looks] == [3, 3, 3]
    assert (code, err) == (1, b"")


@pytest.mark.parametrize("form", ["--csv", "--once"])
async def test_letters_that_the_output_can_not_hold_are_replaced(
    node: FakeNode, tmp_path: Path, form: str
) -> None:
    node.answers_of_geth([{"id": "ab" * 32, "name": "漢字/v1.2", "network": {"inbound": True}}])

    code, out, err = await run(tmp_path, "--rpc", node.url, form, PYTHONIOENCODING="ascii")

    assert (code, err) == (0, "")
    assert "??" in out
    assert "v1.2" in out


async def test_tables_end_without_a_word_when_the_pipe_is_closed(node: FakeNode, tmp_path: Path) -> None:
    node.answers_of_geth(fixture("geth")["result"])
    child = await start(tmp_path, "--rpc", node.url, "--interval", "0.05")
    assert child.stdout is not None
    async with asyncio.timeout(SECONDS):
        assert b"Geth" in await child.stdout.readline()
        child._transport.get_pipe_transport(1).close()
        _, err = await child.communicate()

    assert (child.returncode, err.decode()) == (1, "")


async def test_exporter_serves_while_the_node_comes_and_goes(node: FakeNode, tmp_path: Path) -> None:
    node.answers_of_geth(fixture("geth")["result"])
    child = await start(tmp_path, "--rpc", str(node.path), "--export", "0", "--interval", "0.05")
    assert child.stderr is not None
    async with asyncio.timeout(SECONDS):
        first = (await child.stderr.readline()).decode()
        assert first.startswith("serving http://127.0.0.1:")
        port = int(first.split("/metrics")[0].rpartition(":")[2])

        async def up() -> str:
            return (await exchange(port, request(path="/metrics"))).body.decode()

        async def shows(line: str) -> bool:
            return f"\n{line}\n" in await up()

        await until(lambda: shows("peermon_up 1.0"), "up")
        await node.stop()
        await until(lambda: shows("peermon_up 0.0"), "down")
        assert 'peermon_peers{direction="inbound",network="loopback"} 1.0' in await up()
        await node.start()
        await until(lambda: shows("peermon_up 1.0"), "up again")
        child.send_signal(signal.SIGTERM)
        code, err = await child.wait(), (await child.stderr.read()).decode()

    assert code == 0
    assert "answers again" in err


@pytest.mark.parametrize(("listener", "status"), [("127.0.0.1:0", 403), ("0.0.0.0:0", 200)])
async def test_exporter_answers_by_any_name_only_where_it_listens_on_a_network(
    node: FakeNode, tmp_path: Path, listener: str, status: int
) -> None:
    child = await start(tmp_path, "--rpc", str(node.path), "--export", listener)
    assert child.stderr is not None
    async with asyncio.timeout(SECONDS):
        first = (await child.stderr.readline()).decode()
        port = int(first.split("/metrics")[0].rpartition(":")[2])
        named = request(path="/metrics", headers={"Host": "peer-monitor.ethereum.svc"})
        assert (await exchange(port, named)).status == status
        child.terminate()
        assert await child.wait() == 0


@asynccontextmanager
async def screen(folder: Path, *words: str, columns: int = 80, **changes: str):
    """The command in a pseudo terminal; gives what writes keys, and all that it wrote so far."""
    leader, follower = pty.openpty()
    os.set_blocking(leader, False)
    termios.tcsetwinsize(leader, (24, columns))
    env = environment(TERM="xterm-256color", **changes)  # with COLUMNS of another terminal
    child = await start(folder, *words, env=env, stdin=follower, stdout=follower, stderr=follower)
    os.close(follower)
    written = bytearray()

    def read() -> None:
        try:
            written.extend(os.read(leader, 65536))
        except OSError:  # the other end is closed
            asyncio.get_running_loop().remove_reader(leader)

    asyncio.get_running_loop().add_reader(leader, read)
    try:
        yield child, lambda keys: os.write(leader, keys.encode()), lambda: written.decode("utf-8", "replace")
    finally:
        asyncio.get_running_loop().remove_reader(leader)
        if child.returncode is None:
            child.kill()
        await child.wait()
        os.close(leader)


async def test_live_screen_takes_keys_and_gives_the_terminal_back(node: FakeNode, tmp_path: Path) -> None:
    node.answers_of_geth(fixture("geth")["result"])
    async with screen(tmp_path, "--rpc", str(node.path), "--interval", "0.05") as (child, press, text):
        await until(lambda: "3 peers: 2 in, 1 out" in text(), text, SECONDS)
        press("/client:neth\r")
        await until(lambda: "filter client:neth (1)" in text(), text, SECONDS)
        press("\r")
        await until(lambda: "it dialed the node" in text(), text, SECONDS)
        press("a")
        await until(lambda: "[2001:4860:4860::8888]:41234" in text(), text, SECONDS)
        press("qq")
        async with asyncio.timeout(SECONDS):
            assert await child.wait() == 0
        await until(lambda: text().endswith("\x1b[?25h\x1b[?1049l"), text)

    assert "\x1b[?1049h" in text()


async def test_live_screen_of_forty_columns_without_colour(node: FakeNode, tmp_path: Path) -> None:
    node.answers_of_geth([{"id": "ab" * 32, "name": "\x1b]0;owned\x07<b>[red]/v1"}])
    way = screen(
        tmp_path,
        "--rpc",
        str(node.path),
        columns=40,
        NO_COLOR="1",
        LC_ALL="C",
        PYTHONUTF8="0",
        PYTHONCOERCECLOCALE="0",
    )
    async with way as (child, _press, text):
        await until(lambda: "abababab" in text(), text, SECONDS)
        child.send_signal(signal.SIGINT)
        async with asyncio.timeout(SECONDS):
            assert await child.wait() == 0

    assert "\x1b]0;" not in text()
    assert "\x1b[31" not in text()
    assert text().isascii()
