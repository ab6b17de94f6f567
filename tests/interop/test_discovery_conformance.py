"""geth's conformance suites for discovery, and its tools, against the daemon's one UDP port."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
import pytest_asyncio

from relay.primitives.enr import NodeRecord
from tests.aids.daemon import RelayProcess
from tests.aids.geth_tools import run_devp2p, write_genesis
from tests.aids.until import until

pytestmark = [pytest.mark.geth, pytest.mark.asyncio(loop_scope="module")]

DISCOVERING = ("--discovery", "v4,v5", "--bootnodes", "")
LISTEN = ("--listen1", "127.0.0.1", "--listen2", "127.0.0.2")
DISCV4 = {
    "Ping/Basic",
    "Ping/WrongTo",
    "Ping/WrongFrom",
    "Ping/ExtraData",
    "Ping/ExtraDataWrongFrom",
    "Ping/PastExpiration",
    "Ping/WrongPacketType",
    "Ping/BondThenPingWithWrongFrom",
    "ENRRequest",
    "Findnode/WithoutEndpointProof",
    "Findnode/BasicFindnode",
    "Findnode/UnsolicitedNeighbors",
    "Findnode/PastExpiration",
    "Amplification/InvalidPongHash",
    "Amplification/WrongIP",
}
DISCV5 = {
    "Ping",
    "PingLargeRequestID",
    "PingMultiIP",
    "HandshakeResend",
    "TalkRequest",
    "FindnodeWrongIP",
    "FindnodeHandshake",
    "FindnodeZeroDistance",
    "FindnodeResults",
    "UnsolicitedNodes",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def relay(folder: Path):
    genesis = write_genesis(folder / "genesis.json")
    async with RelayProcess(folder / "relay", "--network", str(genesis), *DISCOVERING) as relay:
        yield relay
        relay.check()


async def record_of(relay: RelayProcess) -> str:
    info = await relay.rpc("admin_nodeInfo")
    assert info["ports"]["discovery"] == NodeRecord.from_text(info["enr"]).udp
    return str(info["enr"])


def results(output: str) -> tuple[set[str], set[str]]:
    return (
        set(re.findall(r"^-- OK (\S+)", output, re.MULTILINE)),
        set(re.findall(r"^-- FAIL (\S+)", output, re.MULTILINE)),
    )


async def test_all_of_the_discv4_suite_passes(relay):
    code, output = await run_devp2p("discv4", "test", *LISTEN, "--remote", await record_of(relay))
    assert results(output) == (DISCV4, set()), output
    assert f"{len(DISCV4)}/{len(DISCV4)} tests passed" in output
    assert code == 0


async def test_all_of_the_discv5_suite_passes(relay):
    code, output = await run_devp2p("discv5", "test", *LISTEN, await record_of(relay))
    assert results(output) == (DISCV5, set()), output
    assert f"{len(DISCV5)}/{len(DISCV5)} tests passed" in output
    assert code == 0


async def test_devp2p_pings_and_asks_for_the_record(relay):
    record = await record_of(relay)
    code, output = await run_devp2p("discv4", "ping", record)
    assert (code, "node responded to ping" in output) == (0, True), output
    code, output = await run_devp2p("discv5", "ping", record)
    assert (code, output.strip().endswith("<nil>")) == (0, True), output  # the error of its ping: none
    enode = (await relay.rpc("admin_nodeInfo"))["enode"]
    code, output = await run_devp2p("discv4", "requestenr", enode)
    assert code == 0, output
    assert record in output


@pytest.mark.parametrize("version", ["discv4", "discv5"])
async def test_devp2p_resolves_one_relay_by_another(relay, folder, version):
    genesis = str(folder / "genesis.json")
    record = await record_of(relay)
    flags = ("--discovery", version.removeprefix("disc"), "--bootnodes", record)
    async with RelayProcess(folder / f"{version}-second", "--network", genesis, *flags) as second:
        wanted = await record_of(second)
        await relay.until_peers(1, deadline=30.0)  # they have found each other

        async def resolved() -> bool:
            _, output = await run_devp2p(version, "resolve", "--bootnodes", record, second.enode)
            return wanted in output

        await until(resolved, f"{version} resolve finds it", 60.0, 0.5)


@pytest.mark.parametrize("version", ["discv4", "discv5"])
async def test_devp2p_crawls_all_of_us(relay, folder, version):
    genesis = str(folder / "genesis.json")
    record = await record_of(relay)
    flags = ("--discovery", version.removeprefix("disc"), "--bootnodes", record)
    async with RelayProcess(folder / f"{version}-third", "--network", genesis, *flags) as third:
        await relay.until_peers(1, deadline=30.0)
        ids = {each.node_key.node_id.hex() for each in (relay, third)}

        async def crawled() -> bool:
            file = folder / f"{version}-nodes.json"
            file.unlink(missing_ok=True)
            code, output = await run_devp2p(
                version, "crawl", "--timeout", "8s", "--bootnodes", record, str(file)
            )
            assert code == 0, output
            return set(await asyncio.to_thread(lambda: json.loads(file.read_text()))) >= ids

        await until(crawled, f"{version} crawl finds both", 60.0)
