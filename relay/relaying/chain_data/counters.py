"""What answering chain data counts: plain ints that the metrics page reads."""

from __future__ import annotations

from collections import Counter

__all__ = ["ProxyCounters"]


class ProxyCounters:
    """Sums since the start, except where a field says otherwise.

    Attributes:
        requests: of peers, by kind.
        from_cache: answered without asking anybody.
        from_peers: answered after asking.
        empty: answered with nothing.
        absent: questions not put, because all who were asked a moment ago had nothing.
        cancelled: never answered, since the requester left.
        expired: answered with what there was when patience ended.
        refused: answered with nothing because of a bound, by which.
        coalesced: questions that joined one under way.
        asked: questions sent to upstreams, by kind.
        timeouts: of those, not answered in time.
        late: answers that came after that.
        unhelpful: answers with nothing in them.
        lies: answers that contradict what is known; the peer was dropped.
        disagreements: answers that may be right, and differ from others'.
        fetched_bytes: of answers of upstreams.
    """

    __slots__ = (
        "absent",
        "asked",
        "cancelled",
        "coalesced",
        "disagreements",
        "empty",
        "expired",
        "fetched_bytes",
        "from_cache",
        "from_peers",
        "late",
        "lies",
        "refused",
        "requests",
        "timeouts",
        "unhelpful",
    )

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.from_cache = 0
        self.from_peers = 0
        self.empty = 0
        self.absent = 0
        self.cancelled = 0
        self.expired = 0
        self.refused: Counter[str] = Counter()
        self.coalesced = 0
        self.asked: Counter[str] = Counter()
        self.timeouts = 0
        self.late = 0
        self.unhelpful = 0
        self.lies = 0
        self.disagreements = 0
        self.fetched_bytes = 0
