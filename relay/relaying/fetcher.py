"""Fetches transactions that were only announced.

A hash that is announced first waits a little, so that a direct copy can arrive; then the first announcer is
asked, or the next one that has no request under way. What it does not deliver goes to the next announcer. The
limits and what
ends a peer are geth's (eth/fetcher/tx_fetcher.go); the wait is shorter and adapts to how long direct copies
take: twice their moving average, between 50 and 100 ms (geth: 500 ms, always).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

from relay.chain.blobs import mask_number
from relay.chain.transactions import BLOB, MAX_BLOB_SIZE, MAX_SIZE
from relay.primitives import rlp
from relay.primitives.errors import SubprotocolError

if TYPE_CHECKING:
    from relay.relaying.counters import RelayCounters
    from relay.relaying.options import RelayOptions
    from relay.relaying.pool import PooledTx, TxPool
    from relay.relaying.recent import RecentHashes
    from relay.relaying.roster import RelayPeer
    from relay.relaying.seams import Handle, Loop

__all__ = ["Announcement", "BlobInterest", "FetchRequest", "Fetcher"]

GET_POOLED_TRANSACTIONS: Final = 0x09
SIZE_TOLERANCE: Final = 8  # bytes an announced size may be off; geth tx_fetcher.go

_PLAIN_TYPES: Final = frozenset((0, 1, 2, 4))
_LEAN_SINCE: Final = 72  # the version of eth that announces blob transactions by their size without blobs
_NO_CELLS: Final = bytes(16)
_SMOOTHING: Final = 0.1  # weight of a new sample of how long direct copies take (our choice)
_FETCHED: Final = 4096  # fetched transactions whose late copies are looked out for (our choice)
_LONGEST_SAMPLE: Final = 0.2  # seconds: one straggler must not move the average far (our choice)


class _State(Enum):
    WAITING = 0
    READY = 1
    FETCHING = 2
    DONE = 3


class Announcement:
    """A hash that was announced and is not held.

    Attributes:
        hash: of the transaction.
        announcers: who told, the first first; empty once it is done with.
        heard: when the first told, monotonic seconds; due: when it may be fetched.
        state: waiting for a direct copy, ready to be fetched, being fetched, or done.
        masks: of a blob transaction, which cells each announcer told that it has.
    """

    __slots__ = ("announcers", "due", "hash", "heard", "masks", "state")

    def __init__(self, tx_hash: bytes, peer: RelayPeer, heard: float, due: float) -> None:
        self.hash = tx_hash
        self.announcers: tuple[RelayPeer, ...] = (peer,)
        self.heard = heard
        self.due = due
        self.state = _State.WAITING
        self.masks: dict[RelayPeer, int] = {}


class FetchRequest:
    """A request under way.

    Attributes:
        id: what the answer must carry.
        peer: who was asked.
        wanted: what was asked for; emptied when it expires.
        count: how many that were: an answer with more is an offence.
        sent_at: monotonic seconds.
        done: answered, or void.
    """

    __slots__ = ("count", "done", "id", "peer", "sent_at", "wanted")

    def __init__(self, request_id: int, peer: RelayPeer, wanted: list[Announcement], sent_at: float) -> None:
        self.id = request_id
        self.peer = peer
        self.wanted = wanted
        self.count = len(wanted)
        self.sent_at = sent_at
        self.done = False


class BlobInterest(Protocol):
    """Who takes blob transactions (`relay.relaying.blobs.side`)."""

    def heard(self, peer: RelayPeer, tx_hash: bytes, mask: int, /) -> bool:
        """Note an announcement of one that arrived and is not in the pool yet; False if none did."""
        ...


class Fetcher:
    """Announced hashes and the requests for them.

    Attributes:
        entries: by hash, what was announced and is not held; read by intake, changed only here.
        fetched: of the last transactions that were fetched, when they had been announced; read by intake.
        wait: seconds that a hash waits for its direct copy now.
        waiting: transactions that arrived and wait for a verdict, by hash.
        blobs: takes blob transactions; None where they are not relayed.
    """

    __slots__ = (
        "_counters",
        "_direct_delay",
        "_in_flight",
        "_loop",
        "_next_id",
        "_offend",
        "_options",
        "_pool",
        "_recent",
        "_timer",
        "_timer_due",
        "_waiting",
        "blobs",
        "entries",
        "fetched",
        "wait",
        "waiting",
    )

    def __init__(
        self,
        pool: TxPool,
        recent: RecentHashes,
        options: RelayOptions,
        counters: RelayCounters,
        loop: Loop,
        rand: Callable[[int], bytes],
        offend: Callable[[RelayPeer, str], None],
    ) -> None:
        self._pool = pool
        self._recent = recent
        self._options = options
        self._counters = counters
        self._loop = loop
        self._next_id = int.from_bytes(rand(4), "big")
        self._offend = offend
        self.entries: dict[bytes, Announcement] = {}
        self.fetched: dict[bytes, float] = {}
        self.wait = options.fetch_wait_min
        self.waiting: Mapping[bytes, PooledTx] = {}
        self.blobs: BlobInterest | None = None
        self._direct_delay = 0.0
        self._waiting: deque[Announcement] = deque()
        self._in_flight: deque[FetchRequest] = deque()
        self._timer: Handle | None = None
        self._timer_due = float("inf")

    def announced(
        self,
        peer: RelayPeer,
        types: Sequence[int],
        sizes: Sequence[int],
        hashes: Sequence[bytes],
        mask: bytes = _NO_CELLS,
    ) -> None:
        """Take an announcement whose three fields have the same length.

        What a peer announces beyond its bound is not tracked: it can be fetched when another announces it.

        Args:
            peer: who announces.
            types: one for each transaction.
            sizes: in its version of eth.
            hashes: of each.
            mask: which cells of the blob transactions among them it has, from eth/72 on.
        """
        held, recent, entries, bit = self._pool.by_hash, self._recent, self.entries, peer.bit
        young, old = recent.young, recent.old
        now = self._loop.time()
        known = refused = 0
        for kind, size, tx_hash in zip(types, sizes, hashes, strict=True):
            tx = held.get(tx_hash)
            if tx is not None:
                tx.known |= bit
                known += 1
                if tx.local:
                    self._pool.watch.echoed(tx, bit)
            elif tx_hash in young or tx_hash in old:
                known += 1
                if tx_hash in self.waiting:
                    self.waiting[tx_hash].known |= bit
            elif kind == BLOB:
                refused += not self._take_blob(peer, tx_hash, size, mask)
            elif kind not in _PLAIN_TYPES or size > MAX_SIZE or not self._room(peer):
                refused += 1
            elif tx_hash in entries:
                self._join(entries[tx_hash], peer, size << 8 | kind)
            elif len(entries) < self._options.announced_total or self._below_floor(peer):
                self._wait_for(tx_hash, peer, size << 8 | kind, now)
            else:
                refused += 1
        self._counters.announced_in += len(hashes)
        self._counters.announced_known += known
        self._counters.announced_refused += refused
        if peer.ready and peer.request is None:
            self._ask(peer)
        self._arm()

    def arrived(self, tx_hash: bytes, kind: int, size: int, pushed: bool, lean: int | None = None) -> int:
        """Note that a transaction arrived whole, by whatever way.

        Announcers that told another type, or a size off by more than 8 bytes, are offenders.

        Args:
            tx_hash: of the transaction.
            kind: its type.
            size: of its canonical bytes.
            pushed: it came unasked.
            lean: of a blob transaction, the size without blobs, by which eth/72 announces it.

        Returns:
            The mask of peers that announced it, so have it.
        """
        entry = self.entries.pop(tx_hash, None)
        if entry is None:
            return 0
        if pushed:
            self._learn_delay(entry.heard)
            if entry.state is _State.WAITING:
                self._counters.direct_in_wait += 1
        elif entry.state is _State.FETCHING:
            self._remember(tx_hash, entry.heard)
        entry.state = _State.DONE
        mask = 0
        for peer in entry.announcers:
            mask |= peer.bit
            told = peer.announced.pop(tx_hash)
            expected = size if lean is None or peer.version < _LEAN_SINCE else lean
            if told & 0xFF != kind:
                self._offend(peer, "announced another type")
            elif abs((told >> 8) - expected) > SIZE_TOLERANCE:
                self._offend(peer, "announced another size")
        entry.announcers = ()
        return mask

    def expect(self, peer: RelayPeer, request_id: int, count: int) -> FetchRequest:
        """Match an answer of count transactions with the request under way.

        Raises:
            SubprotocolError: unsolicited, over five minutes late, or more than was asked for.
        """
        request = peer.request
        late = request is not None and self._loop.time() - request.sent_at > self._options.fetch_forget
        if request is None or late or request.id != request_id or request.done:
            raise SubprotocolError("unsolicited PooledTransactions")
        if count > request.count:
            raise SubprotocolError(f"{count} transactions for a request of {request.count}")
        request.done = True
        return request

    def answered(self, request: FetchRequest, delivered: set[bytes]) -> None:
        """Finish a request; what is missing goes to the next announcer.

        What was skipped before the last delivered hash this peer does not have; what comes after it may have
        been cut off by a size limit, so this peer may be asked again. With nothing delivered it is not asked
        again.
        """
        peer = request.peer
        peer.request = None
        wanted = request.wanted
        cutoff = len(wanted)
        for index, entry in enumerate(wanted):
            if entry.hash in delivered:
                cutoff = index
        touched = {peer: None}
        for index, entry in enumerate(wanted):
            if entry.state is _State.FETCHING:
                if index < cutoff:
                    self._withdraw(entry, peer)
                self._requeue(entry, touched)
        self._ask_all(touched)
        self._arm()

    def left(self, peer: RelayPeer) -> None:
        """Forget a peer; what it was asked for goes to the next announcer."""
        request, peer.request = peer.request, None
        wanted = request.wanted if request is not None else []
        if request is not None:
            request.done = True
        for tx_hash in list(peer.announced):
            self._withdraw(self.entries[tx_hash], peer)
        touched: dict[RelayPeer, None] = {}
        for entry in wanted:
            if entry.state is _State.FETCHING:
                self._requeue(entry, touched)
        peer.ready.clear()
        self._ask_all(touched)
        self._arm()

    def _take_blob(self, peer: RelayPeer, tx_hash: bytes, size: int, mask: bytes) -> bool:
        """Track a blob transaction; it never comes unasked, so there is nothing to wait for."""
        cells = mask_number(mask)
        if self.blobs is None or size > MAX_BLOB_SIZE:
            return False
        if self.blobs.heard(peer, tx_hash, cells):
            return True
        entry = self.entries.get(tx_hash)
        if not self._room(peer) or (entry is None and not self._has_space(peer)):
            return False
        if entry is None:
            now = self._loop.time()
            entry = self.entries[tx_hash] = Announcement(tx_hash, peer, now, now)
            peer.announced[tx_hash] = size << 8 | BLOB
            entry.state = _State.READY
            self._offer(entry, peer)
        else:
            self._join(entry, peer, size << 8 | BLOB)
        if peer in entry.announcers:
            entry.masks.setdefault(peer, cells)
        return True

    def _has_space(self, peer: RelayPeer) -> bool:
        return len(self.entries) < self._options.announced_total or self._below_floor(peer)

    def _room(self, peer: RelayPeer) -> bool:
        return len(peer.announced) < self._options.announced_per_peer

    def _below_floor(self, peer: RelayPeer) -> bool:
        return len(peer.announced) < self._options.announced_floor

    def _wait_for(self, tx_hash: bytes, peer: RelayPeer, told: int, now: float) -> None:
        due = now + self.wait
        if self._waiting and self._waiting[-1].due > due:
            due = self._waiting[-1].due  # one order for all, though the wait has become shorter
        entry = self.entries[tx_hash] = Announcement(tx_hash, peer, now, due)
        peer.announced[tx_hash] = told
        self._waiting.append(entry)

    def _join(self, entry: Announcement, peer: RelayPeer, told: int) -> None:
        # The first word counts: a peer must not be able to change what it told.
        if entry.hash in peer.announced or len(entry.announcers) >= self._options.announcers:
            return
        entry.announcers += (peer,)
        peer.announced[entry.hash] = told
        if entry.state is _State.READY:
            self._offer(entry, peer)

    def _withdraw(self, entry: Announcement, peer: RelayPeer) -> None:
        """Take a peer from the announcers of an entry that it announced."""
        del peer.announced[entry.hash]
        entry.announcers = tuple(other for other in entry.announcers if other is not peer)
        if not entry.announcers and entry.state is not _State.FETCHING:
            self._forget(entry)

    def _forget(self, entry: Announcement) -> None:
        entry.state = _State.DONE
        del self.entries[entry.hash]

    def _requeue(self, entry: Announcement, touched: dict[RelayPeer, None]) -> None:
        """Offer what was being fetched to all who still have it."""
        if not entry.announcers:
            self._forget(entry)
            return
        entry.state = _State.READY
        for peer in entry.announcers:
            self._offer(entry, peer)
            touched[peer] = None

    def _offer(self, entry: Announcement, peer: RelayPeer) -> None:
        ready = peer.ready
        ready.append(entry)
        # A peer that never answers keeps its queue, in which all was long delivered by others: tidy it.
        if len(ready) > 2 * self._options.announced_per_peer:
            announced = peer.announced
            live = {
                item.hash: item for item in ready if item.state is _State.READY and item.hash in announced
            }
            peer.ready = deque(live.values())

    def _ask_all(self, peers: Iterable[RelayPeer]) -> None:
        for peer in peers:
            if peer.request is None and peer.ready and not peer.gone:
                self._ask(peer)

    def _ask(self, peer: RelayPeer) -> None:
        """Request what is ready and not being fetched elsewhere."""
        options, ready, announced = self._options, peer.ready, peer.announced
        wanted: list[Announcement] = []
        size = 0
        while ready and len(wanted) < options.fetch_count and size < options.fetch_bytes:
            entry = ready.popleft()
            if entry.state is not _State.READY or entry.hash not in announced:
                continue
            entry.state = _State.FETCHING
            size += announced[entry.hash] >> 8
            wanted.append(entry)
        if not wanted:
            return
        self._next_id = self._next_id + 1 & 0xFFFF_FFFF_FFFF_FFFF
        request = FetchRequest(self._next_id, peer, wanted, self._loop.time())
        peer.request = request
        self._in_flight.append(request)
        self._counters.fetches += 1
        self._counters.fetched += len(wanted)
        payload = rlp.encode((request.id, [entry.hash for entry in wanted]))
        peer.session.send(GET_POOLED_TRANSACTIONS, payload)

    def pushed_late(self, tx_hash: bytes) -> None:
        """Note that what was fetched came unasked, too: a longer wait would have saved the fetch."""
        heard = self.fetched.pop(tx_hash, None)
        if heard is not None:
            self._learn_delay(heard)

    def _remember(self, tx_hash: bytes, heard: float) -> None:
        self.fetched[tx_hash] = heard
        if len(self.fetched) > _FETCHED:
            del self.fetched[next(iter(self.fetched))]

    def _learn_delay(self, heard: float) -> None:
        options = self._options
        sample = min(self._loop.time() - heard, _LONGEST_SAMPLE)
        self._direct_delay += _SMOOTHING * (sample - self._direct_delay)
        self.wait = min(max(2.0 * self._direct_delay, options.fetch_wait_min), options.fetch_wait_max)

    def _arm(self) -> None:
        """Set the one timer to the next thing that is due."""
        waiting, in_flight = self._waiting, self._in_flight
        while waiting and waiting[0].state is not _State.WAITING:
            waiting.popleft()
        while in_flight and in_flight[0].done:
            in_flight.popleft()
        due = waiting[0].due if waiting else float("inf")
        if in_flight:
            due = min(due, in_flight[0].sent_at + self._options.fetch_timeout)
        if due < self._timer_due:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_due = due
            self._timer = self._loop.call_later(max(0.0, due - self._loop.time()), self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._timer_due = float("inf")
        now = self._loop.time()
        touched: dict[RelayPeer, None] = {}
        self._end_waits(now + self._options.fetch_slack, touched)
        self._end_requests(now + self._options.fetch_slack, touched)
        self._ask_all(touched)
        self._arm()

    def _end_waits(self, until: float, touched: dict[RelayPeer, None]) -> None:
        waiting = self._waiting
        while waiting and (waiting[0].due <= until or waiting[0].state is not _State.WAITING):
            entry = waiting.popleft()
            if entry.state is _State.WAITING:
                self._requeue(entry, touched)

    def _end_requests(self, until: float, touched: dict[RelayPeer, None]) -> None:
        in_flight = self._in_flight
        while in_flight and (
            in_flight[0].done or in_flight[0].sent_at + self._options.fetch_timeout <= until
        ):
            request = in_flight.popleft()
            if request.done:
                continue
            # The request itself stays with the peer: nothing more is asked of it until it answers.
            self._counters.fetch_timeouts += 1
            wanted, request.wanted = request.wanted, []
            for entry in wanted:
                if entry.state is _State.FETCHING:
                    self._withdraw(entry, request.peer)
                    self._requeue(entry, touched)
