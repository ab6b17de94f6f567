"""Following a list of the API server: list, watch, list again when the watch can not go on.

The rules are those of Kubernetes' own clients (client-go, Reflector): 410 needs a new list; anything else is
tried again after a pause that grows, and is random, so that a thousand pods do not come back in one second.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog

from relay.kubernetes.api import Change, Listed
from relay.kubernetes.failures import ApiFailed, Trouble

__all__ = ["BackOff", "Clock", "Follower", "Source", "SyncClock"]

log = structlog.get_logger("relay.kubernetes")

FIRST_PAUSE: Final = 1.0  # seconds
LONGEST_PAUSE: Final = 60.0
WATCH_SECONDS: Final = 240  # of one watch; with up to half as much on top, so that not all end together
_REWATCH: Final = 1.0  # seconds at most between two watches in good order

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]


class BackOff:
    """Pauses between tries: twice as long each time, with up to half of it taken off at random.

    Args:
        random: from 0 to 1.
        first: seconds.
        longest: seconds.
    """

    def __init__(
        self, random: Callable[[], float], *, first: float = FIRST_PAUSE, longest: float = LONGEST_PAUSE
    ) -> None:
        self._random, self._first, self._longest = random, first, longest
        self._next = first

    def reset(self) -> None:
        """Begin anew after a success."""
        self._next = self._first

    def pause(self, failure: ApiFailed | None = None) -> float:
        """Return the seconds to wait; not less than a server asks for."""
        seconds = self._next * (1 - self._random() / 2)
        self._next = min(self._next * 2, self._longest)
        asked = failure.retry_after if failure is not None else None
        return seconds if asked is None else max(seconds, asked * (1 + self._random() / 4))


class SyncClock:
    """Seconds during which changes could be seen; stands still while a list is not followed.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._total = 0.0
        self._since: float | None = None

    def __call__(self) -> float:
        """Return the seconds so far."""
        running = 0.0 if self._since is None else self._clock() - self._since
        return self._total + running

    @property
    def running(self) -> bool:
        """Whether changes can be seen now."""
        return self._since is not None

    def run(self, running: bool) -> None:
        """Start or stop."""
        if running and self._since is None:
            self._since = self._clock()
        elif not running and self._since is not None:
            self._total += self._clock() - self._since
            self._since = None


@dataclass(frozen=True, slots=True)
class Source:
    """What can be followed.

    Attributes:
        name: for the log and metrics.
        list: all there is.
        watch: changes from a version on, for some seconds.
    """

    name: str
    list: Callable[[], Awaitable[Listed]]
    watch: Callable[[str, int], AsyncIterator[Change]]


class Follower:
    """Keeps somebody informed of what a source holds.

    Args:
        source: what is followed.
        on_list: told all there is, after each list.
        on_change: told each event.
        on_sync: told True when changes can be seen, False when not.
        on_failure: told each failure, for Events; each kind once in a row.
        random: from 0 to 1.
        sleep: waits.

    Attributes:
        name: of the source.
        ends: how watches ended, by kind.
        lists: lists that were made.
    """

    def __init__(
        self,
        source: Source,
        *,
        on_list: Callable[[Listed], None],
        on_change: Callable[[Change], None],
        on_sync: Callable[[bool], None],
        on_failure: Callable[[ApiFailed], None],
        random: Callable[[], float],
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._source = source
        self._on_list, self._on_change = on_list, on_change
        self._on_sync, self._on_failure = on_sync, on_failure
        self._random, self._sleep = random, sleep
        self._backoff = BackOff(random)
        self.name = source.name
        self._told: Trouble | None = None
        self.ends: Counter[str] = Counter()
        self.lists = 0

    async def run(self) -> None:
        """Follow until cancelled."""
        version = ""
        while True:
            try:
                if not version:
                    listed = await self._source.list()
                    self.lists += 1
                    self._on_list(listed)
                    version = listed.version
                self._on_sync(True)
                version = await self._watch(version)
            except ApiFailed as error:
                version = ""
                await self._failed(error)

    async def _watch(self, version: str) -> str:
        """Follow one watch to its end in good order, and return the version to go on from."""
        seconds = WATCH_SECONDS + int(self._random() * WATCH_SECONDS / 2)
        try:
            async for change in self._source.watch(version, seconds):
                version = change.item.version or version
                self._healthy()
                self._on_change(change)
        except ApiFailed as error:
            self.ends[error.trouble.value] += 1
            if error.trouble is not Trouble.ENDED:
                raise
            self._healthy()
        # A server, or a proxy before it, that ends each watch at once must not be asked a thousand times.
        await self._sleep(_REWATCH * (1 + self._random()) / 2)
        return version

    def _healthy(self) -> None:
        self._backoff.reset()
        if self._told is not None:
            log.info("following again", what=self._source.name)
            self._told = None

    async def _failed(self, error: ApiFailed) -> None:
        self._on_sync(False)
        pause = self._backoff.pause(error)
        if error.trouble is Trouble.GONE:  # nothing is wrong: it only took too long
            log.info("listing again: the version is too old", what=self._source.name)
        elif self._told is not error.trouble:
            self._told = error.trouble
            log.warning("not following", what=self._source.name, cause=str(error), retry_in=round(pause, 1))
            self._on_failure(error)
        await self._sleep(pause)
