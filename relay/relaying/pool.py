"""The pool of transactions that are relayed: bounded, and without any state of the chain.

What a full pool gives up is chosen by price. Prices are sorted into buckets an eighth of an octave wide, each
in order of arrival, so that adding, removing and evicting take constant time and nothing is ever sorted.
Among equal prices the newest wins: a relay has nobody to mine what it holds, and what it has held for long
its peers have fetched.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Container, Iterator
from copy import copy
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol

from relay.chain.transaction_sender import address_of
from relay.chain.transactions import BLOB
from relay.primitives.keys import PublicKey

if TYPE_CHECKING:
    from relay.chain.transactions import Transaction
    from relay.relaying.counters import RelayCounters
    from relay.relaying.options import RelayOptions
    from relay.relaying.recent import RecentHashes
    from relay.relaying.seams import Session

__all__ = ["Awaited", "LocalWatch", "PooledTx", "Refusal", "TxPool"]

_LOCAL_BUCKET: Final = 1 << 16  # above the bucket of any 256-bit price: local ones are evicted last


class Refusal(StrEnum):
    """Why the pool did not take a transaction; the values are geth's words (core/txpool/errors.go)."""

    REPLACEMENT_UNDERPRICED = "replacement transaction underpriced"
    UNDERPRICED = "transaction underpriced"
    ACCOUNT_LIMIT = "account limit exceeded"


class PooledTx:
    """A transaction that is held.

    Attributes:
        hash: Keccak-256 of the canonical bytes.
        wire: the item as it stands in a message (typed ones are RLP strings there).
        type: EIP-2718 type, 0 for legacy.
        size: length of the canonical bytes, what announcements tell.
        lean: the same without blobs, which eth/72 announces; equal for all other types.
        signer: public key of the sender: stands for it in tables, since the address costs a hash more.
        nonce: of the sender.
        tip_cap, fee_cap: wei per gas; both the gas price for old types.
        known: bitmask over `RelayPeer.bit`: who has it or was told of it.
        arrived: when it came in, monotonic seconds.
        local: submitted by one of our own users.
        source: bit of the peer that brought it first; 0 for nobody who is connected still.
        bucket: price class, kept by the pool.
    """

    __slots__ = (
        "arrived",
        "bucket",
        "fee_cap",
        "hash",
        "known",
        "lean",
        "local",
        "nonce",
        "signer",
        "size",
        "source",
        "tip_cap",
        "type",
        "wire",
    )

    def __init__(
        self, tx: Transaction, wire: bytes, known: int = 0, arrived: float = 0.0, local: bool = False
    ) -> None:
        self.hash = tx.hash
        self.wire = wire
        self.type = tx.type
        self.size = self.lean = tx.size
        self.signer: bytes = tx.signer
        self.nonce = tx.nonce
        tip_cap = self.tip_cap = tx.tip_cap
        fee_cap = self.fee_cap = tx.fee_cap
        self.known = known
        self.source = 0
        self.arrived = arrived
        self.local = local
        self.bucket = _LOCAL_BUCKET if local else _bucket(tip_cap if tip_cap < fee_cap else fee_cap)

    @property
    def sender(self) -> bytes:
        """The 20-byte address of the sender, computed anew."""
        return address_of(PublicKey(self.signer))

    def as_a_stranger_s(self, known: int, arrived: float) -> PooledTx:
        """Return what another pool takes of it, which is told neither whose it is nor who brought it."""
        taken = copy(self)
        taken.known, taken.arrived = known, arrived
        taken.source, taken.local = 0, False
        taken.bucket = _bucket(min(self.tip_cap, self.fee_cap))
        return taken


def _bucket(price: int) -> int:
    """Bit length and the three bits after the leading one: monotone, steps of at most an eighth."""
    bits = price.bit_length()
    return bits << 3 | (price >> bits - 4 & 7) if bits > 3 else price


