"""Chain data by proxy: what pyrelay is asked it asks a geth, and the answer is geth's own, byte for byte.

pyrelay has no chain; geth A has one of 600 blocks. Every answer through pyrelay is compared with what A
itself says to the same question.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
import pytest_asyncio

from relay.primitives.keys import NodeKey
from relay.protocols.eth import messages as m
from tests.aids.chain import OwnChain
from tests.aids.daemon import RelayProcess
from tests.aids.geth import Geth
from tests.aids.proxy_peer import ANSWERS, ProxyPeer, flip_one_byte
from tests.aids.scripted_peer import ScriptedPeer
from tests.aids.until import until

pytestmark = [pytest.mark.geth, pytest.mark.asyncio(loop_scope="module")]

BLOCKS = 600
VERSIONS = (69, 70, 71)
UNKNOWN = b"\x77" * 32
KINDS = {"header": m.BlockHeaders, "body": m.BlockBodies, "receipt": m.Receipts}
OLDER = "v1.17.0"  # of geth, the last with eth/68
TRIES = 40  # requests until a peer that lies has been asked


class Source:
    """geth A and what its chain is."""

    def __init__(self, geth: Geth, hashes: Sequence[bytes], payload: dict[str, Any]) -> None:
        self.geth, self.hashes, self.payload = geth, hashes, payload

    @property
    def head(self) -> tuple[int, bytes]:
        return len(self.hashes) - 1, self.hashes[-1]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def source(folder, chain: OwnChain):
    async with Geth(folder / "a", chain.genesis) as geth:
        await geth.grow(chain.sign_many(BLOCKS - 1, (2, 0, 1, 4)).values())
        [payload] = await geth.build()
        numbers = [hex(number) for number in range(BLOCKS + 1)]
        blocks = await geth.rpc_many("eth_getHeaderByNumber", numbers)
        yield Source(geth, [bytes.fromhex(each["hash"][2:]) for each in blocks], payload)


async def trusting(
    stack: AsyncExitStack, path, chain: OwnChain, trusted: str, *flags: str, others: Sequence[str] = ()
) -> RelayProcess:
    """Start a relay with one peer that it believes, and others that it dials only."""
    relay = RelayProcess(path, "--network", str(chain.genesis), *flags, static_nodes=[trusted, *others])
    (relay.directory / "trusted-nodes.json").write_text(json.dumps([trusted]))
    await stack.enter_async_context(relay)
    await relay.until_peers(1 + len(others))
    return relay


async def until_head(relay: RelayProcess, number: int) -> None:
    """Wait until a relay names a block as its latest."""

    async def reached() -> bool:
        return (await relay.rpc("admin_nodeInfo"))["protocols"]["eth"]["latestBlock"] == number

    await until(reached, f"{relay.name} names block {number}", 30.0)


async def ask(enode: str, chain: OwnChain, version: int, requests: Sequence[m.EthMessage]) -> list[Any]:
    """Put questions to a node, one after the other; returns its answers."""
    answers = []
    async with await ScriptedPeer.dial(enode, chain.config, versions=(version,)) as peer:
        await peer.join()
        for request in requests:
            peer.say(request)
            answers.append(await peer.expect(ANSWERS[type(request)]))
        assert peer.open
    return answers


def digests(answers: Sequence[m.EthMessage], version: int) -> list[str]:
    """Hashes of whole answers, ids included."""
    return [sha256(each.encode(version)).hexdigest() for each in answers]


def questions(hashes: Sequence[bytes], version: int) -> list[m.EthMessage]:
    """What a syncing node asks, and what it does not."""
    head = len(hashes) - 1
    headers = [
        (hashes[-1], 1), (hashes[-1], 192, 0, True), (hashes[300], 64), (hashes[1], 5, 1), (UNKNOWN, 1),
        (1, 192), (193, 192), (head, 1), (head, 512, 0, True), (10, 20, 9), (head - 3, 10), (head + 5, 4),
        (0, 1), (hashes[0], 3), (300, 40, 3, True), (1, 0), (5, 1024),
    ]  # fmt: skip
    found: list[m.EthMessage] = [m.GetBlockHeaders(number, *each) for number, each in enumerate(headers, 100)]
    some = (hashes[1], hashes[2], hashes[599], hashes[300])
    lists = [some, tuple(hashes[1:33]), tuple(hashes[400:528]), (hashes[7], UNKNOWN, hashes[8]), (UNKNOWN,)]
    lists += [(hashes[0],), (hashes[-1],), (), (hashes[9], hashes[9])]
    for kind in (m.GetBlockBodies, m.GetReceipts):
        found += [kind(2**64 - 1 - number, each) for number, each in enumerate(lists)]
    if version >= 70:
        found += [m.GetReceipts(77, some, 1), m.GetReceipts(78, some, 9)]
    if version >= 71:
        found += [m.GetBlockAccessLists(number, each) for number, each in enumerate(lists)]
    return found


# -- answers ---------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def relay(folder, chain: OwnChain, source: Source):
    async with AsyncExitStack() as stack:
        relay = await trusting(stack, folder / "relay", chain, source.geth.enode)
        await until_head(relay, BLOCKS)
        yield relay


@pytest.mark.parametrize("version", VERSIONS)
async def test_each_answer_is_the_one_that_geth_gives_first_uncached_then_cached(
    relay: RelayProcess, source: Source, chain: OwnChain, version
):
    wanted = questions(source.hashes, version)
    own = await ask(source.geth.enode, chain, version, wanted)
    assert [each.request_id for each in own] == [each.request_id for each in wanted]
    for _ in range(2):
        through = await ask(relay.enode, chain, version, wanted)
        different = [
            (asked, direct, got)
            for asked, direct, got in zip(wanted, own, through, strict=True)
            if direct != got
        ]
        assert not different, str(different[0])[:2000]
        assert digests(through, version) == digests(own, version)
    assert source.geth.drops(relay.node_key.public_key) == []


# -- a sync ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
async def test_geth_full_syncs_600_blocks_through_a_relay_that_has_none(
    source: Source, chain: OwnChain, folder, version
):
    async with AsyncExitStack() as stack:
        relay = await trusting(
            stack, folder / f"sync{version}", chain, source.geth.enode, "--eth-versions", str(version)
        )
        await until_head(relay, BLOCKS)
        b = await stack.enter_async_context(Geth(folder / f"b{version}", chain.genesis))
        await full_sync(b, relay, source, version)


async def full_sync(b: Geth, relay: RelayProcess, source: Source, version: int) -> None:
    """Have an empty geth with the relay for its only peer sync to the source's head."""
    assert (await b.head())["number"] == "0x0"
    await b.add_peer(relay.enode)
    shown = await b.until_peer(relay.node_key.public_key)
    assert shown["protocols"]["eth"]["version"] == version
    await b.chase(source.payload)
    await b.until_head(source.payload["executionPayload"]["blockHash"])
    assert len(await b.peers()) == 1
    assert b.drops(relay.node_key.public_key) == []
    assert relay.events("peer left") == []


