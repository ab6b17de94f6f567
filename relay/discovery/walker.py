"""Random walks: while peers are wanted, look up random ids and hand on whom the walk met."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog

from relay.discovery.driver import NoAnswer
from relay.primitives.keys import NodeId
from relay.protocols.discv5 import Contact, LookupDone

__all__ = ["Pace", "Walker"]

_log = structlog.get_logger("relay.discovery")

_ID_BYTES: Final = 32
_GROWTH: Final = 1.5


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between two walks: the shortest while walks bring new nodes, growing to the longest.

    Attributes:
        shortest: also how often a walker looks whether it is wanted.
        longest: a bound.
    """

    shortest: float
    longest: float


UDP_PACE: Final = Pace(1.0, 30.0)
ONION_PACE: Final = Pace(4.0, 120.0)  # a walk over onions costs circuits, which others pay for, too


class Walker:
    """Walks while it is hungry.

    Args:
        lookup: of one network, raises NoAnswer.
        found: takes whom a walk met; returns whether that is news.
        hungry: whether more nodes are wanted now.
        rand: random bytes.
        sleep: waits.
        pace: of the walks.

    Attributes:
        walks: lookups that ended.
        hops: of the last one.
    """

    def __init__(
        self,
        lookup: Callable[[NodeId], Awaitable[LookupDone]],
        found: Callable[[Contact], bool],
        *,
        hungry: Callable[[], bool],
        rand: Callable[[int], bytes],
        sleep: Callable[[float], Awaitable[None]],
        pace: Pace,
    ) -> None:
        self._lookup, self._found, self._hungry = lookup, found, hungry
        self._rand, self._sleep, self._pace = rand, sleep, pace
        self.walks = 0
        self.hops = 0

    async def run(self) -> None:
        """Walk until cancelled."""
        pause = self._pace.shortest
        while True:
            await self._sleep(pause)
            if not self._hungry() or await self._walk():
                pause = self._pace.shortest
            else:
                pause = min(pause * _GROWTH, self._pace.longest)

    async def _walk(self) -> int:
        """Make one walk; returns how many new nodes it brought."""
        try:
            done = await self._lookup(NodeId(self._rand(_ID_BYTES)))
        except NoAnswer:
            return 0
        self.walks += 1
        self.hops = done.hops
        new = sum(self._found(contact) for contact in done.contacts)
        _log.debug("walked", asked=done.asked, hops=done.hops, met=len(done.contacts), new=new)
        return new
