"""Who dials whom: geth pyrelay, pyrelay geth, both at once; and what becomes of a node of another chain."""

from __future__ import annotations

import secrets

import pytest
import pytest_asyncio

from relay.primitives.enode import parse
from relay.primitives.keys import NodeKey
from tests.aids.chain import OwnChain
from tests.aids.daemon import RelayProcess
from tests.aids.geth import Geth
from tests.aids.geth_tools import GENESIS_TIME, write_genesis
from tests.aids.until import stays

pytestmark = [pytest.mark.geth, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def geth(folder, chain: OwnChain):
    async with Geth(folder / "geth", chain.genesis, verbosity=5) as geth:
        yield geth


@pytest.fixture
def relay_of(folder, chain: OwnChain, request: pytest.FixtureRequest):
    """Make relays on the chain, one folder a test."""

    def make(*arguments: str, name: str = "relay", key: NodeKey | None = None, **options) -> RelayProcess:
        number = len(list(folder.glob("relay*")))
        relay = RelayProcess(
            folder / f"{name}{number}", "--network", str(chain.genesis), *arguments, **options
        )
        if key is not None:
            (relay.directory / "nodekey").write_text(key.secret.hex())
        return relay

    return make


async def test_geth_dials_pyrelay_as_its_static_node(geth: Geth, relay_of):
    async with relay_of() as relay:
        await geth.add_peer(relay.enode)
        shown = await geth.until_peer(relay.node_key.public_key)
        assert shown["network"]["inbound"] is False
        assert shown["network"]["static"] is True
        [peer] = await relay.until_peers(1)
        assert peer["network"]["inbound"] is True
        assert parse(peer["enode"]).public_key == parse(geth.enode).public_key
        assert await relay.metric("p2p_peers_inbound") == 1
        await geth.remove_peer(relay.enode)
        await relay.until_peers(0)
        left = await relay.until_event("peer left")
        assert (left["why"], left["by_peer"]) == ("requested", True)


async def test_pyrelay_dials_geth_from_its_static_nodes_file(geth: Geth, relay_of):
    async with relay_of(static_nodes=[geth.enode]) as relay:
        shown = await geth.until_peer(relay.node_key.public_key)
        assert shown["network"]["inbound"] is True
        [peer] = await relay.until_peers(1)
        assert peer["network"]["inbound"] is False
        assert peer["network"]["static"] is True
        assert await relay.metric("p2p_peers_outbound") == 1
        assert await relay.metric("pyrelay_static_nodes", state="connected") == 1


async def test_pyrelay_finds_geth_again_after_geth_was_restarted(folder, chain: OwnChain, relay_of):
    geth = Geth(folder / "restarted", chain.genesis)
    await geth.start()
    key = parse(geth.enode).public_key
    async with relay_of(static_nodes=[geth.enode]) as relay:
        try:
            await relay.until_peers(1)
            geth.kill()
            await relay.until_peers(0)
            await geth.start(p2p_port=parse(geth.enode).tcp)
            assert parse(geth.enode).public_key == key
            await geth.until_peer(relay.node_key.public_key, deadline=30.0)
        finally:
            await geth.stop()


@pytest.mark.parametrize("lower", [True, False], ids=["our-key-lower", "our-key-higher"])
async def test_exactly_one_connection_stays_where_both_dial_at_once(geth: Geth, relay_of, lower):
    theirs = parse(geth.enode).public_key
    for _ in range(4):
        key = NodeKey.generate(secrets.token_bytes)
        while (key.public_key < theirs) is not lower:
            key = NodeKey.generate(secrets.token_bytes)
        async with relay_of(key=key) as relay:
            # The calls are one after the other, the dials of both sides side by side.
            await geth.add_peer(relay.enode)
            await relay.rpc("admin_addPeer", geth.enode)
            await geth.until_peer(key.public_key)

            async def one_each(relay: RelayProcess = relay, key: NodeKey = key) -> bool:
                ours = [
                    each for each in await geth.peers() if parse(each["enode"]).public_key == key.public_key
                ]
                return len(ours) == 1 and len(await relay.peers()) == 1

            await relay.until_peers(1)
            await stays(one_each, "one connection on both sides", 0.5)
            assert len(relay.events("peer joined")) == 1
            assert relay.events("peer left") == []
            await geth.remove_peer(relay.enode)


@pytest.mark.parametrize("other", ["genesis", "network"])
async def test_a_geth_of_another_chain_is_useless_and_the_daemon_lives_on(
    folder, chain: OwnChain, geth: Geth, relay_of, other
):
    genesis, network = chain.genesis, 4242
    if other == "genesis":
        genesis, network = write_genesis(folder / "other.json", timestamp=GENESIS_TIME + 1), chain.chain_id
    async with (
        Geth(folder / f"other-{other}", genesis, network_id=network, verbosity=5) as stranger,
        relay_of() as dialing,
        relay_of() as dialed,
    ):
        await dialing.rpc("admin_addPeer", stranger.enode)
        await stranger.add_peer(dialed.enode)
        for relay, side in ((dialing, "dials"), (dialed, "serves")):
            ended = await relay.until_event("connection ended")
            # Both have said Status and both find fault with it: who is faster says so first. geth has no
            # reason of its own for that on the wire: it says subprotocol error.
            assert ended["why"] == ("subprotocol error" if ended["by_peer"] else "useless peer")
            assert await relay.peers() == []
            assert await relay.metric(f"p2p_{side}_success") == 0
            removed = await stranger.until_logged("Removing p2p peer", _id(relay))
            assert any(word in removed for word in ("useless peer", "mismatch", "read error")), removed
            await relay.rpc("admin_addPeer", geth.enode)  # the right one is still welcome
            await geth.until_peer(relay.node_key.public_key)


def _id(relay: RelayProcess) -> str:
    return relay.node_key.node_id.hex()[:16]
