"""Real geth behind JSON-RPC: by HTTP, WebSocket and its unix socket; and one that is killed in a call."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio

from relay.rpc.client import CallFailed
from tests.aids.daemon import RelayProcess
from tests.aids.geth import Geth
from tests.aids.geth_tools import attach
from tests.aids.until import stays, until

pytestmark = [pytest.mark.geth, pytest.mark.asyncio(loop_scope="module")]

EXPOSED = (
    "--http", "--http.addr", "127.0.0.1", "--http.port", "0", "--http.api", "eth,net,debug",
    "--ws", "--ws.addr", "127.0.0.1", "--ws.port", "0",
)  # fmt: skip
WAYS = ("http", "ws", "ipc")


def url_of(geth: Geth, way: str) -> str:
    if way == "ipc":
        return str(geth.ipc_path)
    pattern = {
        "http": r"HTTP server started +endpoint=(\S+) +auth=false",
        "ws": r"WebSocket enabled +url=ws://(\S+)",
    }[way]
    found = re.search(pattern, geth.log())
    assert found, geth.tail()
    return f"{way}://{found[1]}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def geth(folder, chain) -> AsyncIterator[Geth]:
    async with Geth(folder / "geth", chain.genesis, flags=EXPOSED) as one:
        await one.build(4)
        yield one


@asynccontextmanager
async def relay_of(folder, chain, name: str, *flags: str) -> AsyncIterator[RelayProcess]:
    async with RelayProcess(folder / name, "--network", str(chain.genesis), *flags) as relay:
        yield relay


@asynccontextmanager
async def ipc_client(relay: RelayProcess) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_unix_connection(relay.ipc_path, limit=1 << 24)
    try:
        yield reader, writer
    finally:
        writer.close()


def call(method: str, *params: object, id_: int = 1) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": id_, "method": method, "params": params}


async def line(reader: asyncio.StreamReader) -> Any:
    async with asyncio.timeout(20):
        return json.loads(await reader.readline())


@pytest.mark.parametrize("way", WAYS)
async def test_answers_are_geth_s_own_by_every_way(folder, chain, geth, way):
    async with relay_of(folder, chain, f"by-{way}", "--rpc-upstream", url_of(geth, way)) as relay:
        head = await geth.head()
        asked = (
            ("eth_getBlockByNumber", "latest", True),
            ("eth_getBlockByHash", head["parentHash"], False),
            ("eth_getBlockReceipts", "0x1"),
            ("eth_getBalance", "0x" + "11" * 20, "latest"),
            ("eth_getCode", "0x000f3df6d732807ef1319fb7b8bb8522d0beac02", "latest"),
            ("eth_getBlockByNumber", "0xffff", False),
            ("eth_feeHistory", "0x2", "latest", [25.0, 75.5]),
            ("eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest"}),
            ("eth_getProof", "0x" + "11" * 20, [], "latest"),
        )
        for method, *params in asked:
            assert await relay.rpc(method, *params) == await geth.rpc(method, *params), method
        with pytest.raises(CallFailed) as ours:
            await relay.rpc("eth_call", {"to": "nobody"}, "latest")
        with pytest.raises(CallFailed) as theirs:
            await geth.rpc("eth_call", {"to": "nobody"}, "latest")
        assert (ours.value.code, str(ours.value)) == (theirs.value.code, str(theirs.value))
        answer = await attach(relay.ipc_path, "eth.getBlock(1).hash")
        assert json.loads(answer) == (await geth.rpc("eth_getBlockByNumber", "0x1", False))["hash"]


async def test_batch_mixes_our_answers_and_geth_s_in_order(folder, chain, geth):
    async with (
        relay_of(folder, chain, "batch", "--rpc-upstream", url_of(geth, "http")) as relay,
        ipc_client(relay) as (reader, writer),
    ):
        methods = [
            "eth_getBlockByNumber",
            "eth_chainId",
            "eth_getBlockByNumber",
            "web3_clientVersion",
            "x_y",
        ] * 10
        batch = [
            call(method, *(["0x1", False] if "Block" in method else []), id_=n)
            for n, method in enumerate(methods)
        ]
        writer.write(json.dumps(batch).encode())
        answers = await line(reader)
        assert [answer["id"] for answer in answers] == list(range(50))
        block = await geth.rpc("eth_getBlockByNumber", "0x1", False)
        client = await relay.rpc("web3_clientVersion")
        told = [answer.get("result", answer.get("error", {}).get("code")) for answer in answers]
        assert told == [block, hex(chain.chain_id), block, client, -32601] * 10


@pytest.mark.parametrize("way", ["ws", "ipc"])
async def test_new_heads_come_through(folder, chain, geth, way):
    async with (
        relay_of(folder, chain, f"heads-{way}", "--rpc-upstream", url_of(geth, way)) as relay,
        ipc_client(relay) as (reader, writer),
    ):
        writer.write(json.dumps(call("eth_subscribe", "newHeads")).encode())
        key = (await line(reader))["result"]
        await geth.build(2)
        told = [(await line(reader))["params"] for _ in range(2)]
        assert {each["subscription"] for each in told} == {key}
        head = await geth.head()
        assert [each["result"]["hash"] for each in told] == [head["parentHash"], head["hash"]]
        writer.write(json.dumps(call("eth_unsubscribe", key)).encode())
        assert (await line(reader))["result"] is True


async def test_new_heads_by_http_are_refused_with_the_remedy(folder, chain, geth):
    async with relay_of(folder, chain, "no-heads", "--rpc-upstream", url_of(geth, "http")) as relay:
        with pytest.raises(CallFailed, match="ws, wss or unix"):
            await relay.rpc("eth_subscribe", "newHeads")


async def test_finalized_blocks_are_asked_for_once(folder, chain, geth):
    async with relay_of(folder, chain, "cache", "--rpc-upstream", url_of(geth, "http")) as relay:
        first = await relay.rpc("eth_getBlockByNumber", "0x1", False)

        async def hit() -> bool:
            assert await relay.rpc("eth_getBlockByNumber", "0x1", False) == first
            return await relay.metric("pyrelay_rpc_upstream_events_total", event="cache hit") > 2

        await until(hit, "it is kept")


async def test_call_under_way_at_a_geth_that_is_killed_is_answered_by_the_other(folder, chain, geth):
    async with AsyncExitStack() as stack:
        victim = await stack.enter_async_context(Geth(folder / "victim", chain.genesis, flags=EXPOSED))
        urls = f"{url_of(victim, 'http')},{url_of(geth, 'http')}"
        relay = await stack.enter_async_context(relay_of(folder, chain, "failover", "--rpc-upstream", urls))
        assert int(await relay.rpc("eth_blockNumber"), 16) == 0
        os.kill(victim.pid, signal.SIGSTOP)
        async with asyncio.TaskGroup() as tasks:
            under_way = tasks.create_task(relay.rpc("eth_getBlockByNumber", "0x4", False))
            await stays(lambda: not under_way.done(), "it hangs at the one that stands still", 0.5)
            victim.kill()
        assert under_way.result() == await geth.rpc("eth_getBlockByNumber", "0x4", False)
        for _ in range(5):
            assert await relay.rpc("eth_blockNumber") == await geth.rpc("eth_blockNumber")


async def test_debug_is_closed_until_it_is_named(folder, chain, geth):
    url = url_of(geth, "http")
    async with relay_of(folder, chain, "closed", "--rpc-upstream", url) as relay:
        with pytest.raises(CallFailed, match="does not exist"):
            await relay.rpc("debug_getRawBlock", "0x1")
    async with relay_of(
        folder, chain, "open", "--rpc-upstream", url, "--rpc-allow", "*,debug_getRaw*"
    ) as relay:
        assert await relay.rpc("debug_getRawBlock", "0x1") == await geth.rpc("debug_getRawBlock", "0x1")
