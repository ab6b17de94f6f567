"""What pyrelay says of the chain: the range of blocks that real geths serve, and what it passes on."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio

from relay.protocols.devp2p.messages import DisconnectReason
from relay.protocols.eth import messages as m
from tests.aids.chain import OwnChain
from tests.aids.daemon import RelayProcess
from tests.aids.geth import Geth
from tests.aids.scripted_peer import ScriptedPeer, true_status
from tests.aids.until import until

pytestmark = [pytest.mark.geth, pytest.mark.asyncio(loop_scope="module")]

BLOCKS = 3
TOLD = 32  # geth tells of its range when it has grown by so much since it told last, or started
HASHES = (b"\x11" * 32, b"\x22" * 32)


class Pair:
    """Two geths with the same blocks, and a relay that may be joined to them."""

    def __init__(self, a: Geth, b: Geth, relay: RelayProcess) -> None:
        self.a, self.b, self.relay = a, b, relay
        self.blocks: list[bytes] = []
        self.head: dict[str, Any] = {}

    async def build(self, count: int) -> None:
        """Build by A; B gets the same blocks."""
        for payload in await self.a.build(count):
            await self.b.take(payload)
            self.head = payload
            self.blocks.append(bytes.fromhex(payload["executionPayload"]["blockHash"][2:]))

    async def join(self, geth: Geth) -> None:
        """Have the relay dial a geth: those that it chose have a say in its range."""
        await self.relay.rpc("admin_addPeer", geth.enode)
        await geth.until_peer(self.relay.node_key.public_key)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(folder, chain: OwnChain):
    async with AsyncExitStack() as stack:
        a, b = Geth(folder / "a", chain.genesis), Geth(folder / "b", chain.genesis)
        relay = RelayProcess(folder / "relay", "--network", str(chain.genesis))
        await asyncio.gather(*(stack.enter_async_context(each) for each in (a, b, relay)))
        made = Pair(a, b, relay)
        await made.build(BLOCKS)
        yield made


async def test_status_names_the_range_that_two_geths_agree_on_and_follows_them(pair: Pair, chain: OwnChain):
    relay = pair.relay

    async def status() -> m.Status:
        async with await ScriptedPeer.dial(relay.enode, chain.config) as peer:
            return await peer.join()

    def is_genesis(told: m.Status) -> bool:
        return (told.earliest, told.latest, told.latest_hash) == (0, 0, chain.config.genesis_hash)

    assert is_genesis(await status())  # nothing is known
    await pair.join(pair.a)
    [shown] = await relay.until_peers(1)
    assert shown["protocols"]["eth"]["latestBlock"] == BLOCKS
    assert is_genesis(await status())  # one peer's word is not enough
    await pair.join(pair.b)
    await relay.until_peers(2)

    async def latest() -> int:
        found: int = (await relay.rpc("admin_nodeInfo"))["protocols"]["eth"]["latestBlock"]
        return found

    async def at_block(number: int) -> None:
        async def reached() -> bool:
            return await latest() == number

        await until(reached, f"both geths served block {number}", 60.0)

    await at_block(BLOCKS)
    told = await status()
    assert (told.earliest, told.latest, told.latest_hash) == (0, BLOCKS, pair.blocks[BLOCKS - 1])

    await pair.build(1)  # of which neither geth tells
    await at_block(BLOCKS + 1)
    await pair.build(TOLD - BLOCKS - 1)
    await at_block(TOLD)
    told = await status()
    assert (told.earliest, told.latest, told.latest_hash) == (0, TOLD, pair.blocks[TOLD - 1])
    assert await relay.metric("chain_head_block") == TOLD


async def test_an_impossible_range_ends_that_peer_only(pair: Pair, chain: OwnChain):
    relay, known = pair.relay, chain.config.genesis_hash
    before = await relay.until_peers(2)
    for update in (m.BlockRangeUpdate(5, 3, known), m.BlockRangeUpdate(0, 3, bytes(32))):
        async with await ScriptedPeer.dial(relay.enode, chain.config) as peer:
            await peer.join()
            peer.say(update)
            assert await peer.ended() == DisconnectReason.SUBPROTOCOL_ERROR
    for changes in ({"earliest": 9, "latest": 3}, {"latest_hash": bytes(32)}):
        async with await ScriptedPeer.dial(relay.enode, chain.config, versions=(69,)) as peer:
            await peer.greet()
            peer.say(true_status(chain.config, 69, **changes))
            assert await peer.ended() == DisconnectReason.SUBPROTOCOL_ERROR
    assert [each["id"] for each in await relay.until_peers(2)] == [each["id"] for each in before]


async def test_a_lie_of_one_peer_does_not_reach_our_status(pair: Pair, chain: OwnChain):
    await pair.relay.until_peers(2)
    true = (await pair.relay.rpc("admin_nodeInfo"))["protocols"]["eth"]
    async with await ScriptedPeer.dial(pair.relay.enode, chain.config) as liar:
        await liar.join()
        liar.say(m.BlockRangeUpdate(0, 10**9, b"\x66" * 32))
        await liar.served()
        assert (await pair.relay.rpc("admin_nodeInfo"))["protocols"]["eth"] == true


@pytest.mark.parametrize("version", [69, 70, 71])
async def test_each_request_for_what_no_peer_has_gets_an_empty_answer(pair: Pair, chain: OwnChain, version):
    answers = await pair.relay.metric("pyrelay_empty_answers_total")
    cases = [
        (m.GetBlockHeaders(0, HASHES[0], 1), m.BlockHeaders(0, ())),
        (m.GetBlockHeaders(1, 10**6, 192, 3, True), m.BlockHeaders(1, ())),
        (m.GetBlockBodies(2**64 - 1, HASHES), m.BlockBodies(2**64 - 1, ())),
        (m.GetReceipts(3, HASHES), m.Receipts(3, ())),
        (m.GetPooledTransactions(4, HASHES), m.PooledTransactions(4, ())),
    ]
    if version >= 71:
        cases.append((m.GetBlockAccessLists(5, HASHES), m.BlockAccessLists(5, (b"\x80",) * len(HASHES))))
    async with await ScriptedPeer.dial(pair.relay.enode, chain.config, versions=(version,)) as peer:
        await peer.join()
        for request, answer in cases:
            peer.say(request)
            assert await peer.expect(type(answer)) == answer
        assert peer.open
    # GetPooledTransactions is answered from the pool, and counted there.
    assert await pair.relay.metric("pyrelay_empty_answers_total") == answers + len(cases) - 1


async def test_a_geth_that_syncs_gets_the_blocks_through_us_and_stays(pair: Pair, chain: OwnChain, folder):
    relay, key = pair.relay, pair.relay.node_key.public_key
    async with Geth(folder / "behind", chain.genesis, verbosity=4) as behind:
        await pair.join(behind)
        await relay.until_peers(3)
        await behind.chase(pair.head)

        async def synced() -> bool:
            return int(await behind.rpc("eth_blockNumber"), 16) == len(pair.blocks)

        await until(synced, lambda: f"geth has synced\n{behind.tail()}", 60.0)
        assert await behind.peer(key) is not None
        assert behind.drops(key) == []
    await relay.until_peers(2)  # the others never noticed