@pytest.mark.parametrize("version", [68, 69])
async def test_an_older_geth_full_syncs_through_a_relay_and_then_serves_it(
    source: Source, chain: OwnChain, folder, version
):
    """On eth/68 receipts have bloom filters, and nobody tells of a range of blocks."""
    async with AsyncExitStack() as stack:
        flags = ("--eth-versions", f"{version},71")
        relay = await trusting(stack, folder / f"old{version}", chain, source.geth.enode, *flags)
        await until_head(relay, BLOCKS)
        old = Geth(folder / f"o{version}", chain.genesis, version=OLDER)
        await stack.enter_async_context(old)
        await full_sync(old, relay, source, version)
        assert (await old.rpc("web3_clientVersion")).startswith(f"Geth/{OLDER}")
        await old.remove_peer(relay.enode)
        other = await trusting(stack, folder / f"new{version}", chain, old.enode, *flags)
        wanted = [_one(kind, source.hashes[number]) for kind in KINDS for number in (1, 300, BLOCKS)]
        own = await ask(source.geth.enode, chain, 71, wanted)
        assert digests(await ask(other.enode, chain, 71, wanted), 71) == digests(own, 71)


async def test_geth_full_syncs_600_blocks_from_geth_directly(source: Source, chain: OwnChain, folder):
    """The counterpart of the test through pyrelay: what it asks for is possible."""
    async with Geth(folder / "direct", chain.genesis) as b:
        await b.add_peer(source.geth.enode)
        await until(b.peers, "B shows A", 20.0)
        await b.chase(source.payload)
        await b.until_head(source.payload["executionPayload"]["blockHash"])


