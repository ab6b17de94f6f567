"""Hashes met a short while ago and not held: refused, replaced, evicted or expired ones.

Without it a transaction that we refuse would be fetched and verified again for every peer that announces it.
"""

from __future__ import annotations

__all__ = ["RecentHashes"]


class RecentHashes:
    """A bounded memory in two generations: when the young one is full or aged, the old one is forgotten.

    A hash is remembered for at least limit further hashes or max_age seconds, whichever comes first, and
    never for more than twice that. The two sets are public because the hot path asks them directly.
    """

    __slots__ = ("_limit", "_max_age", "_rotated", "old", "young")

    def __init__(self, limit: int, max_age: float) -> None:
        self._limit = limit
        self._max_age = max_age
        self._rotated = float("-inf")
        self.young: set[bytes] = set()
        self.old: set[bytes] = set()

    def __contains__(self, tx_hash: bytes) -> bool:
        return tx_hash in self.young or tx_hash in self.old

    def __len__(self) -> int:
        return len(self.young) + len(self.old)

    def add(self, tx_hash: bytes) -> None:
        """Remember a hash; overflow forgets the older generation."""
        self.young.add(tx_hash)
        if len(self.young) >= self._limit:
            self._rotate()

    def discard(self, tx_hash: bytes) -> None:
        """Forget a hash."""
        self.young.discard(tx_hash)
        self.old.discard(tx_hash)

    def tick(self, now: float) -> None:
        """Let a generation grow old: `now` in monotonic seconds."""
        if now - self._rotated >= self._max_age:
            self._rotated = now
            self._rotate()

    def _rotate(self) -> None:
        self.old = self.young
        self.young = set()
