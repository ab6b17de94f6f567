"""What becomes of a blob transaction: fetched, completed, verified, held, told of.

Unlike others it is never pushed, and it is verified elsewhere (`process`), so it waits here for the verdict.
Who delivers a wrong sidecar is disconnected; the signature does not cover the sidecar, so the transaction
itself is not held to be wrong and may come from another. Precedents: geth core/txpool/blobpool and
eth/fetcher/blob_fetcher.go, which fetches transaction and cells at the same time and so has to hold cells
that nothing can be checked against; here the transaction comes first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from relay.chain.blobs import DATA_CELLS, blob_sizes, blobs_of, lean_form, proofs_of, whole_form
from relay.chain.transactions import BLOB, InvalidTransaction, Transaction, decode, wire
from relay.primitives.errors import SubprotocolError
from relay.relaying.blobs.cells import CellFetcher, answer_cells
from relay.relaying.blobs.pending import PartOfBlobs, Pending
from relay.relaying.blobs.store import LEAN_SINCE, BlobStore, HeldBlobs
from relay.relaying.blobs.worker import BAD_CELLS, GOOD, Job, Part, Verdict
from relay.relaying.pool import PooledTx, Refusal
from relay.relaying.verdict import Outcome

if TYPE_CHECKING:
    from relay.relaying.counters import RelayCounters
    from relay.relaying.fetcher import Fetcher
    from relay.relaying.gossip import Gossip
    from relay.relaying.options import RelayOptions
    from relay.relaying.pool import TxPool
    from relay.relaying.recent import RecentHashes
    from relay.relaying.roster import RelayPeer
    from relay.relaying.seams import Loop
    from relay.relaying.verdict import Judge, Ruling

__all__ = ["BlobSide", "Verifier"]

_KIND: Final = bytes((BLOB,))


class Verifier(Protocol):
    """Verifies blobs somewhere else (`relay.relaying.blobs.process`)."""

    def warm(self) -> None:
        """Be ready soon: jobs may come."""

    def verify(self, job: Job, done: Callable[[Verdict | None], None], /) -> None:
        """Take a job; done is called later, with None when there can't be a verdict."""


