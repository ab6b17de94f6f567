"""A node for an occasion: what each mode's settings make of it, and what they refuse."""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from relay.app.networks import current_fork_id, load_network
from relay.app.standalone import StandaloneNode, known_forks, standalone_discovery
from relay.discovery.crawled import NodeSet
from relay.discovery.crawler import Crawler
from relay.discovery.driver import CoreDriver
from relay.discovery.onion_dial import onion_dial
from relay.discovery.streams import OnionStreams
from relay.discovery.udp import ClearnetDiscovery
from relay.primitives.address import parse_address
from relay.primitives.enode import Enode
from relay.primitives.enr import NodeRecord, build_record
from relay.primitives.errors import LocalError, UsageError
from relay.primitives.keys import NodeKey
from relay.primitives.node import Node
from relay.primitives.onion import OnionKey
from relay.protocols.discv5 import ONION, Discv5, OnionNetwork
from relay.settings import Settings, load_settings
from relay.transports.pacing import DialPacer, Pace
from relay.transports.policy import Mode
from relay.transports.sockets import SocketFactory, SocketRules
from relay.transports.socks_dialer import Isolation, Purpose, SocksDialer
from tests.aids.discv5 import node_key, onion_record, udp_record
from tests.aids.dns_server import HOST, DnsServerAid
from tests.aids.dnsdisc import signed_tree, tree_key, tree_records
from tests.aids.socks_server import ATYP_NAME, SocksServer
from tests.aids.until import until
from tests.unit.discovery.test_hello import Peer as HelloPeer
from tests.unit.discovery.test_hello import hello_of

PROXY = "127.0.0.1:9"


def settings(tmp_path: Path, **given: str) -> Settings:
    flags = {name.replace("_", "-"): value for name, value in given.items()}
    return load_settings({"datadir": str(tmp_path / "none"), "listen-address": "127.0.0.1"} | flags, {})


def onion_text(number: int) -> str:
    return onion_record(number).to_text()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"discovery": "off"}, "leaves nothing to look with"),
        ({"discovery": "dns", "dns_lists": ""}, "--discovery dns leaves nothing"),
        ({"only_onion": "1", "tor_proxy": PROXY}, "no bootnode of mainnet can be reached by onion"),
        ({"only_onion": "1", "tor_proxy": PROXY, "bootnodes": udp_record(1).to_text()}, "reached by onion"),
        ({"bootnodes": onion_text(1)}, "can be reached by v4 or v5"),
        ({"bootnodes": Enode(node_key(1).public_key, None, 0, 0).url}, "nobody to begin with"),
        ({"network": "nowhere"}, "no such network"),
    ],
)
async def test_what_leads_nowhere_is_refused_with_the_way_out(tmp_path, given, words):
    with pytest.raises(UsageError, match=words):
        async with standalone_discovery(settings(tmp_path, **given)):
            pass
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("discovery", "sources"), [("v5", ["v5"]), ("v4", ["v4"]), ("v4,v5,dns", ["v5", "v4", "dns"])]
)
async def test_without_tor_there_is_udp_as_asked_for(tmp_path, discovery, sources):
    boot = udp_record(1, ip="127.0.0.1").to_text()
    async with standalone_discovery(settings(tmp_path, discovery=discovery, bootnodes=boot)) as node:
        assert [source.name for source, _ in node.crawl_sources()] == sources
        assert node.udp is not None
        assert node.udp.port > 0
        assert (node.onion, node.allow_private, node.hello_options.dials) == (None, True, 16)
    assert not (tmp_path / "none").exists()


async def test_where_the_mode_hides_the_ip_there_is_no_udp(tmp_path):
    for more in ({"only_onion": "1"}, {"clearnet": "tor"}):
        given = settings(tmp_path, tor_proxy=PROXY, bootnodes=onion_text(1), dns_lists="", **more)
        async with standalone_discovery(given) as node:
            assert given.mode.hides_ip
            assert [source.name for source, _ in node.crawl_sources()] == ["onion"]
            assert node.udp is None
            assert node.hello_options.dials < 16


