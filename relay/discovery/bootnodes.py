"""By whom discovery enters over UDP: records, enode URLs, and URLs with a name for a host."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import Final, TypeAlias

import structlog

from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.enode import Enode
from relay.primitives.errors import TransportError
from relay.primitives.node import Node
from relay.protocols.discv4.contact import Contact
from relay.protocols.discv5 import UdpNetwork
from relay.transports.sockets import SocketFactory

__all__ = ["Bootnode", "resolved", "udp_endpoint", "v4_contact"]

_log = structlog.get_logger("relay.discovery")

Bootnode: TypeAlias = Node | Enode
"""A Node without record is asked at its TCP port; an Enode knows its UDP port (discport)."""

PATIENCE: Final = 5.0  # seconds for all names together; a daemon that starts waits for them


async def resolved(bootnodes: Iterable[Bootnode], sockets: SocketFactory) -> list[Node]:
    """Return the nodes with their UDP endpoints, names looked up; those that can't be are logged."""
    nodes = []
    try:
        async with asyncio.timeout(PATIENCE):
            for each in bootnodes:
                node = _udp_node(each)
                nodes.append(node)
                nodes[-1] = await _looked_up(node, sockets)
    except TimeoutError:
        _log.warning("names of bootnodes are not looked up in time", seconds=PATIENCE)
    return nodes


def udp_endpoint(node: Node, network: UdpNetwork) -> Endpoint | None:
    """Return where a bootnode is asked; None: nowhere on this network."""
    address = network.choose(node.endpoints) if node.record is None else network.address_of(node.record)
    return address if isinstance(address, Endpoint) and address.port else None


def v4_contact(node: Node, endpoint: Endpoint) -> Contact:
    """Return what discv4 knows of a node; endpoint: of UDP."""
    record = node.record
    tcp = endpoint.port if record is None else record.tcp or 0
    return Contact(node.public_key, node.node_id, endpoint, tcp, record)


def _udp_node(bootnode: Bootnode) -> Node:
    if isinstance(bootnode, Node):
        return bootnode
    if bootnode.host is None or not bootnode.udp:
        return Node(bootnode.public_key, ())
    return Node(bootnode.public_key, (Endpoint.parse(bootnode.host, bootnode.udp),))


async def _looked_up(node: Node, sockets: SocketFactory) -> Node:
    found: list[Endpoint] = []
    for each in node.endpoints:
        if each.network is not Network.DNS:
            found.append(each)
            continue
        try:
            found += await sockets.resolve(each.host, each.port)
        except TransportError as error:
            _log.warning("name of a bootnode is not looked up", host=each.host, why=str(error))
    return replace(node, endpoints=tuple(found))
