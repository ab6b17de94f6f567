"""Messages over TALKREQ "prov": a type byte and an RLP list. Spec: docs/specs/provider-dht.md, "Messages"."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeAlias

from relay.primitives import rlp
from relay.primitives.errors import DecodeError
from relay.protocols.dht.keys import Key, to_key
from relay.protocols.discv5.answers import MAX_TALK

__all__ = [
    "CURSOR_SIZE", "MAX_REQUEST", "PROTOCOL", "ROOM", "TOKEN_SIZE", "AddProvider", "Added", "Answer",
    "GetProviders", "Kind", "Page", "Request", "Status", "decode_answer", "decode_request", "take_fitting",
]  # fmt: skip

PROTOCOL: Final = b"prov"
MAX_REQUEST: Final = MAX_TALK - 1 - len(PROTOCOL)  # bytes
MAX_ANSWER: Final = MAX_TALK  # bytes
CURSOR_SIZE: Final = 32  # bytes at most; ours have 16
TOKEN_SIZE: Final = 32  # bytes at most; ours have 16
MAX_TOTAL: Final = 0xFFFF
_FRAME: Final = 1 + 3 + (1 + 16) + 3 + (1 + 16) + 3 + 3
ROOM: Final = MAX_ANSWER - _FRAME
"""Bytes of records and ENRs in a page with a token and a cursor of 16 bytes each."""


class Kind(IntEnum):
    """Type byte of a message."""

    GET_PROVIDERS = 1
    PROVIDERS = 2
    ADD_PROVIDER = 3
    ADDED = 4


class Status(IntEnum):
    """What became of an ADD_PROVIDER."""

    STORED = 0
    BAD_TOKEN = 1
    """Not from us, or for another key, node or address, or too old: ask anew."""
    BAD_RECORD = 2
    """It can't be read, a signature does not fit key and node, or it is not the sender's."""
    BAD_EXPIRY = 3
    """Expired, or too far ahead."""
    BAD_ADDRESS = 4
    """No address on this network; or, among onions, an IP beside it."""
    TOO_MANY = 5
    """The provider, its host or its network has its share of records already."""
    FULL = 6
    """Others came before."""


@dataclass(frozen=True, slots=True)
class GetProviders:
    """Who provides this key?

    Attributes:
        key: what is looked for.
        cursor: empty, or `next` of the page before.
        limit: how many records are wanted; 0: the token and nearer nodes only.
    """

    key: Key
    cursor: bytes
    limit: int

    def encode(self) -> bytes:
        """Return type and payload."""
        return bytes((Kind.GET_PROVIDERS,)) + rlp.encode([self.key, self.cursor, self.limit])


@dataclass(frozen=True, slots=True)
class Page:
    """PROVIDERS: some of the providers that are known, and nodes nearer to the key.

    Attributes:
        token: to be handed back in ADD_PROVIDER.
        total: how many providers are known.
        next: the cursor of the next page; empty: this was the last one.
        records: encoded provider records, not verified.
        nodes: encoded ENRs, not verified.
    """

    token: bytes
    total: int
    next: bytes
    records: tuple[bytes, ...]
    nodes: tuple[bytes, ...]

    def encode(self) -> bytes:
        """Return type and payload."""
        return bytes((Kind.PROVIDERS,)) + _list(
            rlp.encode(self.token),
            rlp.encode_int(self.total),
            rlp.encode(self.next),
            _list(*self.records),
            _list(*self.nodes),
        )


@dataclass(frozen=True, slots=True)
class AddProvider:
    """I provide this key: the record is the sender's own."""

    key: Key
    token: bytes
    record: bytes

    def encode(self) -> bytes:
        """Return type and payload."""
        fields = _list(rlp.encode(self.key), rlp.encode(self.token), self.record)
        return bytes((Kind.ADD_PROVIDER,)) + fields