class LocalWatch(Protocol):
    """Hears what peers do with transactions of our own users (`relay.relaying.own`)."""

    def echoed(self, tx: PooledTx, bit: int, /) -> None:
        """The peer of this bit sent or announced it to us."""
        ...

    def served(self, tx: PooledTx, session: Session, /) -> None:
        """A peer asked for it and got it."""
        ...

    def announced(self, tx: PooledTx, /) -> None:
        """It was announced to one more peer, some time after it came."""
        ...


class Awaited(Protocol):
    """Transactions that are expected from peers (`relay.relaying.private.broadcast`)."""

    @property
    def letters(self) -> Container[bytes]:
        """Their hashes."""
        ...

    def arrived(self, tx_hash: bytes, /) -> None:
        """A peer brought one of them, whether or not the pool has room for it."""
        ...


class _Nobody:
    """The `LocalWatch` where nobody is interested."""

    def echoed(self, tx: PooledTx, bit: int, /) -> None:
        """Forget it."""

    def served(self, tx: PooledTx, session: Session, /) -> None:
        """Forget it."""

    def announced(self, tx: PooledTx, /) -> None:
        """Forget it."""


class TxPool:
    """Transactions by hash, by sender and nonce, and by price.

    Attributes:
        by_hash: every transaction held, in order of arrival; read by the hot paths, changed only here.
        bytes: their wire bytes.
        on_added: told of each transaction that was taken; None for nobody.
        on_dropped: told of each that left; None for nobody.
        watch: told by whoever meets a local transaction again.
        awaited: transactions of our own users that peers have yet to bring, and who is told; None for none.
    """

    __slots__ = (
        "_buckets",
        "_counters",
        "_floor",
        "_options",
        "_recent",
        "_senders",
        "awaited",
        "by_hash",
        "bytes",
        "on_added",
        "on_dropped",
        "watch",
    )

    def __init__(self, options: RelayOptions, counters: RelayCounters, recent: RecentHashes) -> None:
        self._options = options
        self._counters = counters
        self._recent = recent
        self.by_hash: dict[bytes, PooledTx] = {}
        self._senders: dict[bytes, dict[int, PooledTx]] = {}
        # Ordered: the first of a plain dict is looked for past everything deleted before it.
        self._buckets: dict[int, OrderedDict[bytes, PooledTx]] = {}
        self._floor = _LOCAL_BUCKET
        self.bytes = 0
        self.on_added: Callable[[PooledTx], None] | None = None
        self.on_dropped: Callable[[PooledTx], None] | None = None
        self.watch: LocalWatch = _Nobody()
        self.awaited: Awaited | None = None

    def __len__(self) -> int:
        return len(self.by_hash)

    def __contains__(self, tx_hash: bytes) -> bool:
        return tx_hash in self.by_hash

    def was_let_go(self, tx_hash: bytes) -> bool:
        """Tell whether a transaction was refused, or left, a short while ago."""
        return tx_hash in self._recent

    def add(self, tx: PooledTx) -> Refusal | None:
        """Take a transaction whose hash is not held; makes room by evicting cheaper or older ones.

        Returns:
            None, or why it was not taken.
        """
        if self.awaited is not None and tx.hash in self.awaited.letters:
            self.awaited.arrived(tx.hash)
        nonces = self._senders.get(tx.signer)
        if nonces is None:
            nonces = self._senders[tx.signer] = {}
        else:
            rival = nonces.get(tx.nonce)
            if rival is not None:
                if not self.outbids(tx, rival):
                    return Refusal.REPLACEMENT_UNDERPRICED
                self._replace(rival, nonces)
            elif len(nonces) >= self._options.per_sender and len(self.by_hash) >= self._options.crowded:
                return Refusal.ACCOUNT_LIMIT
        nonces[tx.nonce] = tx
        self.by_hash[tx.hash] = tx
        bucket = self._buckets.get(tx.bucket)
        if bucket is None:
            bucket = self._buckets[tx.bucket] = OrderedDict()
            self._floor = min(self._floor, tx.bucket)
        bucket[tx.hash] = tx
        self.bytes += len(tx.wire)
        if len(self.by_hash) > self._options.pool_count or self.bytes > self._options.pool_bytes:
            refusal = self._make_room(tx)
            if refusal is not None:
                return refusal
        if self.on_added is not None:
            self.on_added(tx)
        return None

    def expire(self, now: float, limit: int = 1024) -> int:
        """Drop those held for too long, looking at limit of them at most; returns how many.

        A local one may stay up to `lifetime` longer than its own time.
        """
        options = self._options
        gone = 0
        for tx in list(islice(self.by_hash.values(), limit)):
            age = now - tx.arrived
            if age < options.lifetime:
                break
            if tx.local and age < options.local_lifetime:
                # Moved to the end, so that those behind it in order of arrival come up.
                del self.by_hash[tx.hash]
                self.by_hash[tx.hash] = tx
                continue
            self._drop(tx)
            gone += 1
        self._counters.expired += gone
        return gone

    def remove(self, tx_hash: bytes) -> bool:
        """Let go of a transaction that is spent; says whether it was held."""
        tx = self.by_hash.get(tx_hash)
        if tx is not None:
            self._drop(tx)
        return tx is not None

    def evict(self, tx_hash: bytes) -> None:
        """Let go of a transaction that is held, to make room."""
        self._drop(self.by_hash[tx_hash])
        self._counters.evicted += 1

    def newest(self, limit: int) -> Iterator[PooledTx]:
        """Walk over what arrived last, latest first, at most limit."""
        return islice(reversed(self.by_hash.values()), limit)

    def by_sender(self) -> dict[bytes, list[PooledTx]]:
        """Return all by sender, in order of nonce (for RPC: copies everything)."""
        return {
            address_of(PublicKey(signer)): [nonces[nonce] for nonce in sorted(nonces)]
            for signer, nonces in self._senders.items()
        }

    def of_signer(self, signer: bytes) -> list[PooledTx]:
        """Return those of one sender, by its public key."""
        return list(self._senders.get(signer, {}).values())

    def signers(self) -> list[bytes]:
        """Return the public keys of all senders."""
        return list(self._senders)

    @property
    def senders(self) -> int:
        """How many senders have a transaction here."""
        return len(self._senders)

    def outbids(self, tx: PooledTx, rival: PooledTx) -> bool:
        """Tell whether a transaction may take the place of another of the same nonce."""
        # Spec: geth core/txpool/legacypool/list.go, Add: both caps reach old * (100 + bump) / 100.
        blob = BLOB in (tx.type, rival.type)
        percent = 100 + (self._options.blob_price_bump if blob else self._options.price_bump)
        return (
            tx.fee_cap > rival.fee_cap
            and tx.tip_cap > rival.tip_cap
            and tx.fee_cap >= rival.fee_cap * percent // 100
            and tx.tip_cap >= rival.tip_cap * percent // 100
        )

    def _replace(self, rival: PooledTx, nonces: dict[int, PooledTx]) -> None:
        self._drop(rival)
        self._senders[rival.signer] = nonces  # may have been emptied and removed
        self._counters.replaced += 1

    def _make_room(self, newcomer: PooledTx) -> Refusal | None:
        options = self._options
        while len(self.by_hash) > options.pool_count or self.bytes > options.pool_bytes:
            victim = next(iter(self._buckets[self._floor].values()))
            self._drop(victim)
            if victim is newcomer:
                return Refusal.UNDERPRICED
            self._counters.evicted += 1
        return None

    def _drop(self, tx: PooledTx) -> None:
        del self.by_hash[tx.hash]
        self.bytes -= len(tx.wire)
        nonces = self._senders[tx.signer]
        del nonces[tx.nonce]
        if not nonces:
            del self._senders[tx.signer]
        bucket = self._buckets[tx.bucket]
        del bucket[tx.hash]
        if not bucket:
            del self._buckets[tx.bucket]
            if tx.bucket == self._floor:
                self._floor = min(self._buckets, default=_LOCAL_BUCKET)
        self._recent.add(tx.hash)
        if self.on_dropped is not None:
            self.on_dropped(tx)
