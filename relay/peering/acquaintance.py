"""Whom we know from before: keys that were peers for long, and of use.

Being connected costs nothing, so that alone makes nobody an acquaintance where others bring transactions that
end in blocks. Times are unix seconds, since they outlive the process.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from relay.peering.eviction import Merit
    from relay.peering.session import PeerSession
    from relay.primitives.keys import PublicKey

__all__ = ["Acquaintances"]

LONG: Final = 1800.0  # seconds as a peer after which a key is remembered
MAX_AGE: Final = 30 * 24 * 3600.0  # seconds since it was last a peer after which it is forgotten
MAX_KEYS: Final = 1024

_NOBODY: Final[Mapping[PublicKey, tuple[float, float]]] = {}


class Acquaintances:
    """Keys, and when each was first and last a peer of that kind; those not seen for longest go first.

    Args:
        seen: of earlier runs.
    """

    def __init__(self, seen: Mapping[PublicKey, tuple[float, float]] = _NOBODY) -> None:
        self._seen = dict(sorted(seen.items(), key=lambda each: each[1][1]))

    def __len__(self) -> int:
        return len(self._seen)

    @property
    def seen(self) -> Mapping[PublicKey, tuple[float, float]]:
        """All of them, to be kept."""
        return self._seen

    def first_seen(self, public_key: PublicKey) -> float | None:
        """Return since when a key is known, None for a stranger."""
        known = self._seen.get(public_key)
        return None if known is None else known[0]

    def note(
        self, sessions: Iterable[PeerSession], merits: Mapping[PublicKey, Merit], now: float, unix: float
    ) -> None:
        """Remember who deserves it; to be called now and then.

        Args:
            sessions: the joined peers.
            merits: theirs.
            now: monotonic seconds.
            unix: the time of day.
        """
        some_have_merit = any(merit.any for merit in merits.values())
        for session in sessions:
            key, stayed = session.public_key, now - session.joined_at
            if key is None or stayed < LONG:
                continue
            if some_have_merit and not (key in merits and merits[key].any):
                continue
            first, _ = self._seen.pop(key, (unix - stayed, 0.0))
            self._seen[key] = (first, unix)
        while self._seen and (len(self._seen) > MAX_KEYS or self._last_of_first() < unix - MAX_AGE):
            del self._seen[next(iter(self._seen))]

    def _last_of_first(self) -> float:
        return self._seen[next(iter(self._seen))][1]
