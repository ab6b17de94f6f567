"""Transactions of our own users: who got them, and when the network told us of them in turn.

Every peer that is told marks us as one who knows, and never tells us again, so an echo can only come from
one that was not told. Of two or more peers a few, at random, are therefore left out at first and listened to;
those from whom nothing came within `own_listen_seconds` are told then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from relay.chain.transactions import BLOB

if TYPE_CHECKING:
    from relay.relaying.counters import RelayCounters
    from relay.relaying.gossip import Gossip
    from relay.relaying.options import RelayOptions
    from relay.relaying.pool import PooledTx, TxPool
    from relay.relaying.roster import Roster
    from relay.relaying.seams import Loop, Session

__all__ = ["OwnTransactions", "Progress"]

_MOST_LISTENERS: Final = 4
_PEERS_PER_LISTENER: Final = 8
_MOST_FETCHERS: Final = 1024  # told apart for one transaction


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a transaction has come.

    Attributes:
        sent: peers that it was pushed to, whole.
        announced: peers that it was announced to.
        fetched_by: peers that asked for it then.
        listening: peers that are left out to hear from.
        first_echo_seconds: from submission until a peer told us of it; None while none has.
        age_seconds: since submission.
        held: whether it is in the pool.
        block: number and hash of the block that has it, where somebody found it.
        private: what its private broadcast does, in words; None where it has none. `sent` counts peers that
            have confirmed it then, and `held` is true once a peer has told us of it.
    """

    sent: int
    announced: int
    fetched_by: int
    listening: int
    first_echo_seconds: float | None
    age_seconds: float
    held: bool
    block: tuple[int, bytes] | None
    private: str | None = None


class Private(Protocol):
    """The private broadcast, as far as it matters here (`relay.relaying.private.broadcast`)."""

    def nonces(self, signer: bytes, /) -> frozenset[int]:
        """Return the nonces of a sender that are on their way."""
        ...

    def spent(self, tx_hash: bytes, /) -> None:
        """A block has one of them."""
        ...


class _Record:
    __slots__ = (
        "announced",
        "block",
        "echo",
        "fetchers",
        "listeners",
        "nonce",
        "private",
        "sent",
        "signer",
        "spent",
        "submitted",
    )

    def __init__(self, tx: PooledTx, submitted: float) -> None:
        self.signer = tx.signer
        self.nonce = tx.nonce
        self.submitted = submitted
        self.sent = self.announced = self.listeners = 0
        self.fetchers: set[int] = set()
        self.echo: float | None = None
        self.block: tuple[int, bytes] | None = None
        self.spent: PooledTx | None = None  # what the pool let go of for the block
        self.private: str | None = None


