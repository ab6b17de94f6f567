"""Asks a node of our user before a peer's transaction goes on: it has the state that we lack.

What waits for its ruling is bounded by count and bytes; beyond that newcomers are let go, and may come again
with another announcement. A node that does not answer is asked again until a transaction has waited for too
long: then it is let go, too. Nothing is passed on that was not ruled good.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

from relay.chain.transactions import canonical

if TYPE_CHECKING:
    from relay.relaying.counters import RelayCounters
    from relay.relaying.pool import PooledTx
    from relay.relaying.roster import RelayPeer
    from relay.relaying.seams import Handle, Loop

__all__ = ["Court", "Judge", "Outcome", "Ruling", "VerdictOptions"]


class Outcome(Enum):
    """What a node said of a transaction."""

    GOOD = "good"
    """It took it, or had it."""
    STALE = "stale"
    """It was good once: mined, or outbid. Peers that lag behind send such, too."""
    BAD = "bad"
    """It can't be mined: the sender lacks the money, say."""
    UNKNOWN = "unanswered"
    """It did not say."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a node said, and in which words."""

    outcome: Outcome
    reason: str = ""


class Judge(Protocol):
    """A node that rules on transactions."""

    def __call__(self, raws: Sequence[bytes], done: Callable[[Sequence[Ruling]], None], /) -> None:
        """Ask for rulings on canonical transactions; `done` gets one for each, once, never from within."""


@dataclass(frozen=True, slots=True)
class VerdictOptions:
    """How much waits for rulings, and how long.

    Attributes:
        batch: transactions asked about at once.
        batches: questions under way at a time.
        count: transactions that wait at most.
        max_bytes: the same in bytes of their wire form.
        patience: seconds a transaction waits for its ruling, then it is let go.
        pause: seconds between two questions to a node that does not answer.
    """

    batch: int = 64
    batches: int = 2
    count: int = 8192
    max_bytes: int = 16 * 1024 * 1024
    patience: float = 20.0
    pause: float = 1.0


_LATE: Final = Ruling(Outcome.UNKNOWN, "nobody ruled on it in time")


class _Case:
    """A transaction that waits; peer: who brought it."""

    __slots__ = ("peer", "tx")

    def __init__(self, tx: PooledTx, peer: RelayPeer) -> None:
        self.tx = tx
        self.peer = peer


class Court:
    """Transactions that wait for their ruling.

    Args:
        judge: rules.
        decided: told of each ruling: the transaction, who brought it, and what was said; `UNKNOWN` when it
            has waited for too long.
        options: limits.
        counters: `verdicts` is counted here.
        loop: clock and timers.

    Attributes:
        waiting: by hash; read by intake and fetcher, changed only here.
    """

    __slots__ = (
        "_bytes",
        "_cases",
        "_counters",
        "_decided",
        "_handle",
        "_judge",
        "_loop",
        "_options",
        "_queue",
        "_under_way",
        "waiting",
    )

    def __init__(
        self,
        judge: Judge,
        decided: Callable[[PooledTx, RelayPeer, Ruling], None],
        options: VerdictOptions,
        counters: RelayCounters,
        loop: Loop,
    ) -> None:
        self._judge = judge
        self._decided = decided
        self._options = options
        self._counters = counters
        self._loop = loop
        self._queue: deque[_Case] = deque()
        self._bytes = 0
        self._under_way = 0
        self._handle: Handle | None = None
        self.waiting: dict[bytes, PooledTx] = {}

    def submit(self, tx: PooledTx, peer: RelayPeer) -> bool:
        """Take a transaction that is new; returns False if too many wait already."""
        full = len(self.waiting) >= self._options.count
        if full or self._bytes + len(tx.wire) > self._options.max_bytes:
            self._counters.verdicts["overflow"] += 1
            return False
        self.waiting[tx.hash] = tx
        self._bytes += len(tx.wire)
        self._queue.append(_Case(tx, peer))
        self._ask_later(0.0)
        return True

    def _ask_later(self, delay: float) -> None:
        # A turn of the loop later, what else came in the same turn shares the question.
        if self._handle is None:
            self._handle = self._loop.call_later(delay, self._ask)

    def _ask(self) -> None:
        self._handle = None
        self._let_go()
        while self._queue and self._under_way < self._options.batches:
            cases = [self._queue.popleft() for _ in range(min(len(self._queue), self._options.batch))]
            self._under_way += 1
            raws = [canonical(case.tx.wire) for case in cases]
            self._judge(raws, lambda rulings, cases=cases: self._ruled(cases, rulings))  # type: ignore[misc]

    def _ruled(self, cases: list[_Case], rulings: Sequence[Ruling]) -> None:
        self._under_way -= 1
        again = []
        for case, ruling in zip(cases, rulings, strict=True):
            if ruling.outcome is Outcome.UNKNOWN:
                again.append(case)
            else:
                self._close(case, ruling)
        self._queue.extendleft(reversed(again))
        if self._queue:
            self._ask_later(self._options.pause if again else 0.0)

    def _let_go(self) -> None:
        """Forget what has waited for too long; the oldest are in front."""
        latest = self._loop.time() - self._options.patience
        while self._queue and self._queue[0].tx.arrived < latest:
            self._close(self._queue.popleft(), _LATE)

    def _close(self, case: _Case, ruling: Ruling) -> None:
        del self.waiting[case.tx.hash]
        self._bytes -= len(case.tx.wire)
        self._counters.verdicts[ruling.outcome.value] += 1
        self._decided(case.tx, case.peer, ruling)
