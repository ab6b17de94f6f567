"""Passes transactions between the pools of two identities.

Each waits for a time of its own, exponentially distributed, and goes on with others in a batch, in no order.
So neither what comes first nor how long it takes repeats what the other side saw. A transaction of our own
users waits besides until an ordinary peer of its side has brought it back: it appears on the other side as
what the network has, and never there first.

What this does not hide: who gives one identity alone a transaction that no node would pass on finds it at
the other. A node that rules on transactions (`--verdict upstream`) lets none such into a pool. And who is a
peer of both for long finds that one of them always has everything a few seconds after the other.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from relay.chain.transactions import BLOB

if TYPE_CHECKING:
    from relay.app.pool_news import PoolNews
    from relay.relaying.handler import EthRelay
    from relay.relaying.pool import PooledTx
    from relay.relaying.seams import Handle, Loop

__all__ = ["Bridge", "BridgeOptions"]

_UNIT: Final = 1 << 64
DROPPED: Final = "bridge"
"""The cause by which a transaction counts as dropped that found no place to wait."""


@dataclass(frozen=True, slots=True)
class BridgeOptions:
    """How long transactions wait.

    Attributes:
        mean: seconds that one waits on the average.
        longest: the most.
        gather: seconds between two batches on the average.
        waiting: transactions that wait at most in one direction; the newest is dropped.
        withheld: the same of our own users' that have not come back.
    """

    mean: float = 4.0
    longest: float = 30.0
    gather: float = 1.0
    waiting: int = 8192
    withheld: int = 1024


class Bridge:
    """Both directions between two relays, from `begin` to `stop`.

    Args:
        one: a relay, and the news of its pool.
        other: the other.
        loop: clock and timers.
        rand: random bytes.
        options: delays and bounds.
    """

    def __init__(
        self,
        one: tuple[EthRelay, PoolNews],
        other: tuple[EthRelay, PoolNews],
        loop: Loop,
        rand: Callable[[int], bytes],
        options: BridgeOptions | None = None,
    ) -> None:
        options = options or BridgeOptions()
        self.lanes: Final = (
            Lane(one[0], one[1], other[0], loop, rand, options),
            Lane(other[0], other[1], one[0], loop, rand, options),
        )

    def begin(self) -> None:
        """Pass on what comes from now on."""
        for lane in self.lanes:
            lane.begin()

    def stop(self) -> None:
        """Pass nothing on any more."""
        for lane in self.lanes:
            lane.stop()


class Lane:
    """One direction.

    Attributes:
        passed: transactions that were handed over.
    """

    def __init__(
        self,
        source: EthRelay,
        news: PoolNews,
        target: EthRelay,
        loop: Loop,
        rand: Callable[[int], bytes],
        options: BridgeOptions,
    ) -> None:
        self._source, self._news, self._target = source, news, target
        self._loop, self._rand, self._options = loop, rand, options
        self._queue: list[tuple[float, bytes, PooledTx]] = []  # a heap; the bytes make ties random
        self._withheld: dict[bytes, PooledTx] = {}
        self._timer: Handle | None = None
        self._end: Callable[[], None] = lambda: None
        self._lonely = False
        self._log = structlog.get_logger("relay.app")
        self.passed = 0

    def __len__(self) -> int:
        return len(self._queue) + len(self._withheld)

    def begin(self) -> None:
        """Listen."""
        self._end = self._news.listen(self._heard)

    def stop(self) -> None:
        """Forget all that waits."""
        self._end()
        self._queue.clear()
        self._withheld.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- what comes in ---------------------------------------------------------------------------------

    def _heard(self, tx: PooledTx) -> None:
        if tx.hash in self._target.pool:
            return
        if tx.local:
            self._withhold(tx)
        else:
            self._put(tx)
        self._wake()

    def _withhold(self, tx: PooledTx) -> None:
        if len(self._withheld) >= self._options.withheld:
            del self._withheld[next(iter(self._withheld))]
        self._withheld[tx.hash] = tx

    def _put(self, tx: PooledTx) -> None:
        if len(self._queue) >= self._options.waiting:
            self._target.counters.dropped[DROPPED] += 1
            return
        due = self._loop.time() + min(self._exponential(self._options.mean), self._options.longest)
        heapq.heappush(self._queue, (due, self._rand(8), tx))

    def _wake(self) -> None:
        if self._timer is None and (self._queue or self._withheld):
            self._timer = self._loop.call_later(self._exponential(self._options.gather), self._pass_on)

    # -- what goes out ---------------------------------------------------------------------------------

    def _pass_on(self) -> None:
        """Hand over all whose time has come, in an order that says nothing."""
        self._timer = None
        self._look_for_echoes()
        now, batch = self._loop.time(), []
        while self._queue and self._queue[0][0] <= now:
            batch.append(heapq.heappop(self._queue)[2])
        batch.sort(key=lambda _: self._rand(8))
        for tx in batch:
            self._hand_over(tx, now)
        self._target.gossip.flush()
        self._wake()

    def _look_for_echoes(self) -> None:
        own = self._source.own
        for tx in list(self._withheld.values()):
            progress = own.progress(tx.hash)
            if self._source.pool.by_hash.get(tx.hash) is not tx or progress is None:
                del self._withheld[tx.hash]
            elif progress.first_echo_seconds is not None:
                del self._withheld[tx.hash]
                self._put(tx)
        self._tell_of_loneliness(bool(self._withheld) and not len(self._source.roster))

    def _tell_of_loneliness(self, lonely: bool) -> None:
        if lonely and not self._lonely:
            self._log.warning(
                "a transaction waits: the onion identity has no peer, and what our users send never appears"
                " on clearnet first; with --private-broadcast it leaves through Tor's exits"
            )
        self._lonely = lonely

    def _hand_over(self, tx: PooledTx, now: float) -> None:
        source, target = self._source, self._target
        if source.pool.by_hash.get(tx.hash) is not tx:
            return  # replaced, spent or too old by now
        if tx.hash in target.pool or target.pool.was_let_go(tx.hash):
            return
        taken = self._take_blobs(tx, now) if tx.type == BLOB else self._take(tx, now)
        if taken is not None:
            self.passed += 1
            target.gossip.batch.append(taken)

    def _take(self, tx: PooledTx, now: float) -> PooledTx | None:
        known = self._target.fetcher.arrived(tx.hash, tx.type, tx.size, False)
        taken = tx.as_a_stranger_s(known, now)
        return taken if self._target.pool.add(taken) is None else None

    def _take_blobs(self, tx: PooledTx, now: float) -> PooledTx | None:
        """Take one with its blobs, which are verified; where another has its nonce, that one stays."""
        ours, theirs = self._source.blobs, self._target.blobs
        held = None if ours is None else ours.store.held.get(tx.hash)
        rivals = any(each.nonce == tx.nonce for each in self._target.pool.of_signer(tx.signer))
        if held is None or theirs is None or tx.hash in theirs.pending or rivals:
            return None
        known = self._target.fetcher.arrived(tx.hash, tx.type, tx.size, False, tx.lean)
        taken = tx.as_a_stranger_s(known, now)
        theirs.store.add(tx.hash, held)
        refused = self._target.pool.add(taken) is not None
        theirs.store.make_room()
        if refused or tx.hash not in self._target.pool:
            theirs.store.discard(tx.hash)
            return None
        return taken

    def _exponential(self, mean: float) -> float:
        return -mean * math.log((int.from_bytes(self._rand(8), "big") + 1) / _UNIT)
