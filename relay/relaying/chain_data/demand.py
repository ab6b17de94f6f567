"""What is asked for, in terms that no version of eth has a say in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from relay.protocols.eth.limits import MAX_SERVED

__all__ = ["HeaderQuery", "ItemQuery", "Kind", "Query"]


class Kind(Enum):
    """Kinds of chain data."""

    HEADERS = "headers"
    BODIES = "bodies"
    RECEIPTS = "receipts"
    ACCESS_LISTS = "access lists"


@dataclass(frozen=True, slots=True)
class HeaderQuery:
    """Headers from an origin on.

    Attributes:
        origin: hash (32 bytes) or number of the first.
        amount: how many at most.
        skip: blocks left out between two.
        reverse: towards genesis.
    """

    origin: bytes | int
    amount: int
    skip: int = 0
    reverse: bool = False

    @property
    def step(self) -> int:
        """From one number to the next."""
        return -self.skip - 1 if self.reverse else self.skip + 1

    @property
    def span(self) -> int:
        """Blocks from the first to the last, both included, and those between."""
        return max(0, self.amount - 1) * (self.skip + 1) + 1

    def served(self) -> HeaderQuery:
        """Return the query with no more than one answer gives."""
        if self.amount <= MAX_SERVED:
            return self
        return HeaderQuery(self.origin, MAX_SERVED, self.skip, self.reverse)

    def whole(self) -> HeaderQuery:
        """Return the query for the same headers and those between them."""
        return HeaderQuery(self.origin, self.span, 0, self.reverse)


@dataclass(frozen=True, slots=True)
class ItemQuery:
    """Bodies, receipts or access lists of blocks.

    Attributes:
        kind: which of them.
        hashes: of the blocks.
        first_index: receipts of the first block to leave out.
    """

    kind: Kind
    hashes: tuple[bytes, ...]
    first_index: int = 0

    def size_of(self, place: int, item: bytes) -> int:
        """Return what an item takes of an answer at least; of a block's last receipts this is nothing.

        Args:
            place: of its block among the hashes.
            item: a body, complete receipts or an access list.
        """
        return 0 if self.first_index and place == 0 else len(item)


Query: TypeAlias = HeaderQuery | ItemQuery
