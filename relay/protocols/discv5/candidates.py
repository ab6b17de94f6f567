"""Nodes heard of that wait for a proof by our own dial, and the budget of such dials.

A record does not prove its address. Where circuits are dear, and where anyone may name a victim's onion in
any number of records, a node is told on and kept only after it has answered; and one host gets few first
calls, however many node ids claim it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

from relay.primitives.keys import NodeId
from relay.protocols.discv5.contact import Contact

__all__ = ["Candidates", "DialBudget"]

_HOSTS = 4096  # hosts whose calls are counted; the oldest count goes first


class Candidates:
    """A queue with a share for each teller but ourselves (None); what goes beyond either bound is dropped."""

    __slots__ = ("_per_teller", "_queue", "_size", "_tellers")

    def __init__(self, size: int, per_teller: int) -> None:
        self._size = size
        self._per_teller = per_teller
        self._queue: dict[NodeId, tuple[Contact, Hashable]] = {}
        self._tellers: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, contact: Contact, teller: Hashable) -> bool:
        """Queue a node; returns whether it waits now."""
        node = contact.node_id
        waiting = self._queue.get(node)
        if waiting is not None:
            if contact.record.seq > waiting[0].record.seq:
                self._queue[node] = (contact, waiting[1])
            return True
        full = teller is not None and self._tellers[teller] >= self._per_teller
        if full or len(self._queue) >= self._size:
            return False
        self._queue[node] = (contact, teller)
        self._tellers[teller] += 1
        return True

    def take(self) -> tuple[Contact, Hashable] | None:
        """Return the node that has waited longest, and its teller."""
        if not self._queue:
            return None
        return self.pop(next(iter(self._queue)))

    def pop(self, node: NodeId) -> tuple[Contact, Hashable] | None:
        """Take a node out."""
        waiting = self._queue.pop(node, None)
        if waiting is not None:
            self._tellers[waiting[1]] -= 1
            if not self._tellers[waiting[1]]:
                del self._tellers[waiting[1]]
        return waiting


class DialBudget:
    """First calls to a host in a window of time.

    Args:
        limit: calls; None: any number.
        window: seconds, from the first call on.
    """

    __slots__ = ("_calls", "_limit", "_window")

    def __init__(self, limit: int | None, window: float) -> None:
        self._limit = limit
        self._window = window
        self._calls: dict[Hashable, tuple[float, int]] = {}

    def take(self, host: Hashable, now: float) -> bool:
        """Count a call; returns whether it may be made."""
        if self._limit is None:
            return True
        began, count = self._calls.get(host, (now, 0))
        if now - began >= self._window:
            began, count = now, 0
            self._calls.pop(host, None)
        if count >= self._limit:
            return False
        if len(self._calls) >= _HOSTS and host not in self._calls:
            del self._calls[next(iter(self._calls))]
        self._calls[host] = (began, count + 1)
        return True
