"""Messages of discv5.1: a type byte and an RLP list. Spec: discv5-wire.md, "Protocol Messages"."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeAlias

from relay.primitives import rlp
from relay.primitives.errors import DecodeError

__all__ = [
    "KINDS", "MAX_REQUEST_ID", "FindNode", "Kind", "Message", "Nodes", "Ping", "Pong", "TalkReq", "TalkResp",
    "decode", "split_records",
]  # fmt: skip

MAX_REQUEST_ID: Final = 8  # bytes
_MAX_DISTANCES: Final = 257  # what there is; more are repetitions


class Kind(IntEnum):
    """Type byte of a message."""

    __hash__ = int.__hash__  # each message is counted by its kind, and an enum hashes its name

    PING = 1
    PONG = 2
    FINDNODE = 3
    NODES = 4
    TALKREQ = 5
    TALKRESP = 6


KINDS: Final[dict[int, Kind]] = {int(kind): kind for kind in Kind}


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there? enr_seq is the sender's."""

    request_id: bytes
    enr_seq: int

    def encode(self) -> bytes:
        """Return type and payload."""
        return b"\x01" + _list(_string(self.request_id), rlp.encode_int(self.enr_seq))


@dataclass(frozen=True, slots=True)
class Pong:
    """Yes; and this is where your PING came from: ip has 4 or 16 bytes."""

    request_id: bytes
    enr_seq: int
    ip: bytes
    port: int

    def encode(self) -> bytes:
        """Return type and payload."""
        return b"\x02" + _list(
            _string(self.request_id),
            rlp.encode_int(self.enr_seq),
            _string(self.ip),
            rlp.encode_int(self.port),
        )


@dataclass(frozen=True, slots=True)
class FindNode:
    """Which nodes do you know at these distances from you?"""

    request_id: bytes
    distances: tuple[int, ...]

    def encode(self) -> bytes:
        """Return type and payload."""
        return b"\x03" + _list(_string(self.request_id), _list(*map(rlp.encode_int, self.distances)))


@dataclass(frozen=True, slots=True)
class Nodes:
    """One of `total` answers; the records are raw and not verified."""

    request_id: bytes
    total: int
    records: tuple[bytes, ...]

    def encode(self) -> bytes:
        """Return type and payload."""
        return b"\x04" + _list(_string(self.request_id), rlp.encode_int(self.total), _list(*self.records))


@dataclass(frozen=True, slots=True)
class TalkReq:
    """A request of another protocol."""

    request_id: bytes
    protocol: bytes
    payload: bytes

    def encode(self) -> bytes:
        """Return type and payload."""
        return b"\x05" + _list(_string(self.request_id), _string(self.protocol), _string(self.payload))


@dataclass(frozen=True, slots=True)
class TalkResp:
    """Its answer; empty where the protocol is unknown."""

    request_id: bytes
    payload: bytes

    def encode(self) -> bytes:
        """Return type and payload."""
        return b"\x06" + _list(_string(self.request_id), _string(self.payload))


Message: TypeAlias = Ping | Pong | FindNode | Nodes | TalkReq | TalkResp


def decode(plaintext: bytes) -> Message:
    """Read a message.

    Raises:
        DecodeError: empty, of an unknown type, not canonical RLP, or fields that do not fit.
    """
    if not plaintext:
        raise DecodeError("a message has a type byte")
    reader = _READERS.get(plaintext[0])
    if reader is None:
        raise DecodeError(f"unknown type {plaintext[0]} of message")
    return reader(plaintext)


def split_records(records: Sequence[bytes], room: int) -> list[tuple[bytes, ...]]:
    """Spread records over as many messages as they need, each with at most `room` bytes of them."""
    parts: list[tuple[bytes, ...]] = []
    part: list[bytes] = []
    size = 0
    for record in records:
        if part and size + len(record) > room:
            parts.append(tuple(part))
            part, size = [], 0
        part.append(record)
        size += len(record)
    return [*parts, tuple(part)]


def _fields(plaintext: bytes, count: int) -> list[rlp.RLPItem]:
    items = rlp.expect_list(rlp.decode(plaintext[1:], max_depth=2), count)
    if len(rlp.expect_bytes(items[0])) > MAX_REQUEST_ID:
        raise DecodeError(f"a request id has at most {MAX_REQUEST_ID} bytes")
    return items


def _ping(plaintext: bytes) -> Ping:
    request_id, seq = _fields(plaintext, 2)
    return Ping(rlp.expect_bytes(request_id), rlp.to_int(seq, 8))


def _pong(plaintext: bytes) -> Pong:
    request_id, seq, ip, port = _fields(plaintext, 4)
    packed = rlp.expect_bytes(ip)
    if len(packed) not in {4, 16}:
        raise DecodeError(f"an IP address has 4 or 16 bytes, not {len(packed)}")
    return Pong(rlp.expect_bytes(request_id), rlp.to_int(seq, 8), packed, rlp.to_int(port, 2))


def _findnode(plaintext: bytes) -> FindNode:
    request_id, distances = _fields(plaintext, 2)
    # Of hundreds of distances none beyond the first of each kind would be answered.
    chosen = dict.fromkeys(rlp.to_int(each, 8) for each in rlp.expect_list(distances)[:_MAX_DISTANCES])
    return FindNode(rlp.expect_bytes(request_id), tuple(chosen))


def _nodes(plaintext: bytes) -> Nodes:
    # By offsets: records are looked up by their bytes, so building a tree of them would be for nothing.
    is_list, start, end = rlp.read_header(plaintext, 1, len(plaintext))
    fields = rlp.list_items(plaintext, start, end) if is_list else []
    if len(fields) != 3 or end != len(plaintext):
        raise DecodeError("NODES is a list of request id, total and records")
    request_id = _string_at(plaintext, fields[0])
    if len(request_id) > MAX_REQUEST_ID:
        raise DecodeError(f"a request id has at most {MAX_REQUEST_ID} bytes")
    total = rlp.to_int(_string_at(plaintext, fields[1]), 8)
    is_list, start, end = rlp.read_header(plaintext, *fields[2])
    if not is_list:
        raise DecodeError("the records of NODES are a list")
    return Nodes(request_id, total, tuple(plaintext[a:b] for a, b in rlp.list_items(plaintext, start, end)))


def _string_at(plaintext: bytes, field: tuple[int, int]) -> bytes:
    is_list, start, end = rlp.read_header(plaintext, *field)
    if is_list:
        raise DecodeError("expected bytes, found a list")
    return plaintext[start:end]


def _talkreq(plaintext: bytes) -> TalkReq:
    request_id, protocol, payload = _fields(plaintext, 3)
    return TalkReq(rlp.expect_bytes(request_id), rlp.expect_bytes(protocol), rlp.expect_bytes(payload))


def _talkresp(plaintext: bytes) -> TalkResp:
    request_id, payload = _fields(plaintext, 2)
    return TalkResp(rlp.expect_bytes(request_id), rlp.expect_bytes(payload))


_READERS: Final[dict[int, Callable[[bytes], Message]]] = {
    Kind.PING: _ping,
    Kind.PONG: _pong,
    Kind.FINDNODE: _findnode,
    Kind.NODES: _nodes,
    Kind.TALKREQ: _talkreq,
    Kind.TALKRESP: _talkresp,
}


def _string(data: bytes) -> bytes:
    size = len(data)
    if size == 1 and data[0] < 0x80:
        return data
    return rlp.string_header(size) + data


def _list(*encoded: bytes) -> bytes:
    payload = b"".join(encoded)
    return rlp.list_header(len(payload)) + payload
