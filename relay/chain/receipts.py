"""Receipts of a block in three forms, and whether they belong to a header.

- eth/69 and later: a list `[type, status or root, cumulative gas, logs]` each, without bloom filter.
- eth/68: `[status or root, cumulative gas, bloom, logs]`, within a string after its type if it has one.
- what the trie of a block holds: as eth/68, but the string's content without its RLP header.

The filter follows from the logs, so it is made where it is missing. geth 1.17.8 has these four fields under
Amsterdam too: EIP-7708 adds logs, and EIP-7778 changes what a block's gas is, not a receipt.
Spec: caps/eth.md, "Receipt Encoding and Validity"; EIP-7642; yellow paper, section 4.4.1.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from functools import lru_cache
from typing import Final, NamedTuple, TypeVar

from relay.chain.headers import ContradictsHeader, Header
from relay.chain.ordered_trie import ordered_trie_root
from relay.primitives import rlp
from relay.primitives.errors import DecodeError
from relay.primitives.hashing import keccak256

__all__ = [
    "check_receipts",
    "checking_receipts",
    "join_receipts",
    "split_receipts",
    "with_blooms",
    "without_blooms",
]

_BLOOM_SIZE: Final = 256
_BLOOM_HEADER: Final = b"\xb9\x01\x00"

_NO_LOGS: Final = _BLOOM_HEADER + bytes(_BLOOM_SIZE)
_ADDRESS_HEADER: Final = b"\x94"  # RLP: 20 bytes follow
_TOPIC: Final = b"\xa0"  # RLP: 32 bytes follow
_LIST: Final = 0xC0
_FIELDS: Final = 4
_LOGS_AT_ONCE: Final = 512  # some milliseconds (our choice)
_LEAST_LOG: Final = 24  # bytes: its list's header, an address, no topics, no data
_MAX_TYPE: Final = 0x7F  # EIP-2718
_REMEMBERED: Final = 8192  # addresses and topics whose bits are kept: tokens and events come again and again

_T = TypeVar("_T")
_Span = tuple[int, int]
_Steps = Generator[None, None, _T]


class _Receipt(NamedTuple):
    """Type, and RLP of status and gas (side by side), bloom filter and logs."""

    type: int
    outcome: bytes
    bloom: bytes
    logs: bytes


def check_receipts(header: Header, receipts: bytes) -> None:
    """Check that a block's list of receipts, in the form of eth/69, is the header's.

    Raises:
        ContradictsHeader: it is not: another root, or it is not even such a list.
    """
    for _ in checking_receipts(header, receipts):
        pass


def checking_receipts(header: Header, receipts: bytes) -> Iterator[None]:
    """As `check_receipts`, some milliseconds at a step: a block full of logs takes half a second.

    Raises:
        ContradictsHeader: see there.
    """
    entries = []
    try:
        for raw in split_receipts(receipts, header.most_transactions):
            entries.append(_in_trie((yield from _reading(raw))))
            yield
        root = ordered_trie_root(entries)
    except DecodeError as error:
        raise ContradictsHeader(f"no receipts of a block: {error}") from None
    if root != header.receipts_root:
        raise ContradictsHeader("receipts are not those of the header")


def with_blooms(block: bytes) -> bytes:
    """Return a block's list of receipts in the form of eth/68.

    Raises:
        DecodeError: it has not the form of eth/69.
    """
    return join_receipts([_in_eth68(_read(raw)) for raw in split_receipts(block)])


def without_blooms(block: bytes) -> bytes:
    """Return a block's list of receipts in the form of eth/69.

    The filters are not looked at: whoever checks the receipts makes them anew.

    Raises:
        DecodeError: it has not the form of eth/68.
    """
    return join_receipts(
        [_in_eth69(_read_eth68(raw)) for raw in split_receipts(block, len(block) // _BLOOM_SIZE)]
    )


def split_receipts(block: bytes, limit: int = sys.maxsize) -> list[bytes]:
    """Return the receipts of a block's list, in its form.

    Raises:
        DecodeError: no RLP list, or one of more than limit.
    """
    return [block[start:stop] for start, stop in _items(block, 0, len(block), limit)]


def join_receipts(receipts: list[bytes]) -> bytes:
    """Return the block's list of receipts."""
    payload = b"".join(receipts)
    return rlp.list_header(len(payload)) + payload


