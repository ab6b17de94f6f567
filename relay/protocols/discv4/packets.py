"""The packets of discv4: six kinds, signed, under a hash. Spec: discv4.md, Wire Protocol.

Reading follows EIP-8: further items of a list and bytes behind it are ignored, and not even looked into.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from relay.primitives import rlp
from relay.primitives.errors import DecodeError
from relay.primitives.hashing import keccak256
from relay.primitives.keys import NodeKey, PublicKey, recover

__all__ = [
    "MAX_NEIGHBORS",
    "MAX_PACKET",
    "Decoded",
    "ENRRequest",
    "ENRResponse",
    "FindNode",
    "Neighbor",
    "Neighbors",
    "Packet",
    "Ping",
    "Pong",
    "WireEndpoint",
    "decode",
    "encode",
    "is_discv4",
]

MAX_PACKET: Final = 1280  # bytes; discv4.md
MAX_NEIGHBORS: Final = 12  # in a packet of 1280 bytes; go-ethereum v4wire.MaxNeighbors
VERSION: Final = 4
_HASH: Final = 32
_SIGNATURE: Final = 65
_HEAD: Final = _HASH + _SIGNATURE


@dataclass(frozen=True, slots=True)
class WireEndpoint:
    """An address as Ping and Pong state it; nothing about it is checked, since nobody relies on it.

    Attributes:
        ip: 4 or 16 bytes where it means something.
        udp: port.
        tcp: port.
    """

    ip: bytes
    udp: int
    tcp: int

    @classmethod
    def from_item(cls, item: rlp.RLPItem) -> WireEndpoint:
        """Read [ip, udp, tcp].

        Raises:
            DecodeError: not these three.
        """
        fields = rlp.expect_list(item)
        if len(fields) < 3:
            raise DecodeError("an endpoint has an IP, a UDP port and a TCP port")
        return cls(rlp.expect_bytes(fields[0]), rlp.to_int(fields[1], 2), rlp.to_int(fields[2], 2))

    def to_item(self) -> list[rlp.Encodable]:
        """Return [ip, udp, tcp]."""
        return [self.ip, self.udp, self.tcp]


@dataclass(frozen=True, slots=True)
class Neighbor:
    """A node as somebody tells of it; unchecked.

    Attributes:
        ip: 4 or 16 bytes if they told the truth.
        udp: port.
        tcp: port.
        key: 64 bytes that should be a public key.
    """

    ip: bytes
    udp: int
    tcp: int
    key: bytes


@dataclass(frozen=True, slots=True)
class Ping:
    """Packet 0x01. `to` and `sender` are what the sender believes; only the datagram's source counts.

    Attributes:
        sender: own endpoint; its TCP port is the one to dial.
        to: the recipient's.
        expiration: unix seconds.
        enr_seq: of the sender's record; None when it does not speak EIP-868.
        version: 4; others are answered as well.
    """

    sender: WireEndpoint
    to: WireEndpoint
    expiration: int
    enr_seq: int | None = None
    version: int = VERSION


@dataclass(frozen=True, slots=True)
class Pong:
    """Packet 0x02.

    Attributes:
        to: where the Ping came from, which tells a node behind NAT its address.
        ping_hash: of the Ping packet.
        expiration: unix seconds.
        enr_seq: of the sender's record, if it has one.
    """

    to: WireEndpoint
    ping_hash: bytes
    expiration: int
    enr_seq: int | None = None


@dataclass(frozen=True, slots=True)
class FindNode:
    """Packet 0x03: asks for the nodes nearest to a public key (any 64 bytes)."""

    target: bytes
    expiration: int


@dataclass(frozen=True, slots=True)
class Neighbors:
    """Packet 0x04."""

    nodes: tuple[Neighbor, ...]
    expiration: int


@dataclass(frozen=True, slots=True)
class ENRRequest:
    """Packet 0x05. Spec: EIP-868."""

    expiration: int


@dataclass(frozen=True, slots=True)
class ENRResponse:
    """Packet 0x06.

    Attributes:
        request_hash: of the ENRRequest packet.
        record: encoded, unchecked: it is checked only once the answer turns out to be one.
    """

    request_hash: bytes
    record: bytes


Packet: TypeAlias = Ping | Pong | FindNode | Neighbors | ENRRequest | ENRResponse


@dataclass(frozen=True, slots=True)
class Decoded:
    """What arrived.

    Attributes:
        packet: its content.
        public_key: who signed it.
        hash: of the packet, which answers refer to.
    """

    packet: Packet
    public_key: PublicKey
    hash: bytes


def is_discv4(data: bytes) -> bool:
    """Tell whether a datagram begins with its own hash; tells discv4 and discv5 on one port apart."""
    return _HEAD < len(data) <= MAX_PACKET and data[:_HASH] == keccak256(data[_HASH:])


def encode(key: NodeKey, packet: Packet) -> tuple[bytes, bytes]:
    """Return a signed packet and its hash."""
    kind = _KIND_OF[type(packet)]
    content = bytes((kind,)) + _KINDS[kind].write(packet)
    signed = key.sign_recoverable(keccak256(content)) + content
    digest = keccak256(signed)
    return digest + signed, digest


def decode(data: bytes) -> Decoded:
    """Read a packet.

    Raises:
        DecodeError: too small or large, not under its hash, a signature that is none, of an unknown kind, or
            malformed.
    """
    if not is_discv4(data):
        raise DecodeError("not a discv4 packet: its size or its hash is wrong")
    kind = _KINDS.get(data[_HEAD])
    if kind is None:
        raise DecodeError(f"discv4 packet of unknown kind {data[_HEAD]}")
    # The content before the signature: recovering a key is the dearest part.
    packet = kind.read(_fields(data, _HEAD + 1, kind.fields))
    return Decoded(packet, recover(keccak256(data[_HEAD:]), data[_HASH:_HEAD]), data[:_HASH])


def _fields(data: bytes, start: int, least: int) -> list[bytes]:
    """Return the encoded items of the list at start; what follows it is ignored."""
    is_list, payload, end = rlp.read_header(data, start, len(data))
    if not is_list:
        raise DecodeError("a discv4 packet holds a list")
    items = rlp.list_items(data, payload, end)
    if len(items) < least:
        raise DecodeError(f"discv4 packet of {len(items)} items, at least {least} are expected")
    return [data[begin:stop] for begin, stop in items]


def _seq(items: list[bytes], at: int) -> int | None:
    if len(items) <= at:
        return None
    try:
        return rlp.to_int(rlp.decode(items[at]), 8)
    except DecodeError:
        return None  # EIP-8: what a later version puts here need not be a number


def _number(item: bytes) -> int:
    return rlp.to_int(rlp.decode(item), 8)


def _text(item: bytes, size: int) -> bytes:
    return rlp.expect_bytes(rlp.decode(item), size)


def _optional(seq: int | None) -> list[rlp.Encodable]:
    return [] if seq is None else [seq]


def _read_ping(items: list[bytes]) -> Ping:
    return Ping(
        version=_number(items[0]),
        sender=WireEndpoint.from_item(rlp.decode(items[1])),
        to=WireEndpoint.from_item(rlp.decode(items[2])),
        expiration=_number(items[3]),
        enr_seq=_seq(items, 4),
    )


def _write_ping(ping: Ping) -> bytes:
    endpoints: list[rlp.Encodable] = [ping.sender.to_item(), ping.to.to_item()]
    return rlp.encode([ping.version, *endpoints, ping.expiration, *_optional(ping.enr_seq)])


def _read_pong(items: list[bytes]) -> Pong:
    to = WireEndpoint.from_item(rlp.decode(items[0]))
    return Pong(to, _text(items[1], _HASH), _number(items[2]), _seq(items, 3))


def _write_pong(pong: Pong) -> bytes:
    return rlp.encode([pong.to.to_item(), pong.ping_hash, pong.expiration, *_optional(pong.enr_seq)])


def _read_neighbors(items: list[bytes]) -> Neighbors:
    nodes = rlp.expect_list(rlp.decode(items[0]))
    return Neighbors(tuple(_read_neighbor(node) for node in nodes), _number(items[1]))


def _read_neighbor(item: rlp.RLPItem) -> Neighbor:
    fields = rlp.expect_list(item)
    if len(fields) < 4:
        raise DecodeError("a neighbour has an IP, a UDP port, a TCP port and a public key")
    endpoint = WireEndpoint.from_item(item)
    return Neighbor(endpoint.ip, endpoint.udp, endpoint.tcp, rlp.expect_bytes(fields[3], 64))


def _write_neighbors(neighbors: Neighbors) -> bytes:
    nodes: list[rlp.Encodable] = [[node.ip, node.udp, node.tcp, node.key] for node in neighbors.nodes]
    return rlp.encode([nodes, neighbors.expiration])


def _write_response(response: ENRResponse) -> bytes:
    payload = rlp.encode(response.request_hash) + response.record
    return rlp.list_header(len(payload)) + payload


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of packet: how many items it has at least, how it is read and written."""

    fields: int
    read: Callable[[list[bytes]], Packet]
    write: Callable[..., bytes]


_KINDS: Final[dict[int, _Kind]] = {
    0x01: _Kind(4, _read_ping, _write_ping),
    0x02: _Kind(3, _read_pong, _write_pong),
    0x03: _Kind(
        2,
        lambda items: FindNode(_text(items[0], 64), _number(items[1])),
        lambda packet: rlp.encode([packet.target, packet.expiration]),
    ),
    0x04: _Kind(2, _read_neighbors, _write_neighbors),
    0x05: _Kind(
        1, lambda items: ENRRequest(_number(items[0])), lambda packet: rlp.encode([packet.expiration])
    ),
    0x06: _Kind(2, lambda items: ENRResponse(_text(items[0], _HASH), items[1]), _write_response),
}
_KIND_OF: Final[dict[type[Packet], int]] = {
    Ping: 0x01,
    Pong: 0x02,
    FindNode: 0x03,
    Neighbors: 0x04,
    ENRRequest: 0x05,
    ENRResponse: 0x06,
}