class BlobSide:
    """Blob transactions of a relay.

    Attributes:
        store: the blobs of those in the pool.
        pending: those on their way there, by hash.
        judge: a node that rules on what peers bring; None where policy is enough.
        private: takes those of our own users instead of the pool, lean and with their blobs; None where the
            pool does.
    """

    def __init__(
        self,
        verifier: Verifier,
        options: RelayOptions,
        pool: TxPool,
        fetcher: Fetcher,
        gossip: Gossip,
        recent: RecentHashes,
        counters: RelayCounters,
        loop: Loop,
        rand: Callable[[int], bytes],
        offend: Callable[[RelayPeer, str], None],
        publish: Callable[[PooledTx], None],
        decided: Callable[[PooledTx, RelayPeer, Ruling], None],
    ) -> None:
        self._verifier = verifier
        self._options = options.blobs
        self._bump = options.blob_price_bump
        self._pool = pool
        self._fetcher = fetcher
        self._gossip = gossip
        self._recent = recent
        self._counters = counters
        self._loop = loop
        self._offend = offend
        self._publish = publish
        self._decided = decided
        self._log = structlog.get_logger("relay.relaying")
        self._cells = CellFetcher(options.blobs, counters, loop, rand, self._verify_parts, self._hopeless)
        self._cost = 0
        self._warm_at: float | None = None
        self.store = BlobStore(pool, options.blobs.pool_bytes, counters)
        self.pending: dict[bytes, Pending] = {}
        self.judge: Judge | None = None
        self.private: Callable[[PooledTx, Transaction, Sequence[bytes]], None] | None = None

    # -- from peers ------------------------------------------------------------------------------------

    def joined(self) -> None:
        """Learn that a peer is there, who may bring some."""
        if self._warm_at is None:
            self._warm_at = self._loop.time() + self._options.warm_after

    def heard(self, peer: RelayPeer, tx_hash: bytes, mask: int) -> bool:
        """Note an announcement of a pending transaction; returns whether it is pending."""
        pending = self.pending.get(tx_hash)
        if pending is None:
            return False
        if peer in pending.knowers:
            return True  # the first word counts
        self._add_source(pending, peer, mask)
        if not pending.verifying:
            self._cells.seek(pending)
        return True

    def take(self, peer: RelayPeer, tx: Transaction, received: float) -> None:
        """Take a transaction that was fetched from a peer, checked in all but its proofs."""
        pending = self.pending.get(tx.hash)
        entry = self._fetcher.entries.get(tx.hash)
        announcers = {} if entry is None else {each: entry.masks.get(each, 0) for each in entry.announcers}
        self._fetcher.arrived(tx.hash, BLOB, blob_sizes(tx)[0], False, blob_sizes(tx)[1])
        if pending is not None and (pending.verifying or not _is_whole(tx)):
            pending.knowers.add(peer)
            self._counters.duplicates += 1
            return
        if pending is not None:
            announcers = {**pending.sources, **dict.fromkeys(pending.elders, 0), **announcers}
            self._forget(pending)
        pending = self._enter(tx, peer, received)
        if pending is not None:
            for each, mask in {peer: 0, **announcers}.items():
                self._add_source(pending, each, mask)
            self._begin(pending)

    def get_cells(self, peer: RelayPeer, payload: bytes) -> None:
        """Answer GetCells.

        Raises:
            PeerError: malformed, or not of this version.
        """
        self._check_version(peer)
        answer_cells(peer, payload, self.store, self._options, self._counters)

    def cells(self, peer: RelayPeer, payload: bytes) -> None:
        """Take Cells.

        Raises:
            PeerError: malformed, unsolicited, or not of this version.
        """
        self._check_version(peer)
        self._cells.answered(peer, payload)

    def left(self, peer: RelayPeer) -> None:
        """Do without a peer."""
        for pending in list(self.pending.values()):
            pending.forget(peer)
        self._cells.left(peer)

    def tick(self, now: float) -> None:
        """Give up what takes too long; have the verifier ready some time after the first peer."""
        self._cells.tick(now)
        if self._warm_at is not None and now >= self._warm_at:
            self._warm_at = math.inf
            self._verifier.warm()

    # -- from our own users ----------------------------------------------------------------------------

    def submit(self, tx: Transaction) -> str | None:
        """Take a whole transaction of one of our own users, checked in all but its proofs.

        It goes out once it is verified; what fails then is in the log.

        Returns:
            None, or why it was not taken.
        """
        refusal = self._objection(tx)
        if refusal is not None:
            return refusal.value
        rival = self.pending.get(tx.hash)
        if rival is not None and (rival.peer is None or rival.verifying):
            return "already known"
        if rival is not None:
            self._forget(rival)
        pending = self._enter(tx, None, self._loop.time())
        if pending is None:
            return "too many blob transactions wait to be verified"
        self._begin(pending)
        return None

    # -- inside ----------------------------------------------------------------------------------------

    def _check_version(self, peer: RelayPeer) -> None:
        if peer.version < LEAN_SINCE:
            raise SubprotocolError(f"eth/{peer.version} has no cells")

    def _add_source(self, pending: Pending, peer: RelayPeer, mask: int) -> None:
        if peer.gone:
            return
        pending.knowers.add(peer)
        if peer.version < LEAN_SINCE:
            pending.elders[peer] = None
        elif mask:
            pending.sources[peer] = mask

    def _enter(self, tx: Transaction, peer: RelayPeer | None, received: float) -> Pending | None:
        """Make a transaction pending, unless there is no room, or little and it is of no use."""
        # With room a peer's cells are judged whatever the pool will say, as geth does: who lies is found out.
        refusal = self._objection(tx) if self._is_busy else None
        if refusal is not None:
            self._counters.dropped[refusal.name.lower()] += 1
            self._recent.add(tx.hash)
            return None
        lean = tx if not _is_whole(tx) else decode(lean_form(tx), tx.hash)
        pending = Pending(lean, proofs_of(tx), peer, received)
        pending.blobs = blobs_of(tx)
        options = self._options
        mine = sum(each.peer is peer for each in self.pending.values())
        full = len(self.pending) >= options.queue_count or self._cost + pending.cost > options.queue_bytes
        if full or mine >= options.per_peer:
            self._counters.dropped["blob_queue"] += 1  # and not remembered: it may be announced again
            return None
        self.pending[tx.hash] = pending
        self._cost += pending.cost
        return pending

    @property
    def _is_busy(self) -> bool:
        options = self._options
        return 2 * len(self.pending) > options.queue_count or 2 * self._cost > options.queue_bytes

    def _begin(self, pending: Pending) -> None:
        if not pending.blobs:
            self._cells.seek(pending)
            return
        self._verify(pending, (Part(DATA_CELLS, b"".join(pending.blobs)),), whole=True)

    def _verify_parts(self, pending: Pending) -> None:
        self._verify(pending, tuple(Part(part.mask, part.cells) for part in pending.parts), whole=False)

    def _verify(self, pending: Pending, parts: tuple[Part, ...], *, whole: bool) -> None:
        pending.verifying = True
        assert pending.tx.sidecar is not None
        commitments = b"".join(pending.tx.sidecar.commitments)
        job = Job(commitments, pending.proofs, parts, whole)
        self._verifier.verify(job, lambda verdict: self._judged(pending, verdict))

    def _judged(self, pending: Pending, verdict: Verdict | None) -> None:
        pending.verifying = False
        if verdict is None:
            self._counters.dropped["blob_verifier"] += 1
            self._forget(pending)
        elif verdict.status == GOOD:
            blobs = HeldBlobs(pending.blobs or verdict.blobs, verdict.extensions, pending.tx.blob_fee_cap)
            self._ask_judge(pending, blobs)
        else:
            self._counters.dropped["blob_proofs"] += 1
            self._blame(pending, verdict)

    def _blame(self, pending: Pending, verdict: Verdict) -> None:
        if verdict.status == BAD_CELLS and not pending.blobs:
            liars = [pending.parts[number] for number in verdict.bad]
            if all(_is_certain(part, pending) for part in liars):
                for part in liars:
                    self._expel(pending, part.peer, "wrong cells")
                pending.withdraw(verdict.bad)
                if pending.peer is None or not pending.peer.gone:
                    self._cells.seek(pending)
                    return
        elif pending.peer is not None:
            self._expel(pending, pending.peer, "wrong proofs of a blob transaction")
        else:
            self._log.warning("blob transaction of our own is wrong", tx=pending.tx.hash.hex())
        self._fetch_again(pending)

    def _expel(self, pending: Pending, peer: RelayPeer, cause: str) -> None:
        pending.forget(peer)
        if not peer.gone:
            self._offend(peer, cause)

    def _hopeless(self, pending: Pending) -> None:
        self._counters.dropped["blob_cells"] += 1
        self._fetch_again(pending)

    def _fetch_again(self, pending: Pending) -> None:
        """Let it go, and fetch it from the next who would deliver it whole."""
        self._forget(pending)
        for peer in pending.elders:
            if peer is not pending.peer and not peer.gone:
                self._fetcher.announced(peer, _KIND, [pending.sizes[0]], [pending.tx.hash])

    def _forget(self, pending: Pending) -> None:
        self._cells.cancel(pending)
        if self.pending.get(pending.tx.hash) is pending:
            del self.pending[pending.tx.hash]
            self._cost -= pending.cost

    def _ask_judge(self, pending: Pending, blobs: HeldBlobs) -> None:
        """Have a node rule on what a peer brought; what it does not say is no yes."""
        if self.judge is None or pending.peer is None:
            self._accept(pending, blobs)
            return
        pending.verifying = True

        def ruled(rulings: Sequence[Ruling]) -> None:
            ruling = rulings[0]
            self._counters.verdicts[ruling.outcome.value] += 1
            if ruling.outcome is Outcome.GOOD:
                self._accept(pending, blobs)
                return
            self._forget(pending)
            self._recent.add(pending.tx.hash)
            if pending.peer is not None:
                self._decided(self._entry(pending), pending.peer, ruling)

        self.judge([whole_form(pending.tx, blobs.blobs)], ruled)

    def _entry(self, pending: Pending) -> PooledTx:
        tx = pending.tx
        known = sum(peer.bit for peer in pending.knowers if not peer.gone)
        entry = PooledTx(tx, wire(tx.raw), known, pending.received, local=pending.peer is None)
        entry.size, entry.lean = pending.sizes
        if pending.peer is not None and not pending.peer.gone:
            entry.source = pending.peer.bit
        return entry

    def _accept(self, pending: Pending, blobs: HeldBlobs) -> None:
        self._forget(pending)
        tx = pending.tx
        if pending.peer is None and self.private is not None:
            self._give_private(pending, blobs)
            return
        refusal = self._objection(tx)
        if refusal is None:
            entry = self._entry(pending)
            self.store.add(tx.hash, blobs)
            refusal = self._pool.add(entry)
            self.store.make_room()
            if tx.hash not in self._pool:
                self.store.discard(tx.hash)
                refusal = refusal or Refusal.UNDERPRICED
        if refusal is not None:
            self._counters.dropped[refusal.name.lower()] += 1
            self._recent.add(tx.hash)
            return
        self._recent.discard(tx.hash)
        self._counters.blobs_verified += pending.count
        if entry.local:
            self._counters.submitted += 1
            self._publish(entry)
        else:
            self._counters.accepted += 1
            self._gossip.batch.append(entry)
            self._gossip.flush()

    def _give_private(self, pending: Pending, blobs: HeldBlobs) -> None:
        assert self.private is not None
        self._recent.discard(pending.tx.hash)
        try:
            self.private(self._entry(pending), pending.tx, blobs.blobs)
        except InvalidTransaction as error:
            self._log.warning("a blob transaction of our own is not sent", why=error.message)

    def _objection(self, tx: Transaction) -> Refusal | None:
        """Say what the pool will say, before the work; and what it does not know: the price of blobs."""
        others = self._pool.of_signer(tx.signer)
        rival = next((each for each in others if each.nonce == tx.nonce), None)
        if rival is None:
            count = sum(each.type == BLOB for each in others)
            return Refusal.ACCOUNT_LIMIT if count >= self._options.per_sender else None
        percent = 100 + self._bump
        held = self.store.held.get(rival.hash)
        price = 0 if held is None else held.blob_fee_cap
        outbid = all(
            new > old and new >= old * percent // 100
            for new, old in (
                (tx.fee_cap, rival.fee_cap),
                (tx.tip_cap, rival.tip_cap),
                (tx.blob_fee_cap, price),
            )
        )
        return None if outbid else Refusal.REPLACEMENT_UNDERPRICED


def _is_whole(tx: Transaction) -> bool:
    return tx.sidecar is not None and tx.sidecar.blobs > 0


def _is_certain(part: PartOfBlobs, pending: Pending) -> bool:
    """Whether wrong cells are their deliverer's fault, and not that of who delivered the proofs."""
    return part.peer is pending.peer or part.mask & DATA_CELLS == DATA_CELLS
