"""The pause before the next attempt to reach Tor."""

from __future__ import annotations

from typing import Final

FIRST_PAUSE: Final = 1.0  # seconds
GROWTH: Final = 1.5  # Bitcoin Core's RECONNECT_TIMEOUT_EXP
LONGEST_PAUSE: Final = 60.0  # seconds


class Backoff:
    """Pauses of 1 s, 1.5 s, 2.25 s ... up to 60 s, until something worked."""

    def __init__(
        self, first: float = FIRST_PAUSE, growth: float = GROWTH, longest: float = LONGEST_PAUSE
    ) -> None:
        self._first, self._growth, self._longest = first, growth, longest
        self._next = first

    def next_pause(self) -> float:
        """Seconds to wait now; the one after is longer."""
        pause = self._next
        self._next = min(pause * self._growth, self._longest)
        return pause

    def reset(self) -> None:
        """It worked: begin again with the shortest pause."""
        self._next = self._first