async def test_with_tor_and_clearnet_there_are_all(tmp_path):
    boot = f"{onion_text(1)},{udp_record(2).to_text()}"
    async with standalone_discovery(settings(tmp_path, tor_proxy=PROXY, bootnodes=boot)) as node:
        assert node.mode is Mode.DEFAULT
        assert [source.name for source, _ in node.crawl_sources()] == ["v5", "v4", "onion", "dns"]


async def test_the_presets_bootnodes_are_taken_where_none_are_given(tmp_path):
    async with standalone_discovery(settings(tmp_path, network="hoodi")) as node:
        assert len(node.entry) > 5


async def test_what_the_block_raises_comes_out_as_it_is(tmp_path):
    error = LocalError("mine")
    with pytest.raises(LocalError) as raised:
        async with standalone_discovery(settings(tmp_path, bootnodes=udp_record(1).to_text())):
            raise error
    assert raised.value is error


async def test_a_deadline_passes_through(tmp_path):
    given = settings(tmp_path, bootnodes=udp_record(1).to_text())

    async def wait_for_ever() -> None:
        async with asyncio.timeout(0.05), standalone_discovery(given):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await wait_for_ever()


async def test_an_enodes_udp_port_is_where_it_is_called(tmp_path):
    key, loop = NodeKey.generate(secrets.token_bytes), asyncio.get_running_loop()
    record = build_record(key, 1)
    them = ClearnetDiscovery(
        key, lambda: record, clock=loop, unix=time.time, rand=secrets.token_bytes, v4=True, v5=False
    )
    await them.start(SocketFactory(SocketRules.anywhere()), "127.0.0.1", 0)
    boot = Enode(key.public_key, "127.0.0.1", 1, them.port).url
    try:
        async with standalone_discovery(settings(tmp_path, discovery="v4", bootnodes=boot)) as node:
            nodes = await crawled(node, 1)
    finally:
        them.stop()
    assert [each.node_id for each in nodes.answered()] == [key.node_id]


async def crawled(node: StandaloneNode, wanted: int) -> NodeSet:
    nodes = NodeSet(time.time)
    crawler = Crawler(node.crawl_sources(), nodes, clock=asyncio.get_running_loop(), forever=True)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(crawler.run())
        await until(lambda: nodes.alive >= wanted, lambda: f"{wanted} nodes, found {nodes.alive}", 20.0)
        crawler.stop()
    return nodes


@asynccontextmanager
async def onion_node(number: int, proxy: SocksServer, knows: NodeRecord | None):
    """A node that is reached through the proxy by its onion, and not known by any IP."""
    loop, key = asyncio.get_running_loop(), node_key(number)
    onion = OnionKey.from_seed(bytes([number]) * 32).address
    record = build_record(key, 1, onion3=onion, tcp=30303, fork_id=current_fork_id(load_network("mainnet")))
    address = parse_address(proxy.address)
    sockets = SocketFactory(SocketRules.only(address))
    socks = SocksDialer(
        sockets, address, Isolation(secrets.token_bytes), purpose=Purpose.DISCOVERY, exits=False
    )
    pacer = DialPacer(Pace(1000.0, 0.0, 100, 100), rand=secrets.token_bytes, now=loop.time)
    core = Discv5(key, lambda: record, OnionNetwork(), ONION, rand=secrets.token_bytes)
    if knows is not None:
        core.add_bootnode(knows)
    async with asyncio.TaskGroup() as tasks:
        streams = OnionStreams(onion_dial(socks, pacer, loop), tasks=tasks, clock=loop)
        driver = CoreDriver(core, streams.send, clock=loop)
        streams.attach(driver)
        server = await loop.create_server(streams.protocol, "127.0.0.1", 0)
        proxy.routes[onion, 30303] = ("127.0.0.1", server.sockets[0].getsockname()[1])
        driver.start()
        try:
            yield record
        finally:
            driver.stop()
            streams.close()
            server.close()