def _read(raw: bytes) -> _Receipt:
    steps = _reading(raw)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: _Receipt = end.value
            return found


def _reading(raw: bytes) -> _Steps[_Receipt]:
    kind, status, gas, logs = _four(_items(raw, 0, len(raw), _FIELDS))
    number = rlp.to_int(_string(raw, kind), 1)
    if number > _MAX_TYPE:
        raise DecodeError("a receipt's type is too large")
    _string(raw, status)
    _string(raw, gas)
    bloom = yield from _bloom(raw, *logs)
    return _Receipt(number, raw[status[0] : gas[1]], bloom, raw[slice(*logs)])


def _read_eth68(raw: bytes) -> _Receipt:
    start, number = 0, 0
    if raw[0] < _LIST:
        _, start, stop = rlp.read_header(raw, 0, len(raw))
        if start == stop or not 0 < raw[start] <= _MAX_TYPE:
            raise DecodeError("a receipt is neither a list nor has a type")
        number = raw[start]
        start += 1
    status, gas, bloom, logs = _four(_items(raw, start, len(raw), _FIELDS))
    _string(raw, status)
    _string(raw, gas)
    if len(_string(raw, bloom)) != _BLOOM_SIZE or raw[logs[0]] < _LIST:
        raise DecodeError("a receipt has no bloom filter, or no logs")
    return _Receipt(number, raw[status[0] : gas[1]], raw[slice(*bloom)], raw[slice(*logs)])


def _in_eth69(receipt: _Receipt) -> bytes:
    return join_receipts([rlp.encode_int(receipt.type), receipt.outcome, receipt.logs])


def _in_trie(receipt: _Receipt) -> bytes:
    content = join_receipts([receipt.outcome, receipt.bloom, receipt.logs])
    return bytes((receipt.type,)) + content if receipt.type else content


def _in_eth68(receipt: _Receipt) -> bytes:
    content = _in_trie(receipt)
    return rlp.encode(content) if receipt.type else content


def _bloom(raw: bytes, start: int, stop: int) -> _Steps[bytes]:
    """Return the RLP of the filter of logs: three bits for each address and topic."""
    logs = _items(raw, start, stop, (stop - start) // _LEAST_LOG)
    if not logs:
        return _NO_LOGS
    bits = 0
    for number, (begin, end) in enumerate(logs, 1):
        bits |= _bits_of_log(raw, begin, end)
        if not number % _LOGS_AT_ONCE:
            yield
    return _BLOOM_HEADER + bits.to_bytes(_BLOOM_SIZE, "big")


def _bits_of_log(raw: bytes, start: int, stop: int) -> int:
    is_list, pos, _ = rlp.read_header(raw, start, stop)
    if not is_list or raw[pos : pos + 1] != _ADDRESS_HEADER:
        raise DecodeError("a log does not begin with an address")
    bits = _bits(raw[pos + 1 : pos + 21])
    is_list, pos, end = rlp.read_header(raw, pos + 21, stop)
    count, rest = divmod(end - pos, 33)
    if not is_list or rest or raw[pos:end:33] != _TOPIC * count:
        raise DecodeError("a log's topics are not hashes")
    for at in range(pos + 1, end, 33):
        bits |= _bits(raw[at : at + 32])
    return bits


@lru_cache(_REMEMBERED)
def _bits(value: bytes) -> int:
    digest = keccak256(value)
    return (
        1 << (int.from_bytes(digest[0:2], "big") & 2047)
        | 1 << (int.from_bytes(digest[2:4], "big") & 2047)
        | 1 << (int.from_bytes(digest[4:6], "big") & 2047)
    )


def _items(raw: bytes, start: int, stop: int, limit: int) -> list[_Span]:
    is_list, pos, end = rlp.read_header(raw, start, stop)
    if not is_list or end != stop:
        raise DecodeError("expected one list")
    return rlp.list_items(raw, pos, end, limit)


def _four(fields: list[_Span]) -> list[_Span]:
    if len(fields) != _FIELDS:
        raise DecodeError(f"a receipt has 4 fields, found {len(fields)}")
    return fields


def _string(raw: bytes, span: _Span) -> bytes:
    is_list, start, end = rlp.read_header(raw, *span)
    if is_list:
        raise DecodeError("expected bytes, found a list")
    return raw[start:end]
