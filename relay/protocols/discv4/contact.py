"""A node as discv4 knows it: a key, a UDP endpoint, a TCP port, and a record if it has given one."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace

from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.enode import Enode
from relay.primitives.enr import NodeRecord
from relay.primitives.errors import DecodeError
from relay.primitives.keys import NodeId, PublicKey, node_id, parse_public_key
from relay.primitives.node import Node
from relay.protocols.discv4.packets import Neighbor, WireEndpoint

__all__ = ["Contact", "endpoint_of", "wire_endpoint"]


@dataclass(frozen=True, slots=True, repr=False)
class Contact:
    """A node that can be asked. Make it with one of the class methods.

    Attributes:
        public_key: its identity.
        node_id: keccak256 of it.
        endpoint: where it is asked, IP and UDP port.
        tcp: port of RLPx at the same IP; 0 when unknown.
        record: its own signed word, if we have it.
    """

    public_key: PublicKey
    node_id: NodeId
    endpoint: Endpoint
    tcp: int
    record: NodeRecord | None = None

    @classmethod
    def of(cls, public_key: PublicKey, endpoint: Endpoint, tcp: int) -> Contact:
        """Make one without a record."""
        return cls(public_key, node_id(public_key), endpoint, tcp)

    @classmethod
    def from_neighbor(cls, neighbor: Neighbor) -> Contact:
        """Make one of what another node told.

        Raises:
            DecodeError: no IP, no port, or no point of the curve.
        """
        endpoint = endpoint_of(neighbor.ip, neighbor.udp)
        if endpoint is None or not neighbor.udp:
            raise DecodeError("neighbour without an IP or a UDP port")
        return cls.of(parse_public_key(neighbor.key), endpoint, neighbor.tcp)

    @classmethod
    def from_enode(cls, enode: Enode) -> Contact | None:
        """Make one of an enode URL; None if it names no IP or no UDP port."""
        if enode.host is None or not enode.udp:
            return None
        endpoint = Endpoint.parse(enode.host, enode.udp)
        return cls.of(enode.public_key, endpoint, enode.tcp) if endpoint.is_ip else None

    @classmethod
    def from_record(cls, record: NodeRecord) -> Contact | None:
        """Make one of a record, IPv4 first; None if it has no UDP endpoint."""
        for network, host, udp, tcp in (
            (Network.IPV4, record.ip, record.udp, record.tcp),
            (Network.IPV6, record.ip6, record.udp6 or record.udp, record.tcp6 or record.tcp),
        ):
            if host is not None and udp:
                endpoint = Endpoint(network, host, udp)
                return cls(record.public_key, record.node_id, endpoint, tcp or 0, record)
        return None

    @property
    def seq(self) -> int:
        """The sequence number of its record, 0 without one."""
        return self.record.seq if self.record is not None else 0

    @property
    def node(self) -> Node:
        """What peering can dial. A record without an IP, as behind NAT, gets the one that was proved."""
        node = Node(self.public_key, ()) if self.record is None else Node.from_record(self.record)
        tcp = self.tcp or (self.record.tcp if self.record is not None else None)
        if node.ips or not tcp:
            return node
        return replace(node, endpoints=(replace(self.endpoint, port=tcp), *node.endpoints))

    @property
    def neighbor(self) -> Neighbor:
        """What others are told."""
        return Neighbor(_packed(self.endpoint), self.endpoint.port, self.tcp, self.public_key)

    def __repr__(self) -> str:
        return f"Contact({self.node_id.hex()[:16]}..., seq={self.seq})"


def endpoint_of(ip: bytes, port: int) -> Endpoint | None:
    """Return the endpoint of a packed IP, mapped IPv4 unwrapped; None when it has no 4 or 16 bytes."""
    if len(ip) == 4:  # by hand: ipaddress takes ten times as long
        return Endpoint(Network.IPV4, ".".join(map(str, ip)), port)
    if len(ip) != 16:
        return None
    return Endpoint.parse(str(ipaddress.ip_address(ip)), port)


def wire_endpoint(endpoint: Endpoint | None, tcp: int = 0) -> WireEndpoint:
    """Return what a Ping or a Pong states; None: nothing known."""
    if endpoint is None:
        return WireEndpoint(bytes(4), 0, tcp)
    return WireEndpoint(_packed(endpoint), endpoint.port, tcp)


def _packed(endpoint: Endpoint) -> bytes:
    if endpoint.network is Network.IPV4:
        return bytes(map(int, endpoint.host.split(".")))
    return ipaddress.ip_address(endpoint.host).packed
