"""By whom discovery enters a network, and whether that network is a private one."""

from __future__ import annotations

import ipaddress

from relay.chain.networks import ChainConfig
from relay.discovery.bootnodes import Bootnode
from relay.primitives import enode
from relay.primitives.enode import Enode
from relay.primitives.node import Node
from relay.protocols.dnsdisc.entries import Link
from relay.settings import Settings

__all__ = ["entry_nodes", "i2p_entries", "is_near", "list_links", "onion_entries"]


def entry_nodes(settings: Settings, chain: ChainConfig) -> tuple[Bootnode, ...]:
    """The user's bootnodes, or the network's own."""
    texts = settings.bootnodes
    return tuple(map(_bootnode, (*chain.bootnodes_v4, *chain.bootnodes_v5) if texts is None else texts))


def list_links(settings: Settings, chain: ChainConfig) -> tuple[Link, ...]:
    """The user's lists in the DNS, or the network's own."""
    urls = settings.dns_lists
    if urls is None:
        urls = (chain.dns_tree,) if chain.dns_tree else ()
    return tuple(map(Link.parse, urls))


def onion_entries(entry: tuple[Bootnode, ...]) -> tuple[Node, ...]:
    """Those of them that have an onion address."""
    return tuple(each for each in entry if isinstance(each, Node) and each.onion is not None)


def i2p_entries(entry: tuple[Bootnode, ...]) -> tuple[Node, ...]:
    """Those of them that have an I2P address."""
    return tuple(each for each in entry if isinstance(each, Node) and each.i2p is not None)


def is_near(settings: Settings) -> bool:
    """Tell whether found nodes may be at private addresses, since we or the user's bootnodes are there."""
    hosts = [settings.listen_address]
    if settings.nat.ip is not None:
        hosts.append(settings.nat.ip)
    if settings.bootnodes is not None:
        nodes = [Node.parse(text) for text in settings.bootnodes]
        hosts += [endpoint.host for node in nodes for endpoint in node.ips]
    return any(_is_private(host) for host in hosts)


def _bootnode(text: str) -> Bootnode:
    """Keep an enode's UDP port; an onion has only the one that its streams go to, I2P none at all."""
    if not text.startswith(enode.PREFIX):
        return Node.parse(text)
    parsed: Enode = enode.parse(text)
    node = Node.from_enode(parsed)
    return parsed if node.onion is None and node.i2p is None else node


def _is_private(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_private and not address.is_unspecified
