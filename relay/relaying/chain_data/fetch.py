"""Questions to upstreams: who is asked, what comes of it, and what waits for a place.

A job is one thing that somebody wants to know, whoever that is: who wants the same joins it. It asks one
upstream after the other until one answers well. An upstream that is late may still answer while others are
asked; its answer counts as long as nobody else's does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from relay.primitives.errors import SubprotocolError
from relay.protocols.pyrelay.messages import NAME as RELAY
from relay.protocols.pyrelay.messages import Ask as RelayAsk
from relay.relaying.chain_data import wire
from relay.relaying.chain_data.absent import Absent
from relay.relaying.chain_data.demand import HeaderQuery, Kind, Query
from relay.relaying.chain_data.header_job import HeaderJob, HeaderWaiter
from relay.relaying.chain_data.item_job import ItemJob, ItemWaiter
from relay.relaying.chain_data.upstreams import Choice, Upstream, Upstreams, Want
from relay.relaying.chain_data.workbench import Workbench

if TYPE_CHECKING:
    from relay.relaying.chain_data.cache import ChainCache
    from relay.relaying.chain_data.canonical import Canonical
    from relay.relaying.chain_data.counters import ProxyCounters
    from relay.relaying.chain_data.options import ProxyOptions
    from relay.relaying.chain_data.wire import Delivery
    from relay.relaying.roster import RelayPeer
    from relay.relaying.seams import Handle, Loop

__all__ = ["Ask", "Fetching", "Job"]

_PUMPED: Final = 4  # questions tried when a place has become free (our choice)
_ID_BYTES: Final = 6  # of our first request id, a random number


class Job(Protocol):
    """What asks."""

    queued: bool
    """Whether it waits for a place."""

    def advance(self) -> None:
        """Ask the next one, if there is need to."""

    def answered(self, ask: Ask, delivery: Delivery) -> None:
        """Take an answer, be it late."""

    def failed(self, ask: Ask) -> None:
        """Take note that no answer will come."""

    def refused(self) -> None:
        """Give up: there is no room to wait in."""


class Ask:
    """A question under way.

    Attributes:
        id: request id.
        upstream: who is asked.
        query: what for.
        job: on whose behalf.
        sent_at: monotonic seconds.
        late: the time for it is over.
        timer: ends that time, then what is kept of the question.
    """

    __slots__ = ("id", "job", "late", "query", "sent_at", "timer", "upstream")

    def __init__(self, request_id: int, upstream: Upstream, query: Query, job: Job, sent_at: float) -> None:
        self.id = request_id
        self.upstream = upstream
        self.query = query
        self.job = job
        self.sent_at = sent_at
        self.late = False
        self.timer: Handle | None = None

    @property
    def kind(self) -> Kind:
        """Of the answer."""
        return Kind.HEADERS if isinstance(self.query, HeaderQuery) else self.query.kind


class Fetching:
    """All jobs, and the questions they have under way.

    Attributes:
        cache, canonical, upstreams, options, counters, bench, absent: what jobs use.
    """

    def __init__(
        self,
        options: ProxyOptions,
        counters: ProxyCounters,
        loop: Loop,
        rand: Callable[[int], bytes],
        cache: ChainCache,
        canonical: Canonical,
        upstreams: Upstreams,
        drop: Callable[[RelayPeer, str], None],
    ) -> None:
        self.options = options
        self.counters = counters
        self.cache = cache
        self.canonical = canonical
        self.upstreams = upstreams
        self.bench = Workbench(loop, options.slice_seconds)
        self.absent = Absent(options.absent_seconds, options.absent_count, loop.time)
        self._loop = loop
        self._drop = drop
        self._next_id = int.from_bytes(rand(_ID_BYTES), "big")
        self._headers: dict[HeaderQuery, HeaderJob] = {}
        self._items: dict[tuple[Kind, bytes], ItemJob] = {}
        self._queue: deque[Job] = deque()

    @property
    def jobs(self) -> int:
        """How many things are being fetched: questions for headers, and items of blocks."""
        return len(self._headers) + len(self._items)

    @property
    def queued(self) -> int:
        """How many wait for a place."""
        return len(self._queue)

    def now(self) -> float:
        """Monotonic seconds."""
        return self._loop.time()

    # -- jobs ------------------------------------------------------------------------------------------

    def headers(
        self, query: HeaderQuery, waiter: HeaderWaiter, among: Collection[RelayPeer] | None = None
    ) -> HeaderJob:
        """Have headers fetched; the waiter may be told before this returns.

        Args:
            query: which.
            waiter: is told once, unless it leaves the job.
            among: the only peers to ask; their answer counts as it is, and nobody else's.
        """
        job = None if among is not None else self._headers.get(query)
        if job is None:
            job = HeaderJob(self, query, among)
            if among is None:
                self._headers[query] = job
        else:
            self.counters.coalesced += 1
        job.join(waiter)
        return job

    def items(self, kind: Kind, hashes: Sequence[bytes], waiter: ItemWaiter) -> list[ItemJob]:
        """Have items fetched; the waiter may be told of some before this returns.

        Returns:
            The jobs to leave when it does not care any more.
        """
        jobs: dict[ItemJob, None] = {}
        own: ItemJob | None = None
        for block_hash in hashes:
            job = self._items.get((kind, block_hash))
            if job is None:
                job = own = own or ItemJob(self, kind)
                self._items[kind, block_hash] = job
            else:
                self.counters.coalesced += job is not own
            job.join(block_hash, waiter)
            jobs[job] = None
        found = list(jobs)
        waiter.jobs = found
        for job in found:
            job.advance()
        return found

    def forget_headers(self, job: HeaderJob) -> None:
        """Let nobody join a job any more."""
        if self._headers.get(job.query) is job:
            del self._headers[job.query]

    def forget_item(self, job: ItemJob, block_hash: bytes) -> None:
        """Let nobody join a job for this block any more."""
        if self._items.get((job.kind, block_hash)) is job:
            del self._items[job.kind, block_hash]

    # -- questions -------------------------------------------------------------------------------------

    def choose(self, job: Job, want: Want) -> Upstream | Choice:
        """Choose whom to ask.

        Returns:
            NOBODY can be asked; BUSY: the job waits, and `advance` is called when there is a place.
        """
        choice = self.upstreams.choose(want, self.now())
        if choice is Choice.BUSY:
            self._wait(job)
        return choice

    def ask(self, job: Job, upstream: Upstream, query: Query, hops: int, deadline: float) -> Ask:
        """Put a question.

        Args:
            job: is told of the answer, or that none will come, and has `advance` called when it is late.
            upstream: whom.
            query: what.
            hops: how often the question has gone from relay to relay.
            deadline: when nobody waits for it any more, monotonic seconds.
        """
        now = self.now()
        ask = Ask(self._next_id, upstream, query, job, now)
        self._next_id = (self._next_id + 1) % 2**64
        upstream.asks[ask.id] = ask
        upstream.under_way += 1
        upstream.asked[ask.kind] += 1
        self.counters.asked[ask.kind.value] += 1
        headers = ask.kind is Kind.HEADERS
        patience = self.options.header_attempt if headers else self.options.item_attempt
        ask.timer = self._loop.call_later(patience, lambda: self._expire(ask))
        code, payload = wire.encode_request(upstream.version, ask.id, query)
        session = upstream.peer.session
        if upstream.relay:
            left = max(0, int((deadline - now) * self.options.hop_share * 1000))
            session.send_to(RELAY, RelayAsk.CODE, RelayAsk(hops + 1, left, code, payload).encode())
        else:
            session.send(code, payload)
        return ask

    def answered(self, upstream: Upstream, delivery: Delivery, size: int) -> None:
        """Take an answer.

        Raises:
            SubprotocolError: nobody asked, or asked for something else.
        """
        ask = upstream.asks.get(delivery.request_id)
        if ask is None:
            raise SubprotocolError(f"{delivery.kind.value} that nobody asked for")
        if ask.kind is not delivery.kind:
            raise SubprotocolError(f"{delivery.kind.value} as answer to a question for {ask.kind.value}")
        del upstream.asks[ask.id]
        if ask.timer is not None:
            ask.timer.cancel()
        upstream.has_answered(self.now() - ask.sent_at, late=ask.late)
        self.counters.fetched_bytes += size
        self.counters.late += ask.late
        self.counters.unhelpful += not delivery.items
        ask.job.answered(ask, delivery)
        self.pump()

    def lost(self, upstream: Upstream) -> None:
        """Take note that an upstream is gone."""
        asks = list(upstream.asks.values())
        upstream.asks.clear()
        upstream.under_way = 0
        for ask in asks:
            if ask.timer is not None:
                ask.timer.cancel()
        for ask in asks:
            ask.job.failed(ask)
        self.pump()

    def lied(self, upstream: Upstream, cause: str) -> None:
        """Drop a peer; what it was asked, others are asked."""
        self.counters.lies += 1
        if self.upstreams.leave(upstream.peer) is not None:
            self._drop(upstream.peer, cause)
            self.lost(upstream)

    def pump(self) -> None:
        """Let some of those who wait for a place try again."""
        for _ in range(min(_PUMPED, len(self._queue))):
            job = self._queue.popleft()
            job.queued = False
            job.advance()

    def _wait(self, job: Job) -> None:
        if job.queued:
            return
        if len(self._queue) >= self.options.queue:
            self.counters.refused["queue"] += 1
            job.refused()
            return
        job.queued = True
        self._queue.append(job)

    def _expire(self, ask: Ask) -> None:
        ask.late = True
        self.counters.timeouts += 1
        ask.upstream.was_late(self.now(), self.options)
        ask.timer = self._loop.call_later(self.options.late, lambda: self._forget(ask))
        ask.job.advance()
        self.pump()

    def _forget(self, ask: Ask) -> None:
        ask.timer = None
        ask.upstream.asks.pop(ask.id, None)
        ask.job.failed(ask)
