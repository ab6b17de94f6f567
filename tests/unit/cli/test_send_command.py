"""``pyrelay send`` against a relay without a network. With real peers: tests/interop/test_send_geth.py."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from relay.cli.main import COMMANDS
from relay.primitives.address import UnixAddress
from relay.rpc.dispatcher import Dispatcher
from relay.rpc.ipc import IpcServer
from relay.rpc.methods import Method
from relay.rpc.own_eth import relay_methods
from relay.rpc.params import DATA
from relay.transports.sockets import SocketFactory, SocketRules
from tests.aids.daemon import ROOT
from tests.aids.relaying import House, item_hash, raw_tx, wire

SECONDS = 30.0


@asynccontextmanager
async def served(folder: Path, house: House, *, modules: bool = True):
    """A daemon's socket, with a house behind it."""
    methods = [Method("eth_sendRawTransaction", lambda raw: "0x" + house.relay.submit(raw).hex(), (DATA,))]
    methods += relay_methods(house.relay.own) if modules else ()
    dispatcher = Dispatcher({each.name: each for each in methods}, clock=asyncio.get_running_loop().time)
    path = str(folder / "pyrelay.ipc")
    async with asyncio.TaskGroup() as tasks:
        server = IpcServer(dispatcher, tasks)
        await server.start(SocketFactory(SocketRules.only(UnixAddress(path))).listen_unix(path))
        try:
            yield path
        finally:
            await server.close()


async def start(folder: Path, *words: str) -> asyncio.subprocess.Process:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYRELAY_")}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "relay.cli.main", "send", *words, "--datadir", str(folder),
        cwd=ROOT, env=kept | {"XDG_DATA_HOME": str(folder / "xdg"), "COLUMNS": "80"},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def send(folder: Path, *words: str, stdin: str = "") -> tuple[int, str, str]:
    """Run it to its end: exit code, standard output, standard error."""
    child = await start(folder, *words)
    async with asyncio.timeout(SECONDS):
        out, err = await child.communicate(stdin.encode())
    assert child.returncode is not None
    return child.returncode, out.decode(), err.decode()


def hex_of(**kwargs) -> str:
    return "0x" + raw_tx(**kwargs).hex()


def hash_of(**kwargs) -> str:
    return "0x" + item_hash(wire(raw_tx(**kwargs))).hex()


def test_it_is_a_command() -> None:
    assert COMMANDS["send"] == "relay.cli.send"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "arguments are required"),
        (["0x12x"], "RAWTX: '0x12x' is no transaction in hex"),
        (["0x123"], "is no transaction in hex"),
        ([""], "is no transaction in hex"),
        (["-"], "standard input holds no transaction"),
        (["--wait", "soon", "0x12"], "'soon' is no number of seconds"),
        (["--wait", "0", "0x12"], "'0' is no number of seconds"),
    ],
)
async def test_wrong_words_are_a_matter_of_usage(tmp_path: Path, words: list[str], text: str) -> None:
    code, out, err = await send(tmp_path, *words)
    assert (code, out) == (2, "")
    assert text in " ".join(err.split())


async def test_without_a_daemon_it_says_so(tmp_path: Path) -> None:
    code, out, err = await send(tmp_path, hex_of())
    assert (code, out) == (1, "")
    assert "is the daemon running?" in err


async def test_a_daemon_that_cannot_track_is_named(tmp_path: Path) -> None:
    async with served(tmp_path, House(1), modules=False):
        code, _, err = await send(tmp_path, hex_of())
    assert code == 1
    assert "does not tell how far" in err


async def test_a_transaction_goes_to_the_peers(tmp_path: Path) -> None:
    async with served(tmp_path, House(5)):
        code, out, err = await send(tmp_path, hex_of())
    assert (code, err) == (0, "")
    told = f"{hash_of()}  sent to 3 peers, announced to 1 peer, fetched by 0 peers\n"
    fewer = f"{hash_of()}  sent to 2 peers, announced to 2 peers, fetched by 0 peers\n"
    assert out in (told, fewer)  # the one that is listened to was to be pushed to, or not


async def test_a_refused_one_is_told_in_the_pools_words(tmp_path: Path) -> None:
    async with served(tmp_path, House(1)):
        code, out, err = await send(tmp_path, hex_of(gas=20_000))
    assert (code, out) == (1, "")
    assert err == "pyrelay: RAWTX: refused: intrinsic gas too low: gas 20000, minimum needed 21000\n"


async def test_many_come_by_lines(tmp_path: Path) -> None:
    lines = [hex_of(account=1), "", raw_tx(account=2).hex(), "nonsense", hex_of(account=1), hex_of(account=3)]
    async with served(tmp_path, House(1)):
        code, out, _ = await send(tmp_path, "-", "--json", stdin="\n".join(lines))
    events = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert [each["event"] for each in events] == ["sent", "sent", "refused", "refused", "sent"]
    assert [each["hash"] for each in events if "hash" in each] == [hash_of(account=n) for n in (1, 2, 3)]
    assert [each["where"] for each in events if "where" in each] == ["line 4", "line 5"]
    assert [each["reason"] for each in events if "reason" in each] == [
        "no transaction in hex",
        "already known",
    ]
    counts = {"sent": 1, "announced": 0, "fetched_by": 0, "listening": 0}
    assert events[0] == {"event": "sent", "hash": hash_of(account=1)} | counts


async def test_it_waits_for_the_echo_and_tells_what_happens_meanwhile(tmp_path: Path) -> None:
    house = House(2)
    async with served(tmp_path, house):
        child = await start(tmp_path, hex_of(), "--json", "--wait")
        assert child.stdout is not None
        async with asyncio.timeout(SECONDS):
            first = json.loads(await child.stdout.readline())
            assert (first["sent"], first["listening"]) == (1, 1)
            tx_hash = bytes.fromhex(first["hash"][2:])
            told = next(each for each in house.sessions if tx_hash in each.pushed())
            house.ask(told, 7, [tx_hash])
            assert json.loads(await child.stdout.readline())["fetched_by"] == 1
            house.loop.advance(1.5)
            listener = next(each for each in house.sessions if each is not told)
            house.announce(listener, (tx_hash, 2, len(raw_tx())))
            echo = json.loads(await child.stdout.readline())
            out, err = await child.communicate()
    assert echo == {"event": "echo", "hash": first["hash"], "first_echo_seconds": 1.5}
    assert (child.returncode, out, err) == (0, b"", b"")


async def test_no_echo_is_a_failure(tmp_path: Path) -> None:
    async with served(tmp_path, House(1)):
        code, out, err = await send(tmp_path, hex_of(), "--wait", "0.05")
        assert (code, err) == (1, f"pyrelay: {hash_of()}: no echo within 0.05 s\n")
        assert out.startswith(hash_of())
        code, out, _ = await send(tmp_path, hex_of(account=5), "--json", "--wait", "0.05")
    assert (code, json.loads(out.splitlines()[-1])) == (1, {"event": "no echo", "hash": hash_of(account=5)})
