"""The newest blocks of the chain that are confirmed, linked to each other.

Only so many are remembered as a reorganization can reach back; what a relay keeps to serve is elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.chain.headers import Header

__all__ = ["HeadChain"]


class HeadChain:
    """Hashes by number, without gaps, up to the head.

    Attributes:
        number: of the head; 0 while only genesis is known.
        hash: of the head.
        header: of the head; None while only genesis is known.
    """

    __slots__ = ("_count", "_hashes", "hash", "header", "number")

    def __init__(self, genesis_hash: bytes, count: int) -> None:
        self._count = count
        self._hashes: dict[int, bytes] = {0: genesis_hash}  # in order of number
        self.number = 0
        self.hash = genesis_hash
        self.header: Header | None = None

    def __len__(self) -> int:
        return len(self._hashes)

    def hash_at(self, number: int) -> bytes | None:
        """Return the hash of a block, None where it is not remembered."""
        return self._hashes.get(number)

    def contradicted_by(self, run: Sequence[Header]) -> bool:
        """Tell whether a run has another block than this chain at some number."""
        return any(self._hashes.get(each.number, each.hash) != each.hash for each in run)

    def adopt(self, run: Sequence[Header]) -> list[Header]:
        """Make the last block of a run the head; what does not link to it is forgotten.

        Args:
            run: at least one header, each the parent of the next.

        Returns:
            Those that were not in the chain.
        """
        linked = next((at for at, each in enumerate(run) if self._links(each)), None)
        if linked is None:
            self._hashes.clear()
        new = [each for each in run[linked:] if self._hashes.get(each.number) != each.hash]
        for each in new:
            self._cut(each.number)
            self._hashes[each.number] = each.hash
        last = run[-1]
        self._cut(last.number + 1)
        self.number, self.hash, self.header = last.number, last.hash, last
        while len(self._hashes) > self._count:
            del self._hashes[next(iter(self._hashes))]
        return new

    def _links(self, header: Header) -> bool:
        known = self._hashes.get
        return known(header.number) == header.hash or known(header.number - 1) == header.parent_hash

    def _cut(self, number: int) -> None:
        """Forget a block and all above it."""
        while self._hashes and next(reversed(self._hashes)) >= number:
            self._hashes.popitem()
