"""Walks whole networks: asks every node for its neighbours, distance by distance, and comes back to it.

A `Source` is one discovery protocol; a node that several know is one node of the `NodeSet`.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import Final, Protocol, TypeAlias

import structlog

from relay.discovery.crawled import MAX_NODES, Found, NodeSet
from relay.discovery.driver import Clock, NoAnswer
from relay.primitives.keys import NodeId

__all__ = ["CrawlOptions", "Crawler", "Source", "Tell"]

log = structlog.get_logger("relay.discovery")

Tell: TypeAlias = Callable[[Found], bool]
"""Takes a node; returns whether there is room for it."""

_UNHEARD: Final = 3  # tries of a node that never answered
_MAX_PLACES: Final = (
    2 * MAX_NODES
)  # nodes a source remembers, those given up included; then it takes no new one


class Source(Protocol):
    """One discovery protocol on one network.

    Attributes:
        name: v4, v5 or onion.
    """

    @property
    def name(self) -> str:
        """What the nodes that answered it are marked with."""

    def listen(self, tell: Tell) -> None:
        """Have every node told of that comes up: bootnodes, answers, hearsay."""

    async def visit(self, node_id: NodeId) -> None:
        """Call a node that was told of, and ask it for its neighbours.

        Raises:
            NoAnswer: it is silent.
        """

    async def walk(self) -> None:
        """Look for nodes by the protocol's own means: look up a random target; may raise NoAnswer."""


@dataclass(frozen=True, slots=True)
class CrawlOptions:
    """How fast one source is crawled.

    Attributes:
        visits: visits at a time.
        per_second: visits that begin in a second.
        revisit: seconds until a node that answered is visited again.
        retry: seconds until a node that was silent is.
        walk_pause: seconds between two walks.
        quiet_walks: walks in a row without a new node, after which a source that has nobody left to visit
            counts as crawled.
    """

    visits: int = 32
    per_second: float = 200.0
    revisit: float = 600.0
    retry: float = 5.0
    walk_pause: float = 1.0
    quiet_walks: int = 5


CLEARNET_CRAWL: Final = CrawlOptions()
V4_CRAWL: Final = CrawlOptions(quiet_walks=2)
"""A walk of discv4 is several look-ups, each of which waits for answers that a small network can't fill."""
ONION_CRAWL: Final = CrawlOptions(
    visits=8, per_second=1.0, revisit=1800.0, retry=120.0, walk_pause=10.0, quiet_walks=3
)
"""Circuits are dear, and others pay for them, too."""


@dataclass(slots=True)
class _Place:
    """A node in the queue of one source. seq: of the record it was queued with."""

    node_id: NodeId
    seq: int
    silences: int = 0
    heard: bool = False

    @property
    def given_up(self) -> bool:
        return not self.heard and self.silences >= _UNHEARD


class _Round:
    """One source's queue and its workers."""

    def __init__(self, source: Source, nodes: NodeSet, options: CrawlOptions, clock: Clock) -> None:
        self._source, self._nodes, self._options, self._clock = source, nodes, options, clock
        self._places: dict[NodeId, _Place] = {}
        self._queue: list[tuple[float, int, _Place]] = []
        self._serial = itertools.count()
        self._more = asyncio.Event()
        self._next_start = 0.0
        self._unvisited = 0  # due for the first time, or being visited for it
        self._quiet_walks = 0
        self.visits = 0
        source.listen(self._hear)

    @property
    def settled(self) -> bool:
        """Whether everybody was visited, and walks bring nobody new."""
        return self._unvisited == 0 and self._quiet_walks >= self._options.quiet_walks

    def start(self, tasks: asyncio.TaskGroup, look: Callable[[], None]) -> list[asyncio.Task[None]]:
        """Begin. look: called when `settled` may have changed."""
        workers = [tasks.create_task(self._work(look)) for _ in range(self._options.visits)]
        return [*workers, tasks.create_task(self._walk(look))]

    def _hear(self, found: Found) -> bool:
        place = self._places.get(found.node_id)
        seq = 0 if found.record is None else found.record.seq
        if not self._nodes.hear(found) or (place is None and len(self._places) >= _MAX_PLACES):
            return False
        if place is None or (place.given_up and seq > place.seq):
            place = self._places[found.node_id] = _Place(found.node_id, seq)
            self._unvisited += 1
            self._quiet_walks = 0
            self._put(place, self._clock.time())
        return True

    def _put(self, place: _Place, due: float) -> None:
        heapq.heappush(self._queue, (due, next(self._serial), place))
        self._more.set()

    async def _work(self, look: Callable[[], None]) -> None:
        while True:
            place = await self._next()
            await self._pace()
            await self._visit(place)
            look()

    async def _next(self) -> _Place:
        while True:
            due = self._queue[0][0] if self._queue else inf
            now = self._clock.time()
            if due <= now:
                return heapq.heappop(self._queue)[2]
            self._more.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if due == inf else due - now):
                    await self._more.wait()

    async def _pace(self) -> None:
        now = self._clock.time()
        start = max(now, self._next_start)
        self._next_start = start + 1 / self._options.per_second
        if start > now:
            await asyncio.sleep(start - now)

    async def _visit(self, place: _Place) -> None:
        first = not place.heard and not place.silences
        self.visits += 1
        try:
            await self._source.visit(place.node_id)
        except NoAnswer:
            self._nodes.silence(place.node_id)
            place.silences += 1
            if place.given_up:
                self._nodes.give_up(place.node_id)
            else:
                pause = min(self._options.retry * place.silences, self._options.revisit)
                self._put(place, self._clock.time() + pause)
        else:
            self._nodes.answer(place.node_id, self._source.name)
            place.heard, place.silences = True, 0
            self._put(place, self._clock.time() + self._options.revisit)
        self._unvisited -= first

    async def _walk(self, look: Callable[[], None]) -> None:
        while True:
            known = len(self._places)
            with suppress(NoAnswer):
                await self._source.walk()
            self._quiet_walks = self._quiet_walks + 1 if len(self._places) == known else 0
            look()
            await asyncio.sleep(self._options.walk_pause)


class Crawler:
    """Crawls over all sources at once.

    Args:
        sources: each with how fast it may be crawled.
        nodes: takes what is found.
        clock: the event loop.
        forever: go on, revisiting, when everybody was visited.
        busy: tells of other work that the end of the crawl waits for.
    """

    def __init__(
        self,
        sources: list[tuple[Source, CrawlOptions]],
        nodes: NodeSet,
        *,
        clock: Clock,
        forever: bool = False,
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self.nodes = nodes
        self._rounds = [_Round(source, nodes, options, clock) for source, options in sources]
        self._forever = forever
        self._busy = busy
        self._over = asyncio.Event()

    @property
    def visits(self) -> int:
        """How many visits were begun."""
        return sum(each.visits for each in self._rounds)

    def stop(self) -> None:
        """End `run`."""
        self._over.set()

    async def run(self) -> None:
        """Crawl until everybody was visited, or until `stop`."""
        async with asyncio.TaskGroup() as tasks:
            jobs = [job for each in self._rounds for job in each.start(tasks, self._look)]
            await self._over.wait()
            for job in jobs:
                job.cancel()
        log.debug("crawled", nodes=len(self.nodes), answered=self.nodes.alive, visits=self.visits)

    def _look(self) -> None:
        if not self._forever and not self._busy() and all(each.settled for each in self._rounds):
            self._over.set()
