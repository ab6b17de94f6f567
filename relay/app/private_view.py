"""What our own users see of private broadcast on the unix socket, and nobody else sees."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from relay.app.views import NodeAdapter
from relay.chain.transactions import Transaction
from relay.relaying.private.desk import PrivateDesk
from relay.rpc.private import PrivateEntry
from relay.rpc.views import PoolStatus, PoolTable

__all__ = ["InsiderPool", "PrivateAdapter", "pool_of_insiders", "view_of_private"]


class PrivateAdapter:
    """`relay.rpc.private.PrivateView` of a desk."""

    def __init__(self, desk: PrivateDesk) -> None:
        self._desk = desk

    def entries(self) -> Sequence[PrivateEntry]:
        """Return what waits."""
        now = asyncio.get_running_loop().time()
        return [
            PrivateEntry(
                hash=each.tx.hash,
                sender=each.tx.sender,
                nonce=each.tx.nonce,
                type=each.tx.type,
                size=each.tx.size,
                state=each.state.value,
                rounds=each.rounds,
                dials=each.dials,
                confirmed=len(each.confirmed),
                age_seconds=now - each.submitted,
            )
            for each in self._desk.broadcast.letters.values()
        ]

    def abort(self, tx_hash: bytes) -> bool:
        """Send it no more."""
        return self._desk.broadcast.abort(tx_hash)


class InsiderPool:
    """`relay.rpc.views.PoolTable` that also finds what is on its private way, by its hash."""

    def __init__(self, node: NodeAdapter, desk: PrivateDesk) -> None:
        self._node, self._desk = node, desk

    def status(self) -> PoolStatus:
        """Count the pool."""
        return self._node.status()

    def transaction(self, tx_hash: bytes) -> Transaction | None:
        """Return a transaction that is held or on its way."""
        return self._node.transaction(tx_hash) or self._desk.transaction(tx_hash)

    def signers(self) -> Sequence[bytes]:
        """Return the public keys of all senders in the pool."""
        return self._node.signers()

    def sent_by(self, signer: bytes) -> tuple[bytes, list[Transaction]]:
        """Return address and transactions of a sender in the pool."""
        return self._node.sent_by(signer)


def view_of_private(node: NodeAdapter) -> PrivateAdapter | None:
    """Return what relay_* asks; None where private broadcast is off."""
    return None if node.private is None else PrivateAdapter(node.private)


def pool_of_insiders(node: NodeAdapter) -> PoolTable:
    """Return the pool as callers on the unix socket see it."""
    return node if node.private is None else InsiderPool(node, node.private)
