"""How late the event loop runs what is due: what every peer waits while something else holds the loop."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

__all__ = ["BUCKETS", "LoopStallMonitor"]

INTERVAL: Final = 0.1  # seconds between two probes
WINDOW: Final = 60.0  # seconds that `recent_max` looks back
BUCKETS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)  # seconds


class Timer(Protocol):
    """A scheduled call."""

    def cancel(self) -> None:
        """Never run it."""
        ...


class LoopClock(Protocol):
    """The part of an event loop that is probed."""

    def time(self) -> float:
        """Monotonic seconds."""
        ...

    def call_later(self, delay: float, callback: Callable[[], None], /) -> Timer:
        """Run it after so many seconds."""
        ...


class LoopStallMonitor:
    """Probes a loop every INTERVAL while it is started.

    Attributes:
        counts: probes by lateness: one count for each of BUCKETS (at most that late), one for all later.
        total: seconds of lateness, summed.
    """

    def __init__(self, loop: LoopClock) -> None:
        self._loop = loop
        self._timer: Timer | None = None
        self._due = 0.0
        # Of the last WINDOW, each later and smaller than the one before: the first is the maximum.
        self._maxima: deque[tuple[float, float]] = deque(maxlen=int(WINDOW / INTERVAL) + 1)
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0

    def start(self) -> None:
        """Probe from now on."""
        self._due = self._loop.time() + INTERVAL
        self._timer = self._loop.call_later(INTERVAL, self._probe)

    def stop(self) -> None:
        """Probe no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def recent_max(self) -> float:
        """Longest stall of the last minute, seconds; one that goes on right now included."""
        now = self._loop.time()
        self._forget(now)
        present = max(0.0, now - self._due) if self._timer is not None else 0.0
        return max(self._maxima[0][1], present) if self._maxima else present

    def _probe(self) -> None:
        now = self._loop.time()
        self._take(now, max(0.0, now - self._due))
        self.start()

    def _take(self, now: float, late: float) -> None:
        self.counts[bisect_left(BUCKETS, late)] += 1
        self.total += late
        self._forget(now)
        while self._maxima and self._maxima[-1][1] <= late:
            self._maxima.pop()
        self._maxima.append((now, late))

    def _forget(self, now: float) -> None:
        while self._maxima and self._maxima[0][0] < now - WINDOW:
            self._maxima.popleft()