# -- lies ------------------------------------------------------------------------------------------------


async def test_the_peer_of_these_tests_says_what_geth_says_but_for_its_lie(source: Source, chain: OwnChain):
    wanted = questions(source.hashes, 69)
    direct = await ask(source.geth.enode, chain, 69, wanted)
    key = NodeKey(bytes(31) + b"\x03")
    async with ProxyPeer(source.geth.enode, chain.config, head=source.head, key=key) as peer:
        assert digests(await ask(peer.enode, chain, 69, wanted), 69) == digests(direct, 69)
        assert peer.asked == wanted
        for kind, answer in KINDS.items():
            question = _one(kind, source.hashes[5])
            [right] = await ask(peer.enode, chain, 69, [question])
            for where in (0.0, 0.5, 1.0):
                peer.tamper = flip_one_byte(answer, where)
                told = peer.tamper(right).encode(69)
                changed = [a ^ b for a, b in zip(told, right.encode(69), strict=True) if a != b]
                assert changed == [1]
            peer.tamper = lambda each: each


@pytest.mark.parametrize("where", [0.0, 0.5, 1.0], ids=["first", "middle", "last"])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_peer_that_lies_in_one_byte_is_dropped_and_the_answer_is_right(
    source: Source, chain: OwnChain, folder, kind, where
):
    path = folder / f"lie-{kind}-{where:g}"
    async with AsyncExitStack() as stack:
        honest, liar = [
            await stack.enter_async_context(
                ProxyPeer(source.geth.enode, chain.config, head=source.head, key=NodeKey(bytes(31) + seed))
            )
            for seed in (b"\x01", b"\x02")
        ]
        relay = await trusting(stack, path, chain, honest.enode, others=[liar.enode])
        await until_head(relay, BLOCKS)
        liar.tamper = flip_one_byte(KINDS[kind], where)
        asked = 0
        for number in range(1, TRIES + 1):
            question = _one(kind, source.hashes[number])
            before = _seen(honest, question), _seen(liar, question)
            [direct] = await ask(source.geth.enode, chain, 69, [question])
            [through] = await ask(relay.enode, chain, 69, [question])
            assert digests([through], 69) == digests([direct], 69)
            asked = _seen(liar, question) - before[1]
            assert asked <= 1
            # Nobody else is asked where the first one tells the truth.
            assert _seen(honest, question) - before[0] == 1
            if asked:
                break
        assert asked == 1, f"the one that lies was not asked in {TRIES} requests"
        await until(lambda: liar.ended, "the relay lets go of the one that lies")
        assert honest.ended == []
        left = await relay.until_event("peer left", peer=liar.key.public_key.hex()[:16])
        assert not left["by_peer"]


def _one(kind: str, block_hash: bytes) -> Any:
    if kind == "header":
        return m.GetBlockHeaders(1, block_hash, 1)
    return (m.GetBlockBodies if kind == "body" else m.GetReceipts)(1, (block_hash,))


def _seen(peer: ProxyPeer, question: Any) -> int:
    """How often a peer was asked a question, whatever the id."""
    return sum(replace(each, request_id=1) == question for each in peer.requests(type(question)))
