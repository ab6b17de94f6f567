"""Readers and writers for the fields of eth messages, each on the RLP bytes of one item.

They are exactly as strict as geth's decoder: integers without leading zeros, hashes of 32 bytes, lists
without further items; what follows a message's list is ignored. Spec: caps/eth.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from relay.primitives import rlp
from relay.primitives.errors import DecodeError
from relay.primitives.forkid import ForkId
from relay.protocols.eth.limits import MAX_POOLED_LOOKUPS, MAX_SERVED

__all__ = [
    "ASKED",
    "CELLS",
    "FLAG",
    "FORK_ID",
    "HASH",
    "HASHES",
    "ITEMS",
    "LISTS",
    "MASK",
    "ORIGIN",
    "SIZES",
    "STRING",
    "UINT32",
    "UINT64",
    "UINT256",
    "Codec",
    "TooManyItems",
    "encode_list",
    "read_items",
    "split_items",
]

HASH_SIZE: Final = 32
MASK_SIZE: Final = 16  # bytes of a custody bitmap: a bit for each of 128 cells
CELL_SIZE: Final = 2048
_HASH_ITEM: Final = HASH_SIZE + 1
_HASH_HEADER: Final = b"\xa0"
_FORK_ID_SIZE: Final = 15  # bytes at most: a list of a string of 4 bytes and a number of up to 8
_SMALL: Final = 512  # bytes; most transactions are smaller
_SMALL_SIZES: Final = tuple(map(rlp.encode_int, range(_SMALL)))


class TooManyItems(DecodeError):
    """A list has more items than it may have; the rest was not looked at."""


class Codec(NamedTuple):
    """How one field stands in a message.

    Attributes:
        read: from the field's RLP bytes; raises DecodeError.
        write: to its RLP bytes.
    """

    read: Callable[[bytes], Any]
    write: Callable[[Any], bytes]


def read_items(data: bytes, limit: int) -> list[bytes]:
    """Return the items, headers included, of the list that data begins with.

    Ten million empty items fit into a message and take ten seconds, so there is always a limit.

    Raises:
        TooManyItems: more than limit.
        DecodeError: no list, or an item's header is not canonical.
    """
    is_list, start, end = rlp.read_header(data, 0, len(data))
    if not is_list:
        raise DecodeError("expected a list, found bytes")
    return split_items(data, start, end, limit)


def split_items(data: bytes, pos: int, end: int, limit: int) -> list[bytes]:
    """Return the items, headers included, between pos and end: a list's payload.

    On the path of every transaction: sizes up to two bytes are read here, the rest by `rlp.read_header`.

    Raises:
        TooManyItems: more than limit.
        DecodeError: an item's header is not canonical, or the items do not end at end.
    """
    items: list[bytes] = []
    append = items.append
    try:
        for _ in range(limit):
            if pos >= end:
                break
            first = data[pos]
            if first in (0xB8, 0xF8) and data[pos + 1] > 55:
                stop = pos + 2 + data[pos + 1]
            elif first in (0xB9, 0xF9) and data[pos + 1]:
                stop = pos + 3 + (data[pos + 1] << 8 | data[pos + 2])
            else:
                stop = rlp.read_header(data, pos, end)[2]
            append(data[pos:stop])
            pos = stop
    except IndexError:
        raise DecodeError("RLP header is cut off") from None
    if pos < end:
        raise TooManyItems(f"more than {limit} items")
    if pos != end:
        raise DecodeError("RLP item reaches beyond its surroundings")
    return items


def encode_list(items: Iterable[bytes]) -> bytes:
    """Return the list of items that are encoded already."""
    payload = b"".join(items)
    return rlp.list_header(len(payload)) + payload


def _string(item: bytes) -> bytes:
    is_list, start, end = rlp.read_header(item, 0, len(item))
    if is_list:
        raise DecodeError("expected bytes, found a list")
    return item[start:end]


def _string_of(size: int) -> Callable[[bytes], bytes]:
    def read(item: bytes) -> bytes:
        value = _string(item)
        if len(value) != size:
            raise DecodeError(f"expected {size} bytes, found {len(value)}")
        return value

    return read


def _uint(max_bytes: int) -> Codec:
    def read(item: bytes) -> int:
        return rlp.to_int(_string(item), max_bytes)

    return Codec(read, rlp.encode_int)


def _read_flag(item: bytes) -> bool:
    value = rlp.to_int(_string(item), 1)
    if value > 1:
        raise DecodeError(f"expected 0 or 1, found {value}")
    return bool(value)


def _read_hashes(item: bytes, most: int | None = None) -> tuple[bytes, ...]:
    is_list, start, end = rlp.read_header(item, 0, len(item))
    count, rest = divmod(end - start, _HASH_ITEM)
    if not is_list or rest or item[start:end:_HASH_ITEM] != _HASH_HEADER * count:
        raise DecodeError("expected a list of hashes of 32 bytes")
    if most is not None:
        end = min(end, start + most * _HASH_ITEM)
    return tuple([item[at : at + HASH_SIZE] for at in range(start + 1, end, _HASH_ITEM)])


def _write_hashes(hashes: Sequence[bytes]) -> bytes:
    header = rlp.list_header(len(hashes) * _HASH_ITEM)
    return header + _HASH_HEADER + _HASH_HEADER.join(hashes) if hashes else header


def _read_sizes(item: bytes) -> list[int]:
    is_list, start, end = rlp.read_header(item, 0, len(item))
    if not is_list:
        raise DecodeError("expected a list of sizes")
    # Byte by byte: 4096 sizes come in one message, and a slice for each would triple the time.
    sizes: list[int] = []
    append = sizes.append
    following = iter(item[start:end])
    try:
        for first in following:
            if 0 < first < 0x80:
                append(first)
            elif first == 0x82 and (high := next(following)):
                append(high << 8 | next(following))
            elif first == 0x81 and (low := next(following)) >= 0x80:
                append(low)
            elif 0x82 < first <= 0x84 and (high := next(following)):
                rest = bytes([next(following) for _ in range(first - 0x81)])
                append(high << 8 * len(rest) | int.from_bytes(rest, "big"))
            elif first == 0x80:
                append(0)
            else:
                raise DecodeError("expected sizes of at most 32 bits in their shortest form")
    except StopIteration:
        raise DecodeError("list of sizes is cut off") from None
    return sizes


def _write_sizes(sizes: Sequence[int]) -> bytes:
    encode = rlp.encode_int
    return encode_list([_SMALL_SIZES[size] if size < _SMALL else encode(size) for size in sizes])


def _read_fork_id(item: bytes) -> ForkId:
    if len(item) > _FORK_ID_SIZE:
        raise DecodeError(f"a fork id of {len(item)} bytes")
    return ForkId.from_item(rlp.decode(item))


def _write_fork_id(fork_id: ForkId) -> bytes:
    return rlp.encode(fork_id.to_item())


def _read_origin(item: bytes) -> bytes | int:
    value = _string(item)
    return value if len(value) == HASH_SIZE else rlp.to_int(value, 8)


def _read_item_tuple(item: bytes) -> tuple[bytes, ...]:
    return tuple(read_items(item, MAX_POOLED_LOOKUPS))


def _read_lists(item: bytes) -> tuple[bytes, ...]:
    items = tuple(read_items(item, MAX_SERVED))
    if any(each[0] < 0xC0 for each in items):
        raise DecodeError("expected a list of lists")
    return items


def _read_cells(item: bytes) -> tuple[tuple[bytes, ...], ...]:
    read = _string_of(CELL_SIZE)
    groups = read_items(item, MAX_POOLED_LOOKUPS)
    return tuple(tuple(map(read, read_items(group, len(group) // CELL_SIZE + 1))) for group in groups)


def _write_cells(cells: Sequence[Sequence[bytes]]) -> bytes:
    return rlp.encode(cells)


UINT32: Final = _uint(4)
UINT64: Final = _uint(8)
UINT256: Final = _uint(32)
FLAG: Final = Codec(_read_flag, rlp.encode_int)
STRING: Final = Codec(_string, rlp.encode)
HASH: Final = Codec(_string_of(HASH_SIZE), rlp.encode)
MASK: Final = Codec(_string_of(MASK_SIZE), rlp.encode)
HASHES: Final = Codec(_read_hashes, _write_hashes)
ASKED: Final = Codec(lambda item: _read_hashes(item, MAX_POOLED_LOOKUPS), _write_hashes)
"""Hashes that are asked for, without those beyond what anybody answers."""
SIZES: Final = Codec(_read_sizes, _write_sizes)
FORK_ID: Final = Codec(_read_fork_id, _write_fork_id)
ORIGIN: Final = Codec(_read_origin, rlp.encode)
"""A block: its hash of 32 bytes, or its number."""
ITEMS: Final = Codec(_read_item_tuple, encode_list)
"""Items as they stand on the wire, not looked into."""
LISTS: Final = Codec(_read_lists, encode_list)
"""As ITEMS, each of them a list."""
CELLS: Final = Codec(_read_cells, _write_cells)
"""For each transaction its cells of 2048 bytes."""
