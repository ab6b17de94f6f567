"""The daemon with two identities, beside a scripted Tor: what each has, and never tells of the other."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from functools import partial

import pytest

from relay.app import pair as pair_module
from relay.app.bridge import Bridge, BridgeOptions
from relay.app.daemon import Daemon
from relay.app.datadir import DataDir
from relay.chain.transactions import wire
from relay.primitives.endpoint import Endpoint
from relay.primitives.enode import Enode
from relay.primitives.enr import NodeRecord
from relay.primitives.errors import KeyFileError, StorageError, UsageError
from relay.primitives.keys import NodeKey
from relay.primitives.node import Node
from relay.primitives.onion import OnionKey
from relay.protocols.devp2p.messages import DisconnectReason
from relay.protocols.eth import messages as m
from relay.relaying.handler import EthRelay
from relay.settings.identities import Side
from relay.transports.policy import Way
from tests.aids.chain import OwnChain
from tests.aids.control_server import DROP, control_server
from tests.aids.linking import enode_of, heard
from tests.aids.peering import key_of, rand_of
from tests.aids.running import Running, running
from tests.aids.scripted_peer import ScriptedPeer
from tests.aids.socks_server import SocksServer
from tests.aids.until import stays, until

KEY = OnionKey.generate(rand_of(5))
OTHER = OnionKey.generate(rand_of(6)).address


@pytest.fixture
def chain(tmp_path):
    return OwnChain(tmp_path)


@pytest.fixture(autouse=True)
def _quick_bridge(monkeypatch):
    quick = BridgeOptions(mean=0.05, gather=0.05)
    monkeypatch.setattr(pair_module, "Bridge", partial(Bridge, options=quick))


class Dual(Running):
    """A daemon with both, whose listeners are told apart."""

    def listener(self, label="clearnet"):
        (found,) = [each["address"] for each in self.events("listening") if each["listener"] == label]
        host, _, port = found.rpartition(":")
        return host, int(port)

    @property
    def sides(self):
        return {each.side: each for each in self.daemon.identities}


@asynccontextmanager
async def dual(tmp_path, settings_of, chain, **flags):
    """One that runs, with its proxy and control port."""
    data = DataDir(tmp_path / "relay")
    (data.path / "onion_key").write_bytes(KEY.to_tor_file())
    service_id = KEY.address.removesuffix(".onion")
    async with SocksServer() as proxy, control_server(tmp_path, service_id=service_id) as control:
        tor = {"tor-proxy": proxy.address, "tor-control": f"127.0.0.1:{control.port}"}
        settings = settings_of(**tor, network=chain.genesis, **flags)
        async with running(settings) as relay:
            relay.__class__ = Dual
            await until(lambda: relay.events("onion service up"), "published")
            yield relay, proxy, control


@asynccontextmanager
async def peer_on(relay, chain, network, key=None):
    async with await ScriptedPeer.dial(await enode_of(relay, network), chain.config, key=key) as peer:
        await peer.join()
        yield peer


async def test_each_has_a_key_a_record_and_a_folder_of_its_own(tmp_path, settings_of, chain):
    async with dual(tmp_path, settings_of, chain) as (relay, _, _):
        info = await relay.rpc("admin_nodeInfo")
        onion, clearnet = info["identities"]["onion"], info["identities"]["clearnet"]
        assert {name: value for name, value in info.items() if name != "identities"} == onion
        assert info["enode"].endswith(f"@{KEY.address}:30303?discport=0")
        assert clearnet["enode"].endswith(f"@127.0.0.1:{relay.listener()[1]}?discport=0")
        records = [NodeRecord.from_text(each["enr"]) for each in (onion, clearnet)]
        assert [each["identity"] for each in relay.events("record")] == ["onion", "clearnet"]
        assert [each.onion3 for each in records] == [KEY.address, None]
        assert len({each.public_key for each in records}) == 2
        keys = [
            NodeKey(bytes.fromhex((tmp_path / "relay" / each / "nodekey").read_text()))
            for each in ("", "clearnet")
        ]
        assert [each.public_key for each in keys] == [each.public_key for each in records]
        assert (tmp_path / "relay" / "clearnet").stat().st_mode & 0o777 == 0o700
        before = [each["enode"].partition("@")[0] for each in (onion, clearnet)]
        assert "identities" not in onion
    async with dual(tmp_path, settings_of, chain) as (relay, _, _):
        again = (await relay.rpc("admin_nodeInfo"))["identities"]
        assert [again[each]["enode"].partition("@")[0] for each in ("onion", "clearnet")] == before
    for name in ("record.json", "peers.json", "nodes.sqlite"):
        assert (tmp_path / "relay" / name).exists()
        assert (tmp_path / "relay" / "clearnet" / name).exists()


async def test_a_second_key_that_is_none_ends_the_start_and_frees_the_folder(settings_of, tmp_path):
    settings = settings_of(**{"tor-proxy": "127.0.0.1:9"})
    inner = DataDir(settings.datadir / "clearnet")
    (inner.path / "nodekey").write_text("no key")
    with pytest.raises(KeyFileError, match="clearnet/nodekey: not a node key"):
        Daemon(settings)
    DataDir(settings.datadir).lock()


async def test_the_second_folder_is_held_as_well_and_let_go_of(settings_of, tmp_path, chain):
    inner = DataDir(tmp_path / "relay" / "clearnet")
    inner.lock()
    with pytest.raises(StorageError, match="clearnet is in use by another pyrelay"):
        Daemon(settings_of(**{"tor-proxy": "127.0.0.1:9"}))
    inner.unlock()
    (inner.path / "nodekey").write_text("no key")
    with pytest.raises(KeyFileError):
        Daemon(settings_of(**{"tor-proxy": "127.0.0.1:9"}))
    (inner.path / "nodekey").unlink()
    async with dual(tmp_path, settings_of, chain):
        with pytest.raises(StorageError, match="in use"):
            inner.lock()
    inner.lock()
    inner.unlock()
    with pytest.raises(UsageError, match="--tor-password-file"):
        Daemon(settings_of(**{"tor-proxy": "127.0.0.1:9", "tor-password-file": "/nonexistent"}))
    inner.lock()


async def test_one_key_for_both_ends_the_start(settings_of, tmp_path):
    settings = settings_of(**{"tor-proxy": "127.0.0.1:9"})
    key = DataDir(settings.datadir / "clearnet").node_key(None, rand_of(7)).secret.hex()
    (settings.datadir / "nodekey").write_text(key)
    with pytest.raises(
        KeyFileError, match=r"clearnet/nodekey is the key of the onion identity.*remove that file"
    ):
        Daemon(settings)
    DataDir(settings.datadir).lock()


async def test_one_identity_when_asked_for_with_a_warning(tmp_path, settings_of, chain):
    async with dual(tmp_path, settings_of, chain, **{"single-identity": "true"}) as (relay, _, _):
        assert "identities" not in await relay.rpc("admin_nodeInfo")
        assert [each.side for each in relay.daemon.identities] == [None]
        assert any("one node key" in each["event"] for each in relay.logs)
        assert not (tmp_path / "relay" / "clearnet").exists()
        async with peer_on(relay, chain, "clearnet"):
            assert "identity" not in (await relay.rpc("admin_peers"))[0]


async def test_their_rounds_of_housekeeping_are_at_moments_of_their_own(
    tmp_path, settings_of, chain, monkeypatch
):
    """Block ranges are told in these rounds: at which part of a second shows who has them in common."""
    begun, start = [], EthRelay.start

    def noted(eth, after=0.0):
        begun.append(after)
        start(eth, after)

    monkeypatch.setattr(EthRelay, "start", noted)
    async with dual(tmp_path, settings_of, chain) as (relay, _, _):
        assert len(set(begun)) == 2
        assert all(0.0 <= each < 1.0 for each in begun)
        await until(lambda: all(each.eth._timer is not None for each in relay.sides.values()), "they run")
        # The same of the rounds in which peers of before are dialed again.
        pauses = [each.sources._pause() for each in relay.sides.values() for _ in range(3)]
        assert len(set(pauses)) == 6
        assert all(30.0 <= each <= 90.0 for each in pauses)
    assert all(each.eth._timer is None for each in relay.sides.values())


async def test_neither_has_the_other_one_s_ways_out(tmp_path, settings_of, chain):
    async with dual(tmp_path, settings_of, chain) as (relay, _, _):
        onion, clearnet = relay.sides[Side.ONION], relay.sides[Side.CLEARNET]
        assert onion.ways.nodes._dialers.keys() == {Way.TOR_ONION}
        assert onion.ways.nodes._resolver is None
        assert clearnet.ways.nodes._dialers.keys() == {Way.DIRECT}
        assert (clearnet.ways.socks, clearnet.ways.lists, clearnet.ways.private) == (None, None, None)
        assert onion.discovery._names <= {"onion", "dht"}


async def test_each_peer_is_told_of_with_its_identity_and_all_are_counted(tmp_path, settings_of, chain):
    async with (
        dual(tmp_path, settings_of, chain) as (relay, _, _),
        peer_on(relay, chain, "onion"),
        peer_on(relay, chain, "clearnet"),
        peer_on(relay, chain, "clearnet"),
    ):
        peers = await relay.rpc("admin_peers")
        assert sorted((each["identity"], each["network"]["inbound"]) for each in peers) == [
            ("clearnet", True), ("clearnet", True), ("onion", True),
        ]  # fmt: skip
        assert await relay.rpc("net_peerCount") == "0x3"
        assert await relay.metric("p2p_peers") == await relay.metric("p2p_serves_success") == 3
        _, page = await relay.page("/debug/metrics")
        assert 'pyrelay_peers{direction="inbound",network="onion"} 1' in page
        assert 'pyrelay_peers{direction="inbound",network="ipv4"} 2' in page
        assert "clearnet" not in page


async def test_a_stop_says_goodbye_on_both_sides(tmp_path, settings_of, chain):
    async with (
        dual(tmp_path, settings_of, chain) as (relay, _, _),
        peer_on(relay, chain, "onion") as far,
        peer_on(relay, chain, "clearnet") as near,
    ):
        relay.daemon.stop()
        assert await far.ended() == await near.ended() == DisconnectReason.CLIENT_QUITTING


async def test_a_transaction_of_one_side_is_seen_on_the_other_and_told_to_clients_once(
    tmp_path, settings_of, chain
):
    async with (
        dual(tmp_path, settings_of, chain) as (relay, _, _),
        peer_on(relay, chain, "onion") as far,
        peer_on(relay, chain, "clearnet") as near,
    ):
        told = []
        relay.daemon.main.news.listen(lambda tx: told.append(tx.hash))
        tx_hash, raw = chain.sign()
        near.say(m.Transactions((wire(raw),)))
        await far.wait(lambda: heard(far) == [tx_hash], "it crosses", 20)
        assert told == [tx_hash]
        assert await relay.rpc("txpool_status") == {"pending": "0x1", "queued": "0x0"}
        assert (await relay.rpc("eth_getTransactionByHash", "0x" + tx_hash.hex())) is not None
        assert len(await relay.rpc("eth_pendingTransactions")) <= 1
        content = await relay.rpc("txpool_content")
        assert sum(map(len, content["pending"].values())) == 1
        assert heard(near) == []


async def test_who_subscribes_hears_of_each_transaction_once(tmp_path, settings_of, chain):
    async with (
        dual(tmp_path, settings_of, chain) as (relay, _, _),
        peer_on(relay, chain, "onion") as far,
        peer_on(relay, chain, "clearnet") as near,
    ):
        reader, writer = await asyncio.open_unix_connection(str(relay.settings.ipc_path))
        call = {"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newPendingTransactions"]}
        writer.write(json.dumps(call).encode())
        await reader.readline()
        first, second = chain.sign(), chain.sign()
        near.say(m.Transactions((wire(first[1]),)))
        await far.wait(lambda: heard(far) == [first[0]], "the first crosses", 20)
        far.say(m.Transactions((wire(second[1]),)))
        await near.wait(lambda: heard(near) == [second[0]], "the second, too", 20)
        lines = [json.loads(await reader.readline())["params"]["result"] for _ in range(2)]
        assert lines == ["0x" + each.hex() for each, _ in (first, second)]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await reader.readline()
        writer.close()


async def test_own_transactions_never_appear_on_clearnet_first(tmp_path, settings_of, chain):
    """Without private broadcast the onion peers get it; clearnet after one of them has brought it back."""
    flags = {"private-broadcast": "off"}
    async with (
        dual(tmp_path, settings_of, chain, **flags) as (relay, _, _),
        peer_on(relay, chain, "onion") as far,
        peer_on(relay, chain, "onion") as listened_to,
        peer_on(relay, chain, "clearnet") as near,
    ):
        tx_hash, raw = chain.sign()
        await relay.rpc("eth_sendRawTransaction", "0x" + raw.hex())
        await until(lambda: heard(far) or heard(listened_to), "an onion peer has it")
        await stays(lambda: not heard(near), "clearnet is not told", 0.5)
        near.say(m.GetPooledTransactions(3, (tx_hash,)))
        assert (await near.expect(m.PooledTransactions)).items == ()
        echo = listened_to if heard(far) else far
        echo.say(m.NewPooledTransactionHashes(raw[:1], (len(raw),), (tx_hash,)))
        await near.wait(lambda: heard(near) == [tx_hash], "now it is", 20)


async def test_an_own_transaction_on_its_private_way_is_on_neither_side(tmp_path, settings_of, chain):
    async with (
        dual(tmp_path, settings_of, chain) as (relay, _, _),
        peer_on(relay, chain, "onion") as far,
        peer_on(relay, chain, "clearnet") as near,
    ):
        tx_hash, raw = chain.sign()
        await relay.rpc("eth_sendRawTransaction", "0x" + raw.hex())
        await stays(lambda: not heard(near) and not heard(far), "nobody is told", 0.3)
        near.say(m.Transactions((wire(raw),)))  # somebody to whom it was brought through an exit
        await far.wait(lambda: heard(far) == [tx_hash], "it is as anybody's from then on", 20)
        told = await relay.rpc("relay_trackTransaction", "0x" + tx_hash.hex())
        assert told["private"] == "came back"


async def test_receivers_of_private_broadcast_are_looked_for_on_both_sides(tmp_path, settings_of, chain):
    async with dual(tmp_path, settings_of, chain) as (relay, _, _):
        await relay.rpc("admin_addPeer", Enode(key_of(1).public_key, OTHER, 30303, 0).url)
        await relay.rpc("admin_addPeer", Enode(key_of(2).public_key, "203.0.114.7", 30303, 0).url)
        found = relay.daemon._private.addressees()
        assert {each.key: each.onion for each in found} == {
            key_of(1).public_key: True,
            key_of(2).public_key: False,
        }
        sides = relay.sides
        assert sides[Side.ONION].scheduler.is_static(key_of(1).public_key)
        assert sides[Side.CLEARNET].scheduler.is_static(key_of(2).public_key)
        own = [Enode(each.key.public_key, "203.0.114.8", 30303, 0).url for each in relay.daemon.identities]
        for url in own:
            await relay.rpc("admin_addPeer", url)
        keys = {each.key for each in relay.daemon._private.addressees()}
        assert not keys & {each.key.public_key for each in relay.daemon.identities}


async def test_a_node_of_the_one_is_not_dialed_by_the_other(tmp_path, settings_of, chain):
    """The same key, known on clearnet by its IP and on the onion network by its onion."""
    key = key_of(3)
    async with dual(tmp_path, settings_of, chain) as (relay, proxy, _):
        onion = relay.sides[Side.ONION]
        async with peer_on(relay, chain, "clearnet", key):
            node = Node(key.public_key, (Endpoint.parse(OTHER, 30303),))
            assert onion.scheduler._candidate(node) is None
            assert onion.sources.mix.feed("onion").offer(node)
            await stays(lambda: not proxy.asked, "it is not dialed", 0.5)
        await until(lambda: not relay.sides[Side.CLEARNET].holds(key.public_key), "it is gone")
        assert onion.scheduler._candidate(node) is not None


async def test_who_comes_to_both_by_itself_is_not_refused(tmp_path, settings_of, chain):
    """A refusal would tell anybody with a key whether these two are one."""
    key = key_of(3)
    async with (
        dual(tmp_path, settings_of, chain) as (relay, _, _),
        peer_on(relay, chain, "clearnet", key) as near,
        peer_on(relay, chain, "onion", key) as far,
    ):
        await near.served()
        await far.served()
        assert {each["identity"] for each in await relay.rpc("admin_peers")} == {"onion", "clearnet"}


async def test_a_node_that_shows_both_addresses_is_a_candidate_of_one(tmp_path, settings_of, chain):
    both = Node(key_of(3).public_key, tuple(Endpoint.parse(host, 30303) for host in ("8.8.8.8", OTHER)))
    for more, mine, other in (
        ({}, Side.CLEARNET, Side.ONION),
        ({"prefer-tor": "true"}, Side.ONION, Side.CLEARNET),
    ):
        async with dual(tmp_path, settings_of, chain, maxpeers="0", **more) as (relay, _, _):
            feeds = {side: each.sources.mix.feed("dht") for side, each in relay.sides.items()}
            feeds[mine].offer(both)
            assert not feeds[other].offer(both)
            assert feeds[other].refused["for the other identity"] == 1
            assert "for the other identity" not in feeds[mine].refused


async def test_dials_of_clearnet_do_not_begin_anew_when_tor_is_back(tmp_path, settings_of, chain):
    """With one identity they do: whoever waits for both learns when this host's Tor was away."""
    for flags, anew in (({}, False), ({"single-identity": "true"}, True)):
        async with dual(tmp_path, settings_of, chain, **flags) as (relay, _, control):
            await relay.rpc("admin_addPeer", Enode(key_of(7).public_key, "127.0.0.1", 9, 0).url)
            identity = relay.daemon.identities[-1]
            target = identity.scheduler._static[key_of(7).public_key]
            await until(lambda: target.failures == 1, "a dial has failed")  # noqa: B023
            target.failures, target.not_before = 5, target.not_before + 1000  # as after some minutes
            control.answers["PROTOCOLINFO"] = DROP
            control.drop()
            await relay.event("onion service down")
            control.answers.clear()
            await relay.event("onion service up", count=2)
            assert (target.failures < 5) == anew


async def test_the_number_of_one_record_does_not_move_with_the_other_s(tmp_path, settings_of, chain):
    for flags, alike in (({}, False), ({"single-identity": "true"}, True)):
        async with dual(tmp_path, settings_of, chain, **flags) as (relay, _, control):
            first, last = relay.daemon.identities[0].record, relay.daemon.identities[-1].record
            before = first.record.seq, last.record.seq
            control.answers["PROTOCOLINFO"] = DROP
            control.drop()
            await relay.event("onion service down")
            after = first.record.seq, last.record.seq
            assert after[0] == before[0] + 1
            assert (after[1] == before[1] + 1) == alike
