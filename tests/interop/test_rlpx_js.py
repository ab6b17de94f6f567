"""@ethereumjs/devp2p (JavaScript) and pyrelay: eth/68 by the library's own class, and eth/69."""

from __future__ import annotations

import pytest
import pytest_asyncio

from relay.primitives.hashing import keccak256
from relay.primitives.keys import NodeKey
from relay.protocols.eth import messages as m
from tests.aids.chain import OwnChain
from tests.aids.geth import Geth
from tests.aids.rlpx_meetings import (
    BLOCKS,
    Meeting,
    RlpxMeetings,
    headers,
    meeting_in,
    start_relay,
    until_head,
)
from tests.aids.rlpx_peers import RlpxPeer
from tests.aids.scripted_peer import ScriptedPeer

pytestmark = [pytest.mark.geth, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def meeting(folder, chain: OwnChain):
    async with meeting_in(folder, chain) as made:
        yield made


@pytest.mark.parametrize("version", [68, 69])
class TestJavaScript(RlpxMeetings):
    kind = "js"
    client = "ethereumjs-devp2p"

    async def test_headers_that_we_ask_of_it_reach_our_peer(
        self, folder, chain: OwnChain, meeting: Meeting, version: int
    ):
        """It alone is the relay's source, and has been given geth's headers."""
        held = await headers(chain, meeting.geth.enode, 0, BLOCKS + 1)
        async with self.make(folder, chain, meeting, 4, version) as peer:
            texts = [
                {"number": number, "hash": keccak256(each).hex(), "rlp": each.hex()}
                for number, each in enumerate(held)
            ]
            assert await peer.ask("hold", headers=texts) == len(held)
            async with start_relay(folder / f"js-only-{version}", chain, peer.enode) as relay:
                await peer.until_peer(relay.enode)
                if version >= 69:
                    await until_head(relay)
                async with await ScriptedPeer.dial(relay.enode, chain.config) as asking:
                    await asking.join()
                    asking.say(m.GetBlockHeaders(7, meeting.hashes[10], 20))
                    answer = await asking.expect(m.BlockHeaders)
                assert answer == m.BlockHeaders(7, tuple(held[10:30]))
                assert [each for each in await peer.ask("requests") if each["code"] == 3]


async def test_the_peer_and_geth_agree(folder, chain: OwnChain):
    """The counterpart: geth takes the peer of these tests for one of its kind, in eth/69."""
    async with Geth(folder / "counter", chain.genesis) as geth:
        key = NodeKey(keccak256(b"counter"))
        peer = RlpxPeer(
            "js", chain, key, folder / "counter.log",
            versions=[69], latest=0, latestHash=chain.config.genesis_hash.hex(),
        )  # fmt: skip
        async with peer:
            await peer.dial(geth.enode)
            shown = await peer.until_peer(geth.enode)
            assert shown["client"].startswith("Geth/")
            tx_hash, raw = chain.sign()
            await peer.send(geth.enode, [raw])
            await geth.until_holds({tx_hash: raw})
            assert await peer.query(geth.enode, 3, [0, 1, 0, 0]) == await headers(chain, geth.enode, 0, 1)
