"""What discovery does with I2P addresses: a network of its own, never mixed with another."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from relay.app.entry import entry_nodes, i2p_entries, onion_entries
from relay.app.networks import load_network
from relay.discovery.memory import NodeMemory
from relay.discovery.mix import dialable_in
from relay.discovery.nodedb import NodeDatabase
from relay.discovery.onion_dial import onion_dial
from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.enode import Enode
from relay.primitives.enr import NodeRecord, build_record
from relay.primitives.errors import DialRefused
from relay.primitives.i2p import i2p_from_hash
from relay.primitives.keys import NodeKey
from relay.primitives.node import Node
from relay.primitives.onion import OnionKey
from relay.protocols.discv5 import Contact, I2PNetwork, NodeDropped, NodeVerified, OnionNetwork
from relay.settings import load_settings
from relay.transports.pacing import I2P_PACE, DialPacer
from relay.transports.policy import Mode

ONION = OnionKey.from_seed(bytes(32)).address
DAY = 24 * 3600.0


def record(number: int, **more) -> NodeRecord:
    return build_record(NodeKey(bytes(31) + bytes((number,))), 1, **more)


def i2p(number: int):
    return i2p_from_hash(bytes(31) + bytes((number,)))


def test_address_of_a_record_is_its_i2p_entry_alone():
    network = I2PNetwork()
    both = record(1, i2p=i2p(1), onion3=ONION, tcp=30303)
    assert network.address_of(both) == Endpoint(Network.I2P, i2p(1), 0)
    assert network.address_of(record(1, onion3=ONION, tcp=30303)) is None
    assert OnionNetwork().address_of(record(1, i2p=i2p(1))) is None
    assert network.choose(Node.from_record(both).endpoints) == Endpoint(Network.I2P, i2p(1), 0)
    assert network.choose(Node.from_record(record(2, onion3=ONION, tcp=1)).endpoints) is None


def test_address_beside_an_ip_is_told_to_nobody():
    network, address = I2PNetwork(), Endpoint(Network.I2P, i2p(1), 0)
    assert network.may_tell(record(1, i2p=i2p(1)), address, address)
    assert not network.may_tell(record(1, i2p=i2p(1), ip="192.0.2.1", tcp=1), address, address)


def test_i2p_nodes_are_kept_apart_and_forgotten_apart(tmp_path: Path):
    database = NodeDatabase(tmp_path / "nodes.sqlite", now=lambda: DAY)
    kept, onions = (NodeMemory(database, name, lambda: DAY) for name in ("i2p", "onion"))
    shown = record(1, i2p=i2p(1), onion3=ONION, tcp=30303)
    for memory, network in ((kept, I2PNetwork()), (onions, OnionNetwork())):
        memory.take(NodeVerified(Contact(shown, network.address_of(shown))))
        memory.save()
    assert kept.seeds((Network.I2P,)) == kept.seeds((Network.ONION,)) == [shown]
    for _ in range(20):
        kept.take(NodeDropped(shown.node_id))
        kept.save()
    database.prune(DAY)
    assert kept.seeds((Network.I2P,)) == []
    assert onions.seeds((Network.ONION,)) == [shown]
    database.close()


def test_flood_of_free_addresses_on_one_network_leaves_the_others(tmp_path: Path):
    database = NodeDatabase(tmp_path / "nodes.sqlite", now=lambda: DAY, max_nodes=5)
    onion = record(1, onion3=ONION, tcp=30303)
    database.seen([onion], Network.ONION, DAY)
    database.seen([record(number, i2p=i2p(number)) for number in range(2, 60)], Network.I2P, DAY + 1)
    database.prune(DAY + 1)
    assert (database.count(Network.I2P), database.count(Network.ONION)) == (5, 1)
    database.close()


def test_record_without_the_entry_does_not_replace_one_that_has_it(tmp_path: Path):
    database = NodeDatabase(tmp_path / "nodes.sqlite", now=lambda: DAY)
    database.seen([record(1, i2p=i2p(1))], Network.I2P, DAY)
    database.seen([record(1, onion3=ONION, tcp=1)], Network.I2P, DAY)
    assert database.candidates(1, Network.I2P, DAY) == [record(1, i2p=i2p(1))]
    database.close()


def test_candidates_with_i2p_alone_are_taken_where_there_is_a_router():
    node = Node.from_record(record(1, i2p=i2p(1)))
    assert dialable_in(Mode.ONLY_I2P, i2p=True)(node) is None
    assert dialable_in(Mode.ONLY_ONION, i2p=True)(node) is None
    assert dialable_in(Mode.ONLY_ONION)(node) is not None


def test_bootnodes_are_told_apart_by_their_network():
    key = NodeKey(bytes(31) + b"\x07").public_key
    urls = [Enode(key, str(i2p(1)), 0, 0).url, Enode(key, str(ONION), 30303, 30303).url]
    argv = {
        "datadir": "/x",
        "i2p-sam": "127.0.0.1:7656",
        "tor-proxy": "127.0.0.1:9050",
        "bootnodes": ",".join(urls),
    }
    entry = entry_nodes(load_settings(argv, {}), load_network("mainnet"))
    assert [each.endpoints[0].network for each in i2p_entries(entry)] == [Network.I2P]
    assert [each.endpoints[0].network for each in onion_entries(entry)] == [Network.ONION]


class Nobody:
    async def dial(self, to, protocol_factory):
        raise AssertionError("dialed")


@pytest.mark.asyncio
async def test_streams_of_one_network_never_lead_to_the_other():
    loop = asyncio.get_running_loop()
    pacer = DialPacer(I2P_PACE, rand=bytes, now=loop.time)
    over_i2p = onion_dial(Nobody(), pacer, loop, Network.I2P)
    over_tor = onion_dial(Nobody(), pacer, loop)
    with pytest.raises(DialRefused, match="addresses of i2p only"):
        await over_i2p(Endpoint(Network.ONION, ONION, 30303), asyncio.Protocol)
    with pytest.raises(DialRefused, match="addresses of onion only"):
        await over_tor(Endpoint(Network.I2P, i2p(1), 0), asyncio.Protocol)
