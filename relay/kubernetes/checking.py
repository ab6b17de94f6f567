"""The health check: an entry's onion is dialed before it is passed on for the first time.

It proves that a service answers there now, not that it is the node of the entry: that, the daemon's handshake
proves. What was reached once is passed on until it is old; later failures are the daemon's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from relay.kubernetes.entry import Entry
from relay.kubernetes.peers_file import short_onion
from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.errors import TransportError
from relay.transports.dialer import Dialer

__all__ = ["OnionChecks"]

log = structlog.get_logger("relay.kubernetes")

AT_ONCE: Final = 4  # circuits that are built at a time
PATIENCE: Final = 60.0  # seconds; p95 of onion requests on the public network is 50 s
AGAIN: Final = 120.0  # seconds between two tries of one onion


class OnionChecks:
    """Remembers which onions were reached.

    Args:
        dialer: through Tor.
        clock: monotonic seconds.

    Attributes:
        reached: dials that came through.
        failed: dials that did not.
    """

    def __init__(self, dialer: Dialer, *, clock: Callable[[], float]) -> None:
        self._dialer, self._clock = dialer, clock
        self._good: set[str] = set()
        self._tried: dict[str, float] = {}
        self.reached = self.failed = 0

    def passed(self, entries: Iterable[Entry]) -> tuple[Entry, ...]:
        """Return those that may be passed on."""
        return tuple(each for each in entries if each.onion in self._good)

    def due(self, entries: Iterable[Entry]) -> list[Entry]:
        """Return those that should be dialed now, and forget those that are not there any more."""
        listed = list(entries)
        names = {each.onion for each in listed}
        self._good &= names
        self._tried = {onion: at for onion, at in self._tried.items() if onion in names}
        now = self._clock()
        return [
            each
            for each in listed
            if each.onion not in self._good and now - self._tried.get(each.onion, -AGAIN) >= AGAIN
        ]

    async def check(self, entries: Iterable[Entry]) -> bool:
        """Dial those that are due; tell whether one was reached for the first time."""
        gate = asyncio.Semaphore(AT_ONCE)
        before = self.reached
        async with asyncio.TaskGroup() as tasks:
            for each in self.due(entries):
                tasks.create_task(self._one(each, gate))
        return self.reached > before

    async def _one(self, entry: Entry, gate: asyncio.Semaphore) -> None:
        async with gate:
            self._tried[entry.onion] = self._clock()
            try:
                async with asyncio.timeout(PATIENCE):
                    to = Endpoint(Network.ONION, entry.onion, entry.port)
                    transport, _ = await self._dialer.dial(to, asyncio.Protocol)
            except (TransportError, OSError) as error:  # TimeoutError is an OSError
                self.failed += 1
                why = str(error) or "no answer in time"
                log.info("peer not reached yet", pod=entry.place.pod, onion=short_onion(entry.onion), why=why)
                return
            transport.close()
            self.reached += 1
            self._good.add(entry.onion)
