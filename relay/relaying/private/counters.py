"""What private broadcast counts."""

from __future__ import annotations

from collections import Counter

__all__ = ["PrivateCounters"]


class PrivateCounters:
    """Sums since the start, but for the first.

    Attributes:
        waiting: transactions that wait for their echo now.
        submitted: transactions taken.
        rounds: rounds of short connections.
        dials: short connections begun.
        delivered: of those, confirmed by a pong.
        failed: of those, not, by cause.
        ended: transactions that are sent no more: echoed, mined, aborted, replaced, stale, given up.
    """

    __slots__ = ("delivered", "dials", "ended", "failed", "rounds", "submitted", "waiting")

    def __init__(self) -> None:
        self.waiting = 0
        self.submitted = 0
        self.rounds = 0
        self.dials = 0
        self.delivered = 0
        self.failed: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
