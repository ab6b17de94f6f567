"""Network classes: which records a core can reach, at which address, and whom it tells of them.

One core serves one class, with its own table: what is learned on one network is never told on another.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol, TypeAlias

from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.enr import NodeRecord
from relay.primitives.i2p import I2P_PORT

__all__ = ["ITSELF", "Address", "I2PNetwork", "NetworkClass", "OnionNetwork", "UdpNetwork"]

Address: TypeAlias = Hashable
"""Where packets come from and go to. An Endpoint, or whatever a driver calls a stream that came in."""

ITSELF: Final = b""
"""The teller of all nodes that came to us by themselves."""

_LOWEST_PORT: Final = 1025  # go-ethereum p2p/discover: records of others with privileged ports are not used
_GROUP_BYTES: Final = {4: 3, 6: 4}  # /24 as go-ethereum; for IPv6 what a provider gets at least (our choice)
_UNKNOWN: Final = (bytes(4), 0)
# go-ethereum p2p/netutil: special-use networks that no node can have. 6to4 and Teredo hide an IPv4 address.
_SPECIAL: Final = tuple(
    ipaddress.ip_network(each)
    for each in (
        "0.0.0.0/8", "192.0.0.0/29", "192.0.0.9/32", "192.0.0.170/31", "192.0.2.0/24", "192.31.196.0/24",
        "192.52.193.0/24", "192.88.99.0/24", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24",
        "203.0.113.0/24", "255.255.255.255/32", "::/128", "64:ff9b::/96", "100::/64", "2001::/32",
        "2001:1::1/128", "2001:2::/48", "2001:3::/32", "2001:4:112::/48", "2001:5::/32", "2001:10::/28",
        "2001:20::/28", "2001:db8::/32", "2002::/16",
    )
)  # fmt: skip


class NetworkClass(Protocol):
    """The rules of one network class."""

    def address_of(self, record: NodeRecord) -> Address | None:
        """Return where to send packets to the node of a record; None: not on this network."""

    def choose(self, endpoints: Iterable[Endpoint]) -> Address | None:
        """Return where to send packets to a node that was given without record; None: not on this network."""

    def host_of(self, address: Address) -> Hashable:
        """Return what stands for the machine behind an address, for dial budgets and votes."""

    def is_ours(self, address: Address, own: Address) -> bool:
        """Say whether an address that another node claims is our own."""

    def is_exclusive(self, address: Address) -> bool:
        """Say whether only one node can be at an address, as at the end of a stream."""

    def group_of(self, address: Address, teller: Hashable) -> Hashable | None:
        """Return the group whose members are limited in the table; None: without limit.

        Args:
            address: of the node.
            teller: the node id of who told us of it, ITSELF if it came by itself; None: our own choice.
        """

    def may_hear(self, address: Address, source: Address) -> bool:
        """Say whether a node at `address` may be taken from an answer that came from `source`."""

    def may_tell(self, record: NodeRecord, address: Address, source: Address) -> bool:
        """Say whether a record, and so its address, may be told to who asks from `source`."""

    def seen_as(self, address: Address) -> tuple[bytes, int]:
        """Return IP (4 or 16 bytes) and port to state in a PONG to `address`."""

    def votes(self, address: Address) -> bool:
        """Say whether the endpoint that `address` states in a PONG means anything."""


@dataclass(frozen=True, slots=True)
class UdpNetwork:
    """IPv4 and IPv6; addresses are Endpoints with UDP ports.

    Attributes:
        families: which of them our socket reaches, the preferred one first.
    """

    families: tuple[Network, ...] = (Network.IPV4, Network.IPV6)

    def address_of(self, record: NodeRecord) -> Address | None:
        """Return the UDP endpoint of the first family that the record has."""
        for family in self.families:
            host, port = (
                (record.ip, record.udp) if family is Network.IPV4 else (record.ip6, record.udp6 or record.udp)
            )
            if host is not None and port:
                return Endpoint(family, host, port)
        return None

    def choose(self, endpoints: Iterable[Endpoint]) -> Address | None:
        """Return the endpoint of the preferred family, whose port is taken for the UDP port."""
        found = {each.network: each for each in endpoints}
        return next((found[family] for family in self.families if family in found), None)

    def host_of(self, address: Address) -> Hashable:
        """Return the IP."""
        return _endpoint(address).host

    def is_ours(self, address: Address, own: Address) -> bool:
        """Compare IP and port: several nodes may share an IP."""
        return address == own

    def is_exclusive(self, address: Address) -> bool:
        """Say no: a UDP source proves nothing."""
        return False

    def group_of(self, address: Address, teller: Hashable) -> Hashable | None:
        """Return the /24 (IPv6: /32); hosts of our own LAN are not limited."""
        return _facts(_endpoint(address).host).group

    def may_hear(self, address: Address, source: Address) -> bool:
        """Apply go-ethereum's rules of relayed addresses: loopback only from loopback, LAN only from LAN."""
        endpoint = _endpoint(address)
        told = _facts(endpoint.host)
        if told.special or endpoint.port < _LOWEST_PORT:
            return False
        if not told.lan:
            return True
        teller = _facts(_endpoint(source).host)
        return teller.loopback if told.loopback else teller.lan

    def may_tell(self, record: NodeRecord, address: Address, source: Address) -> bool:
        """Tell what the asker may hear. Records with nothing but an onion address never enter this table."""
        return self.may_hear(address, source)

    def seen_as(self, address: Address) -> tuple[bytes, int]:
        """Return the packed IP and the port."""
        endpoint = _endpoint(address)
        return _facts(endpoint.host).packed, endpoint.port

    def votes(self, address: Address) -> bool:
        """Every host has a vote; who counts them takes one of each host."""
        return True


