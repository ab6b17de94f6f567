"""``pyrelay private`` and ``send --wait`` against a relay that broadcasts privately, without a network."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager
from pathlib import Path

from relay.app.private_view import PrivateAdapter
from relay.primitives.address import UnixAddress
from relay.rpc.dispatcher import Dispatcher
from relay.rpc.ipc import IpcServer
from relay.rpc.methods import Method
from relay.rpc.own_eth import relay_methods
from relay.rpc.params import DATA
from relay.rpc.private import private_methods
from relay.transports.sockets import SocketFactory, SocketRules
from tests.aids.daemon import ROOT
from tests.aids.private import PrivateHouse
from tests.aids.relaying import item, raw_tx
from tests.aids.until import until

SECONDS = 60.0


@asynccontextmanager
async def served(folder: Path, house: PrivateHouse | None):
    """A daemon's socket, with a house behind it, or none that broadcasts privately."""
    methods = list(private_methods(None if house is None else PrivateAdapter(house.desk)))
    if house is not None:
        submit = house.relay.submit
        methods += [Method("eth_sendRawTransaction", lambda raw: "0x" + submit(raw).hex(), (DATA,))]
        methods += relay_methods(house.relay.own)
    dispatcher = Dispatcher({each.name: each for each in methods}, clock=asyncio.get_running_loop().time)
    path = str(folder / "pyrelay.ipc")
    async with asyncio.TaskGroup() as tasks:
        server = IpcServer(dispatcher, tasks)
        await server.start(SocketFactory(SocketRules.only(UnixAddress(path))).listen_unix(path))
        try:
            yield
        finally:
            await server.close()


async def start(folder: Path, *words: str) -> asyncio.subprocess.Process:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYRELAY_")}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "relay.cli.main", *words, "--datadir", str(folder),
        cwd=ROOT, env=kept | {"XDG_DATA_HOME": str(folder / "xdg"), "COLUMNS": "80"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def run(folder: Path, *words: str) -> tuple[int, str, str]:
    child = await start(folder, *words)
    async with asyncio.timeout(SECONDS):
        out, err = await child.communicate()
    assert child.returncode is not None
    return child.returncode, out.decode(), err.decode()


async def test_what_waits_is_listed_and_can_be_aborted(tmp_path):
    house = PrivateHouse()
    first, second = house.submit(nonce=4), house.submit(nonce=5)
    house.courier.deliver_all()
    async with served(tmp_path, house):
        code, out, _ = await run(tmp_path, "private", "list")
        head, *rows = out.splitlines()
        assert code == 0
        assert head.split() == ["hash", "nonce", "confirmed", "rounds", "age", "(s)", "state"]
        assert rows[0].split()[:4] == ["0x" + first.hex(), "4", "3", "1"]
        assert rows[0].endswith("waits for its echo")
        assert rows[1].endswith("waits for an earlier nonce")
        code, out, _ = await run(tmp_path, "private", "list", "--json")
        assert [json.loads(line)["nonce"] for line in out.splitlines()] == ["0x4", "0x5"]
        assert await run(tmp_path, "private", "abort", second.hex().upper()) == (
            0, f"0x{second.hex()}  is sent no more\n", "",
        )  # fmt: skip
        code, _, err = await run(tmp_path, "private", "abort", second.hex())
        assert (code, err) == (1, "pyrelay: no transaction that waits for its private broadcast\n")
        assert (await run(tmp_path, "private", "abort", "0x12"))[0] == 2
    assert set(house.broadcast.letters) == {first}


async def test_a_daemon_without_it_says_so(tmp_path):
    async with served(tmp_path, None):
        code, _, err = await run(tmp_path, "private", "list")
        assert code == 1
        assert "private broadcast is off" in err


async def test_send_tells_how_far_it_is_and_waits_for_the_echo(tmp_path):
    house = PrivateHouse()
    async with served(tmp_path, house):
        child = await start(tmp_path, "send", raw_tx().hex(), "--wait", "50")
        assert child.stdout is not None
        await until(lambda: house.courier.under_way, "it came in", SECONDS)
        line = await child.stdout.readline()
        assert line.decode().endswith("confirmed by 0 peers, is being sent\n")
        house.courier.deliver_all()
        line = await child.stdout.readline()
        assert line.decode().endswith("confirmed by 3 peers, waits for its echo\n")
        house.loop.advance(2.5)
        house.push(house.sessions[0], item())
        async with asyncio.timeout(SECONDS):
            rest, _ = await child.communicate()
        assert child.returncode == 0
        assert "first echo after 2.500 s" in rest.decode()
