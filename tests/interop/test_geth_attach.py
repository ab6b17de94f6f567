"""geth's console on pyrelay's unix socket, beside the same questions to geth itself."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from relay.primitives.enode import parse
from relay.rpc.client import CallFailed
from tests.aids.chain import OwnChain
from tests.aids.daemon import RelayProcess
from tests.aids.geth import Geth
from tests.aids.geth_tools import attach
from tests.aids.until import until

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
    # Ours: how many of its transactions a block brings. Everything else is as geth has it.
    assert ours[0]["protocols"]["eth"].pop("included") == 0.0
    assert _shape(ours) == _shape(theirs)
    assert await _both(joined, "net.peerCount") == (1, 1)


async def test_console_calls_what_a_relay_has(joined):
    for expression in (
        "net.listening", "net.version", "eth.chainId()", "web3.sha3('a')", "txpool.status", "eth.blockNumber",
        "eth.accounts", "eth.pendingTransactions",
    ):  # fmt: skip
        theirs, ours = await _both(joined, expression)
        assert ours == theirs, expression
    assert (await _both(joined, "eth.syncing"))[1] is False
    assert (await _both(joined, "web3.version.node"))[1].startswith("pyrelay/")


async def test_console_adds_and_removes_a_peer(joined):
    geth, relay = joined
    assert await attach(relay.ipc_path, f"admin.removePeer({json.dumps(geth.enode)})") == "true"
    await relay.until_peers(0)
    assert await attach(relay.ipc_path, f"admin.addPeer({json.dumps(geth.enode)})") == "true"
    await relay.until_peers(1)
    await geth.until_peer(relay.node_key.public_key)


async def test_console_shows_transactions_of_every_type_as_geth_does(joined, chain: OwnChain):
    geth, relay = joined
    sent = dict([*chain.sign_many(8, (0, 1, 2, 4)).items(), chain.sign(2, to=b"", data=b"\x60\x00")])
    sent |= dict([chain.sign(0, gas=60_000, data=b"\x01\x02")])
    await geth.send_many(sent.values())
    await until(lambda: _pool_is(relay, len(sent)), "pyrelay holds what geth sent", 20.0)
    for tx_hash in sent:
        theirs, ours = await _both(joined, f"eth.getTransaction('0x{tx_hash.hex()}')")
        assert ours == theirs
        assert list(ours) == list(theirs)  # in the same order, too
    for expression in ("txpool.content", "txpool.inspect", "txpool.status"):
        theirs, ours = await _both(joined, expression)
        assert ours == theirs, expression
    senders = list((await relay.rpc("txpool_content"))["pending"])
    theirs, ours = await _both(joined, f"txpool.contentFrom('{senders[0]}')")
    assert ours == theirs
    assert ours["pending"]


async def test_console_is_told_what_a_relay_lacks(joined):
    _, relay = joined
    told = await attach(relay.ipc_path, "eth.getBalance('0x" + "11" * 20 + "')")
    assert "eth_getBalance needs a node with the chain: start this relay with --rpc-upstream URL" in told


MALFORMED = (
    ["eth_getTransactionByHash", []],
    ["eth_getTransactionByHash", [None]],
    ["eth_getTransactionByHash", [7]],
    ["eth_getTransactionByHash", ["0x12"]],
    ["eth_getTransactionByHash", ["0x123"]],
    ["eth_getTransactionByHash", ["0x" + "zz" * 32]],
    ["eth_getTransactionByHash", ["11" * 32]],
    ["eth_getTransactionByHash", [""]],
    ["eth_getTransactionByHash", ["0x" + "11" * 32, 1]],
    ["eth_getTransactionReceipt", ["0x" + "11" * 33]],
    ["eth_getRawTransactionByHash", [{}]],
    ["eth_getTransactionCount", []],
    ["eth_getTransactionCount", ["0x12", "latest"]],
    ["eth_getTransactionCount", [True, "latest"]],
    ["eth_sendRawTransaction", []],
    ["eth_sendRawTransaction", ["0x"]],
    ["eth_sendRawTransaction", ["0xzz"]],
    ["eth_sendRawTransaction", ["0x1"]],
    ["txpool_contentFrom", ["0x1234"]],
    ["txpool_contentFrom", []],
    ["txpool_status", [1]],
    ["eth_accounts", [1]],
    ["eth_syncing", [1]],
    ["eth_nothing", []],
)


@pytest.mark.parametrize(("method", "params"), MALFORMED, ids=[f"{m} {p}" for m, p in MALFORMED])
async def test_what_is_malformed_is_refused_in_the_same_words(joined, method, params):
    assert await _refusal(joined[1], method, params) == await _refusal(joined[0], method, params)


async def _refusal(node: Geth | RelayProcess, method: str, params: list[object]) -> tuple[int, str]:
    with pytest.raises(CallFailed) as caught:
        await node.rpc(method, *params)
    return caught.value.code, str(caught.value)


async def _pool_is(relay: RelayProcess, size: int) -> bool:
    return int((await relay.rpc("txpool_status"))["pending"], 16) == size