async def test_only_onion_finds_onions_through_the_proxy_by_an_enode_alone(tmp_path):
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(SocksServer(routes={}))
        records: list[NodeRecord] = []
        for number in (1, 2, 3):
            before = records[-1] if records else None
            records.append(await stack.enter_async_context(onion_node(number, proxy, before)))
        boot = Node.from_record(records[-1]).enode.url
        given = settings(tmp_path, only_onion="1", tor_proxy=str(proxy.address), bootnodes=boot)
        async with standalone_discovery(given) as node:
            nodes = await crawled(node, 3)
        assert all(each.address_type == ATYP_NAME and each.host.endswith(".onion") for each in proxy.asked)
    assert {each.node_id for each in nodes.answered()} == {each.node_id for each in records}
    assert all(each.answered == {"onion"} and each.fork_id is not None for each in nodes.answered())


async def test_behind_tor_a_list_alone_leads_to_nodes_that_are_dialed_through_exits(tmp_path):
    domain, records = "nodes.example.org", tree_records(3)
    tree, link = signed_tree(domain, records)

    def accept() -> asyncio.Protocol:
        return HelloPeer(hello_of(tree_key(0)), key=tree_key(0))

    server = await asyncio.get_running_loop().create_server(accept, HOST, 0)
    async with DnsServerAid.of_zone(tree.zone_file(domain), domain) as dns:
        routes = {
            ("dns.test", 53): (HOST, dns.port),
            (records[0].ip, records[0].tcp): (HOST, server.sockets[0].getsockname()[1]),
        }
        async with SocksServer(routes=routes) as proxy:
            given = settings(
                tmp_path, clearnet="tor", tor_proxy=proxy.address, discovery="dns", dns_lists=str(link),
                dns_resolver="tcp://dns.test",
            )  # fmt: skip
            async with standalone_discovery(given) as node:
                nodes = await crawled(node, 1)
                assert (node.udp, node.onion) == (None, None)
            asked = {(each.host, each.port) for each in proxy.asked}
    server.close()
    (found,) = nodes.answered()
    assert (found.node_id, found.answered) == (records[0].node_id, {"dns"})
    assert found.client is not None
    assert found.client.name == "Geth/v1.17.8/linux"
    assert asked <= {("dns.test", 53), *((each.ip, each.tcp) for each in records)}


async def test_records_of_a_list_are_called_by_udp_where_there_is_udp(tmp_path):
    domain, loop, key = "nodes.example.org", asyncio.get_running_loop(), node_key(7)
    holder = [build_record(key, 1)]
    them = ClearnetDiscovery(
        key, lambda: holder[0], clock=loop, unix=time.time, rand=secrets.token_bytes, v4=False, v5=True
    )
    await them.start(SocketFactory(SocketRules.anywhere()), HOST, 0)
    holder[0] = build_record(key, 2, ip=HOST, udp=them.port, tcp=them.port)
    tree, link = signed_tree(domain, holder)
    try:
        async with DnsServerAid.of_zone(tree.zone_file(domain), domain) as dns:
            given = settings(
                tmp_path, discovery="v5,dns", bootnodes="", dns_lists=str(link),
                dns_resolver=f"tcp://{HOST}:{dns.port}",
            )  # fmt: skip
            async with standalone_discovery(given) as node:
                nodes = await crawled(node, 1)
    finally:
        them.stop()
    assert [(each.node_id, each.answered) for each in nodes.answered()] == [(key.node_id, {"v5"})]


def test_forks_of_all_shipped_networks_are_known_and_of_a_file_first(tmp_path):
    names = known_forks(settings(tmp_path, network="sepolia"))
    for network in ("mainnet", "sepolia", "hoodi"):
        found = names.name(current_fork_id(load_network(network)))
        assert found is not None
        assert found.chain == network