@dataclass(frozen=True, slots=True)
class OnionNetwork:
    """Packets over streams: addresses are onion Endpoints where we dialed, and a driver's stream ids."""

    def address_of(self, record: NodeRecord) -> Address | None:
        """Return the onion endpoint; its port is the record's tcp."""
        port = record.tcp
        host = record.onion3 if port else None
        return None if host is None or not port else Endpoint(Network.ONION, host, port)

    def choose(self, endpoints: Iterable[Endpoint]) -> Address | None:
        """Return the first onion endpoint."""
        return next((each for each in endpoints if each.network is Network.ONION), None)

    def host_of(self, address: Address) -> Hashable:
        """Return the onion address without port: one victim is one host."""
        return address.host if isinstance(address, Endpoint) else address

    def is_ours(self, address: Address, own: Address) -> bool:
        """Compare the onion alone: whatever port is named, dialing it leads to ourselves."""
        return self.host_of(address) == self.host_of(own)

    def is_exclusive(self, address: Address) -> bool:
        """Say yes: every address is one stream, and at the end of a stream is one node."""
        return True

    def group_of(self, address: Address, teller: Hashable) -> Hashable | None:
        """Return the teller: onions are free, so what is limited is how many entries come from one mouth."""
        return teller

    def may_hear(self, address: Address, source: Address) -> bool:
        """Take every onion."""
        return True

    def may_tell(self, record: NodeRecord, address: Address, source: Address) -> bool:
        """Tell of records without any IP only: an onion that stands beside an IP stays with those it told."""
        pairs = record.pairs
        return "ip" not in pairs and "ip6" not in pairs

    def seen_as(self, address: Address) -> tuple[bytes, int]:
        """Return 0.0.0.0:0; nobody has an IP here."""
        return _UNKNOWN

    def votes(self, address: Address) -> bool:
        """Say no."""
        return False


@dataclass(frozen=True, slots=True)
class I2PNetwork(OnionNetwork):
    """The same over I2P: addresses are as free as onions, and streams tell as little of who has come."""

    def address_of(self, record: NodeRecord) -> Address | None:
        """Return the I2P endpoint."""
        return None if record.i2p is None else Endpoint(Network.I2P, record.i2p, I2P_PORT)

    def choose(self, endpoints: Iterable[Endpoint]) -> Address | None:
        """Return the first I2P endpoint."""
        return next((each for each in endpoints if each.network is Network.I2P), None)


@dataclass(frozen=True, slots=True)
class _Facts:
    packed: bytes
    loopback: bool
    lan: bool
    special: bool
    group: bytes | None


@lru_cache(maxsize=1024)  # the nodes of two tables; 300 bytes each
def _facts(host: str) -> _Facts:
    address = ipaddress.ip_address(host)
    lan = address.is_loopback or address.is_link_local or _is_lan(address)
    special = address.is_multicast or any(
        address in network for network in _SPECIAL if network.version == address.version
    )
    group = None if lan else address.packed[: _GROUP_BYTES[address.version]]
    return _Facts(address.packed, address.is_loopback, lan, special, group)


def _is_lan(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return any(address in network for network in _LAN if network.version == address.version)


_LAN: Final = tuple(
    ipaddress.ip_network(each) for each in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
)


def _endpoint(address: Address) -> Endpoint:
    if not isinstance(address, Endpoint):
        raise TypeError("addresses of the UDP network are Endpoints")
    return address
