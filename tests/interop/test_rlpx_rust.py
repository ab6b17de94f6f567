"""ethrex (Rust) and pyrelay: a node with pool, sync and execution of its own, on each version of eth."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from relay.primitives.hashing import keccak256
from relay.primitives.keys import NodeKey
from relay.protocols.eth import messages as m
from tests.aids.chain import OwnChain
from tests.aids.daemon import RelayProcess
from tests.aids.proxy_peer import ANSWERS
from tests.aids.rlpx_meetings import BLOCKS, Meeting, meeting_in, until_head
from tests.aids.rlpx_peers import RlpxPeer
from tests.aids.scripted_peer import ScriptedPeer
from tests.aids.until import until

pytestmark = [pytest.mark.geth, pytest.mark.asyncio(loop_scope="module")]

VERSIONS = (68, 69, 70, 71)
SYNC_SECONDS = 60.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def meeting(folder):
    # Its geth begins at genesis, and so must the nonces, whatever the other tests have signed.
    own = folder / "meeting"
    own.mkdir()
    async with meeting_in(folder, OwnChain(own)) as made:
        yield made


@asynccontextmanager
async def relay_of(path, chain: OwnChain, trusted: str, *flags: str):
    """A relay that believes one peer."""
    relay = RelayProcess(path, "--network", str(chain.genesis), *flags, static_nodes=[trusted])
    (relay.directory / "trusted-nodes.json").write_text(json.dumps([trusted]))
    async with relay:
        await relay.until_peers(1)
        yield relay


def ethrex(folder, chain: OwnChain, name: str) -> RlpxPeer:
    """Prepare the node, at its genesis."""
    return RlpxPeer("rust", chain, NodeKey(keccak256(name.encode())), folder / f"{name}.log")


@pytest.mark.parametrize("version", VERSIONS)
async def test_it_joins_on_each_version_and_transactions_pass_both_ways(
    folder, chain: OwnChain, version: int
):
    """Between two nodes of ethrex: geth speaks no eth/68 any more."""
    path = folder / f"gossip{version}"
    async with (
        ethrex(folder, chain, f"a{version}") as a,
        ethrex(folder, chain, f"b{version}") as b,
        relay_of(path, chain, a.enode, "--eth-versions", str(version)) as relay,
    ):
        await b.dial(relay.enode)
        for peer in (a, b):
            shown = await peer.until_peer(relay.enode)
            assert shown["client"].startswith("pyrelay/")
            assert shown["caps"] == [f"eth/{version}", "pyrelay/1"]
        entries = await relay.until_peers(2)
        assert {each["name"].split("/")[0] for each in entries} == {"ethrex"}
        assert {each["protocols"]["eth"]["version"] for each in entries} == {version}
        assert sorted(each["network"]["inbound"] for each in entries) == [False, True]
        for sender, other in ((a, b), (b, a)):
            sent = chain.sign_many(20, (0, 1, 2, 4))
            await sender.ask("send", transactions=[each.hex() for each in sent.values()])

            async def arrived(other: RlpxPeer = other, sent: dict[bytes, bytes] = sent) -> bool:
                return set(sent.values()) <= set(await other.transactions())

            await until(arrived, "the other node holds what one sent", 30.0)
        assert relay.events("peer left") == []


@pytest.mark.parametrize("version", VERSIONS)
async def test_it_full_syncs_through_us_and_then_serves_us(
    folder, chain: OwnChain, meeting: Meeting, version: int
):
    head = meeting.hashes[-1].hex()
    # The relay asks geth on the newest version, and answers on another.
    versions = f"{version},71"
    async with ethrex(folder, chain, f"sync{version}") as peer:
        async with relay_of(
            folder / f"s{version}", chain, meeting.geth.enode, "--eth-versions", versions
        ) as relay:
            await until_head(relay)
            await peer.dial(relay.enode)
            await peer.until_peer(relay.enode)
            await peer.ask("sync", hash=head)

            async def synced() -> bool:
                return await peer.ask("head") == {"number": BLOCKS, "hash": head}

            await until(synced, lambda: f"ethrex has the head\n{relay.tail()}", SYNC_SECONDS, 0.1)
            assert relay.events("peer left") == []
        async with relay_of(
            folder / f"o{version}", chain, peer.enode, "--eth-versions", f"{version},69"
        ) as relay:
            if version >= 69:
                await until_head(relay)
            for question in (
                m.GetBlockHeaders(1, meeting.hashes[5], 30),
                m.GetBlockBodies(2, tuple(meeting.hashes[1:20])),
                m.GetReceipts(3, tuple(meeting.hashes[1:20])),
            ):
                answers = []
                for enode in (meeting.geth.enode, relay.enode):
                    async with await ScriptedPeer.dial(enode, chain.config, versions=(69,)) as asking:
                        await asking.join()
                        asking.say(question)
                        answers.append(await asking.expect(ANSWERS[type(question)]))
                assert answers[0] == answers[1]
