"""Two identities beside a scripted Tor: what the onion side can serve of a geth's chain, and by whom.

Its onion peers know the chain's headers and have nothing else; geth is a peer of the clearnet side.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from relay.primitives.enode import Enode, parse
from relay.primitives.keys import NodeKey
from relay.primitives.onion import OnionKey
from relay.protocols.eth import messages as m
from tests.aids.chain import OwnChain
from tests.aids.geth import Geth
from tests.aids.lab import OnionRelay, start_all
from tests.aids.proxy_peer import ProxyPeer
from tests.aids.scripted_peer import ScriptedPeer
from tests.aids.tor_lab import ScriptedTor, scripted_lab
from tests.aids.until import until

pytestmark = [pytest.mark.geth, pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

BLOCKS = 40
NEWEST = 8
ONION = OnionKey.from_seed(b"\x05" * 32).address
EMPTY: dict[type, Any] = {
    m.BlockBodies: lambda each: m.BlockBodies(each.request_id, ()),
    m.Receipts: lambda each: m.Receipts(each.request_id, ()),
}


@dataclass(frozen=True)
class Source:
    """A geth with its chain."""

    geth: Geth
    hashes: Sequence[bytes]


@dataclass(frozen=True)
class Stage:
    """The relay, and its peers on either side."""

    relay: OnionRelay
    onion: ProxyPeer
    clearnet: ProxyPeer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def source(folder, chain: OwnChain) -> AsyncIterator[Source]:
    async with Geth(folder / "a", chain.genesis) as geth:
        await geth.grow(chain.sign_many(BLOCKS, (2, 0, 1)).values())
        numbers = [hex(number) for number in range(BLOCKS + 1)]
        blocks = await geth.rpc_many("eth_getHeaderByNumber", numbers)
        yield Source(geth, [bytes.fromhex(each["hash"][2:]) for each in blocks])


@asynccontextmanager
async def staged(folder, chain: OwnChain, source: Source, *flags: str) -> AsyncIterator[Stage]:
    """Start a relay whose sides have each found the head."""
    head = BLOCKS, source.hashes[-1]
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(scripted_lab())
        onion, clearnet = [
            await stack.enter_async_context(
                ProxyPeer(source.geth.enode, chain.config, head=head, key=NodeKey(bytes(31) + seed))
            )
            for seed in (b"\x11", b"\x12")
        ]
        onion.tamper = lambda answer: EMPTY.get(type(answer), lambda each: each)(answer)
        assert isinstance(place.proxies, ScriptedTor)
        place.proxies.routes[(ONION, 30303)] = ("127.0.0.1", parse(onion.enode).tcp)
        relay = OnionRelay(
            folder / f"relay{len(flags)}",
            chain.genesis,
            *("--prefer-tor", "--listen-address", "127.0.0.1", "--port", "0", *flags),
        )
        relay.arguments += await place.proxies.flags(relay)
        nodes = [Enode(onion.key.public_key, ONION, 30303, 0).url, clearnet.enode]
        relay.write_static_nodes(nodes)
        (relay.directory / "trusted-nodes.json").write_text(json.dumps(nodes))
        stack.push_async_callback(relay.stop)
        await start_all(relay)
        await until(lambda: onion.joined and clearnet.joined, lambda: f"both join\n{relay.tail()}", 40.0)
        yield Stage(relay, onion, clearnet)


@asynccontextmanager
async def visitor(stage: Stage, chain: OwnChain) -> AsyncIterator[ScriptedPeer]:
    """A peer that comes in by the onion service."""
    host, port = stage.relay.listener("onion")
    enode = Enode(stage.relay.key.public_key, host, port, 0).url
    async with await ScriptedPeer.dial(enode, chain.config, versions=(69,)) as peer:
        await peer.join()
        yield peer


async def receipts(peer: ScriptedPeer, *hashes: bytes) -> tuple[bytes, ...]:
    peer.say(m.GetReceipts(7, hashes))
    return tuple((await peer.expect(m.Receipts)).blocks)


async def test_new_blocks_are_served_to_onions_from_clearnet_and_old_ones_never_asked_for_there(
    folder, chain: OwnChain, source: Source
) -> None:
    async with await ScriptedPeer.dial(source.geth.enode, chain.config, versions=(69,)) as geth:
        await geth.join()
        right = await receipts(geth, *source.hashes[-NEWEST:])
        old = source.hashes[3]
        async with (
            staged(folder, chain, source, "--adaptive-transport") as stage,
            visitor(stage, chain) as peer,
        ):

            async def served() -> bool:
                return await receipts(peer, *source.hashes[-NEWEST:]) == right

            await until(served, lambda: f"all are there\n{stage.relay.tail()}", 60.0)
            assert await receipts(peer, old) == ()
            by_onion = {each for asked in stage.onion.requests(m.GetReceipts) for each in asked.hashes}
            by_clearnet = {each for asked in stage.clearnet.requests(m.GetReceipts) for each in asked.hashes}
            assert old in by_onion
            assert by_clearnet == set(source.hashes[-NEWEST:])


async def test_without_the_option_nothing_that_onions_ask_for_is_asked_for_on_clearnet(
    folder, chain: OwnChain, source: Source
) -> None:
    async with staged(folder, chain, source) as stage, visitor(stage, chain) as peer:
        wanted = (source.hashes[-1], source.hashes[3])
        for each in wanted:
            assert await receipts(peer, each) == ()
        await until(
            lambda: (
                {each for asked in stage.onion.requests(m.GetReceipts) for each in asked.hashes} >= {*wanted}
            ),
            "the onion peer is asked",
            20.0,
        )
        assert stage.clearnet.requests(m.GetReceipts) == []
