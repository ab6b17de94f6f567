"""Work that takes long, in slices: checking 128 bodies takes half a second, and no peer waits for that."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from relay.relaying.seams import Loop

__all__ = ["Workbench"]

_OVER: Final = object()


class Workbench:
    """Runs iterators a step at a time, one after the other, each for a slice of a turn of the event loop.

    Who puts work here bounds it: there is one piece for each question that was asked.
    """

    __slots__ = ("_loop", "_running", "_scheduled", "_seconds", "_work")

    def __init__(self, loop: Loop, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._work: deque[Iterator[None]] = deque()
        self._scheduled = False
        self._running = False

    def __len__(self) -> int:
        return len(self._work)

    def put(self, work: Iterator[None]) -> None:
        """Begin with work at once, if there is nothing else to do."""
        self._work.append(work)
        if not self._scheduled and not self._running:
            self._run()

    def _turn(self) -> None:
        self._scheduled = False
        self._run()

    def _run(self) -> None:
        self._running = True
        work, clock = self._work, self._loop.time
        end = clock() + self._seconds
        try:
            while work:
                if next(work[0], _OVER) is _OVER:
                    work.popleft()
                else:
                    work.rotate(-1)
                if clock() >= end:
                    break
        finally:
            self._running = False
        if work and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)
