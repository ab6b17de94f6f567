"""The messages of every transaction's path, without objects in between: bytes to lists, lists to bytes.

A wire item is a transaction as it stands in a message: a legacy one is an RLP list, a typed one an RLP
string. Spec: caps/eth.md, Transactions, NewPooledTransactionHashes, PooledTransactions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from relay.primitives import rlp
from relay.primitives.errors import DecodeError, ProtocolBreach, SubprotocolError
from relay.protocols.eth.fields import (
    HASHES,
    MASK,
    SIZES,
    STRING,
    UINT64,
    TooManyItems,
    encode_list,
    read_items,
)
from relay.protocols.eth.limits import MAX_ANNOUNCED_TAKEN, MAX_TRANSACTIONS

__all__ = [
    "decode_announcement",
    "decode_masked_announcement",
    "encode_announcement",
    "encode_pooled",
    "encode_transactions",
    "first_duplicate",
    "split_pooled",
    "split_transactions",
]

_HASH: Final = 33  # bytes of a hash with its header
_LONGEST_SIZE: Final = 5  # bytes of a size
_LIST_HEADER: Final = 9  # bytes at most


def split_transactions(payload: bytes) -> list[bytes]:
    """Return the wire items of a Transactions message.

    Raises:
        ProtocolBreach: no list of items; what is inside of an item is not looked at.
        SubprotocolError: more than 5000 transactions.
    """
    try:
        return read_items(payload, MAX_TRANSACTIONS)
    except TooManyItems as error:
        raise SubprotocolError(f"{error} in one Transactions") from None
    except DecodeError as error:
        raise ProtocolBreach(f"bad Transactions: {error}") from None


def split_pooled(payload: bytes) -> tuple[int, list[bytes]]:
    """Return request id and wire items of a PooledTransactions message.

    Raises:
        ProtocolBreach: it does not decode.
    """
    try:
        request_id, items = _fields(payload, 2)
        return UINT64.read(request_id), read_items(items, MAX_TRANSACTIONS)
    except DecodeError as error:
        raise ProtocolBreach(f"bad PooledTransactions: {error}") from None


def encode_transactions(items: Iterable[bytes]) -> bytes:
    """Return a Transactions message."""
    return encode_list(items)


def encode_pooled(request_id: int, items: Iterable[bytes]) -> bytes:
    """Return a PooledTransactions message."""
    return encode_list((rlp.encode_int(request_id), encode_list(items)))


def encode_announcement(
    types: bytes, sizes: Sequence[int], hashes: Sequence[bytes], mask: bytes | None = None
) -> bytes:
    """Return a NewPooledTransactionHashes message.

    Args:
        types: a byte for each transaction.
        sizes: in their consensus encoding.
        hashes: 32 bytes each.
        mask: 16 bytes, for eth/72 and only there.
    """
    fields = [rlp.encode(types), SIZES.write(sizes), HASHES.write(hashes)]
    if mask is not None:
        fields.append(MASK.write(mask))
    return encode_list(fields)


def decode_announcement(
    payload: bytes, *, masked: bool = False
) -> tuple[bytes, list[int], tuple[bytes, ...]]:
    """Return types, sizes and hashes of a NewPooledTransactionHashes message.

    Args:
        payload: the message.
        masked: whether a mask follows, as in eth/72; it is checked and left out.

    Raises:
        ProtocolBreach: it does not decode.
        SubprotocolError: the three differ in length, or there are more than MAX_ANNOUNCED_TAKEN.
    """
    try:
        fields = _fields(payload, 4 if masked else 3)
        types, sizes, hashes = _entries(*fields[:3])
        if masked:
            MASK.read(fields[3])
    except DecodeError as error:
        raise ProtocolBreach(f"bad NewPooledTransactionHashes: {error}") from None
    return types, sizes, hashes


def decode_masked_announcement(payload: bytes) -> tuple[bytes, list[int], tuple[bytes, ...], bytes]:
    """Return types, sizes, hashes and mask of a NewPooledTransactionHashes message of eth/72.

    Raises:
        ProtocolBreach: it does not decode.
        SubprotocolError: the three lists differ in length, or there are more than MAX_ANNOUNCED_TAKEN.
    """
    try:
        fields = _fields(payload, 4)
        types, sizes, hashes = _entries(*fields[:3])
        mask: bytes = MASK.read(fields[3])
    except DecodeError as error:
        raise ProtocolBreach(f"bad NewPooledTransactionHashes: {error}") from None
    return types, sizes, hashes, mask


def _entries(types: bytes, sizes: bytes, hashes: bytes) -> tuple[bytes, list[int], tuple[bytes, ...]]:
    """Read the three lists; sizes last, because ten million of them take a second."""
    if (
        len(types) > MAX_ANNOUNCED_TAKEN + _LIST_HEADER
        or len(hashes) > MAX_ANNOUNCED_TAKEN * _HASH + _LIST_HEADER
    ):
        raise SubprotocolError(f"announcement of more than {MAX_ANNOUNCED_TAKEN:,} transactions")
    types, found = STRING.read(types), HASHES.read(hashes)
    if len(types) == len(found) and len(sizes) <= len(types) * _LONGEST_SIZE + _LIST_HEADER:
        numbers = SIZES.read(sizes)
        if len(numbers) == len(types):
            return types, numbers, found
    raise SubprotocolError(f"announcement of {len(types)} types and {len(found)} hashes, or sizes of others")


def first_duplicate(hashes: Sequence[bytes]) -> bytes | None:
    """Return a hash that occurs twice, if any; geth disconnects who delivers a transaction twice at once."""
    if len(set(hashes)) == len(hashes):
        return None
    seen: set[bytes] = set()
    for each in hashes:
        if each in seen:
            return each
        seen.add(each)
    return None


def _fields(payload: bytes, count: int) -> list[bytes]:
    items = read_items(payload, count)
    if len(items) != count:
        raise DecodeError(f"expected {count} fields, found {len(items)}")
    return items
