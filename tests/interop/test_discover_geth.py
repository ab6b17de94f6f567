"""``pyrelay discover`` and real geth: found by UDP, asked for its name; and geth reads our file."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.aids.chain import OwnChain
from tests.aids.daemon import ROOT
from tests.aids.geth import Geth
from tests.aids.geth_tools import geth_folder
from tests.aids.until import until

pytestmark = pytest.mark.geth

DISCOVERING = ["--discovery.v4=true", "--discovery.v5=true", "--nat", "extip:127.0.0.1"]


async def enr_of(geth: Geth) -> str:
    async def told() -> str:
        enr: str = (await geth.rpc("admin_nodeInfo"))["enr"]
        return enr

    return str(await until(told, "geth tells its record"))


async def discover(*words: object) -> tuple[int, dict[str, object], str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "relay.cli.main", "discover", "--listen-address", "127.0.0.1", "--json",
        *map(str, words), cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, json.loads(out), err.decode()


@pytest.mark.parametrize("way", ["v5", "v4"])
async def test_two_geths_are_found_by_one_of_them_with_their_names(
    folder: Path, chain: OwnChain, way: str
) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(
            Geth(folder / f"{way}1", chain.genesis, flags=DISCOVERING, discovers=True)
        )
        entry = await enr_of(first)
        flags = [*DISCOVERING, "--bootnodes", entry]
        second = await stack.enter_async_context(
            Geth(folder / f"{way}2", chain.genesis, flags=flags, discovers=True)
        )
        await until(lambda: knows(first), "the second geth is a peer of the first", 60.0)
        file = folder / f"{way}.json"
        code, found, err = await discover(
            "--datadir", folder / "none", "--network", chain.genesis, "--bootnodes", entry,
            "--discovery", way, "--hello", "--timeout", 45, "--out", file,
        )  # fmt: skip
        keys = {(await each.rpc("admin_nodeInfo"))["id"] for each in (first, second)}
    assert (code, err) == (0, "")
    nodes = found["nodes"]
    assert isinstance(nodes, list)
    assert {node["id"] for node in nodes} == keys
    for node in nodes:
        assert node["client"].startswith("Geth/v1.17.8")
        assert node["answered"] == [way]
        assert (node["networks"], node["chain"]) == (["ipv4"], chain.genesis.stem)
        assert any(each.startswith("eth/") for each in node["capabilities"])
    info = subprocess.run(
        [geth_folder() / "devp2p", "nodeset", "info", file], capture_output=True, text=True, check=True
    )
    assert "Set contains 2 nodes." in info.stdout


async def knows(geth: Geth) -> bool:
    return len(await geth.rpc("admin_peers")) == 1
