"""A peer's requests that others are asked for: each gets one answer, unless the peer leaves."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from relay.protocols.eth.limits import SOFT_RESPONSE
from relay.relaying.chain_data.demand import HeaderQuery, ItemQuery, Kind
from relay.relaying.chain_data.wire import UNAVAILABLE

if TYPE_CHECKING:
    from relay.relaying.chain_data.fetch import Fetching
    from relay.relaying.chain_data.header_job import HeaderJob
    from relay.relaying.chain_data.item_job import ItemJob
    from relay.relaying.chain_data.stock import Stock
    from relay.relaying.roster import RelayPeer

__all__ = ["HeaderServing", "ItemServing", "Reply"]

Reply = Callable[[Sequence[bytes]], None]
"""Sends the answer: headers, bodies, complete lists of receipts, or access lists."""


class _Serving:
    """A request that could not be answered at once.

    Attributes:
        peer: who asks.
        deadline: when it is answered in any case, monotonic seconds.
        hops: how often the question has gone from relay to relay.
        fetched: bytes that came from others, or what stands for them where they were asked in vain.
        over: whether it was answered, or never will be.
    """

    __slots__ = ("_fetching", "_reply", "_stock", "_told", "deadline", "fetched", "hops", "over", "peer")

    def __init__(
        self,
        peer: RelayPeer,
        fetching: Fetching,
        stock: Stock,
        reply: Reply,
        deadline: float,
        hops: int,
    ) -> None:
        self.peer = peer
        self.deadline = deadline
        self.hops = hops
        self.over = False
        self.fetched = 0
        self._fetching = fetching
        self._stock = stock
        self._reply = reply
        self._told: Callable[[], None] | None = None

    @property
    def peers(self) -> Collection[RelayPeer]:
        """Who asks."""
        return (self.peer,)

    def _answer(self, items: Sequence[bytes]) -> None:
        self.over = True
        counters = self._fetching.counters
        if all(item == UNAVAILABLE for item in items):
            counters.empty += 1
        else:
            counters.from_peers += 1
        self._reply(items)
        if self._told is not None:
            self._told()


class HeaderServing(_Serving):
    """A request for headers."""

    __slots__ = ("_job", "_query")

    def __init__(
        self,
        query: HeaderQuery,
        peer: RelayPeer,
        fetching: Fetching,
        stock: Stock,
        reply: Reply,
        deadline: float,
        hops: int,
    ) -> None:
        super().__init__(peer, fetching, stock, reply, deadline, hops)
        self._query = query
        self._job: HeaderJob | None = None

    def start(self, told: Callable[[], None]) -> None:
        """Have the headers fetched; told is called once they are sent on."""
        self._told = told
        held, whole = self._stock.headers(self._query)
        if whole:  # they came on behalf of another request while this one waited for its turn
            self._answer(held)
            return
        job = self._fetching.headers(self._query, self)
        self._job = None if self.over else job

    def headers_came(self, headers: tuple[bytes, ...], source: RelayPeer | None) -> None:
        """Answer."""
        job, self._job = self._job, None
        if self.over:
            return
        self.fetched = sum(map(len, headers))
        if not headers and job is not None and job.fruitless:
            self.fetched = self._fetching.options.fruitless_bytes
        self._answer(headers or self._held())

    def finish(self) -> None:
        """Answer with what there is."""
        if self.over:
            return
        best = self._job.best if self._job is not None else ()
        self.over = True
        self._leave()
        self._answer(best or self._held())

    def cancel(self) -> None:
        """Never answer."""
        self.over = True
        self._leave()

    def _leave(self) -> None:
        if self._job is not None:
            self._job.leave(self)
            self._job = None

    def _held(self) -> Sequence[bytes]:
        return self._stock.headers(self._query)[0]


class ItemServing(_Serving):
    """A request for bodies, receipts or access lists."""

    __slots__ = ("_at", "_came", "_due", "_found", "_query", "_size", "_starting", "jobs")

    def __init__(
        self,
        query: ItemQuery,
        peer: RelayPeer,
        fetching: Fetching,
        stock: Stock,
        reply: Reply,
        deadline: float,
        hops: int,
    ) -> None:
        super().__init__(peer, fetching, stock, reply, deadline, hops)
        self._query = query
        self._came: dict[bytes, bytes | None] = {}
        self._due: set[bytes] = set()
        self._found: list[bytes] = []
        self._at = 0  # the block that comes next in the answer
        self._size = 0
        self._starting = False
        self.jobs: list[ItemJob] = []

    def start(self, told: Callable[[], None]) -> None:
        """Have fetched what is not held; told is called once it is sent on."""
        self._told = told
        missing = self._take_stock()
        self._due.update(missing)
        self._starting = True  # what comes from within the call is taken together, after it
        self._fetching.items(self._query.kind, missing, self)
        self._starting = False
        self._go_on()

    def item_came(self, block_hash: bytes, item: bytes | None) -> None:
        """Take an item, and answer as soon as the answer is sure."""
        self._came[block_hash] = item
        self._due.discard(block_hash)
        if item is not None:
            self.fetched += len(item)
        elif any(job.fruitless for job in self.jobs):
            self.fetched = max(self.fetched, self._fetching.options.fruitless_bytes)
        if not self._starting:
            self._go_on()

    def finish(self) -> None:
        """Answer with what there is."""
        if self.over:
            return
        if self._told is None:  # its turn never came
            self._take_stock()
        self._take_ready()
        if self._query.kind is Kind.ACCESS_LISTS:
            self._fill_up()
        self._end()

    def cancel(self) -> None:
        """Never answer."""
        self.over = True
        self._leave()

    def _take_stock(self) -> list[bytes]:
        """Note what is held; returns what is missing, as much as is asked for at once."""
        get = self._fetching.cache.by_kind[self._query.kind].get
        chunk = self._fetching.options.chunk
        missing: dict[bytes, None] = {}
        size = 0
        for place, block_hash in enumerate(self._query.hashes):
            item = get(block_hash)
            if item is not None:
                self._came[block_hash] = item
                size += self._query.size_of(place, item)
            elif block_hash not in missing:
                if len(missing) == chunk:
                    break
                missing[block_hash] = None
            if size >= SOFT_RESPONSE:
                break
        return list(missing)

    def _go_on(self) -> None:
        if not self.over and self._take_ready():
            self._end()

    def _take_ready(self) -> bool:
        """Put into the answer what is known by now; returns whether it is complete."""
        hashes, came = self._query.hashes, self._came
        bare = self._query.kind is Kind.ACCESS_LISTS
        while self._at < len(hashes) and self._size < SOFT_RESPONSE:
            block_hash = hashes[self._at]
            if block_hash not in came:
                return block_hash not in self._due
            item = came[block_hash]
            if item is None:
                if not bare:
                    return True
                item = UNAVAILABLE
            self._found.append(item)
            self._size += self._query.size_of(self._at, item)
            self._at += 1
        return True

    def _fill_up(self) -> None:
        """An access list that is not held has its place in the answer all the same."""
        for block_hash in self._query.hashes[self._at :]:
            item = self._came.get(block_hash)
            if self._size >= SOFT_RESPONSE:
                break
            self._found.append(item or UNAVAILABLE)
            self._size += len(item or UNAVAILABLE)

    def _end(self) -> None:
        self.over = True
        self._leave()
        self._answer(self._found)

    def _leave(self) -> None:
        jobs, self.jobs = self.jobs, []
        for job in jobs:
            job.leave(self)