class OwnTransactions:
    """Sends them out (`relay.relaying.seams.Publisher`) and remembers them, the last `own_count` of them.

    They are remembered beyond the pool: whoever asks for one of them must not be passed on to others by its
    hash.

    Attributes:
        private: brings them out instead, where it is in use.
    """

    __slots__ = (
        "_by_hash",
        "_counters",
        "_gossip",
        "_loop",
        "_options",
        "_pool",
        "_rand",
        "_roster",
        "_signers",
        "private",
    )

    def __init__(
        self,
        gossip: Gossip,
        roster: Roster,
        pool: TxPool,
        options: RelayOptions,
        counters: RelayCounters,
        loop: Loop,
        rand: Callable[[int], bytes],
    ) -> None:
        self._gossip = gossip
        self._roster = roster
        self._pool = pool
        self._options = options
        self._counters = counters
        self._loop = loop
        self._rand = rand
        self._by_hash: dict[bytes, _Record] = {}
        self._signers: dict[bytes, bytes] = {}  # address to public key, of the last own_count senders
        self.private: Private | None = None
        pool.watch = self

    def __contains__(self, tx_hash: object) -> bool:
        return tx_hash in self._by_hash

    # -- the way out -----------------------------------------------------------------------------------

    def remember(self, tx: PooledTx, *, private: bool = False) -> None:
        """Begin to follow a transaction that was submitted; the oldest one may be forgotten for it."""
        record = self._by_hash[tx.hash] = _Record(tx, self._loop.time())
        record.private = "" if private else None
        if tx.known & self._roster.connected:
            record.echo = 0.0  # peers announced it before our user submitted it
        self._signers.pop(tx.sender, None)
        self._signers[tx.sender] = tx.signer
        for kept in (self._by_hash, self._signers):
            while len(kept) > self._options.own_count:
                del kept[next(iter(kept))]

    def publish(self, batch: Sequence[PooledTx]) -> None:
        """Send each of batch to the peers that do not know it, but for those that are listened to."""
        for tx in batch:
            record = self._by_hash.get(tx.hash)
            listeners = self._choose_listeners(self._roster.connected & ~tx.known)
            tx.known |= listeners
            pushes, announcements = self._counters.pushes, self._counters.announcements
            self._gossip.publish([tx])
            if record is not None:
                record.sent += self._counters.pushes - pushes
                record.announced += self._counters.announcements - announcements
                record.listeners = listeners
            if listeners:
                self._tell_later(tx, listeners)

    def _choose_listeners(self, unaware: int) -> int:
        bits = [1 << place for place in range(unaware.bit_length()) if unaware >> place & 1]
        if len(bits) < 2 or not self._options.own_listen_seconds:
            return 0
        mask = 0
        for _ in range(max(1, min(_MOST_LISTENERS, len(bits) // _PEERS_PER_LISTENER))):
            mask |= bits.pop(int.from_bytes(self._rand(8), "big") % len(bits))
        return mask

    def _tell_later(self, tx: PooledTx, listeners: int) -> None:
        self._loop.call_later(self._options.own_listen_seconds, lambda: self._tell(tx, listeners))

    def _tell(self, tx: PooledTx, listeners: int) -> None:
        """Tell the listeners that have not told us."""
        record = self._by_hash.get(tx.hash)
        if record is not None:
            listeners, record.listeners = record.listeners, 0
        if self._pool.by_hash.get(tx.hash) is tx:
            self._gossip.announce_late(tx, listeners & self._roster.connected)

    # -- what comes back (`relay.relaying.pool.LocalWatch`) --------------------------------------------

    def echoed(self, tx: PooledTx, bit: int) -> None:
        """A peer told us of it."""
        record = self._by_hash.get(tx.hash)
        if record is not None:
            record.listeners &= ~bit
            if record.echo is None:
                record.echo = self._loop.time() - record.submitted

    def served(self, tx: PooledTx, session: Session) -> None:
        """A peer asked for it and got it."""
        record = self._by_hash.get(tx.hash)
        if record is not None and len(record.fetchers) < _MOST_FETCHERS:
            record.fetchers.add(id(session))

    def announced(self, tx: PooledTx) -> None:
        """It was announced to one more peer, some time after it came."""
        record = self._by_hash.get(tx.hash)
        if record is not None:
            record.announced += 1

    # -- what private broadcast tells -------------------------------------------------------------------

    def moved_privately(self, tx_hash: bytes, sent: int, words: str) -> None:
        """It has come so far: peers that have confirmed it, and what it does."""
        record = self._by_hash.get(tx_hash)
        if record is not None and record.private is not None:
            record.sent, record.private = sent, words

    def echoed_privately(self, tx_hash: bytes) -> None:
        """An ordinary peer told us of it."""
        record = self._by_hash.get(tx_hash)
        if record is not None:
            record.private = "came back"
            record.echo = self._loop.time() - record.submitted if record.echo is None else record.echo

    # -- for whoever asks ------------------------------------------------------------------------------

    def progress(self, tx_hash: bytes) -> Progress | None:
        """Tell how far a transaction has come; None for one that is not our users', or forgotten."""
        record = self._by_hash.get(tx_hash)
        if record is None:
            return None
        return Progress(
            sent=record.sent,
            announced=record.announced,
            fetched_by=len(record.fetchers),
            listening=record.listeners.bit_count(),
            first_echo_seconds=record.echo,
            age_seconds=self._loop.time() - record.submitted,
            held=tx_hash in self._pool,
            block=record.block,
            private=record.private,
        )

    def waiting(self) -> list[bytes]:
        """Return the hashes of those that are in no block as far as is known, the oldest first."""
        return [tx_hash for tx_hash, record in self._by_hash.items() if record.block is None]

    def oldest_wait(self) -> float | None:
        """Return for how many seconds the oldest of `waiting` has waited."""
        now = self._loop.time()
        ages = (now - record.submitted for record in self._by_hash.values() if record.block is None)
        return max(ages, default=None)

    def nonces(self, address: bytes) -> frozenset[int] | None:
        """Return the nonces that wait of a sender that is one of our users; None for any other."""
        signer = self._signers.get(address)
        if signer is None:
            return None
        underway = frozenset() if self.private is None else self.private.nonces(signer)
        return underway.union(tx.nonce for tx in self._pool.of_signer(signer))

    def mined(self, tx_hash: bytes, number: int, block_hash: bytes) -> None:
        """Take from somebody who looked that a block has it; the pool lets go of it."""
        record = self._by_hash.get(tx_hash)
        if record is not None:
            record.block = (number, block_hash)
            if record.private is None:  # the pool has others as it has those of strangers
                record.spent = self._pool.by_hash.get(tx_hash, record.spent)
            elif self.private is not None:
                self.private.spent(tx_hash)
            self._pool.remove(tx_hash)

    def unmined(self, tx_hash: bytes) -> None:
        """The block that had it is no part of the chain any more: the pool has it again, if it has room."""
        record = self._by_hash.get(tx_hash)
        if record is None:
            return
        record.block = None
        tx, record.spent = record.spent, None
        if tx is not None and tx.type != BLOB and tx_hash not in self._pool:  # blobs are gone
            tx.known = 0  # bits of those days may be others' now
            self._pool.add(tx)
