"""What stems count."""

from __future__ import annotations

from collections import Counter

__all__ = ["StemCounters"]


class StemCounters:
    """Sums since the start, but for the first.

    Attributes:
        held: transactions on their stem now.
        begun: of our own users that were sent on a stem; carried: of others that were passed on.
        ended: how stems ended here: fluffed (gossiped by choice), loop, embargo (gossip did not bring it),
            returned (it did), full, refused (over the peer's rate), known.
    """

    __slots__ = ("begun", "carried", "ended", "held")

    def __init__(self) -> None:
        self.held = 0
        self.begun = 0
        self.carried = 0
        self.ended: Counter[str] = Counter()
