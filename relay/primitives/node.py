"""A peer that can be dialed: its identity and every address it is known under."""

from __future__ import annotations

from dataclasses import dataclass

from relay.primitives import enode
from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.enode import Enode
from relay.primitives.enr import PREFIX as ENR_PREFIX
from relay.primitives.enr import NodeRecord
from relay.primitives.errors import DecodeError
from relay.primitives.i2p import I2P_PORT
from relay.primitives.keys import NodeId, PublicKey, node_id

__all__ = ["Node"]


@dataclass(frozen=True, slots=True)
class Node:
    """A dialable peer. Which of its endpoints may be used is the policy's to say.

    Attributes:
        public_key: the identity that must answer.
        endpoints: TCP addresses; empty when only the identity is known.
        record: the signed record it came from, if it did.
    """

    public_key: PublicKey
    endpoints: tuple[Endpoint, ...]
    record: NodeRecord | None = None

    @classmethod
    def parse(cls, text: str) -> Node:
        """Read an enode URL or a record in text.

        Raises:
            DecodeError: it is neither, or a bad one.
        """
        if text.startswith(ENR_PREFIX):
            return cls.from_record(NodeRecord.from_text(text))
        if text.startswith(enode.PREFIX):
            return cls.from_enode(enode.parse(text))
        raise DecodeError(f'a node begins with "enode://" or "enr:", not with {text[:16]!r}')

    @classmethod
    def from_enode(cls, source: Enode) -> Node:
        """Make a node of an enode URL; without host or TCP port it has no endpoint."""
        if source.host is None:
            return cls(source.public_key, ())
        endpoint = Endpoint.parse(source.host, source.tcp)
        return cls(source.public_key, (endpoint,) if endpoint.can_be_dialed else ())

    @classmethod
    def from_record(cls, record: NodeRecord) -> Node:
        """Make a node of a record: IPv4, IPv6, onion, as far as it has them with a TCP port, and I2P."""
        # enr.md: without tcp6 the port tcp holds for IPv6 as well; the onion service has it too.
        found = (
            (Network.IPV4, record.ip, record.tcp),
            (Network.IPV6, record.ip6, record.tcp6 or record.tcp),
            (Network.ONION, record.onion3, record.tcp),
        )
        endpoints = [
            # Only IPv6 has a second form, the mapped IPv4 address; an onion's check is too dear to do twice.
            Endpoint.parse(host, port) if network is Network.IPV6 else Endpoint(network, host, port)
            for network, host, port in found
            if host is not None and port
        ]
        if record.i2p is not None:
            endpoints.append(Endpoint(Network.I2P, record.i2p, I2P_PORT))
        return cls(record.public_key, tuple(endpoints), record)

    @property
    def node_id(self) -> NodeId:
        """The node id, keccak256 of the public key."""
        return node_id(self.public_key)

    @property
    def onion(self) -> Endpoint | None:
        """The onion address, if it has one."""
        return next((each for each in self.endpoints if each.network is Network.ONION), None)

    @property
    def i2p(self) -> Endpoint | None:
        """The I2P address, if it has one."""
        return next((each for each in self.endpoints if each.network is Network.I2P), None)

    @property
    def ips(self) -> tuple[Endpoint, ...]:
        """The addresses that are IP literals."""
        return tuple(each for each in self.endpoints if each.is_ip)

    @property
    def enode(self) -> Enode:
        """The URL's parts, with the first endpoint."""
        if not self.endpoints:
            return Enode(self.public_key, None, 0, 0)
        first = self.endpoints[0]
        return Enode(self.public_key, first.host, first.port, first.port)
