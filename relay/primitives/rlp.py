"""RLP, strictly canonical, as go-ethereum's decoder: one value, one encoding.

`decode` builds the whole tree. The hot paths instead walk the bytes by offsets with `read_header` and
`list_items`, which copy nothing. Spec: Ethereum yellow paper, appendix B.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final, TypeAlias, Union

from relay.primitives.errors import DecodeError

__all__ = [
    "MAX_DEPTH",
    "Encodable",
    "RLPItem",
    "decode",
    "encode",
    "encode_int",
    "expect_bytes",
    "expect_list",
    "list_header",
    "list_items",
    "read_header",
    "string_header",
    "to_int",
]

RLPItem: TypeAlias = Union[bytes, "list[RLPItem]"]
"""What decoding gives: bytes, or a list of items."""

Encodable: TypeAlias = Union[bytes, bytearray, memoryview, int, str, "Sequence[Encodable]"]
"""What can be encoded: an int as its shortest big-endian bytes, text as UTF-8."""

MAX_DEPTH: Final = 32  # lists in lists; the deepest message of eth nests 6 (our choice)

_SHORT_STRINGS: Final = tuple(bytes((0x80 + n,)) for n in range(56))
_SHORT_LISTS: Final = tuple(bytes((0xC0 + n,)) for n in range(56))
_SINGLE: Final = tuple(bytes((n,)) for n in range(0x80))


def encode(item: Encodable) -> bytes:
    """Encode a value.

    Raises:
        ValueError: a negative int.
        TypeError: a type that has no RLP form.
    """
    if isinstance(item, bytes):
        if len(item) == 1 and item[0] < 0x80:
            return item
        return string_header(len(item)) + item
    if isinstance(item, list | tuple):
        payload = b"".join(map(encode, item))
        return list_header(len(payload)) + payload
    if isinstance(item, int):
        return encode_int(item)
    if isinstance(item, str):
        return encode(item.encode())
    if isinstance(item, bytearray | memoryview):
        return encode(bytes(item))
    raise TypeError(f"{type(item).__name__} has no RLP form")


def encode_int(value: int) -> bytes:
    """Encode a whole number that is not negative."""
    if value < 0x80:
        if value < 0:
            raise ValueError("RLP has no negative numbers")
        return _SINGLE[value] if value else b"\x80"
    size = (value.bit_length() + 7) >> 3
    return string_header(size) + value.to_bytes(size, "big")


def string_header(length: int) -> bytes:
    """Return what precedes a string of length bytes (not for a single byte under 0x80, its own encoding)."""
    if length < 56:
        return _SHORT_STRINGS[length]
    size = (length.bit_length() + 7) >> 3
    return bytes((0xB7 + size,)) + length.to_bytes(size, "big")


def list_header(length: int) -> bytes:
    """Return what precedes a list whose items take length bytes together."""
    if length < 56:
        return _SHORT_LISTS[length]
    size = (length.bit_length() + 7) >> 3
    return bytes((0xF7 + size,)) + length.to_bytes(size, "big")


def decode(data: bytes, *, max_depth: int = MAX_DEPTH) -> RLPItem:
    """Decode exactly one item.

    Raises:
        DecodeError: truncated, trailing bytes, not canonical, or lists nested deeper than max_depth.
    """
    data = bytes(data)
    item, end = _decode_item(data, 0, len(data), max_depth)
    if end != len(data):
        raise DecodeError(f"{len(data) - end} bytes follow the RLP item")
    return item


def read_header(buffer: bytes, pos: int, end: int) -> tuple[bool, int, int]:
    """Read the header of the item at pos.

    Args:
        buffer: what holds the item.
        pos: where it begins.
        end: where the surrounding list, or the buffer, ends.

    Returns:
        Whether it is a list, and where its payload begins and ends.

    Raises:
        DecodeError: nothing at pos, it reaches beyond end, or its header is not the shortest.
    """
    if pos >= end:
        raise DecodeError("RLP item is missing")
    first = buffer[pos]
    if first < 0x80:
        return False, pos, pos + 1
    start = pos + 1
    if first < 0xB8:
        stop = start + first - 0x80
        if stop > end:
            raise DecodeError("RLP string reaches beyond its surroundings")
        if first == 0x81 and buffer[start] < 0x80:
            raise DecodeError("RLP: a single byte under 0x80 must stand for itself")
        return False, start, stop
    if 0xC0 <= first < 0xF8:
        stop = start + first - 0xC0
        if stop > end:
            raise DecodeError("RLP list reaches beyond its surroundings")
        return True, start, stop
    is_list = first >= 0xF8
    start, stop = _long_header(buffer, start, first - (0xF7 if is_list else 0xB7), end)
    return is_list, start, stop


def _long_header(buffer: bytes, pos: int, size: int, end: int) -> tuple[int, int]:
    start = pos + size
    if start > end:
        raise DecodeError("RLP header is cut off")
    length = int.from_bytes(buffer[pos:start], "big")
    if length < 56 or not buffer[pos]:
        raise DecodeError("RLP length is not in its shortest form")
    if length > end - start:
        raise DecodeError("RLP item reaches beyond its surroundings")
    return start, start + length


def list_items(buffer: bytes, pos: int, end: int, limit: int = sys.maxsize) -> list[tuple[int, int]]:
    """Return where each item between pos and end (a list's payload) begins and ends, headers included.

    Items are not looked into: what is inside of a nested list is not checked. Where the bytes come in
    megabytes there has to be a limit: ten million empty items take ten seconds.

    Raises:
        DecodeError: an item's header is not canonical, items do not end at end, or there are more than limit.
    """
    items: list[tuple[int, int]] = []
    append = items.append
    for _ in range(limit):
        if pos >= end:
            break
        first = buffer[pos]
        # Hashes, and transactions up to 255 bytes, without a call: they are most of what is walked.
        if 0x81 < first < 0xB8:
            stop = pos + first - 0x7F
        elif (first == 0xB8 or first == 0xF8) and pos + 1 < end and buffer[pos + 1] > 55:  # noqa: PLR1714
            stop = pos + 2 + buffer[pos + 1]
        else:
            stop = read_header(buffer, pos, end)[2]
        if stop > end:
            raise DecodeError("RLP item reaches beyond its surroundings")
        append((pos, stop))
        pos = stop
    if pos < end:
        raise DecodeError(f"more than {limit} items")
    return items


def to_int(item: RLPItem, max_bytes: int = 32) -> int:
    """Read a number: bytes without leading zeros, at most max_bytes.

    Raises:
        DecodeError: a list, leading zeros, or too long.
    """
    if not isinstance(item, bytes):
        raise DecodeError("expected a number, found a list")
    if item[:1] == b"\x00":
        raise DecodeError("number has leading zeros")
    if len(item) > max_bytes:
        raise DecodeError(f"number has {len(item)} bytes, at most {max_bytes} are allowed")
    return int.from_bytes(item, "big")


def expect_bytes(item: RLPItem, size: int | None = None) -> bytes:
    """Return item if it is a string, of size bytes where given.

    Raises:
        DecodeError: a list, or another length.
    """
    if not isinstance(item, bytes):
        raise DecodeError("expected bytes, found a list")
    if size is not None and len(item) != size:
        raise DecodeError(f"expected {size} bytes, found {len(item)}")
    return item


def expect_list(item: RLPItem, size: int | None = None) -> list[RLPItem]:
    """Return item if it is a list, of size items where given.

    Raises:
        DecodeError: a string, or another number of items.
    """
    if not isinstance(item, list):
        raise DecodeError("expected a list, found bytes")
    if size is not None and len(item) != size:
        raise DecodeError(f"expected a list of {size} items, found {len(item)}")
    return item


def _decode_item(buffer: bytes, pos: int, end: int, depth: int) -> tuple[RLPItem, int]:
    is_list, start, stop = read_header(buffer, pos, end)
    if not is_list:
        return buffer[start:stop], stop
    if not depth:
        raise DecodeError("RLP lists are nested too deep")
    items: list[RLPItem] = []
    append = items.append
    while start < stop:
        # The two commonest kinds by hand: a call for each would double the time.
        first = buffer[start]
        if first < 0x80:
            append(buffer[start : start + 1])
            start += 1
        elif 0x81 < first < 0xB8 and start + first - 0x7F <= stop:
            following = start + first - 0x7F
            append(buffer[start + 1 : following])
            start = following
        else:
            item, start = _decode_item(buffer, start, stop, depth - 1)
            append(item)
    return items, stop