@dataclass(frozen=True, slots=True)
class Added:
    """The answer; a status that is not known here stays a number."""

    status: int

    def encode(self) -> bytes:
        """Return type and payload."""
        return bytes((Kind.ADDED,)) + _list(rlp.encode_int(self.status))


Request: TypeAlias = GetProviders | AddProvider
Answer: TypeAlias = Page | Added
_Span: TypeAlias = tuple[int, int]


def decode_request(payload: bytes) -> Request:
    """Read a request; raises DecodeError."""
    kind, fields = _fields(payload, MAX_REQUEST)
    if kind == Kind.GET_PROVIDERS:
        key, cursor, limit = _expect(payload, fields, 3)
        return GetProviders(
            to_key(_string(payload, key)),
            _bounded(_string(payload, cursor), CURSOR_SIZE),
            rlp.to_int(_string(payload, limit), 2),
        )
    if kind == Kind.ADD_PROVIDER:
        key, token, (start, end) = _expect(payload, fields, 3)
        return AddProvider(
            to_key(_string(payload, key)), _bounded(_string(payload, token), TOKEN_SIZE), payload[start:end]
        )
    raise DecodeError(f"type {kind} is no request")


def decode_answer(payload: bytes) -> Answer:
    """Read an answer; raises DecodeError, for the empty one of nodes without this protocol too."""
    kind, fields = _fields(payload, MAX_ANSWER)
    if kind == Kind.PROVIDERS:
        token, total, following, records, nodes = _expect(payload, fields, 5)
        return Page(
            _bounded(_string(payload, token), TOKEN_SIZE),
            rlp.to_int(_string(payload, total), 2),
            _bounded(_string(payload, following), CURSOR_SIZE),
            _encoded_items(payload, records),
            _encoded_items(payload, nodes),
        )
    if kind == Kind.ADDED:
        (status,) = _expect(payload, fields, 1)
        return Added(rlp.to_int(_string(payload, status), 1))
    raise DecodeError(f"type {kind} is no answer")


def take_fitting(encoded: Iterable[bytes], room: int, limit: int) -> tuple[list[bytes], int]:
    """Take items from the front while they fit; returns them and the room that is left."""
    taken: list[bytes] = []
    for each in encoded:
        if len(taken) >= limit or len(each) > room:
            break
        taken.append(each)
        room -= len(each)
    return taken, room


# By offsets: records and ENRs are looked up by their bytes, so building a tree of them would be for nothing.


def _fields(payload: bytes, most: int) -> tuple[int, list[_Span]]:
    if not payload:
        raise DecodeError("an empty message: the other side does not speak this protocol")
    if len(payload) > most:
        raise DecodeError(f"a message has at most {most} bytes, not {len(payload)}")
    is_list, start, end = rlp.read_header(payload, 1, len(payload))
    if not is_list or end != len(payload):
        raise DecodeError("a message is a type byte and one list")
    return payload[0], rlp.list_items(payload, start, end)


def _expect(payload: bytes, fields: list[_Span], count: int) -> list[_Span]:
    # Fields that a later version adds behind are skipped, as EIP-8 has it for older protocols.
    if len(fields) < count:
        raise DecodeError(f"message {payload[0]} has {count} fields, found {len(fields)}")
    return fields[:count]


def _string(payload: bytes, field: _Span) -> bytes:
    is_list, start, end = rlp.read_header(payload, *field)
    if is_list:
        raise DecodeError("expected bytes, found a list")
    return payload[start:end]


def _bounded(data: bytes, most: int) -> bytes:
    if len(data) > most:
        raise DecodeError(f"a field has at most {most} bytes, not {len(data)}")
    return data


def _encoded_items(payload: bytes, field: _Span) -> tuple[bytes, ...]:
    is_list, start, end = rlp.read_header(payload, *field)
    if not is_list:
        raise DecodeError("expected a list, found bytes")
    return tuple(payload[begin:stop] for begin, stop in rlp.list_items(payload, start, end))


def _list(*encoded: bytes) -> bytes:
    payload = b"".join(encoded)
    return rlp.list_header(len(payload)) + payload
