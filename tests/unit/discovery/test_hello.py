"""Asking for a client's name, against the receiving side of the real protocol on loopback."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager, suppress

import pytest

from relay.discovery.crawled import Client, CrawledNode, Found, NodeSet
from relay.discovery.hello import HelloOptions, HelloScan, NoHello, ask_hello
from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.enr import build_record
from relay.primitives.errors import PeerError
from relay.protocols.devp2p.capabilities import Capability
from relay.protocols.devp2p.connection import DevP2PConnection
from relay.protocols.devp2p.events import Disconnected
from relay.protocols.devp2p.messages import DisconnectReason, Hello
from relay.protocols.eth.versions import BY_VERSION
from relay.transports.dialer import DialDeadlines, NodeDialer, dialers_of
from relay.transports.policy import Mode
from relay.transports.sockets import SocketFactory, SocketRules
from tests.aids.discv5 import node_key, udp_record
from tests.aids.until import until

US, THEM = node_key(1), node_key(2)


def hello_of(key, *capabilities: Capability, client: str = "Geth/v1.17.8/linux") -> Hello:
    offered = capabilities or tuple(version.capability for version in BY_VERSION.values())
    return Hello(5, client, offered, 0, key.public_key)


class Peer(asyncio.Protocol):
    """Accepts; `refuse` says no before Hello, `mute` says nothing at all, `cut` hangs up."""

    def __init__(
        self, hello: Hello, *, key=THEM, refuse: int | None = None, mute: bool = False, cut: bool = False
    ):
        self.connection = DevP2PConnection.recipient(key, hello, secrets.token_bytes)
        self.refuse, self.mute, self.cut = refuse, mute, cut
        self.said: list[object] = []
        self.lost = asyncio.Event()

    def connection_made(self, transport):
        self.transport = transport
        if self.cut:
            transport.abort()

    def data_received(self, data):
        if self.mute:
            return
        with suppress(PeerError):
            self.said += self.connection.receive(data)
        if self.refuse is not None and self.connection.handshake_done:
            self.connection.disconnect(self.refuse)
        self.transport.write(self.connection.take_output())

    def connection_lost(self, exc):
        self.lost.set()


@asynccontextmanager
async def listening(peer: Peer):
    server = await asyncio.get_running_loop().create_server(lambda: peer, "127.0.0.1", 0)
    record = build_record(THEM, 1, ip="127.0.0.1", tcp=server.sockets[0].getsockname()[1])
    node = CrawledNode(THEM.public_key, THEM.node_id)
    node.adopt(Found(THEM.public_key, THEM.node_id, record, None))
    try:
        yield node
    finally:
        server.close()


def dialer(mode: Mode = Mode.NO_TOR) -> NodeDialer:
    sockets = SocketFactory(SocketRules.of_mode(mode))
    return NodeDialer(mode, dialers_of(mode, sockets, None), deadlines=DialDeadlines(direct=2.0))


async def ask(node: CrawledNode, mode: Mode = Mode.NO_TOR, **more) -> Client:
    return await ask_hello(
        dialer(mode), node, US, hello_of(US), rand=secrets.token_bytes,
        **({"allow_private": True, "options": HelloOptions(deadline=1.0)} | more),
    )  # fmt: skip


async def test_a_node_tells_its_name_and_we_say_goodbye_at_once():
    peer = Peer(hello_of(THEM))
    async with listening(peer) as node:
        client = await ask(node)
        await asyncio.wait_for(peer.lost.wait(), 3)
    assert client.name == "Geth/v1.17.8/linux"
    assert "eth/69" in client.capabilities
    assert Disconnected(DisconnectReason.REQUESTED) in peer.said


async def test_one_with_nothing_in_common_has_a_name_all_the_same():
    peer = Peer(hello_of(THEM, Capability("les", 4, 24), client="old/1"))
    async with listening(peer) as node:
        assert await ask(node) == Client("old/1", ("les/4",))


@pytest.mark.parametrize(("reason", "full"), [(0x04, True), (0x05, True), (0x03, False), (0x10, False)])
async def test_a_node_that_says_no_before_its_hello_says_whether_it_is_full(reason, full):
    async with listening(Peer(hello_of(THEM), refuse=reason)) as node:
        with pytest.raises(NoHello) as failed:
            await ask(node)
    assert failed.value.full is full


@pytest.mark.parametrize("trait", [{"mute": True}, {"cut": True}, {"key": node_key(3)}])
async def test_one_that_is_mute_hangs_up_or_is_somebody_else_gives_no_name(trait):
    async with listening(Peer(hello_of(THEM), **trait)) as node:
        with pytest.raises(NoHello):
            await ask(node, options=HelloOptions(deadline=0.1))


async def test_nobody_there():
    async with listening(Peer(hello_of(THEM))) as node:
        pass
    with pytest.raises(NoHello, match="refused"):
        await ask(node)


async def test_private_addresses_that_strangers_tell_of_are_not_dialed():
    peer = Peer(hello_of(THEM))
    async with listening(peer) as node:
        with pytest.raises(NoHello, match="private"):
            await ask(node, allow_private=False)
    assert not hasattr(peer, "transport")


async def test_only_onion_dials_no_ip():
    peer = Peer(hello_of(THEM))
    async with listening(peer) as node:
        with pytest.raises(NoHello, match="dials nothing else"):
            await ask(node, Mode.ONLY_ONION)
    assert not hasattr(peer, "transport")


async def test_garbage_is_no_name():
    async def garbage(_reader, writer):
        writer.write(secrets.token_bytes(600))
        writer.close()

    server = await asyncio.start_server(garbage, "127.0.0.1", 0)
    async with server:
        record = build_record(THEM, 1, ip="127.0.0.1", tcp=server.sockets[0].getsockname()[1])
        node = CrawledNode(THEM.public_key, THEM.node_id)
        node.adopt(Found(THEM.public_key, THEM.node_id, record, Endpoint(Network.IPV4, "127.0.0.1", 1)))
        with pytest.raises(NoHello):
            await ask(node)


# -- the scan ------------------------------------------------------------------------------------------


def answered(nodes: NodeSet, number: int, **more) -> CrawledNode:
    record = udp_record(number, **more)
    nodes.hear(Found(record.public_key, record.node_id, record, None))
    nodes.answer(record.node_id, "v5")
    return nodes.get(record.node_id)


class Asked:
    """Answers by script: for each node the outcomes of its tries."""

    def __init__(self, outcomes: dict[int, list[object]]) -> None:
        self.outcomes = {node_key(number).node_id: list(each) for number, each in outcomes.items()}
        self.running = self.most = 0

    async def __call__(self, node: CrawledNode) -> Client:
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        outcome = self.outcomes[node.node_id].pop(0)
        if isinstance(outcome, NoHello):
            raise outcome
        return outcome


@asynccontextmanager
async def scanning(nodes: NodeSet, asked: Asked, **changes):
    scan = HelloScan(nodes, asked, options=HelloOptions(**({"retry": 0.01} | changes)))
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(scan.run())
        yield scan
        task.cancel()


async def test_each_node_that_answers_is_asked_once_and_told_of():
    nodes, name = NodeSet(lambda: 0.0), Client("a/1", ())
    asked, told = Asked({1: [name], 2: [NoHello("shy")]}), []
    async with scanning(nodes, asked) as scan:
        scan.on_asked = told.append
        first, second = answered(nodes, 1), answered(nodes, 2)
        nodes.answer(first.node_id, "v4")
        assert not scan.idle
        await until(lambda: scan.idle and len(told) == 2, "all asked")
    assert (first.client, first.hello) == (name, "")
    assert (second.client, second.hello) == (None, "shy")


async def test_a_full_node_is_asked_again_but_not_for_ever():
    nodes, name, full = NodeSet(lambda: 0.0), Client("a/1", ()), NoHello("too many peers", full=True)
    asked, told = Asked({1: [full, name], 2: [full] * 9}), []
    async with scanning(nodes, asked) as scan:
        scan.on_asked = told.append
        first, second = answered(nodes, 1), answered(nodes, 2)
        await until(lambda: scan.idle and len(told) == 2, "all asked")
    assert (first.client, second.client, second.hello) == (name, None, "too many peers")
    assert len(asked.outcomes[second.node_id]) == 9 - 3


async def test_consensus_clients_are_not_dialed():
    nodes, told = NodeSet(lambda: 0.0), []
    async with scanning(nodes, Asked({})) as scan:
        scan.on_asked = told.append
        node = answered(nodes, 1, extra={"eth2": b"\0" * 16})
        assert scan.idle
    assert told == [node]
    assert "consensus" in node.hello


async def test_no_more_are_dialed_at_a_time_than_allowed():
    nodes = NodeSet(lambda: 0.0)
    asked = Asked({number: [Client("a", ())] for number in range(20)})
    async with scanning(nodes, asked, dials=3) as scan:
        for number in range(20):
            answered(nodes, number)
        await until(lambda: scan.idle, "all asked")
    assert asked.most == 3
