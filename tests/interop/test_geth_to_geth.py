"""Transactions from one geth to another that only pyrelay joins."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from relay.chain.transactions import wire
from relay.primitives.enode import parse
from relay.primitives.hashing import keccak256
from relay.protocols.eth.packing import encode_transactions
from relay.rpc.client import CallFailed
from tests.aids.chain import OwnChain
from tests.aids.daemon import RelayProcess
from tests.aids.geth import Geth
from tests.aids.scripted_peer import ScriptedPeer

pytestmark = [pytest.mark.geth, pytest.mark.asyncio(loop_scope="module")]

FETCHED = "pyrelay_fetch_transactions_total"
SERVED = "pyrelay_pooled_served_total"
TYPES = (0, 1, 2, 4)
MANY = 500


class Line:
    """geth A - pyrelay - geth B, and nothing else between the two."""

    def __init__(self, a: Geth, relay: RelayProcess, b: Geth) -> None:
        self.a, self.relay, self.b = a, relay, b

    def ends(self, backwards: bool) -> tuple[Geth, Geth]:
        return (self.b, self.a) if backwards else (self.a, self.b)

    async def check_whole(self) -> None:
        """Nobody was dropped, and no other way is there than through the relay."""
        key = self.relay.node_key.public_key
        for geth in (self.a, self.b):
            assert geth.drops(key) == []
            assert await geth.peer(key)
        shown = {each["enode"].split("@")[0] for each in await self.a.peers()}
        assert self.b.enode.split("@")[0] not in shown
        geths = {parse(geth.enode).public_key.hex()[:16] for geth in (self.a, self.b)}
        assert not [each for each in self.relay.events("peer left") if each["peer"] in geths]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def line(folder, chain: OwnChain):
    async with AsyncExitStack() as stack:
        a, b = Geth(folder / "a", chain.genesis), Geth(folder / "b", chain.genesis)
        await asyncio.gather(*(stack.enter_async_context(geth) for geth in (a, b)))
        relay = RelayProcess(
            folder / "relay", "--network", str(chain.genesis), static_nodes=[a.enode]
        )  # pyrelay dials A, B dials pyrelay
        await stack.enter_async_context(relay)
        await b.add_peer(relay.enode)
        for geth in (a, b):
            await geth.until_peer(relay.node_key.public_key)
        yield Line(a, relay, b)


@pytest.mark.parametrize("backwards", [False, True], ids=["a-to-b", "b-to-a"])
@pytest.mark.parametrize("kind", TYPES)
async def test_relay_passes_each_type_on_whole_to_its_only_other_peer(
    line: Line, chain: OwnChain, kind, backwards
):
    source, sink = line.ends(backwards)
    before = [await line.relay.metric(name) for name in (FETCHED, SERVED)]
    tx_hash, raw = chain.sign(kind)
    assert await source.send(raw) == "0x" + tx_hash.hex()
    await sink.until_holds({tx_hash: raw})
    assert [await line.relay.metric(name) for name in (FETCHED, SERVED)] == before  # pushed on both legs
    await line.check_whole()


@pytest.mark.parametrize("backwards", [False, True], ids=["a-to-b", "b-to-a"])
@pytest.mark.parametrize("kind", TYPES)
async def test_relay_fetches_what_is_announced_and_announces_it_in_turn(
    line: Line, chain: OwnChain, kind, backwards
):
    source, sink = line.ends(backwards)
    fetched, served = [await line.relay.metric(name) for name in (FETCHED, SERVED)]
    tx_hash, raw = chain.sign_large(kind)
    await source.send(raw)
    await sink.until_holds({tx_hash: raw})
    assert await line.relay.metric(FETCHED) == fetched + 1
    assert await line.relay.metric(SERVED) == served + 1
    await line.check_whole()


async def test_relay_takes_the_largest_transactions_that_geth_takes(line: Line, chain: OwnChain):
    size = 128 * 1024 - 200  # geth: txMaxSize, over all fields
    large = dict(chain.sign_large(2, size) for _ in range(3))
    await line.a.send_many(large.values())
    await line.b.until_holds(large)
    await line.check_whole()


async def test_relay_passes_every_one_of_many_transactions_both_ways_among_many_peers(
    line: Line, chain: OwnChain
):
    forth, back = chain.sign_many(MANY, TYPES), chain.sign_many(MANY, TYPES)
    fetched, served = [await line.relay.metric(name) for name in (FETCHED, SERVED)]
    async with AsyncExitStack() as stack:
        # With four peers geth and pyrelay push to two and announce to the others.
        for enode in (line.a.enode, line.b.enode, line.relay.enode) * 3:
            peer = await stack.enter_async_context(await ScriptedPeer.dial(enode, chain.config))
            await peer.join()
        await asyncio.gather(line.a.send_many(forth.values()), line.b.send_many(back.values()))
        await asyncio.gather(line.b.until_holds(forth), line.a.until_holds(back))
    # Some went each way: fetched from and by the geths, the rest pushed.
    assert 0 < await line.relay.metric(FETCHED) - fetched < 2 * MANY
    assert 0 < await line.relay.metric(SERVED) - served < 2 * MANY
    await line.check_whole()


async def test_relay_announces_its_pool_to_a_geth_that_comes_later(line: Line, chain: OwnChain, folder):
    earlier = chain.sign_many(50)
    await line.a.send_many(earlier.values())
    await line.b.until_holds(earlier)
    async with Geth(folder / "late", chain.genesis) as late:
        await late.add_peer(line.relay.enode)
        await late.until_holds(earlier)
        assert late.drops(line.relay.node_key.public_key) == []


async def test_relay_answers_a_geth_that_asks_again_for_what_it_was_announced(line: Line, chain: OwnChain):
    """A submission of our own users goes the same way as gossip."""
    tx_hash, raw = chain.sign()
    large_hash, large = chain.sign_large()
    for each in (raw, large):
        await line.relay.rpc("eth_sendRawTransaction", "0x" + each.hex())
    for geth in (line.a, line.b):
        await geth.until_holds({tx_hash: raw, large_hash: large})
    with pytest.raises(CallFailed, match="already known"):
        await line.relay.rpc("eth_sendRawTransaction", "0x" + raw.hex())


async def test_relay_passes_on_no_transaction_that_breaks_the_rules(line: Line, chain: OwnChain):
    good_hash, good = chain.sign()
    _, cheap = chain.sign(gas=20_999)
    _, foreign = chain.sign(chain_id=1)
    invalid = [cheap, foreign]
    async with await ScriptedPeer.dial(line.relay.enode, chain.config) as peer:
        await peer.join()
        peer.send(0x02, encode_transactions([wire(each) for each in (*invalid, good)]))
        await line.b.until_holds({good_hash: good})
        assert peer.open
    for raw in invalid:
        assert await line.b.raw_transaction(keccak256(raw)) is None
    await line.check_whole()
