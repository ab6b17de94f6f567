"""How fast dials may start where others share the way: Tor's guards, and exits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from relay.primitives.errors import ConnectFailed

__all__ = ["EXIT_PACE", "I2P_PACE", "ONION_PACE", "DialPacer", "Pace"]


@dataclass(frozen=True, slots=True)
class Pace:
    """A budget of dials.

    Attributes:
        per_second: dial starts a second, never more; the jitter only slows them.
        jitter: share of the gap between two starts that is added at random, 0 to this.
        max_pending: dials that are under way at a time.
        max_waiting: dials that wait for their turn; a further one fails at once.
    """

    per_second: float
    jitter: float
    max_pending: int
    max_waiting: int

    def __post_init__(self) -> None:
        assert self.per_second > 0
        assert self.max_pending > 0


# Guards throttle a client above 3 circuits a second (tor.md 24).
ONION_PACE = Pace(per_second=2.0, jitter=0.5, max_pending=12, max_waiting=100)
# Exits are shared with strangers, and geth turns an address away for 30 s after each connection.
EXIT_PACE = Pace(per_second=1.0, jitter=1.0, max_pending=8, max_waiting=100)


# What I2P's routers bear is not known to us; a session of one destination shares a handful of tunnels.
I2P_PACE = Pace(per_second=2.0, jitter=0.5, max_pending=12, max_waiting=100)


class DialPacer:
    """Hands out turns to dial, in the order they were asked for.

    Args:
        pace: the budget.
        rand: random bytes, for the jitter: an even beat would mark our circuits.
        now: monotonic seconds.
        sleep: waits that many seconds.
    """

    def __init__(
        self,
        pace: Pace,
        rand: Callable[[int], bytes],
        now: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._pace = pace
        self._rand = rand
        self._now = now
        self._sleep = sleep
        self._places = asyncio.Semaphore(pace.max_pending)
        self._next_start = now()
        self.waiting = 0
        self.pending = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and hold a place while the block runs. A cancelled call gives everything back.

        Raises:
            ConnectFailed: too many wait already.
        """
        await self._enter()
        try:
            yield
        finally:
            self.pending -= 1
            self._places.release()

    async def _enter(self) -> None:
        if self.waiting >= self._pace.max_waiting:
            raise ConnectFailed("too many dials over Tor or I2P wait for their turn")
        self.waiting += 1
        try:
            await self._places.acquire()
            try:
                await self._start()
            except asyncio.CancelledError:
                self._places.release()
                raise
        finally:
            self.waiting -= 1
        self.pending += 1

    async def _start(self) -> None:
        start = max(self._now(), self._next_start)
        self._next_start = start + self._gap()
        # Again after each sleep: a timer may fire a little early.
        while (wait := start - self._now()) > 0:
            await self._sleep(wait)

    def _gap(self) -> float:
        share = int.from_bytes(self._rand(4), "big") / 2**32
        return (1 + self._pace.jitter * share) / self._pace.per_second
