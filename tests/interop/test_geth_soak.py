"""Each eth version alone, side by side with one geth: a minute here, an hour by `make soak`."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import AsyncExitStack
from functools import partial
from operator import le

import pytest

from relay.rpc.client import CallFailed
from tests.aids.chain import OwnChain
from tests.aids.daemon import RelayProcess
from tests.aids.geth import Geth
from tests.aids.until import stays

pytestmark = pytest.mark.geth

SECONDS = float(os.environ.get("PYRELAY_SOAK_SECONDS", "60"))
VERSIONS = (69, 70, 71)
TRUSTING = (
    71  # this one believes geth's block range alone, and so tells of it, a minute after Status at first
)
ROUND = 1.0  # seconds between two transactions of each source


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
            assert shown["caps"] == [f"eth/{version}"]
            assert shown["network"]["inbound"] is (version != 70)

        async def all_connected() -> bool:
            shown = {each["id"] for each in await geth.peers()}
            return len(shown) == len(VERSIONS) and all([await r.peers() for r in relays.values()])

        sent = await _exchange_for(SECONDS, chain, geth, relays, all_connected)
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
        print(f"\n{sent} rounds in {SECONDS:g} s, {sent * (1 + len(VERSIONS))} transactions, no drop")


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
