"""Our endpoint as others see it. The numbers are go-ethereum's (p2p/enode localnode.go)."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Hashable
from typing import Final

__all__ = ["EndpointVotes"]

WINDOW: Final = 300.0  # seconds that a statement counts
MINIMUM: Final = 10  # equal statements
_HOSTS: Final = 1024  # hosts that are remembered; the oldest statement goes first (our choice)


class EndpointVotes:
    """Counts the latest statement of each host."""

    __slots__ = ("_statements",)

    def __init__(self) -> None:
        self._statements: OrderedDict[Hashable, tuple[float, tuple[bytes, int]]] = OrderedDict()

    def add(self, host: Hashable, ip: bytes, port: int, now: float) -> bool:
        """Take a statement; it replaces the host's earlier one. Returns whether it differs from that."""
        earlier = self._statements.pop(host, None)
        self._statements[host] = (now, (ip, port))
        if len(self._statements) > _HOSTS:
            self._statements.popitem(last=False)
        return earlier is None or earlier[1] != (ip, port)

    def winner(self, now: float) -> tuple[bytes, int] | None:
        """Return IP and port that at least ten hosts agree on, those with most votes."""
        while self._statements and next(iter(self._statements.values()))[0] + WINDOW < now:
            self._statements.popitem(last=False)
        counts = Counter(endpoint for _, endpoint in self._statements.values())
        leading = counts.most_common(1)
        return leading[0][0] if leading and leading[0][1] >= MINIMUM else None
