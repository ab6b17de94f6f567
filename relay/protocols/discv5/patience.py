"""How long to wait for an answer: fixed, or measured where nobody can know it beforehand.

Over onion streams a round trip takes 15 ms on a private Tor network and seconds on the public one, so what is
waited is taken from what it took lately.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from typing import Final

from relay.protocols.discv5.options import Options

__all__ = ["Estimate", "Patience"]

WINDOW: Final = 64  # latest round trips that count
ENOUGH: Final = 8  # with fewer of them the ceiling holds
_RANK: Final = 0.9  # of the sorted round trips; what goes beyond it at times must not set the pace
_FACTOR: Final = 3.0  # waited is so many times what nine in ten took; our choice


class Estimate:
    """A time-out between a floor and a ceiling.

    What was not answered counts as having taken the whole time-out, so a network that slows down raises it
    step by step until answers come in time again.

    Args:
        floor: seconds; None: the ceiling holds, whatever is measured.
        ceiling: seconds.

    Attributes:
        typical: seconds that half of the latest round trips took at most; 0 before the first.
        timeout: seconds to wait now.
    """

    __slots__ = ("_ceiling", "_floor", "_ordered", "_samples", "timeout", "typical")

    def __init__(self, floor: float | None, ceiling: float) -> None:
        self._floor = floor
        self._ceiling = ceiling
        self._samples: deque[float] = deque()
        self._ordered: list[float] = []
        self.typical = 0.0
        self.timeout = ceiling

    def took(self, seconds: float) -> None:
        """Take a round trip into account."""
        if self._floor is None:
            return
        ordered = self._ordered
        if len(ordered) == WINDOW:
            del ordered[bisect_left(ordered, self._samples.popleft())]
        self._samples.append(seconds)
        insort(ordered, seconds)
        self.typical = ordered[(len(ordered) - 1) // 2]
        if len(ordered) >= ENOUGH:
            slow = ordered[int(_RANK * (len(ordered) - 1))]
            self.timeout = min(max(self._floor, _FACTOR * slow), self._ceiling)

    def missed(self) -> None:
        """Take into account that no answer came within the time-out."""
        self.took(self.timeout)


class Patience:
    """Both time-outs of a core.

    Attributes:
        response: of requests over an existing session.
        connect: from the first packet to the other's WHOAREYOU: dial included.
    """

    __slots__ = ("connect", "response")

    def __init__(self, options: Options) -> None:
        self.response = Estimate(options.response_floor, options.response_timeout)
        self.connect = Estimate(None, options.connect_timeout)
