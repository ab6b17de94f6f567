"""Which node to ping next: a fast list of those not proved, a slow one of the others.

As go-ethereum's table_reval.go, but the one not heard for longest comes first in place of a random one: with
as many pings the dead leave sooner.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from relay.primitives.keys import NodeId
from relay.protocols.discv5.table import Entry

__all__ = ["Revalidation"]


class _Rota:
    """A list of entries of which one is due at random intervals."""

    __slots__ = ("_entries", "_interval", "_uniform", "due")

    def __init__(self, interval: float, uniform: Callable[[], float]) -> None:
        self._interval = interval
        self._uniform = uniform
        self._entries: dict[NodeId, Entry] = {}
        self.due = inf

    def add(self, entry: Entry, now: float) -> None:
        self._entries[entry.contact.node_id] = entry
        if self.due == inf:
            self._schedule(now)

    def drop(self, entry: Entry) -> None:
        self._entries.pop(entry.contact.node_id, None)
        if not self._entries:
            self.due = inf

    def take(self, now: float, quiet: float, busy: dict[NodeId, Entry]) -> Entry | None:
        if self.due > now:
            return None
        ready = [
            entry for node, entry in self._entries.items() if entry.heard + quiet <= now and node not in busy
        ]
        self._schedule(now)
        return min(ready, key=_heard, default=None)

    def _schedule(self, now: float) -> None:
        self.due = now + self._uniform() * self._interval


class Revalidation:
    """The two lists. An entry in the table is on one of them; `Entry.slow` says which.

    Args:
        fast: seconds, see Options.
        slow: seconds.
        quiet: seconds.
        uniform: gives random numbers from 0 up to 1.
    """

    __slots__ = ("_busy", "_fast", "_quiet", "_slow")

    def __init__(self, fast: float, slow: float, quiet: float, uniform: Callable[[], float]) -> None:
        self._fast = _Rota(fast, uniform)
        self._slow = _Rota(slow, uniform)
        self._quiet = quiet
        self._busy: dict[NodeId, Entry] = {}

    @property
    def next_deadline(self) -> float:
        """When the next ping is due; infinity without entries."""
        fast, slow = self._fast.due, self._slow.due
        return fast if fast < slow else slow

    def add(self, entry: Entry, now: float) -> None:
        """Take in an entry new to the table."""
        (self._slow if entry.slow else self._fast).add(entry, now)

    def remove(self, entry: Entry) -> None:
        """Let go of an entry that left the table."""
        (self._slow if entry.slow else self._fast).drop(entry)
        self._busy.pop(entry.contact.node_id, None)

    def move(self, entry: Entry, now: float, *, slow: bool) -> None:
        """Put an entry on the slow list, for it has answered, or on the fast one."""
        if entry.slow != slow:
            (self._slow if entry.slow else self._fast).drop(entry)
            entry.slow = slow
            self.add(entry, now)

    def due(self, now: float) -> list[Entry]:
        """Return the entries to ping now; each is left alone until `settled`."""
        found = []
        for rota, quiet in ((self._fast, 0.0), (self._slow, self._quiet)):
            entry = rota.take(now, quiet, self._busy)
            if entry is not None:
                self._busy[entry.contact.node_id] = entry
                found.append(entry)
        return found

    def settled(self, node: NodeId) -> None:
        """The ping of a node ended."""
        self._busy.pop(node, None)


def _heard(entry: Entry) -> float:
    return entry.heard
