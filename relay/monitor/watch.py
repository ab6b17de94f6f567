"""What a monitor remembers from one look at a node to the next: ages, comings and goings, counts over time.

It holds the last good view while the node does not answer, and says how old it is. Pure: time is given.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Final

from relay.monitor.node import NodeView
from relay.monitor.peer import Peer

__all__ = ["SESSION_BUCKETS", "Change", "Sample", "Watch"]

MAX_SAMPLES: Final = 3_600  # an hour of looks each second; older ones are forgotten
MAX_CHANGES: Final = 500
SESSION_BUCKETS: Final = (10.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)  # seconds
LEFT: Final = "left"
RESTART: Final = "node_restart"
REASONS: Final = (LEFT, RESTART)


@dataclass(frozen=True, slots=True)
class Sample:
    """Counts of one look.

    Attributes:
        at: seconds of the clock.
        total: peers.
        inbound: of those.
    """

    at: float
    total: int
    inbound: int


@dataclass(frozen=True, slots=True)
class Change:
    """Something that happened between two looks.

    Attributes:
        at: seconds of the clock.
        words: for a person; holds no address.
    """

    at: float
    words: str


class Watch:
    """Remembers.

    Args:
        began: seconds of the clock that later calls use.

    Attributes:
        view: the last one; None before the first.
        failure: why the last look failed; "" where it did not.
        failures: looks that failed.
        looks: those that did not.
        connects: peers that came, those of the first look not counted.
        disconnects: peers that went, by reason.
        sessions: how many of these had stayed for how long, by SESSION_BUCKETS and one above.
        session_seconds: the sum of that.
        samples: history of counts, oldest first.
        changes: newest last.
    """

    def __init__(self, began: float) -> None:
        self.began = began
        self.view: NodeView | None = None
        self.failure = ""
        self.failures = self.looks = 0
        self.connects = 0
        self.disconnects: Counter[str] = Counter(dict.fromkeys(REASONS, 0))
        self.sessions = [0] * (len(SESSION_BUCKETS) + 1)
        self.session_seconds = 0.0
        self.samples: deque[Sample] = deque(maxlen=MAX_SAMPLES)
        self.changes: deque[Change] = deque(maxlen=MAX_CHANGES)
        self._seen_at = began
        self._first_look: float | None = None
        self._first_seen: dict[str, float] = {}

    # -- what is told ----------------------------------------------------------------------------------

    def take(self, view: NodeView, now: float) -> None:
        """Take a look that succeeded."""
        before, lost = self.view, bool(self.failure)
        if lost:
            self._note(now, f"the node answers again after {now - self._seen_at:.0f} s")
        self.failure = ""
        self.looks += 1
        self._compare(before, view, now, lost=lost)
        self.view, self._seen_at = view, now
        self._first_look = now if self._first_look is None else self._first_look
        self.samples.append(Sample(now, len(view.peers), sum(peer.inbound is True for peer in view.peers)))

    def fail(self, why: str, now: float) -> None:
        """Take a look that failed; what was seen before is kept."""
        if not self.failure:
            self._note(now, f"the node does not answer: {why}")
        self.failure = why
        self.failures += 1

    def _compare(self, before: NodeView | None, view: NodeView, now: float, *, lost: bool) -> None:
        seen = {peer.key: self._first_seen.get(peer.key, now) for peer in view.peers}
        if before is None:
            self._first_seen = seen
            return
        gone = [peer for peer in before.peers if peer.key not in seen]
        come = [peer for peer in view.peers if peer.key not in self._first_seen]
        other = bool(before.identity and view.identity and before.identity != view.identity)
        restarted = other or (lost and len(gone) * 2 > len(before.peers))
        if restarted:
            self._note(now, "another node answers there" if other else "the node was restarted")
        self._count(gone, now, RESTART if restarted else LEFT)
        self.connects += len(come)
        if not restarted:
            self._name("came", come, now)
            self._name("went", gone, now)
        self._first_seen = seen

    def _count(self, gone: Sequence[Peer], now: float, reason: str) -> None:
        self.disconnects[reason] += len(gone)
        for peer in gone:
            stayed = now - self._first_seen.get(peer.key, now)
            self.sessions[bisect_left(SESSION_BUCKETS, stayed)] += 1
            self.session_seconds += stayed

    def _name(self, what: str, peers: Sequence[Peer], now: float) -> None:
        if not peers:
            return
        few = ", ".join(f"{peer.short_id} ({peer.name.client}, {peer.direction})" for peer in peers[:3])
        more = f" and {len(peers) - 3} more" if len(peers) > 3 else ""
        self._note(now, f"{few}{more} {what}")

    def _note(self, now: float, words: str) -> None:
        self.changes.append(Change(now, words))

    def copy(self) -> Watch:
        """Return what stays as it is now while this goes on."""
        other = copy(self)
        other.disconnects, other.sessions = self.disconnects.copy(), list(self.sessions)
        other.samples, other.changes = self.samples.copy(), self.changes.copy()
        other._first_seen = dict(self._first_seen)
        return other

    # -- what is asked ---------------------------------------------------------------------------------

    @property
    def peers(self) -> tuple[Peer, ...]:
        """Peers at the last look that succeeded."""
        return self.view.peers if self.view is not None else ()

    def age(self, now: float) -> float | None:
        """Return how old the view is, in seconds; None before the first."""
        return None if self.view is None else max(0.0, now - self._seen_at)

    def seen_for(self, peer: Peer, now: float) -> float:
        """Return for how long a peer has been seen; it may have been there before."""
        return max(0.0, now - self._first_seen.get(peer.key, now))

    def seen_since_start(self, peer: Peer) -> bool:
        """Tell whether a peer was there at the first look, so that it may be older than it seems."""
        return self._first_look is not None and self._first_seen.get(peer.key, -1.0) <= self._first_look

    def watched_for(self, now: float) -> float:
        """Return for how long there has been something to see."""
        return 0.0 if self._first_look is None else now - self._first_look


def tally(words: Iterable[str]) -> list[tuple[str, int]]:
    """Count words, the most frequent first, those of one count by the alphabet."""
    return sorted(Counter(words).items(), key=lambda each: (-each[1], each[0]))
