"""geth's console on pyrelay's unix socket, beside the same questions to geth itself."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from relay.primitives.enode import parse
from tests.aids.chain import OwnChain
from tests.aids.daemon import RelayProcess
from tests.aids.geth import Geth
from tests.aids.geth_tools import attach

pytestmark = [pytest.mark.geth, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def joined(folder, chain: OwnChain):
    async with AsyncExitStack() as stack:
        geth = await stack.enter_async_context(Geth(folder / "geth", chain.genesis))
        relay = RelayProcess(folder / "relay", "--network", str(chain.genesis), static_nodes=[geth.enode])
        await stack.enter_async_context(relay)
        await geth.until_peer(relay.node_key.public_key)
        await relay.until_peers(1)
        yield geth, relay


async def _both(joined, expression: str) -> tuple[object, object]:
    """Ask geth and pyrelay in geth's console; what each answers, through JSON."""
    answers = await asyncio.gather(
        *(attach(node.ipc_path, f"JSON.stringify({expression})") for node in joined)
    )
    theirs, ours = (json.loads(json.loads(answer)) for answer in answers)
    return theirs, ours


def _shape(value: object) -> object:
    """Names and types, without the values."""
    if isinstance(value, dict):
        return {name: _shape(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_shape(each) for each in value[:1]]
    return type(value).__name__


async def test_console_shows_who_we_are(joined):
    theirs, ours = await _both(joined, "admin.nodeInfo")
    _, relay = joined
    assert ours["enode"] == relay.enode
    assert ours["name"].startswith("pyrelay/")
    assert ours["ports"] == {"discovery": 0, "listener": relay.listener()[1]}
    assert ours.pop("discovery") == {}  # our own addition: tables by protocol; this relay has it off
    protocols = [info.pop("protocols") for info in (theirs, ours)]
    assert _shape(ours) == _shape(theirs)
    assert protocols[1]["eth"]["genesis"] == protocols[0]["eth"]["genesis"]
    assert protocols[1]["eth"]["network"] == protocols[0]["eth"]["network"]


async def test_console_shows_our_peers(joined):
    geth, relay = joined
    theirs, ours = await _both(joined, "admin.peers")
    assert [len(theirs), len(ours)] == [1, 1]
    assert parse(ours[0]["enode"]).public_key == parse(geth.enode).public_key
    assert parse(theirs[0]["enode"]).public_key == relay.node_key.public_key
    assert _shape(ours) == _shape(theirs)
    assert await _both(joined, "net.peerCount") == (1, 1)


async def test_console_calls_what_a_relay_has(joined):
    for expression in ("net.listening", "net.version", "eth.chainId()", "web3.sha3('a')", "txpool.status"):
        theirs, ours = await _both(joined, expression)
        assert ours == theirs, expression
    assert (await _both(joined, "web3.version.node"))[1].startswith("pyrelay/")


async def test_console_adds_and_removes_a_peer(joined):
    geth, relay = joined
    assert await attach(relay.ipc_path, f"admin.removePeer({json.dumps(geth.enode)})") == "true"
    await relay.until_peers(0)
    assert await attach(relay.ipc_path, f"admin.addPeer({json.dumps(geth.enode)})") == "true"
    await relay.until_peers(1)
    await geth.until_peer(relay.node_key.public_key)
