"""Brings new transactions to the peers that do not know them, as geth does (BroadcastTransactions).

Whole to the square root of all peers, announced to the others; large ones are announced to all. Which peers
get the whole ones depends on the sender, so that the nonces of one sender take the same way: senders fall
into buckets by a keyed hash, and each bucket has its own set of direct peers until a peer joins or leaves.

With `--tx-trickle` a peer is told at moments of its own (`relay.relaying.trickling`) in place of at once.

Transactions with the same audience form a piece, which is encoded and compressed once; a peer's message is
put together from pieces, and peers with the same pieces get the same bytes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import chain, cycle, islice
from math import isqrt
from typing import TYPE_CHECKING, Final

from relay.chain.transactions import BLOB
from relay.primitives.hashing import keccak256
from relay.protocols.pyrelay.messages import NAME as RELAY
from relay.protocols.pyrelay.stems import Padding
from relay.relaying.packing import Piece, announcement, pieces_of, transactions
from relay.relaying.trickling import Trickle

if TYPE_CHECKING:
    from relay.relaying.counters import RelayCounters
    from relay.relaying.options import RelayOptions
    from relay.relaying.pool import PooledTx, TxPool
    from relay.relaying.requests import PieceCache
    from relay.relaying.roster import RelayPeer, Roster
    from relay.relaying.seams import Handle, Loop

__all__ = ["Gossip"]

TRANSACTIONS: Final = 0x02
NEW_POOLED_TRANSACTION_HASHES: Final = 0x08

_BUCKETS: Final = 16  # at least; more only where 16 times the direct peers are not all peers (our choice)
_MOST_BUCKETS: Final = 256  # what a byte tells apart
_GATHERED: Final = 1024  # transactions that go out even if the frame limit says wait
_LARGE: Final = -1  # the bucket of those that are announced only
_BLOBS: Final = -2  # the bucket of blob transactions, announced only as well, and served in several forms
_MASKED: Final = 72  # the version of eth whose announcements end with a mask

_Plan = dict["RelayPeer", list[int]]


class Gossip:
    """The way out for transactions of the pool.

    Attributes:
        batch: new transactions that wait for `flush`; intake appends to it.
    """

    __slots__ = (
        "_allowance",
        "_bucket_mask",
        "_cache",
        "_counters",
        "_direct",
        "_direct_generation",
        "_drain_handle",
        "_everyone_direct",
        "_flush_handle",
        "_key",
        "_loop",
        "_options",
        "_outboxes",
        "_padding",
        "_pool",
        "_rand",
        "_refilled",
        "_roster",
        "_table_a",
        "_table_b",
        "_trickle",
        "batch",
    )

    def __init__(
        self,
        roster: Roster,
        pool: TxPool,
        cache: PieceCache,
        options: RelayOptions,
        counters: RelayCounters,
        loop: Loop,
        rand: Callable[[int], bytes],
    ) -> None:
        self._roster = roster
        self._pool = pool
        self._cache = cache
        self._options = options
        self._counters = counters
        self._loop = loop
        self._key = rand(16)
        # Tabulation hashing over two bytes of the signer's key, which is as good as random.
        self._table_a = rand(256)
        self._table_b = rand(256)
        self._bucket_mask = _BUCKETS - 1
        self._direct: list[int] = []
        self._direct_generation = -1
        self._everyone_direct = True
        self._allowance = options.frames_burst
        self._refilled = loop.time()
        self._flush_handle: Handle | None = None
        self._drain_handle: Handle | None = None
        self._outboxes: dict[RelayPeer, None] = {}
        self._rand = rand
        self._padding = options.stem.padding
        self._trickle: Trickle | None = None
        if options.trickle.is_on:
            self._trickle = Trickle(roster, pool, options.trickle, loop, rand, self._tell)
        self.batch: list[PooledTx] = []

    def flush(self) -> None:
        """Send the batch now, or as soon as the frame limit allows."""
        if not self.batch or (self._flush_handle is not None and len(self.batch) < _GATHERED):
            return
        wait = self._wait()
        if wait > 0.0 and len(self.batch) < _GATHERED:
            self._flush_handle = self._loop.call_later(wait, self._flush_late)
            return
        batch, self.batch = self.batch, []
        self.publish(batch)

    def publish(self, batch: Sequence[PooledTx]) -> None:
        """Push or announce each transaction to every peer that does not know it, now or at its moment."""
        if self._trickle is None:
            self._tell(batch, self._roster.connected)
        else:
            self._trickle.take(batch)

    def _tell(self, batch: Sequence[PooledTx], among: int) -> None:
        """Push or announce each transaction to those peers of a mask that do not know it."""
        if self._direct_generation != self._roster.generation:
            self._choose_direct()
        direct: _Plan = defaultdict(list)
        announced: _Plan = defaultdict(list)
        pieces: list[Piece] = []
        for (todo, bucket), txs in self._audiences(batch, among).items():
            pushed = 0 if bucket < 0 else todo & self._direct[bucket]
            first = len(pieces)
            pieces.extend(pieces_of(txs, self._options.piece_bytes))
            numbers = range(first, len(pieces))
            for peer in self._roster.expand(pushed):
                direct[peer].extend(numbers)
            told = self._roster.expand(todo & ~pushed)
            for peer in told:
                announced[peer].extend(numbers)
            if told and bucket != _BLOBS:
                self._cache.add_all(pieces[first:])
        frames = self._push(direct, announced, pieces) + self._announce(announced, pieces)
        self._counters.gossip_frames += frames
        self._allowance -= frames

    def joined(self, peer: RelayPeer) -> None:
        """Announce the pool to a new peer, the newest first, in slices (geth: syncTransactions)."""
        newest = self._pool.newest(self._options.outbox_count)
        peer.outbox.extend(newest if self._trickle is None else self._trickle.greet(peer, newest, self.batch))
        if peer.outbox:
            self._outboxes[peer] = None
            self._drain_later(0.0)

    def announce_late(self, tx: PooledTx, mask: int) -> None:
        """Announce a transaction to connected peers that were left out when it was published."""
        for peer in self._roster.expand(mask):
            self._queue(peer, [Piece([tx], 0)])
            self._drain_later(0.0)

    def left(self, peer: RelayPeer) -> None:
        """Forget what waits for a peer."""
        self._outboxes.pop(peer, None)
        peer.outbox.clear()
        if self._trickle is not None:
            self._trickle.left(peer)

    def direct_peers(self, signer: bytes) -> int:
        """Return the mask of peers that get transactions of this signer whole."""
        if self._direct_generation != self._roster.generation:
            self._choose_direct()
        return self._direct[(self._table_a[signer[3]] ^ self._table_b[signer[11]]) & self._bucket_mask]

    def _audiences(self, batch: Sequence[PooledTx], among: int) -> dict[tuple[int, int], list[PooledTx]]:
        """Group by who lacks it and by bucket; marks all as known to those who are about to be told."""
        fresh = None if self._trickle is None else self._trickle.fresh
        limit = self._options.pushed_bytes
        table_a, table_b, bucket_mask = self._table_a, self._table_b, self._bucket_mask
        one_way = self._everyone_direct
        groups: dict[tuple[int, int], list[PooledTx]] = {}
        now = self._loop.time()
        relayed = 0
        late = 0.0
        for tx in batch:
            known = tx.known
            todo = among & ~known
            if not todo:
                continue
            tx.known = known | among
            if fresh is None or tx.hash in fresh:
                relayed += 1
                late += now - tx.arrived
            if tx.size > limit:
                key = (todo, _BLOBS if tx.type == BLOB else _LARGE)
            elif one_way:
                key = (todo, 0)
            else:
                signer = tx.signer
                key = (todo, (table_a[signer[3]] ^ table_b[signer[11]]) & bucket_mask)
            group = groups.get(key)
            if group is None:
                groups[key] = [tx]
            else:
                group.append(tx)
        counters = self._counters
        counters.relayed += relayed
        counters.latency_count += relayed
        counters.latency_sum += late
        return groups

    def _push(self, plan: _Plan, announced: _Plan, pieces: list[Piece]) -> int:
        """Send whole transactions; moves what a full socket cannot take over to the announcements."""
        made: dict[tuple[int, ...], list[bytes]] = {}
        frames = pushes = 0
        for peer, numbers in plan.items():
            session = peer.session
            if not session.writable:
                announced[peer].extend(numbers)
                self._counters.downgraded += sum(len(pieces[number].txs) for number in numbers)
                continue
            key = tuple(numbers)
            bodies = made.get(key)
            if bodies is None:
                chosen = [pieces[number] for number in numbers]
                bodies = made[key] = list(transactions(chosen, self._options.packet_bytes))
            for body in bodies:
                session.send_packed(TRANSACTIONS, body)
            if self._padding:
                self._pad(peer)
            frames += len(bodies)
            pushes += sum(len(pieces[number].txs) for number in numbers)
        self._counters.pushes += pushes
        return frames

    def _announce(self, plan: _Plan, pieces: list[Piece]) -> int:
        made: dict[tuple[object, ...], list[bytes]] = {}
        frames = announcements = 0
        for peer, numbers in plan.items():
            if peer.outbox or not peer.session.writable:
                self._queue(peer, [pieces[number] for number in numbers])
                continue
            masked = peer.version >= _MASKED
            key = (masked, *numbers)
            bodies = made.get(key)
            if bodies is None:
                chosen = [pieces[number] for number in numbers]
                bodies = made[key] = list(announcement(chosen, self._announcement_limit, masked=masked))
            for body in bodies:
                peer.session.send_packed(NEW_POOLED_TRANSACTION_HASHES, body)
            if self._padding:
                self._pad(peer)
            frames += len(bodies)
            announcements += sum(len(pieces[number].txs) for number in numbers)
        self._counters.announcements += announcements
        return frames

    def _pad(self, peer: RelayPeer) -> None:
        """Send random bytes behind transactions: who measures what passes can't count them by length."""
        if peer.session.speaks(RELAY):
            padding = self._rand(int.from_bytes(self._rand(2), "big") % (self._padding + 1))
            peer.session.send_to(RELAY, Padding.CODE, Padding(padding).encode())

    @property
    def _announcement_limit(self) -> int:
        return self._options.packet_bytes // 32  # geth counts 32 bytes a hash

    def _queue(self, peer: RelayPeer, pieces: list[Piece]) -> None:
        outbox, others = peer.outbox, ~peer.bit
        for tx in chain.from_iterable(piece.txs for piece in pieces):
            tx.known &= others  # it was not told yet, and if it learns of tx meanwhile it need not be
            outbox.append(tx)
        while len(outbox) > self._options.outbox_count:
            outbox.popleft()
            self._counters.outbox_dropped += 1
        self._outboxes[peer] = None
        self._drain_later(self._options.outbox_retry)

    def _drain_later(self, delay: float) -> None:
        if self._drain_handle is None:
            self._drain_handle = self._loop.call_later(delay, self._drain)

    def _drain(self) -> None:
        """Give the next waiting peer its turn; full sockets are looked at again a little later."""
        self._drain_handle = None
        for peer in list(self._outboxes):
            if not peer.session.writable:
                continue
            del self._outboxes[peer]
            self._send_outbox(peer)
            if peer.outbox:
                self._outboxes[peer] = None  # to the end: round robin
            self._drain_later(0.0)
            return
        if self._outboxes:
            self._drain_later(self._options.outbox_retry)

    def _send_outbox(self, peer: RelayPeer) -> None:
        outbox, held, bit = peer.outbox, self._pool.by_hash, peer.bit
        txs = []
        for _ in range(min(len(outbox), self._options.outbox_stride)):
            tx = outbox.popleft()
            if tx.hash in held and not tx.known & bit:
                tx.known |= bit
                txs.append(tx)
                if tx.local:
                    self._pool.watch.announced(tx)
        if not txs:
            return
        masked = peer.version >= _MASKED
        for body in announcement([Piece(txs, 0)], self._announcement_limit, masked=masked):
            peer.session.send_packed(NEW_POOLED_TRANSACTION_HASHES, body)
            self._counters.gossip_frames += 1
        self._counters.announcements += len(txs)

    def _choose_direct(self) -> None:
        """Deal all peers, in an order that only we know, to the buckets: ceil(sqrt(n)) for each.

        Geth (eth/handler.go, choosePeers) ranks all peers anew for each sender. Dealing makes sure that every
        peer is direct for some senders, and lets peers share their sets of buckets, so also their messages.
        """
        self._direct_generation = self._roster.generation
        bits = sorted(
            (peer.bit for peer in self._roster),
            key=lambda bit: keccak256(self._key + bit.bit_length().to_bytes(4, "big")),
        )
        count = isqrt(len(bits) - 1) + 1 if bits else 0
        self._everyone_direct = count >= len(bits)
        buckets = _BUCKETS
        while buckets * count < len(bits) and buckets < _MOST_BUCKETS:
            buckets *= 2
        self._bucket_mask = buckets - 1
        dealt = islice(cycle(bits), buckets * count)
        self._direct = [sum(islice(dealt, count)) for _ in range(buckets)]

    def _wait(self) -> float:
        """Seconds until the frame limit lets the next batch out."""
        options = self._options
        if not options.frames_per_second:
            return 0.0
        now = self._loop.time()
        earned = self._allowance + (now - self._refilled) * options.frames_per_second
        self._allowance = min(options.frames_burst, earned)
        self._refilled = now
        return -self._allowance / options.frames_per_second

    def _flush_late(self) -> None:
        self._flush_handle = None
        batch, self.batch = self.batch, []
        self.publish(batch)
