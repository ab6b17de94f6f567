"""What nobody had a moment ago: who asks for it again need not have all others asked again."""

from __future__ import annotations

from collections.abc import Callable

from relay.relaying.chain_data.demand import Kind

__all__ = ["Absent"]


class Absent:
    """Blocks of which every peer that was asked has said that it has nothing; beyond count, the oldest go.

    Args:
        seconds: how long that is believed: a block that was just made is everywhere soon.
        count: how many are remembered.
        clock: monotonic seconds.
    """

    __slots__ = ("_clock", "_count", "_seconds", "_until")

    def __init__(self, seconds: float, count: int, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._count = count
        self._clock = clock
        self._until: dict[tuple[Kind, bytes], float] = {}

    def __len__(self) -> int:
        return len(self._until)

    def __contains__(self, what: tuple[Kind, bytes]) -> bool:
        until = self._until.get(what)
        if until is None:
            return False
        if self._clock() < until:
            return True
        del self._until[what]
        return False

    def add(self, kind: Kind, block_hash: bytes) -> None:
        """Take note that nobody has it."""
        self._until[kind, block_hash] = self._clock() + self._seconds
        if len(self._until) > self._count:
            del self._until[next(iter(self._until))]
