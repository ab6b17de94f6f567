"""Three geths with pyrelay in the middle, and for a fifth of that time each eth version alone with one geth.

A minute by itself, five in CI, an hour by `make soak`.
"""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import AsyncExitStack
from functools import partial
from operator import le
from statistics import median
from typing import Any

import pytest

from relay.primitives.enode import parse
from relay.protocols.eth import messages as m
from relay.rpc.client import CallFailed
from tests.aids.chain import OwnChain
from tests.aids.daemon import RelayProcess
from tests.aids.geth import Geth
from tests.aids.proxy_peer import ANSWERS
from tests.aids.scripted_peer import ScriptedPeer
from tests.aids.until import stays

pytestmark = pytest.mark.geth

SECONDS = float(os.environ.get("PYRELAY_TEST_SOAK_SECONDS", "60"))
ALONE_SECONDS = SECONDS / 5
VERSIONS = (69, 70, 71)
TRUSTING = (
    71  # this one believes geth's block range alone, and so tells of it, a minute after Status at first
)
ROUND = 1.0  # seconds between two transactions of each source
BURST = 5  # transactions at A each round
SETTLED = 1 / 3  # of the time is for caches to fill
GROWTH = 8 * 1024  # KiB of memory that may be noise
HELD = 2  # KiB for each transaction that is held in the end and was not when the caches were full
WELCOME = {"too many peers", "client quitting"}
"""What a connection may end for."""


async def _holds(relay: RelayProcess, raw: bytes) -> bool:
    """Whether a transaction is in the pool; one that is not there is submitted by this, so ask once."""
    with pytest.raises(CallFailed, match="already known"):
        await relay.rpc("eth_sendRawTransaction", "0x" + raw.hex())
    return True


@pytest.mark.slow
async def test_soak_of_each_version_alone_passes_transactions_both_ways_and_is_never_dropped(
    folder, chain: OwnChain
):
    genesis = str(chain.genesis)
    async with AsyncExitStack() as stack:
        geth = await stack.enter_async_context(Geth(folder / "geth", chain.genesis))
        relays = {}
        for version in VERSIONS:
            relay = RelayProcess(
                folder / f"r{version}", "--network", genesis, "--eth-versions", str(version),
                static_nodes=[] if version == 70 else [geth.enode],
            )  # fmt: skip
            if version == TRUSTING:
                (relay.directory / "trusted-nodes.json").write_text(json.dumps([geth.enode]))
            relays[version] = await stack.enter_async_context(relay)
        await geth.add_peer(relays[70].enode)
        keys = {version: relay.node_key.public_key for version, relay in relays.items()}
        for version, key in keys.items():
            shown = await geth.until_peer(key)
            assert shown["protocols"]["eth"]["version"] == version
            assert shown["name"].startswith("pyrelay/")
            assert shown["caps"] == [f"eth/{version}", "pyrelay/1"]
            assert shown["network"]["inbound"] is (version != 70)

        async def all_connected() -> bool:
            shown = {each["id"] for each in await geth.peers()}
            return len(shown) == len(VERSIONS) and all([await r.peers() for r in relays.values()])

        sent = await _exchange_for(ALONE_SECONDS, chain, geth, relays, all_connected)
        for version, relay in relays.items():
            assert geth.drops(keys[version]) == []
            assert relay.events("peer left") == []
            [peer] = await relay.peers()
            assert peer["protocols"]["eth"]["version"] == version
            # A block a round; Status said 0, and geth tells of its range every 32 blocks.
            assert peer["protocols"]["eth"]["latestBlock"] >= (sent - 1) // 32 * 32
        assert geth.lines("WARN", "eer") == []
        if sent > 100:
            told = await geth.peer(keys[TRUSTING])
            assert told["protocols"]["eth"]["latestBlock"] >= sent - 64
        print(f"\n{sent} rounds in {ALONE_SECONDS:g} s, {sent * (1 + len(VERSIONS))} transactions, no drop")


