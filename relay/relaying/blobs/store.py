"""The blobs of the transactions in the pool: bounded in bytes, and put into the form that each peer reads.

The pool of all transactions holds each in its lean form, by which it is announced, replaced and expired; here
are the blobs that belong to it. What leaves one leaves the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from relay.chain.blobs import CELL_BYTES, ENOUGH, blobs_of_wire, cell_indices
from relay.chain.transactions import BLOB

if TYPE_CHECKING:
    from relay.relaying.counters import RelayCounters
    from relay.relaying.pool import PooledTx, TxPool

__all__ = ["BlobStore", "HeldBlobs"]

LEAN_SINCE: Final = 72  # the version of eth that has blob transactions without blobs
_WHOLE_KEPT: Final = 4  # whole forms kept for the next peer that asks (our choice; a MiB each at most)


class HeldBlobs:
    """The blobs of one transaction, verified.

    Attributes:
        blobs: 131072 bytes each.
        extensions: of each blob the cells 64 to 127, as long.
        blob_fee_cap: wei a blob gas, which a replacement has to outbid.
    """

    __slots__ = ("blob_fee_cap", "blobs", "extensions")

    def __init__(self, blobs: Sequence[bytes], extensions: Sequence[bytes], blob_fee_cap: int) -> None:
        self.blobs = tuple(blobs)
        self.extensions = tuple(extensions)
        self.blob_fee_cap = blob_fee_cap

    @property
    def size(self) -> int:
        """Bytes of blobs and extensions."""
        return sum(map(len, self.blobs)) + sum(map(len, self.extensions))

    def cells(self, mask: int) -> list[bytes]:
        """Return the cells of a mask in the order of the wire: by index, then by blob."""
        found = []
        for index in cell_indices(mask):
            source = self.blobs if index < ENOUGH else self.extensions
            at = index % ENOUGH * CELL_BYTES
            found += [half[at : at + CELL_BYTES] for half in source]
        return found


class BlobStore:
    """Blobs by hash of their transaction.

    Attributes:
        held: all of them; read by who serves, changed only here.
    """

    __slots__ = ("_counters", "_limit", "_pool", "_whole", "held")

    def __init__(self, pool: TxPool, limit: int, counters: RelayCounters) -> None:
        self._pool = pool
        self._limit = limit
        self._counters = counters
        self._whole: dict[bytes, bytes] = {}
        self.held: dict[bytes, HeldBlobs] = {}
        pool.on_dropped = self._dropped

    def __len__(self) -> int:
        return len(self.held)

    def add(self, tx_hash: bytes, blobs: HeldBlobs) -> None:
        """Take the blobs of a transaction that goes into the pool next."""
        self.held[tx_hash] = blobs
        self._counters.blob_bytes += blobs.size
        self._counters.blob_held = len(self.held)

    def discard(self, tx_hash: bytes) -> None:
        """Forget the blobs of a transaction."""
        blobs = self.held.pop(tx_hash, None)
        if blobs is not None:
            self._whole.pop(tx_hash, None)
            self._counters.blob_bytes -= blobs.size
            self._counters.blob_held = len(self.held)

    def make_room(self) -> None:
        """Let the cheapest go, the oldest of equals first, until the budget is kept."""
        while self._counters.blob_bytes > self._limit:
            by_hash = self._pool.by_hash
            self._pool.evict(min(self.held, key=lambda tx_hash: by_hash[tx_hash].bucket))

    def item(self, tx: PooledTx, version: int) -> bytes:
        """Return the wire item of a blob transaction in the form of a version of eth."""
        if version >= LEAN_SINCE:
            return tx.wire
        whole = self._whole.get(tx.hash)
        if whole is None:
            whole = self._whole[tx.hash] = blobs_of_wire(tx.wire, self.held[tx.hash].blobs)
            if len(self._whole) > _WHOLE_KEPT:
                del self._whole[next(iter(self._whole))]
        return whole

    def _dropped(self, tx: PooledTx) -> None:
        if tx.type == BLOB:
            self.discard(tx.hash)
