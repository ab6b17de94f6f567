"""Requests and answers of each eth version, to and from terms without one.

Inside, receipts of a block are a list in the form of eth/69: without bloom filters, and complete.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from relay.chain.receipts import join_receipts, split_receipts, with_blooms, without_blooms
from relay.primitives import rlp
from relay.primitives.errors import DecodeError, ProtocolBreach, SubprotocolError
from relay.protocols.eth import messages as m
from relay.protocols.eth.fields import encode_list
from relay.protocols.eth.limits import MAX_MESSAGE, MAX_SERVED, SOFT_RESPONSE
from relay.relaying.chain_data.demand import HeaderQuery, ItemQuery, Kind, Query

__all__ = [
    "ANSWERS",
    "FIRST_VERSION",
    "REQUESTS",
    "UNAVAILABLE",
    "Delivery",
    "answer",
    "decode_answer",
    "decode_request",
    "encode_request",
    "receipts_for",
]

UNAVAILABLE: Final = b"\x80"
"""In place of an access list that is not held; an empty list would be one."""
PARTIAL_RECEIPTS: Final = 70  # the version since which a block's receipts may come in parts
_WITHOUT_BLOOMS: Final = 69
_ROOM: Final = MAX_MESSAGE - 64  # for items: a request id, headers of lists and a flag take less

FIRST_VERSION: Final[Mapping[Kind, int]] = MappingProxyType(
    {Kind.HEADERS: 68, Kind.BODIES: 68, Kind.RECEIPTS: 68, Kind.ACCESS_LISTS: 71}
)
REQUESTS: Final[Mapping[Kind, int]] = MappingProxyType(
    {Kind.HEADERS: 0x03, Kind.BODIES: 0x05, Kind.RECEIPTS: 0x0F, Kind.ACCESS_LISTS: 0x12}
)
ANSWERS: Final[Mapping[Kind, int]] = MappingProxyType(
    {Kind.HEADERS: 0x04, Kind.BODIES: 0x06, Kind.RECEIPTS: 0x10, Kind.ACCESS_LISTS: 0x13}
)
_BY_ANSWER: Final[Mapping[int, Kind]] = MappingProxyType({code: kind for kind, code in ANSWERS.items()})


class Delivery(NamedTuple):
    """An answer of an upstream.

    Attributes:
        request_id: of ours.
        items: headers, bodies, lists of receipts without bloom filters, or access lists.
        incomplete: receipts are missing at the end of the last list.
    """

    request_id: int
    kind: Kind
    items: tuple[bytes, ...]
    incomplete: bool = False


# -- requests ------------------------------------------------------------------------------------------


def decode_request(version: int, code: int, payload: bytes) -> tuple[int, Query]:
    """Return the request id and what is asked for.

    Raises:
        ProtocolBreach: it does not decode.
        SubprotocolError: this version has no such request.
    """
    read = _READERS.get(code)
    if read is None or version < read.since:
        raise SubprotocolError(f"eth/{version} has no request {code:#04x}")
    return read.decode(payload, version)


def encode_request(version: int, request_id: int, query: Query) -> tuple[int, bytes]:
    """Return code and payload of a request; the version must have it."""
    message: m.EthMessage
    if isinstance(query, HeaderQuery):
        message = m.GetBlockHeaders(request_id, query.origin, query.amount, query.skip, query.reverse)
    elif query.kind is Kind.RECEIPTS:
        message = m.GetReceipts(request_id, query.hashes, query.first_index)
    elif query.kind is Kind.BODIES:
        message = m.GetBlockBodies(request_id, query.hashes)
    else:
        message = m.GetBlockAccessLists(request_id, query.hashes)
    return message.CODE, message.encode(version)


@dataclass(frozen=True, slots=True)
class _Reader:
    since: int
    decode: Callable[[bytes, int], tuple[int, Query]]


def _headers_query(payload: bytes, version: int) -> tuple[int, Query]:
    asked = m.GetBlockHeaders.decode(payload, version)
    return asked.request_id, HeaderQuery(asked.origin, asked.amount, asked.skip, asked.reverse).served()


def _receipts_query(payload: bytes, version: int) -> tuple[int, Query]:
    asked = m.GetReceipts.decode(payload, version)
    return asked.request_id, ItemQuery(Kind.RECEIPTS, asked.hashes[:MAX_SERVED], asked.first_index)


def _bodies_query(payload: bytes, version: int) -> tuple[int, Query]:
    asked = m.GetBlockBodies.decode(payload, version)
    return asked.request_id, ItemQuery(Kind.BODIES, asked.hashes[:MAX_SERVED])


def _access_lists_query(payload: bytes, version: int) -> tuple[int, Query]:
    asked = m.GetBlockAccessLists.decode(payload, version)
    return asked.request_id, ItemQuery(Kind.ACCESS_LISTS, asked.hashes[:MAX_SERVED])


_READERS: Final[Mapping[int, _Reader]] = MappingProxyType(
    {
        REQUESTS[kind]: _Reader(FIRST_VERSION[kind], decode)
        for kind, decode in (
            (Kind.HEADERS, _headers_query),
            (Kind.BODIES, _bodies_query),
            (Kind.RECEIPTS, _receipts_query),
            (Kind.ACCESS_LISTS, _access_lists_query),
        )
    }
)

# -- answers of upstreams --------------------------------------------------------------------------------


def decode_answer(version: int, code: int, payload: bytes) -> Delivery:
    """Return an answer, whatever its version.

    Raises:
        ProtocolBreach: it does not decode, or this version has no such answer.
    """
    kind = _BY_ANSWER.get(code)
    if kind is None or version < FIRST_VERSION[kind]:
        raise ProtocolBreach(f"eth/{version} has no answer {code:#04x}")
    if kind is Kind.RECEIPTS:
        return _receipts_delivery(payload, version)
    message: Any = _MESSAGES[kind].decode(payload, version)
    return Delivery(message.request_id, kind, getattr(message, _FIELDS[kind]))


_MESSAGES: Final[Mapping[Kind, type[m.EthMessage]]] = MappingProxyType(
    {Kind.HEADERS: m.BlockHeaders, Kind.BODIES: m.BlockBodies, Kind.ACCESS_LISTS: m.BlockAccessLists}
)
_FIELDS: Final[Mapping[Kind, str]] = MappingProxyType(
    {Kind.HEADERS: "headers", Kind.BODIES: "bodies", Kind.ACCESS_LISTS: "access_lists"}
)


def _receipts_delivery(payload: bytes, version: int) -> Delivery:
    message = m.Receipts.decode(payload, version)
    blocks = message.blocks
    if version < _WITHOUT_BLOOMS:
        try:
            blocks = tuple(map(without_blooms, blocks))
        except DecodeError as error:
            raise ProtocolBreach(f"bad Receipts: {error}") from None
    return Delivery(message.request_id, Kind.RECEIPTS, blocks, message.last_block_incomplete)


# -- answers to requesters ---------------------------------------------------------------------------------


def answer(
    version: int, kind: Kind, request_id: int, items: Sequence[bytes], *, incomplete: bool = False
) -> tuple[int, bytes]:
    """Return code and payload of an answer.

    Args:
        version: of eth.
        kind: what the items are.
        request_id: the requester's.
        items: as they shall stand in the message; receipts as `receipts_for` returns them.
        incomplete: whether receipts are missing at the end of the last item.
    """
    size = sum(map(len, items))
    parts = [rlp.encode_int(request_id), rlp.list_header(size), *items]
    if kind is Kind.RECEIPTS and version >= PARTIAL_RECEIPTS:
        parts.insert(1, rlp.encode_int(incomplete))
    return ANSWERS[kind], encode_list(parts)


def fitting(items: Sequence[bytes]) -> Sequence[bytes]:
    """Return as many items as geth would put into one answer."""
    size = 0
    for count, item in enumerate(items):
        if size >= SOFT_RESPONSE or size + len(item) > _ROOM:
            return items[:count]
        size += len(item)
    return items


def receipts_for(version: int, blocks: Sequence[bytes], first_index: int) -> tuple[list[bytes], bool]:
    """Return lists of receipts as a version has them, and whether the last one is incomplete.

    A block that does not fit is cut where the version says so, and left out where it can't.

    Args:
        version: of eth.
        blocks: complete, without bloom filters.
        first_index: receipts of the first block to leave out; since eth/70.
    """
    found: list[bytes] = []
    size = 0
    for block in blocks:
        if size >= SOFT_RESPONSE:
            break
        if first_index:
            block = join_receipts(split_receipts(block)[first_index:])  # noqa: PLW2901
            first_index = 0
        if size + len(block) > _ROOM:
            part = _cut(block, _ROOM - size) if version >= PARTIAL_RECEIPTS else None
            return ([*found, part], True) if part is not None else (found, False)
        if version < _WITHOUT_BLOOMS:
            block = with_blooms(block)  # noqa: PLW2901
            if size + len(block) > _ROOM:
                break
        found.append(block)
        size += len(block)
    return found, False


def _cut(block: bytes, room: int) -> bytes | None:
    """Return the receipts of a block that fit; None if not even one does."""
    kept: list[bytes] = []
    size = 9  # the list's own header at most
    for receipt in split_receipts(block):
        size += len(receipt)
        if size > room:
            break
        kept.append(receipt)
    return join_receipts(kept) if kept else None
