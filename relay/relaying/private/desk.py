"""Where private broadcast meets the rest of relaying: what comes in by RPC, what comes back from peers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from relay.chain.blobs import blob_sizes, whole_form
from relay.chain.transaction_errors import SERVER_ERROR, TransactionUndecodable
from relay.chain.transactions import BLOB, InvalidTransaction, decode, wire
from relay.relaying.pool import PooledTx, Refusal
from relay.relaying.private.broadcast import PrivateBroadcast
from relay.relaying.private.letters import Letter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from relay.chain.transactions import Transaction
    from relay.relaying.handler import EthRelay
    from relay.relaying.private.courier import Courier
    from relay.relaying.private.options import PrivateOptions
    from relay.relaying.seams import Loop

__all__ = ["PrivateDesk"]


class PrivateDesk:
    """Takes transactions of our own users out of the way that others go.

    Making one changes the relay: what users submit is in no pool from then on, before a peer has brought it.

    Args:
        relay: whose users they are.
        courier: makes the connections.
        options: of the broadcast.
        loop, rand: as of the relay.

    Attributes:
        broadcast: the schedule.
    """

    def __init__(
        self,
        relay: EthRelay,
        courier: Courier,
        options: PrivateOptions,
        loop: Loop,
        rand: Callable[[int], bytes],
    ) -> None:
        self._relay = relay
        self._loop = loop
        self.broadcast = PrivateBroadcast(
            courier, options, loop, rand, objection=self._objection, outbids=relay.pool.outbids
        )
        self.broadcast.on_progress = self._progress
        self.broadcast.on_echo = relay.own.echoed_privately
        relay.private = self
        relay.own.private = self.broadcast
        relay.pool.awaited = self.broadcast
        if relay.blobs is not None:
            relay.blobs.private = self.take_blobs

    def __contains__(self, tx_hash: object) -> bool:
        return tx_hash in self.broadcast.letters

    def take(self, tx: Transaction) -> None:
        """Take a transaction of one of our own users, checked, without blobs.

        Raises:
            InvalidTransaction: it is not taken.
        """
        entry = PooledTx(tx, wire(tx.raw), arrived=self._loop.time())
        self._enter(Letter(entry, tx.raw, entry.wire, self._loop.time()))

    def take_blobs(self, entry: PooledTx, lean: Transaction, blobs: Sequence[bytes]) -> None:
        """Take one with blobs that are verified.

        Raises:
            InvalidTransaction: it is not taken.
        """
        whole = whole_form(lean, blobs)
        self._enter(Letter(entry, whole, wire(whole), self._loop.time()))

    def restore(self, raw: bytes, age: float) -> bool:
        """Take a transaction of before a restart, which was checked then; False if it is of no use now.

        Args:
            raw: canonical bytes, with its blobs if it has some.
            age: seconds since it was submitted.
        """
        try:
            tx = decode(raw)
            entry = PooledTx(tx, wire(raw), arrived=self._loop.time())
            if tx.type == BLOB:
                entry.size, entry.lean = blob_sizes(tx)
            submitted = self._loop.time() - age
            self._enter(Letter(entry, raw, entry.wire, submitted, begun=submitted))
        except (InvalidTransaction, TransactionUndecodable):
            return False
        return True

    def transaction(self, tx_hash: bytes) -> Transaction | None:
        """Return one that is on its way: for our own users, and nobody else."""
        letter = self.broadcast.letters.get(tx_hash)
        return None if letter is None else decode(letter.raw, tx_hash)

    def _enter(self, letter: Letter) -> None:
        objection = self._objection(letter.tx)
        if objection is not None:
            raise InvalidTransaction(SERVER_ERROR, objection, "replacement_underpriced")
        self.broadcast.submit(letter)
        self._relay.own.remember(letter.tx, private=True)
        self._progress(letter)
        self._relay.counters.submitted += 1

    def _objection(self, tx: PooledTx) -> str | None:
        """Say why a pool that holds what ours does would not take it: the echo could not come."""
        pool = self._relay.pool
        for rival in pool.of_signer(tx.signer):
            if rival.nonce == tx.nonce and not pool.outbids(tx, rival):
                return Refusal.REPLACEMENT_UNDERPRICED.value
        return None

    def _progress(self, letter: Letter) -> None:
        self._relay.own.moved_privately(letter.tx.hash, len(letter.confirmed), letter.state.value)
