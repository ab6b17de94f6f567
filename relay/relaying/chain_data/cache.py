"""Chain data by block hash, within a budget of bytes; what was not used for longest goes first.

What is here was checked against the hash it is kept under, so nothing in it can be wrong; it can only be
of a block that is no part of the chain any more, which who asks by hash wants to have all the same.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from relay.relaying.chain_data.demand import Kind

__all__ = ["ChainCache", "Shelf"]

_OVERHEAD: Final = 300  # bytes that an entry costs besides its data: two objects and its place in the table
_SHARES: Final = {Kind.HEADERS: 4, Kind.BODIES: 7, Kind.RECEIPTS: 4, Kind.ACCESS_LISTS: 1}  # of 16 parts


class Shelf:
    """Items of one kind.

    Attributes:
        size: bytes, overhead included.
        evicted: items that made room for others.
    """

    __slots__ = ("_budget", "_items", "evicted", "size")

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._items: OrderedDict[bytes, bytes] = OrderedDict()
        self.size = 0
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, block_hash: bytes) -> bool:
        return block_hash in self._items

    def get(self, block_hash: bytes) -> bytes | None:
        """Return an item, which is young again."""
        item = self._items.get(block_hash)
        if item is not None:
            self._items.move_to_end(block_hash)
        return item

    def get_all(self, hashes: Sequence[bytes]) -> list[bytes] | None:
        """Return all these items, which are young again; None if one of them is missing."""
        items = self._items
        try:
            found = [items[block_hash] for block_hash in hashes]
        except KeyError:
            return None
        for block_hash in hashes:
            items.move_to_end(block_hash)
        return found

    def peek(self, block_hash: bytes) -> bytes | None:
        """Return an item, which stays as old as it is."""
        return self._items.get(block_hash)

    def put(self, block_hash: bytes, item: bytes) -> None:
        """Keep an item; it must be that of the hash. One larger than the whole budget is not kept."""
        cost = len(item) + _OVERHEAD
        if block_hash in self._items or cost > self._budget:
            return
        self._items[block_hash] = item
        self.size += cost
        while self.size > self._budget:
            _, old = self._items.popitem(last=False)
            self.size -= len(old) + _OVERHEAD
            self.evicted += 1


class ChainCache:
    """Headers, bodies, receipts (lists in the form of eth/69) and access lists."""

    __slots__ = ("access_lists", "bodies", "by_kind", "headers", "receipts")

    def __init__(self, budget: int) -> None:
        whole = sum(_SHARES.values())
        self.by_kind = {kind: Shelf(budget * share // whole) for kind, share in _SHARES.items()}
        self.headers = self.by_kind[Kind.HEADERS]
        self.bodies = self.by_kind[Kind.BODIES]
        self.receipts = self.by_kind[Kind.RECEIPTS]
        self.access_lists = self.by_kind[Kind.ACCESS_LISTS]

    @property
    def size(self) -> int:
        """Bytes of everything."""
        return sum(shelf.size for shelf in self.by_kind.values())
