"""Takes received transactions in, a little at a time, so that the event loop never waits long.

Each peer has a queue of messages; the queues are worked off in turns of a few milliseconds, one after the
other. A message that finds all queues empty is worked on at once. A peer whose queue grows is not read for a
while.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from relay.chain.blobs import blob_sizes
from relay.chain.transactions import (
    BLOB,
    ForbiddenTransaction,
    InvalidTransaction,
    TransactionUndecodable,
    canonical,
    transaction_hash,
)
from relay.chain.validity import check_broadcast, check_pooled
from relay.primitives.errors import PeerError, SubprotocolError, UselessPeer
from relay.primitives.hashing import Keccak256
from relay.protocols.eth.packing import split_pooled, split_transactions
from relay.relaying.pace import Allowance
from relay.relaying.pool import PooledTx
from relay.relaying.verdict import Outcome

if TYPE_CHECKING:
    from relay.relaying.admission import Admission
    from relay.relaying.blobs.side import BlobSide
    from relay.relaying.counters import RelayCounters
    from relay.relaying.fetcher import Fetcher, FetchRequest
    from relay.relaying.gossip import Gossip
    from relay.relaying.options import RelayOptions
    from relay.relaying.pool import TxPool
    from relay.relaying.recent import RecentHashes
    from relay.relaying.roster import RelayPeer
    from relay.relaying.seams import Loop
    from relay.relaying.verdict import Court, Ruling

__all__ = ["Intake", "Parcel"]

_SHORT_HEADER: Final = 0xB8  # a string of 56 to 255 bytes: most transactions
_LONG_HEADER: Final = 0xB9  # of up to 64 KiB
_LONGEST_HOLD: Final = 10.0  # seconds that a peer is not read: its pings wait, too
_TYPED: Final = 0x80  # a canonical transaction whose first byte is below has a type


class Parcel:
    """A message with transactions that is being worked on.

    Attributes:
        items: its wire items; position is the next one.
        size: bytes of the message.
        received: monotonic seconds.
        request: what it answers; None if it came unasked.
        seen: hashes of the items so far.
    """

    __slots__ = ("items", "position", "received", "request", "seen", "size")

    def __init__(self, items: list[bytes], size: int, received: float, request: FetchRequest | None) -> None:
        self.items = items
        self.position = 0
        self.size = size
        self.received = received
        self.request = request
        self.seen: set[bytes] = set()


class Intake:
    """From messages to transactions in the pool and in the batch of gossip.

    Attributes:
        blobs: takes blob transactions; None where they are not relayed.
        court: where transactions of peers wait for the ruling of a node; None where policy is enough.
    """

    __slots__ = (
        "_admission",
        "_counters",
        "_fetcher",
        "_flushed_at",
        "_gossip",
        "_loop",
        "_options",
        "_pool",
        "_recent",
        "_round",
        "_scheduled",
        "_spent",
        "_total",
        "blobs",
        "court",
    )

    def __init__(
        self,
        admission: Admission,
        pool: TxPool,
        recent: RecentHashes,
        fetcher: Fetcher,
        gossip: Gossip,
        options: RelayOptions,
        counters: RelayCounters,
        loop: Loop,
    ) -> None:
        self._admission = admission
        self._pool = pool
        self._recent = recent
        self._fetcher = fetcher
        self._gossip = gossip
        self._options = options
        self._counters = counters
        self._loop = loop
        self._round: deque[RelayPeer] = deque()  # peers with work, each once
        self._scheduled = False
        self._flushed_at = loop.time()
        self._spent = 0.0  # seconds worked since the last turn began
        pace = options.pace
        self._total = Allowance(pace.total_rate, pace.total_burst, loop.time())
        self.blobs: BlobSide | None = None
        self.court: Court | None = None

    @property
    def backlog_bytes(self) -> int:
        """Bytes of all messages that wait."""
        return sum(peer.parcel_bytes for peer in self._round)

    def transactions(self, peer: RelayPeer, payload: bytes) -> None:
        """Take a Transactions message.

        Raises:
            PeerError: it does not decode, or holds too many.
        """
        items = split_transactions(payload)
        if items:
            self._accept(peer, Parcel(items, len(payload), self._loop.time(), None))

    def pooled_transactions(self, peer: RelayPeer, payload: bytes) -> None:
        """Take a PooledTransactions message.

        Raises:
            PeerError: it does not decode, or nobody asked for it.
        """
        request_id, items = split_pooled(payload)
        request = self._fetcher.expect(peer, request_id, len(items))
        self._accept(peer, Parcel(items, len(payload), self._loop.time(), request))

    def left(self, peer: RelayPeer) -> None:
        """Drop what a peer sent and was not worked on."""
        peer.parcels.clear()
        peer.parcel_bytes = 0
        if peer in self._round:
            self._round.remove(peer)

    def _accept(self, peer: RelayPeer, parcel: Parcel) -> None:
        idle = not self._round
        if not peer.parcels:
            self._round.append(peer)
        peer.parcels.append(parcel)
        peer.parcel_bytes += parcel.size
        left = self._options.slice_seconds - self._spent
        if idle and left > 0.0:
            self._run(left)
        if peer.parcel_bytes > self._options.backlog_high and not peer.paused:
            peer.paused = True
            peer.session.pause_reading()
        self._hold_back(peer, len(parcel.items))
        self._schedule()

    def _hold_back(self, peer: RelayPeer, count: int) -> None:
        """Do not read a peer for a while that has brought more than its share."""
        now = self._loop.time()
        wait = max(peer.allowance.spend(count, now), self._total.spend(count, now))
        if wait > 0.0 and not peer.held:
            peer.held = True
            peer.session.pause_reading()
            self._counters.held_back += 1
            self._loop.call_later(min(wait, _LONGEST_HOLD), lambda: self._release(peer))

    def _release(self, peer: RelayPeer) -> None:
        peer.held = False
        if not peer.paused and not peer.gone:
            peer.session.resume_reading()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Work for a slice, then send on what all slices since the last turn brought."""
        self._scheduled = False
        self._spent = 0.0
        if self._round:
            self._run(self._options.slice_seconds)
        now = self._loop.time()
        if not self._round or self._is_due(now):
            self._flushed_at = now
            self._gossip.flush()
        if self._round:
            self._schedule()

    def _is_due(self, now: float) -> bool:
        """Whether to send although more waits: fewer, larger frames cost less, but nobody waits for long."""
        options = self._options
        full = len(self._gossip.batch) >= options.batch_count
        return full or now - self._flushed_at >= options.batch_seconds

    def _run(self, budget: float) -> None:
        clock, peers, stride = self._loop.time, self._round, self._options.slice_stride
        begin = clock()
        deadline = begin + budget
        now = begin
        while peers and now < deadline:
            peer = peers[0]
            parcel = peer.parcels[0]
            try:
                self._work(peer, parcel, stride)
            except PeerError as error:
                self._expel(peer, error)
            else:
                if parcel.position >= len(parcel.items):
                    self._finish(peer, parcel)
                if peer.parcels:
                    peers.rotate(-1)
                else:
                    peers.popleft()
            now = clock()
        spent = now - begin
        self._spent += spent
        self._counters.longest_slice = max(self._counters.longest_slice, spent)

    def _finish(self, peer: RelayPeer, parcel: Parcel) -> None:
        peer.parcels.popleft()
        peer.parcel_bytes -= parcel.size
        if peer.paused and peer.parcel_bytes <= self._options.backlog_low:
            peer.paused = False
            if not peer.held:
                peer.session.resume_reading()
        if parcel.request is not None:
            self._fetcher.answered(parcel.request, parcel.seen)

    def _expel(self, peer: RelayPeer, error: PeerError) -> None:
        self.left(peer)
        self._counters.offences["transactions"] += 1
        peer.session.disconnect(error.reason, str(error))

    def _work(self, peer: RelayPeer, parcel: Parcel, stride: int) -> None:
        """Take in the next items of a parcel, at most stride.

        Raises:
            PeerError: one of them is undecodable, forbidden, or came twice in the message.
        """
        items = parcel.items[parcel.position : parcel.position + stride]
        parcel.position += len(items)
        self._counters.seen += len(items)
        held, recent, seen, bit = self._pool.by_hash, self._recent, parcel.seen, peer.bit
        young, old = recent.young, recent.old
        unasked, fetched = parcel.request is None, self._fetcher.fetched
        duplicates = duplicate_bytes = 0
        for item in items:
            # The headers are known to be canonical since the message was split.
            first = item[0]
            if first == _SHORT_HEADER and item[2] < _TYPED:
                raw = item[2:]
            elif first == _LONG_HEADER and item[3] < _TYPED:
                raw = item[3:]
            else:
                raw = _canonical(item)
            tx_hash: bytes = Keccak256(raw).digest() if raw[0] != BLOB else _blob_hash(raw)
            if tx_hash in seen:
                raise SubprotocolError(f"transaction {tx_hash.hex()} twice in one message")
            seen.add(tx_hash)
            tx = held.get(tx_hash)
            if tx is not None:
                tx.known |= bit
                duplicates += 1
                if tx.local:
                    self._pool.watch.echoed(tx, bit)
                if unasked and tx_hash in fetched:
                    self._fetcher.pushed_late(tx_hash)
                duplicate_bytes += len(item)
            elif tx_hash in young or tx_hash in old:
                self._counters.repeats += 1
                if self.court is not None and tx_hash in self.court.waiting:
                    self.court.waiting[tx_hash].known |= bit
            else:
                self._take(peer, parcel, item, raw, tx_hash)
        self._counters.duplicates += duplicates
        self._counters.duplicate_bytes += duplicate_bytes

    def _take(self, peer: RelayPeer, parcel: Parcel, item: bytes, raw: bytes, tx_hash: bytes) -> None:
        """Judge a transaction that is new to us, and put it into pool and batch."""
        if raw[0] == BLOB:
            self._take_blob(peer, parcel, raw, tx_hash)
            return
        try:
            tx = self._admission.admit(raw, tx_hash)
        except TransactionUndecodable as error:
            raise SubprotocolError(str(error)) from None
        except InvalidTransaction as error:
            self._drop(parcel, raw, tx_hash, error.why)
            return
        known = peer.bit
        if tx_hash in self._fetcher.entries:
            known |= self._fetcher.arrived(tx_hash, tx.type, tx.size, parcel.request is None)
        entry = PooledTx(tx, item, known, parcel.received)
        entry.source = peer.bit
        if self.court is None:
            self._keep(entry)
        elif self.court.submit(entry, peer):
            self._recent.add(tx_hash)  # until the ruling: nobody need send it again

    def _keep(self, entry: PooledTx) -> None:
        refusal = self._pool.add(entry)
        if refusal is None:
            self._counters.accepted += 1
            self._gossip.batch.append(entry)
        else:
            self._counters.dropped[refusal.name.lower()] += 1
            self._recent.add(entry.hash)

    def put(self, entry: PooledTx, peer: RelayPeer | None) -> None:
        """Take what was checked before, and send it on; from a peer, gone or not, or from our own user."""
        if entry.hash in self._fetcher.entries:
            entry.known |= self._fetcher.arrived(entry.hash, entry.type, entry.size, False)
        if self.court is None or peer is None:
            self._keep(entry)
            self._schedule()
        elif self.court.submit(entry, peer):
            self._recent.add(entry.hash)

    def decided(self, entry: PooledTx, peer: RelayPeer, ruling: Ruling) -> None:
        """Act on the ruling of a node on a transaction that `peer` brought."""
        if ruling.outcome is Outcome.GOOD:
            self._recent.discard(entry.hash)
            self._keep(entry)
            self._schedule()
            return
        self._counters.dropped[f"verdict_{ruling.outcome.value}"] += 1
        if ruling.outcome is Outcome.UNKNOWN:
            self._recent.discard(entry.hash)  # may be brought again, when the node answers
        elif ruling.outcome is Outcome.BAD:
            self._resent(peer, ruling.reason)

    def _resent(self, peer: RelayPeer, reason: str) -> None:
        """Send a peer away that goes on bringing what can't be mined; anybody brings some."""
        if not peer.session.trusted and not peer.gone and peer.refusals.spend(1, self._loop.time()) > 0.0:
            self._expel(peer, UselessPeer(f"brings transactions that can't be mined: {reason[:80]}"))

    def _drop(self, parcel: Parcel, raw: bytes, tx_hash: bytes, why: str) -> None:
        self._counters.dropped[why] += 1
        self._recent.add(tx_hash)
        kind = raw[0] if raw[0] < _TYPED else 0
        self._fetcher.arrived(tx_hash, kind, len(raw), parcel.request is None)

    def _take_blob(self, peer: RelayPeer, parcel: Parcel, raw: bytes, tx_hash: bytes) -> None:
        """Judge all of a blob transaction but its proofs, and give it to who verifies them."""
        try:
            tx = self._admission.decode(raw, tx_hash)
        except TransactionUndecodable as error:
            raise SubprotocolError(str(error)) from None
        except InvalidTransaction as error:
            self._drop(parcel, raw, tx_hash, error.why)
            return
        if parcel.request is None:
            check_broadcast(tx)
        check_pooled(tx, peer.version)
        if self.blobs is None:
            self._counters.dropped["blob"] += 1
            return
        try:
            self._admission.check(tx)
        except InvalidTransaction as error:
            if error.why == "sidecar":  # geth: ErrSidecarFormatError
                raise ForbiddenTransaction(error.message) from None
            self._counters.dropped[error.why] += 1
            self._recent.add(tx_hash)
            whole, lean = blob_sizes(tx)
            self._fetcher.arrived(tx_hash, BLOB, whole, False, lean)
            return
        self.blobs.take(peer, tx, parcel.received)


def _blob_hash(raw: bytes) -> bytes:
    try:
        return transaction_hash(raw)
    except TransactionUndecodable as error:
        raise SubprotocolError(str(error)) from None


def _canonical(item: bytes) -> bytes:
    try:
        return canonical(item)
    except TransactionUndecodable as error:
        raise SubprotocolError(str(error)) from None
