"""One question for headers, put to one upstream after the other until an answer is good."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from relay.protocols.eth.limits import SOFT_RESPONSE
from relay.relaying.chain_data.checking import Lie, Run, check_run
from relay.relaying.chain_data.demand import HeaderQuery, Kind
from relay.relaying.chain_data.upstreams import Choice, Upstream, Want

if TYPE_CHECKING:
    from relay.relaying.chain_data.fetch import Ask, Fetching
    from relay.relaying.chain_data.wire import Delivery
    from relay.relaying.roster import RelayPeer

__all__ = ["HeaderJob", "HeaderWaiter"]

_NEARLY_FULL = SOFT_RESPONSE - 2048  # bytes: another header would have gone over the limit


class HeaderWaiter(Protocol):
    """Who wants headers."""

    @property
    def peers(self) -> Collection[RelayPeer]:
        """For whom: they are not asked."""

    @property
    def hops(self) -> int:
        """How often the question has gone from relay to relay."""

    @property
    def deadline(self) -> float:
        """When it is too late, monotonic seconds."""

    def headers_came(self, headers: tuple[bytes, ...], source: RelayPeer | None) -> None:
        """Take what was found, or nothing; called once."""


class HeaderJob:
    """A question for headers.

    Attributes:
        query: what is wanted.
        fruitless: how many of those who were asked have said that they have nothing.
        over: whether it has its answer, or was given up.
        queued: whether it waits for a place.
    """

    __slots__ = (
        "_among",
        "_asked",
        "_best",
        "_fetching",
        "_out",
        "_tried",
        "_votes",
        "_waiters",
        "fruitless",
        "over",
        "query",
        "queued",
    )

    def __init__(self, fetching: Fetching, query: HeaderQuery, among: Collection[RelayPeer] | None) -> None:
        self._fetching = fetching
        self._among = among
        # Headers with gaps between prove nothing of each other, so short gaps are fetched along.
        self._asked = query.whole() if query.skip and query.span <= fetching.options.span else query
        self._waiters: dict[HeaderWaiter, None] = {}
        self._tried: set[Upstream] = set()
        self._out: set[Ask] = set()
        self._votes: list[tuple[Upstream, Run]] = []
        self._best: tuple[Run, Upstream] | None = None
        self.query = query
        self.fruitless = 0
        self.over = False
        self.queued = False

    @property
    def best(self) -> tuple[bytes, ...]:
        """What is proven so far."""
        return self._wanted(self._best[0]) if self._best else ()

    def join(self, waiter: HeaderWaiter) -> None:
        """Want the answer too; it may come before this returns."""
        self._waiters[waiter] = None
        self.advance()

    def leave(self, waiter: HeaderWaiter) -> None:
        """Want it no more."""
        self._waiters.pop(waiter, None)
        self._rest()

    def advance(self) -> None:
        """Ask the next one, unless an answer is still due."""
        if self.over or self._rest() or self.queued or not all(ask.late for ask in self._out):
            return
        if self._is_absent():
            self._fetching.counters.absent += 1
            self._finish(None, None)
            return
        if len(self._tried) >= self._fetching.options.attempts:
            choice: Upstream | Choice = Choice.NOBODY
        else:
            choice = self._fetching.choose(self, self._want())
        if isinstance(choice, Upstream):
            self._ask(choice)
        elif choice is Choice.NOBODY and not self._out:
            self._note_absent()
            self._finish(*(self._best or (None, None)))

    def answered(self, ask: Ask, delivery: Delivery) -> None:
        """Judge an answer."""
        self._out.discard(ask)
        upstream = ask.upstream
        try:
            if delivery.items:
                self._judge(upstream, self._check(upstream, delivery.items))
            else:
                self.fruitless += 1
        except Lie as lie:
            self._fetching.lied(upstream, str(lie))
        self.advance()

    def failed(self, ask: Ask) -> None:
        """Ask somebody else."""
        self._out.discard(ask)
        self.advance()

    def refused(self) -> None:
        """Give up."""
        if not self.over and not self._out:
            self._finish(*(self._best or (None, None)))

    # -- inside ----------------------------------------------------------------------------------------

    def _is_absent(self) -> bool:
        origin, fresh = self.query.origin, self._among is None and not self._tried
        return fresh and isinstance(origin, bytes) and (Kind.HEADERS, origin) in self._fetching.absent

    def _note_absent(self) -> None:
        origin = self.query.origin
        if self._among is not None or not isinstance(origin, bytes):
            return
        # A relay may have had no time to find it.
        if 0 < self.fruitless == len(self._tried) and not any(each.relay for each in self._tried):
            self._fetching.absent.add(Kind.HEADERS, origin)

    def _want(self) -> Want:
        origin = self.query.origin
        return Want(
            Kind.HEADERS,
            origin if isinstance(origin, int) else None,
            self._tried,
            {peer for waiter in self._waiters for peer in waiter.peers},
            min(waiter.hops for waiter in self._waiters),
            isinstance(origin, int) and self._fetching.canonical.linked(origin) is None,
            self._among,
        )

    def _ask(self, upstream: Upstream) -> None:
        self._tried.add(upstream)
        hops = min(waiter.hops for waiter in self._waiters)
        deadline = max(waiter.deadline for waiter in self._waiters)
        self._out.add(self._fetching.ask(self, upstream, self._asked, hops, deadline))

    def _rest(self) -> bool:
        """End where nobody wants the answer; a question under way may still be joined."""
        if not self._waiters and not self.over and all(ask.late for ask in self._out):
            self.over = True
            self._fetching.forget_headers(self)
        return self.over

    def _check(self, upstream: Upstream, headers: tuple[bytes, ...]) -> Run:
        """Return an answer that may be right.

        Raises:
            Lie: it can't be.
        """
        canonical, options = self._fetching.canonical, self._fetching.options
        run = check_run(self._asked, headers, canonical, options)
        if run.disputed == 0:
            raise Lie("another genesis than the network's")
        if run.disputed is not None and not run.proven:
            if not upstream.trusted and run.disputed + options.reorg_depth <= canonical.head:
                raise Lie(f"another header at {run.disputed} than the one that links to the head")
            self._fetching.counters.disagreements += 1
        upstream.served += 1
        return run

    def _judge(self, upstream: Upstream, run: Run) -> None:
        if self.over:
            if run.proven:
                self._keep(run)
            return
        if self._among is not None:
            self._finish(run, upstream)
        elif run.proven or upstream.trusted:
            self._better(upstream, run)
        else:
            self._vote(upstream, run)

    def _better(self, upstream: Upstream, run: Run) -> None:
        """Take a good answer; a short one only if nobody has a longer."""
        if self._is_whole(upstream, run):
            self._finish(run, upstream)
        elif self._best is None or len(run.headers) > len(self._best[0].headers):
            self._best = (run, upstream)

    def _is_whole(self, upstream: Upstream, run: Run) -> bool:
        following = run.last + run.step
        if len(run.headers) == self._asked.amount or following < 0:
            return True
        if sum(map(len, run.headers)) >= _NEARLY_FULL:
            return True
        told = upstream.range.latest if upstream.range else 0
        return following > max(self._fetching.canonical.head, told)

    def _vote(self, upstream: Upstream, run: Run) -> None:
        """Take an answer that proves nothing: it counts as far as another peer's is the same."""
        for _, other in self._votes:
            same = 0
            for ours, theirs in zip(run.hashes, other.hashes, strict=False):
                if ours != theirs:
                    break
                same += 1
            if same:
                self._finish(_cut(run, same), upstream)
                return
        self._votes.append((upstream, run))

    def _finish(self, run: Run | None, upstream: Upstream | None) -> None:
        self.over = True
        self._fetching.forget_headers(self)
        headers: tuple[bytes, ...] = ()
        if run is not None:
            headers = self._wanted(run)
            if self._among is None or run.proven:
                self._keep(run)
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters:
            waiter.headers_came(headers, upstream.peer if upstream and headers else None)
        if run is not None and self._among is None:
            self._blame(run)

    def _wanted(self, run: Run) -> tuple[bytes, ...]:
        return run.headers[:: self.query.skip + 1] if self._asked is not self.query else run.headers

    def _keep(self, run: Run) -> None:
        fetching = self._fetching
        put = fetching.cache.headers.put
        for block_hash, raw in zip(run.hashes, run.headers, strict=True):
            put(block_hash, raw)
        fetching.canonical.extend()
        if isinstance(self.query.origin, int) and not run.proven and run.disputed is None:
            fetching.canonical.vouch(run.first, run.step, run.hashes, fetching.options.reorg_depth)

    def _blame(self, right: Run) -> None:
        """Drop who said otherwise, where the chain does not change any more."""
        deep = self._fetching.canonical.head - self._fetching.options.reorg_depth
        for upstream, run in self._votes:
            for number, (theirs, ours) in enumerate(zip(run.hashes, right.hashes, strict=False)):
                if theirs != ours and not upstream.trusted and right.first + number * right.step <= deep:
                    self._fetching.lied(upstream, "a header that others contradict")
                    break


def _cut(run: Run, count: int) -> Run:
    return replace(run, headers=run.headers[:count], hashes=run.hashes[:count])
