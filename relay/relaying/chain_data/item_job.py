"""Bodies, receipts or access lists of some blocks, each checked against the block's header."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from relay.chain.headers import Header
from relay.chain.receipts import join_receipts, split_receipts
from relay.primitives.errors import DecodeError
from relay.primitives.hashing import keccak256
from relay.relaying.chain_data.checking import checking_item
from relay.relaying.chain_data.demand import HeaderQuery, ItemQuery, Kind
from relay.relaying.chain_data.upstreams import Choice, Upstream, Want
from relay.relaying.chain_data.wire import UNAVAILABLE

if TYPE_CHECKING:
    from relay.relaying.chain_data.fetch import Ask, Fetching
    from relay.relaying.chain_data.header_job import HeaderJob
    from relay.relaying.chain_data.wire import Delivery
    from relay.relaying.roster import RelayPeer

__all__ = ["ItemJob", "ItemWaiter"]

_REACH: Final = 3  # blocks an item may belong to: up to two before it were left out (our choice)


class ItemWaiter(Protocol):
    """Who wants items."""

    jobs: list[ItemJob]
    """Set before the first of them is told of."""

    @property
    def peers(self) -> Collection[RelayPeer]:
        """For whom: they are not asked."""

    @property
    def hops(self) -> int:
        """How often the question has gone from relay to relay."""

    @property
    def deadline(self) -> float:
        """When it is too late, monotonic seconds."""

    def item_came(self, block_hash: bytes, item: bytes | None) -> None:
        """Take an item, or that nobody has it; called once for each."""


class _Parts:
    """Receipts of a block that come in parts."""

    __slots__ = ("block_hash", "receipts", "size", "upstream")

    def __init__(self, block_hash: bytes, upstream: Upstream) -> None:
        self.block_hash = block_hash
        self.upstream = upstream
        self.receipts: list[bytes] = []
        self.size = 0


class ItemJob:
    """Items of one kind, of some blocks.

    Attributes:
        kind: of the items.
        fruitless: answers that brought nothing.
        over: whether there is nothing left to do.
        queued: whether it waits for a place.
    """

    __slots__ = (
        "_barren",
        "_checking",
        "_fetching",
        "_header_job",
        "_known",
        "_out",
        "_parts",
        "_seeking",
        "_stepping",
        "_strangers",
        "_tried",
        "_waiters",
        "fruitless",
        "kind",
        "over",
        "queued",
    )

    def __init__(self, fetching: Fetching, kind: Kind) -> None:
        self._fetching = fetching
        self._waiters: dict[
            bytes, dict[ItemWaiter, None]
        ] = {}  # by block, in the order in which they are asked
        self._known: dict[bytes, Header] = {}
        self._tried: set[Upstream] = set()
        self._out: set[Ask] = set()
        self._parts: _Parts | None = None
        self._seeking = False
        self._header_job: HeaderJob | None = None
        self._stepping = False
        self._checking = 0
        self._barren = 0  # answers that brought nothing, since one did
        self._strangers = 0  # blocks, one after the other, whose header nobody has
        self.kind = kind
        self.fruitless = 0
        self.over = False
        self.queued = False

    def join(self, block_hash: bytes, waiter: ItemWaiter) -> None:
        """Want an item; `advance` is to be called afterwards."""
        self._waiters.setdefault(block_hash, {})[waiter] = None

    def leave(self, waiter: ItemWaiter) -> None:
        """Want nothing of it any more."""
        for waiters in self._waiters.values():
            waiters.pop(waiter, None)
        self._rest()

    # -- as a waiter for headers -------------------------------------------------------------------------

    @property
    def peers(self) -> Collection[RelayPeer]:
        """All for whom something is wanted."""
        return {peer for waiters in self._waiters.values() for each in waiters for peer in each.peers}

    @property
    def hops(self) -> int:
        """The least of those who want something."""
        return min((each.hops for waiters in self._waiters.values() for each in waiters), default=0)

    @property
    def deadline(self) -> float:
        """The latest of those who want something."""
        return max((each.deadline for waiters in self._waiters.values() for each in waiters), default=0.0)

    def headers_came(self, headers: tuple[bytes, ...], source: RelayPeer | None) -> None:
        """Go on with headers that were missing."""
        self._seeking = False
        if self._header_job is not None:
            self.fruitless += self._header_job.fruitless
        self._header_job = None
        if self.over:
            return
        for raw in headers:
            if keccak256(raw) in self._waiters:
                header = Header.decode(raw)
                self._known[header.hash] = header
        wanted = self._wanted()
        if wanted and wanted[0] not in self._known:
            self._strangers += 1
            # In an access list's place stands that it is not held, so without an end each hash were sought.
            vain = self.kind is Kind.ACCESS_LISTS and self._strangers >= self._fetching.options.attempts
            lost = wanted if vain else wanted[:1]
            for block_hash in lost:
                self._resolve(block_hash, None)
        else:
            self._strangers = 0
        self.advance()

    # -- as a job --------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Take the next step, unless an answer is due or being checked."""
        if self._stepping:  # somebody whom we have just told something; the loop below goes on
            return
        self._stepping = True
        try:
            while not (self._rest() or self.queued or self._is_busy()) and self._step():
                pass
        finally:
            self._stepping = False

    def _is_busy(self) -> bool:
        return self._seeking or self._checking > 0 or not all(ask.late for ask in self._out)

    def _step(self) -> bool:
        """Look for headers, or ask; returns whether there is more to do at once."""
        wanted = self._wanted()
        self._learn(wanted)
        if wanted[0] in self._known:
            return self._ask_next(wanted)
        self._seek(wanted)
        return True

    def answered(self, ask: Ask, delivery: Delivery) -> None:
        """Begin to check an answer."""
        self._out.discard(ask)
        query, upstream = ask.query, ask.upstream
        assert isinstance(query, ItemQuery)
        if len(delivery.items) > len(query.hashes):
            self._fetching.lied(upstream, f"{len(delivery.items)} items, of {len(query.hashes)} asked for")
        elif query.first_index or delivery.incomplete:
            self._checking += 1
            work = self._check_parts(upstream, query, delivery.items, delivery.incomplete)
            self._fetching.bench.put(work)
        elif delivery.items:
            self._checking += 1
            self._fetching.bench.put(self._check(upstream, query.hashes, delivery.items))
        else:
            self._note_barren()
        self.advance()

    def failed(self, ask: Ask) -> None:
        """Ask somebody else."""
        self._out.discard(ask)
        if self._parts is not None and self._parts.upstream is ask.upstream:
            self._parts = None
        self.advance()

    def refused(self) -> None:
        """Give up."""
        if not self.over and not self._out:
            self._give_up(list(self._waiters))

    # -- asking ----------------------------------------------------------------------------------------

    def _wanted(self) -> list[bytes]:
        return [block_hash for block_hash, waiters in self._waiters.items() if waiters]

    def _rest(self) -> bool:
        """End where nobody wants anything; a question under way may still be joined."""
        if self.over:
            return True
        if any(self._waiters.values()) or self._checking or not all(ask.late for ask in self._out):
            return False
        self.over = True
        for block_hash in self._waiters:
            self._fetching.forget_item(self, block_hash)
        self._waiters.clear()
        if self._header_job is not None:
            self._header_job.leave(self)
        return True

    def _learn(self, wanted: list[bytes]) -> None:
        """Look up headers of the next blocks."""
        for block_hash in wanted[: self._fetching.options.chunk]:
            if block_hash not in self._known:
                raw = self._fetching.cache.headers.peek(block_hash)
                if raw is None:
                    return
                self._known[block_hash] = Header.decode(raw)

    def _seek(self, wanted: list[bytes]) -> None:
        """Fetch the first header that is missing, and as many after it as may be missing, too."""
        self._seeking = True  # before the call below, which may end it at once
        missing = sum(block_hash not in self._known for block_hash in wanted)
        amount = min(missing, self._fetching.options.span)
        job = self._fetching.headers(HeaderQuery(wanted[0], amount), self)
        self._header_job = None if job.over else job

    def _ask_next(self, wanted: list[bytes]) -> bool:
        """Ask somebody, or give up; returns whether there is more to do at once."""
        batch = []
        for block_hash in wanted[: self._fetching.options.chunk]:
            if block_hash not in self._known:
                break
            batch.append(block_hash)
        if (self.kind, batch[0]) in self._fetching.absent:
            self._fetching.counters.absent += 1
            self._resolve(batch[0], None)
            return True
        number = self._known[batch[0]].number
        if self._barren >= self._fetching.options.attempts:
            choice: Upstream | Choice = Choice.NOBODY
        else:
            want = Want(self.kind, number, self._tried, self.peers, self.hops)
            choice = self._fetching.choose(self, want)
        if isinstance(choice, Upstream):
            self._tried.add(choice)
            self._ask(choice, ItemQuery(self.kind, tuple(batch)))
        elif choice is Choice.NOBODY and not self._out:
            lost = batch if self.kind is Kind.ACCESS_LISTS else batch[:1]
            # A relay may have had no time to find it.
            if 0 < len(self._tried) <= self._barren and not any(each.relay for each in self._tried):
                for block_hash in lost:
                    self._fetching.absent.add(self.kind, block_hash)
            self._give_up(lost)
            return True
        return False

    def _ask(self, upstream: Upstream, query: ItemQuery) -> None:
        self._out.add(self._fetching.ask(self, upstream, query, self.hops, self.deadline))

    def _give_up(self, hashes: list[bytes]) -> None:
        self._tried.clear()
        self._barren = 0
        for block_hash in hashes:
            self._resolve(block_hash, None)

    def _resolve(self, block_hash: bytes, item: bytes | None) -> None:
        if item is not None:
            self._fetching.cache.by_kind[self.kind].put(block_hash, item)
        waiters = self._waiters.pop(block_hash, None)
        if waiters is None:
            return
        self._fetching.forget_item(self, block_hash)
        for waiter in list(waiters):
            waiter.item_came(block_hash, item)

    # -- checking --------------------------------------------------------------------------------------

    def _check(
        self, upstream: Upstream, hashes: tuple[bytes, ...], items: tuple[bytes, ...]
    ) -> Iterator[None]:
        """Hold items against headers, one at a step.

        geth ends its answer at the first block that it has not; others are known to leave it out and go on.
        """
        reach = 1 if self.kind is Kind.ACCESS_LISTS else _REACH
        at = good = 0
        for item in items:
            if self.kind is Kind.ACCESS_LISTS and item == UNAVAILABLE:
                at += 1
                continue
            block_hash = yield from self._fitting(hashes[at : at + reach], item)
            if block_hash is None:
                self._fetching.lied(upstream, f"{self.kind.value} that are not the block's")
                break
            at = hashes.index(block_hash, at) + 1
            good += 1
            self._resolve(block_hash, item)
            yield
        self._checked(upstream, good)

    def _check_parts(
        self, upstream: Upstream, query: ItemQuery, items: tuple[bytes, ...], incomplete: bool
    ) -> Iterator[None]:
        """As `_check`, where receipts of the last block are missing, or went before."""
        good = 0
        if not query.first_index:
            for block_hash, item in zip(query.hashes, items[:-1], strict=False):
                if not (yield from self._fits(block_hash, item)):
                    self._fetching.lied(upstream, "receipts that are not the block's")
                    break
                good += 1
                self._resolve(block_hash, item)
                yield
            self._parts = _Parts(query.hashes[len(items) - 1], upstream) if items else None
        parts = self._parts
        if parts is not None and parts.upstream is upstream and items and not self.over:
            good += yield from self._gather(parts, query, items[-1], incomplete)
        self._checked(upstream, good)

    def _gather(
        self, parts: _Parts, query: ItemQuery, item: bytes, incomplete: bool
    ) -> Generator[None, None, bool]:
        """Put a part to those before; returns whether that helped."""
        if query.first_index and (parts.block_hash, len(parts.receipts)) != (
            query.hashes[0],
            query.first_index,
        ):
            return False
        try:
            receipts = split_receipts(item, self._known[parts.block_hash].most_transactions)
        except DecodeError:
            receipts = []
        parts.receipts += receipts
        parts.size += len(item)
        if not receipts:
            self._fetching.lied(parts.upstream, "a part of a block's receipts that has none")
        elif parts.size > self._fetching.options.block_bytes:
            self._parts = None
        elif incomplete:
            rest = ItemQuery(self.kind, (parts.block_hash,), len(parts.receipts))
            self._ask(parts.upstream, rest)
            return True
        else:
            return (yield from self._complete(parts))
        return False

    def _complete(self, parts: _Parts) -> Generator[None, None, bool]:
        self._parts = None
        block = join_receipts(parts.receipts)
        if not (yield from self._fits(parts.block_hash, block)):
            self._fetching.lied(parts.upstream, "receipts that are not the block's")
            return False
        self._resolve(parts.block_hash, block)
        return True

    def _checked(self, upstream: Upstream, good: int) -> None:
        """Go on: who gave something may have more, and have stopped for the size of the answer only."""
        self._checking -= 1
        if good:
            upstream.served += 1
            self._barren = 0
            self._tried.discard(upstream)
        else:
            self._note_barren()
        self.advance()

    def _note_barren(self) -> None:
        self._barren += 1
        self.fruitless += 1

    def _fitting(self, hashes: Sequence[bytes], item: bytes) -> Generator[None, None, bytes | None]:
        """Return the first block whose item it is."""
        for block_hash in hashes:
            if (yield from self._fits(block_hash, item)):
                return block_hash
        return None

    def _fits(self, block_hash: bytes, item: bytes) -> Generator[None, None, bool]:
        held = self._fetching.cache.by_kind[self.kind].peek(block_hash)
        if held is not None:
            return held == item
        return (yield from checking_item(self.kind, self._known[block_hash], item))
