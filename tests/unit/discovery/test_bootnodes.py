"""By whom discovery enters over UDP."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest
from structlog.testing import capture_logs

from relay.discovery import bootnodes as module
from relay.discovery.bootnodes import resolved, udp_endpoint, v4_contact
from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.enode import Enode
from relay.primitives.enr import build_record
from relay.primitives.node import Node
from relay.protocols.discv5 import UdpNetwork
from relay.transports.sockets import SocketFactory, SocketRules
from tests.aids.discv5 import node_key, onion_record, udp_record

KEY = node_key(1).public_key
NETWORK = UdpNetwork()


def factory(*hosts: str) -> SocketFactory:
    def lookup(name: str, port: int) -> list[Any]:
        if not hosts:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in hosts]

    return SocketFactory(SocketRules.anywhere(), lookup=lookup)


async def endpoints(*bootnodes: Node | Enode, hosts: tuple[str, ...] = ()) -> list[Endpoint | None]:
    return [udp_endpoint(node, NETWORK) for node in await resolved(bootnodes, factory(*hosts))]


async def test_record_names_its_udp_port() -> None:
    node = Node.from_record(build_record(node_key(1), 1, ip="20.0.0.1", udp=30301, tcp=30303))
    assert await endpoints(node) == [Endpoint.parse("20.0.0.1", 30301)]
    contact = v4_contact(node, Endpoint.parse("20.0.0.1", 30301))
    assert (contact.endpoint.port, contact.tcp, contact.record) == (30301, 30303, node.record)


async def test_enode_is_asked_at_its_discport_and_a_node_at_its_tcp_port() -> None:
    assert await endpoints(
        Enode(KEY, "20.0.0.1", 30303, 30301),
        Node(KEY, (Endpoint.parse("20.0.0.1", 30303),)),
        Enode(KEY, "2a00::1", 0, 30301),
    ) == [
        Endpoint.parse("20.0.0.1", 30301),
        Endpoint.parse("20.0.0.1", 30303),
        Endpoint.parse("2a00::1", 30301),
    ]


async def test_nodes_without_udp_are_nowhere() -> None:
    assert (
        await endpoints(
            Node.from_record(onion_record(1)),
            Node.from_record(build_record(node_key(1), 1, ip="20.0.0.1", tcp=30303)),
            Enode(KEY, None, 0, 0),
            Enode(KEY, "20.0.0.1", 30303, 0),
            Node(KEY, ()),
        )
        == [None] * 5
    )


def test_family_that_is_not_reached_is_nowhere() -> None:
    node = Node.from_record(udp_record(1))
    assert udp_endpoint(node, UdpNetwork((Network.IPV6,))) is None


async def test_names_are_looked_up() -> None:
    found = await endpoints(Enode(KEY, "boot.example", 30303, 30301), hosts=("20.0.0.7",))
    assert found == [Endpoint.parse("20.0.0.7", 30301)]


async def test_name_that_is_not_found_is_logged_and_the_others_stay() -> None:
    with capture_logs() as logs:
        found = await endpoints(Enode(KEY, "boot.example", 1, 1), Node.from_record(udp_record(2)))
    assert found[0] is None
    assert found[1] is not None
    assert [(each["event"], each["host"]) for each in logs] == [
        ("name of a bootnode is not looked up", "boot.example")
    ]


async def test_resolver_that_hangs_holds_nobody_up_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    released = threading.Event()

    def hanging(name: str, port: int) -> list[Any]:
        released.wait(10)
        return []

    sockets = SocketFactory(SocketRules.anywhere(), lookup=hanging)
    bootnodes = [Node.from_record(udp_record(2)), Enode(KEY, "boot.example", 1, 1)]
    try:
        with capture_logs() as logs:
            found = await resolved(bootnodes, sockets)
    finally:
        released.set()
    assert udp_endpoint(found[0], NETWORK) is not None
    assert [each["event"] for each in logs] == ["names of bootnodes are not looked up in time"]
