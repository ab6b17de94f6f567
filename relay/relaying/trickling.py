"""Transactions that wait for the moment of a peer's clock; see `relay.relaying.trickle`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from relay.relaying.trickle import TrickleClocks, TrickleOptions

if TYPE_CHECKING:
    from relay.relaying.pool import PooledTx, TxPool
    from relay.relaying.roster import RelayPeer, Roster
    from relay.relaying.seams import Loop

__all__ = ["Trickle"]


class Trickle:
    """One queue for each peer that we dialed, and one for all that came in.

    Our users' transactions and those of others wait in the same queues, and the same time.

    Args:
        tell: sends transactions to those peers of a mask that do not know them.
    """

    __slots__ = ("_clocks", "_loop", "_options", "_pool", "_roster", "_tell", "_waiting", "fresh")

    def __init__(
        self,
        roster: Roster,
        pool: TxPool,
        options: TrickleOptions,
        loop: Loop,
        rand: Callable[[int], bytes],
        tell: Callable[[Sequence[PooledTx], int], None],
    ) -> None:
        self._roster, self._pool, self._options, self._loop, self._tell = roster, pool, options, loop, tell
        self._clocks = TrickleClocks(options, rand)
        self._waiting: dict[RelayPeer | None, list[PooledTx]] = {}  # None: all that came in
        self.fresh: set[bytes] = set()
        """Hashes of what nobody was told yet."""

    def take(self, batch: Sequence[PooledTx]) -> None:
        """Have each peer told at its time."""
        self.fresh.update(tx.hash for tx in batch)
        for queue in chain((None,), (peer for peer in self._roster if not peer.session.inbound)):
            self._add(queue, batch)

    def greet(
        self, peer: RelayPeer, newest: Iterable[PooledTx], coming: Iterable[PooledTx]
    ) -> list[PooledTx]:
        """Return what a new peer may be told at once: not what those who are here wait for.

        Args:
            peer: has just joined.
            newest: of the pool.
            coming: what `take` will be given next.
        """
        waiting = {tx.hash: tx for tx in self._waiting.get(None, ())}
        if waiting and not peer.session.inbound:
            self._add(peer, list(waiting.values()))
        waiting.update((tx.hash, tx) for tx in coming)
        return [tx for tx in newest if tx.hash not in waiting]

    def left(self, peer: RelayPeer) -> None:
        """Forget what waits for a peer."""
        self._waiting.pop(peer, None)
        self._clocks.forget(peer)

    def _add(self, queue: RelayPeer | None, batch: Sequence[PooledTx]) -> None:
        waiting = self._waiting.get(queue)
        if waiting is None:
            waiting = self._waiting[queue] = []
            now = self._loop.time()
            due = self._clocks.inbound(now) if queue is None else self._clocks.outbound(queue, now)
            self._loop.call_later(due - now, lambda: self._fire(queue, waiting))
        waiting += batch
        if len(waiting) >= self._options.batch:
            self._fire(queue, waiting)

    def _fire(self, queue: RelayPeer | None, waiting: list[PooledTx]) -> None:
        if self._waiting.get(queue) is not waiting:
            return  # it went out before its time, or the peer left
        del self._waiting[queue]
        held = self._pool.by_hash
        batch = [tx for tx in waiting if held.get(tx.hash) is tx]
        mask = self._inbound() if queue is None else queue.bit
        self._note_own(batch, mask)
        self._tell(batch, mask)
        self.fresh.difference_update(tx.hash for tx in waiting)

    def _inbound(self) -> int:
        mask = 0
        for peer in self._roster:
            if peer.session.inbound:
                mask |= peer.bit
        return mask

    def _note_own(self, batch: Sequence[PooledTx], mask: int) -> None:
        for tx in batch:
            if tx.local:
                for _ in range((mask & ~tx.known).bit_count()):
                    self._pool.watch.announced(tx)
