"""What an RLPx peer of another implementation and pyrelay do with each other: the tests for each of them.

geth A holds a chain; pyrelay believes it, and the peer under test meets pyrelay.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from relay.primitives.hashing import keccak256
from relay.primitives.keys import NodeKey
from relay.protocols.eth import messages as m
from tests.aids.chain import OwnChain
from tests.aids.daemon import RelayProcess
from tests.aids.geth import Geth
from tests.aids.rlpx_peers import RlpxPeer
from tests.aids.scripted_peer import ScriptedPeer
from tests.aids.until import until

__all__ = ["BLOCKS", "Meeting", "RlpxMeetings", "headers", "meeting_in", "start_relay", "until_head"]

BLOCKS = 40
VERSIONS = "68,69,70,71"


class Meeting:
    """A geth with a chain, a relay that believes it, and how a peer of another implementation is made."""

    def __init__(self, geth: Geth, relay: RelayProcess, hashes: list[bytes]) -> None:
        self.geth, self.relay, self.hashes = geth, relay, hashes

    @property
    def head(self) -> dict[str, object]:
        return {"latest": BLOCKS, "latestHash": self.hashes[-1].hex()}


async def headers(chain: OwnChain, enode: str, first: int, count: int, version: int = 69) -> list[bytes]:
    """Ask a node for headers."""
    async with await ScriptedPeer.dial(enode, chain.config, versions=(version,)) as peer:
        await peer.join()
        peer.say(m.GetBlockHeaders(1, first, count))
        return list((await peer.expect(m.BlockHeaders)).headers)


def start_relay(path, chain: OwnChain, trusted: str) -> RelayProcess:
    relay = RelayProcess(
        path, "--network", str(chain.genesis), "--eth-versions", VERSIONS, static_nodes=[trusted]
    )
    (relay.directory / "trusted-nodes.json").write_text(json.dumps([trusted]))
    return relay


async def until_head(relay: RelayProcess) -> None:
    async def reached() -> bool:
        return (await relay.rpc("admin_nodeInfo"))["protocols"]["eth"]["latestBlock"] == BLOCKS

    await until(reached, "the relay names the head", 30.0)


@asynccontextmanager
async def meeting_in(folder, chain: OwnChain) -> AsyncIterator[Meeting]:
    """Start geth and relay."""
    async with Geth(folder / "geth", chain.genesis) as geth:
        await geth.grow(chain.sign_many(BLOCKS).values())
        found = await headers(chain, geth.enode, 0, BLOCKS + 1)
        async with start_relay(folder / "relay", chain, geth.enode) as relay:
            await until_head(relay)
            yield Meeting(geth, relay, [keccak256(each) for each in found])


class RlpxMeetings:
    """The tests; a subclass names the implementation, and its module has a fixture `meeting`."""

    kind: str
    client: str

    def make(self, folder, chain: OwnChain, meeting: Meeting, seed: int, version: int) -> RlpxPeer:
        """Prepare the peer."""
        key = NodeKey(keccak256(b"%d %d" % (seed, version)))
        log = folder / f"{self.kind}-{seed}-{version}.log"
        return RlpxPeer(self.kind, chain, key, log, versions=[version], **meeting.head)

    def check(self, shown: dict[str, Any], version: int, meeting: Meeting, chain: OwnChain) -> None:
        """Compare what the peer read of our Hello and Status with what we meant."""
        assert shown["version"] == version
        assert shown["client"].startswith("pyrelay/")
        assert shown["caps"][:4] == [f"eth/{each}" for each in (68, 69, 70, 71)]
        genesis = shown["status"][4 if version == 68 else 2]
        assert bytes.fromhex(genesis) == chain.config.genesis_hash
        latest_hash = shown["status"][3 if version == 68 else 6]
        assert bytes.fromhex(latest_hash) == meeting.hashes[-1]

    async def test_it_dials_us_and_reads_our_status(self, folder, chain, meeting: Meeting, version: int):
        async with self.make(folder, chain, meeting, 1, version) as peer:
            await peer.dial(meeting.relay.enode)
            self.check(await peer.until_peer(meeting.relay.enode), version, meeting, chain)
            shown = {each["name"]: each for each in await meeting.relay.until_peers(2)}
            [entry] = [each for name, each in shown.items() if name.startswith(self.client)]
            assert entry["protocols"]["eth"]["version"] == version
            assert entry["network"]["inbound"]
        await meeting.relay.until_peers(1)

    async def test_transactions_pass_both_ways(self, folder, chain, meeting: Meeting, version: int):
        """By our dial: the peer comes last, and so gets what is sent next whole."""
        relay, geth = meeting.relay, meeting.geth
        async with self.make(folder, chain, meeting, 2, version) as peer:
            assert await relay.rpc("admin_addPeer", peer.enode)
            await peer.until_peer(relay.enode)
            theirs = chain.sign_many(20, (0, 1, 2, 4))
            await peer.send(relay.enode, list(theirs.values()))
            await geth.until_holds(theirs)
            ours = chain.sign_many(20, (0, 1, 2, 4))
            await geth.send_many(ours.values())

            async def heard() -> bool:
                return set(ours.values()) <= set(await peer.transactions())

            await until(heard, "the peer hears of geth's transactions")
            assert await relay.rpc("admin_removePeer", peer.enode)
        assert geth.drops(relay.node_key.public_key) == []

    async def test_headers_that_it_asks_of_us_are_those_of_geth(
        self, folder, chain, meeting: Meeting, version: int
    ):
        right = await headers(chain, meeting.geth.enode, 5, 30)
        async with self.make(folder, chain, meeting, 3, version) as peer:
            await peer.dial(meeting.relay.enode)
            await peer.until_peer(meeting.relay.enode)
            for words in ([5, 30, 0, 0], [meeting.hashes[5], 30, 0, 0]):
                assert await peer.query(meeting.relay.enode, 3, words) == right
            backwards = await peer.query(meeting.relay.enode, 3, [34, 30, 0, 1])
            assert backwards == right[::-1]
