"""Which peers bring transactions that end in blocks: the one thing about a transaction that nobody can fake.

Geth protects such peers from being dropped at random (eth/dropper.go, eth/txtracker); here it is the measure
of what a peer is worth. A transaction that a block brought is spent, so the pool lets go of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from relay.chain.transactions import canonical
from relay.primitives.errors import DecodeError
from relay.primitives.hashing import keccak256
from relay.protocols.eth.fields import read_items

if TYPE_CHECKING:
    from relay.relaying.counters import RelayCounters
    from relay.relaying.pool import TxPool
    from relay.relaying.roster import Roster

__all__ = ["Inclusions", "transaction_hashes"]

_SMOOTHING: Final = 0.05  # weight of a new block; geth's emaAlpha


class Inclusions:
    """Credits peers for the transactions of new blocks."""

    __slots__ = ("_counters", "_pool", "_roster")

    def __init__(self, pool: TxPool, roster: Roster, counters: RelayCounters) -> None:
        self._pool = pool
        self._roster = roster
        self._counters = counters

    def block(self, hashes: Iterable[bytes]) -> None:
        """Take the transactions of a block that has become part of the chain."""
        held = self._pool.by_hash
        credits: Counter[int] = Counter()
        for tx_hash in hashes:
            tx = held.get(tx_hash)
            if tx is not None and not tx.local:  # those of our users are followed by `own`
                credits[tx.source] += 1
                self._counters.included += 1
                self._pool.remove(tx_hash)
        for peer in self._roster:
            peer.included += _SMOOTHING * (credits[peer.bit] - peer.included)


def transaction_hashes(body: bytes) -> list[bytes]:
    """Return the hashes of the transactions of a block's body as it stands on the wire.

    Raises:
        DecodeError: it is no body.
    """
    items = read_items(body, 3)
    if not items:
        raise DecodeError("expected a block body, found an empty list")
    return [keccak256(canonical(item)) for item in read_items(items[0], len(items[0]))]