async def _exchange_for(seconds, chain, geth, relays, all_connected) -> int:
    """Send a transaction by each node every round and see it arrive at all others; returns the rounds."""
    loop, rounds = asyncio.get_running_loop(), 0
    end = loop.time() + seconds
    while loop.time() < end:
        rounds += 1
        by_geth = chain.sign()
        by_relay = {version: chain.sign() for version in relays}
        await geth.send(by_geth[1])
        for version, relay in relays.items():
            answer = await relay.rpc("eth_sendRawTransaction", "0x" + by_relay[version][1].hex())
            assert answer == "0x" + by_relay[version][0].hex()
        await geth.until_holds(dict(by_relay.values()))
        for relay in relays.values():
            await relay.until_metric("pyrelay_transactions_accepted_total", partial(le, rounds * len(relays)))
            assert await _holds(relay, by_geth[1])
        await geth.build()
        await stays(all_connected, "every relay stays connected", ROUND, 0.25)
    return rounds


@pytest.mark.slow
async def test_soak_of_three_geths_with_pyrelay_in_the_middle(folder, tmp_path):
    chain = OwnChain(tmp_path)  # these nodes begin at genesis: nonces of another test would leave gaps
    async with AsyncExitStack() as stack:
        a, b, c = [
            await stack.enter_async_context(Geth(folder / f"soak-{name}", chain.genesis)) for name in "abc"
        ]
        relay = RelayProcess(
            folder / "middle", "--network", str(chain.genesis), static_nodes=[a.enode, b.enode]
        )
        (relay.directory / "trusted-nodes.json").write_text(json.dumps([a.enode]))
        await stack.enter_async_context(relay)
        await c.add_peer(relay.enode)
        for geth in (a, b, c):
            await geth.until_peer(relay.node_key.public_key)

        async def all_connected() -> bool:
            shown = [await geth.peers() for geth in (a, b, c)]
            return len(await relay.peers()) == 3 and all(len(each) == 1 for each in shown)

        sent: dict[bytes, bytes] = {}
        memory: list[tuple[int, float]] = []
        loop = asyncio.get_running_loop()
        end = loop.time() + SECONDS
        while loop.time() < end:
            burst = chain.sign_many(BURST, (0, 1, 2, 4)) | dict([chain.sign_large()])
            await a.send_many(burst.values())
            sent |= burst
            for geth in (b, c):
                await geth.until_holds(burst)
            await _same_block(a, b, c)
            await _same_answers(chain, a, relay)
            memory.append((relay.status_kib(), await relay.metric("pyrelay_pool_transactions")))
            await stays(all_connected, "everybody stays connected", ROUND, 0.25)
        for geth in (a, b, c):
            assert geth.drops(relay.node_key.public_key) == []
            assert geth.lines("WARN", "eer") == []
        geths = {parse(geth.enode).public_key.hex()[:16] for geth in (a, b, c)}
        assert {each["why"] for each in relay.events("peer left") if each["peer"] in geths} <= WELCOME
        await c.until_holds(sent)
        _check_memory(memory)
        print(f"\n{len(memory)} rounds in {SECONDS:g} s, {len(sent)} transactions, {memory[-1][0]} KiB")


async def _same_block(source: Geth, *others: Geth) -> None:
    """Have a block built and taken by all; pools empty as they do in life."""
    payload = await source.build_full()
    assert payload["executionPayload"]["transactions"]
    for geth in others:
        await geth.take(payload)


async def _same_answers(chain: OwnChain, geth: Geth, relay: RelayProcess) -> None:
    """Ask for the latest blocks both ways."""
    head = await geth.head()
    block_hash = bytes.fromhex(head["hash"][2:])
    questions: list[Any] = [
        m.GetBlockHeaders(1, block_hash, 8, 0, True),
        m.GetBlockBodies(2, (block_hash,)),
        m.GetReceipts(3, (block_hash,)),
    ]
    answers = []
    for enode in (geth.enode, relay.enode):
        async with await ScriptedPeer.dial(enode, chain.config, versions=(69,)) as peer:
            await peer.join()
            for question in questions:
                peer.say(question)
                answers.append(await peer.expect(ANSWERS[type(question)]))
    assert answers[:3] == answers[3:]


def _check_memory(samples: list[tuple[int, float]]) -> None:
    """Fail when memory grew after the caches had filled."""
    later = samples[int(len(samples) * SETTLED) :]
    tenth = max(1, len(later) // 10)
    before, after = later[:tenth], later[-tenth:]
    held = max(0.0, after[-1][1] - before[0][1])
    grown = median(each[0] for each in after) - median(each[0] for each in before)
    assert grown <= GROWTH + HELD * held, samples
