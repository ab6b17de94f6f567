"""Which block stands at which number: those that link to the confirmed head, by hash.

Everything below a hash that is known to be right is right if it links up to it, so the run of known blocks
grows downwards, as headers arrive. Upwards it grows only when somebody confirms a new head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from relay.primitives import rlp

if TYPE_CHECKING:
    from collections.abc import Iterable

    from relay.chain.headers import Header
    from relay.relaying.chain_data.cache import Shelf

__all__ = ["Canonical", "parent_of"]

_STRIDE: Final = 4096  # blocks linked in one call: some milliseconds


def parent_of(raw: bytes) -> bytes:
    """Return the parent's hash from a header that was found good."""
    _, start, _ = rlp.read_header(raw, 0, len(raw))
    return raw[start + 1 : start + 33]


class _Run:
    """Blocks that were linked before a gap came up above them: consecutive numbers from floor on."""

    __slots__ = ("below", "floor", "hashes")

    def __init__(self, floor: int, below: bytes, hashes: dict[int, bytes]) -> None:
        self.floor = floor
        self.below = below
        self.hashes = hashes


class Canonical:
    """Hashes by number.

    Attributes:
        genesis: hash of block 0, which is known from the start.
        head: number of the confirmed head; 0 while there is none.
        head_hash: its hash.
        floor: the lowest number that links to the head.
        below: the parent's hash of the block at floor.
    """

    __slots__ = (
        "_count",
        "_hashes",
        "_headers",
        "_old",
        "_vouched",
        "below",
        "floor",
        "genesis",
        "head",
        "head_hash",
    )

    def __init__(self, genesis: bytes, headers: Shelf, count: int) -> None:
        self._headers = headers
        self._count = count
        self._hashes: dict[int, bytes] = {0: genesis}  # from floor to head
        self._vouched: dict[int, bytes] = {}
        self._old: _Run | None = None
        self.genesis = genesis
        self.head = 0
        self.head_hash = genesis
        self.floor = 0
        self.below = bytes(32)

    def __len__(self) -> int:
        return len(self._hashes)

    def linked(self, number: int) -> bytes | None:
        """Return the hash at a number, if it links to the head."""
        if self.floor <= number <= self.head:
            return self._hashes.get(number)
        if number == self.floor - 1:
            return self.below
        return self.genesis if number == 0 else None

    def hash_at(self, number: int) -> bytes | None:
        """Return the hash at a number, also one that only a trusted peer, or two peers alike, told."""
        return self.linked(number) or self._vouched.get(number)

    def run(self, numbers: range) -> list[bytes] | None:
        """Return the hashes at these numbers; None where one does not link to the head."""
        hashes = self._hashes
        try:
            return [hashes[number] for number in numbers]
        except KeyError:
            return None

    def confirm(self, header: Header) -> None:
        """Take a head that was found right; what does not link to it is out."""
        if header.hash == self.head_hash:
            return
        number, parent = header.number, header.parent_hash
        if self.head and self.floor <= number - 1 <= self.head and self._hashes.get(number - 1) == parent:
            self._cut(number)
        else:
            self._begin(number, parent)
        self._hashes[number] = header.hash
        self.head, self.head_hash = number, header.hash
        self._headers.put(header.hash, header.raw)
        self._bound()
        self.extend()

    def vouch(self, first: int, step: int, hashes: Iterable[bytes], depth: int) -> None:
        """Take hashes that do not link to the head, deep enough below it to stay as they are.

        Args:
            first: number of the first.
            step: from one number to the next.
            hashes: of the blocks.
            depth: blocks below the head that may still change.
        """
        for number, block_hash in enumerate(hashes):
            at = first + number * step
            if at + depth <= self.head and self.linked(at) is None:
                self._vouched[at] = block_hash
        while len(self._vouched) > self._count:
            del self._vouched[next(iter(self._vouched))]

    def extend(self) -> None:
        """Link what is held below the floor, some thousand blocks at most."""
        peek = self._headers.peek
        for _ in range(_STRIDE):
            if self.floor == 0 or len(self._hashes) >= self._count:
                return
            if self.floor == 1:
                self._reach_genesis()
                return
            if self._old is not None and self._meet(self._old):
                continue
            raw = peek(self.below)
            if raw is None:
                return
            self.floor -= 1
            self._hashes[self.floor] = self.below
            self.below = parent_of(raw)

    def _reach_genesis(self) -> None:
        if self.below == self.genesis:
            self._hashes[0], self.floor = self.genesis, 0

    def _begin(self, number: int, parent: bytes) -> None:
        """Begin a new run; the one there was may turn out to be the lower part of it."""
        self._cut(number)
        self._old = _Run(self.floor, self.below, self._hashes) if self._hashes else None
        self._hashes = {}
        self.floor, self.below = number, parent

    def _meet(self, old: _Run) -> bool:
        """Look whether the run has come down to the older one, and is one with it."""
        at, hashes = self.floor - 1, old.hashes
        if at not in hashes:
            return False
        for number in range(at + 1, old.floor + len(hashes)):
            del hashes[number]
        if hashes[at] != self.below:
            # Another block stands here now. What is under it may still be the same.
            del hashes[at]
            self._old = old if hashes else None
            return False
        self._hashes = {**hashes, **self._hashes}
        self.floor, self.below, self._old = old.floor, old.below, None
        return True

    def _cut(self, number: int) -> None:
        """Forget what stood at a number and above."""
        for each in range(max(number, self.floor), self.head + 1):
            del self._hashes[each]
        for each in [each for each in self._vouched if each >= number]:
            del self._vouched[each]

    def _bound(self) -> None:
        while len(self._hashes) > self._count:
            self.below = self._hashes.pop(self.floor)
            self.floor += 1
