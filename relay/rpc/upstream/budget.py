"""Bytes of answers that are on their way, all upstreams together."""

from __future__ import annotations

from relay.rpc.upstream.faults import Fault, UpstreamFault

__all__ = ["Budget", "Share"]


class Budget:
    """What may be held at a time.

    Args:
        total: bytes.

    Attributes:
        held: bytes that are held now.
    """

    def __init__(self, total: int) -> None:
        self.held = 0
        self._total = total

    @property
    def left(self) -> int:
        """Bytes that may still come."""
        return self._total - self.held


class Share:
    """What one connection holds of a budget.

    Args:
        budget: of all.
        limit: bytes of one answer.
    """

    def __init__(self, budget: Budget, limit: int) -> None:
        self._budget = budget
        self._limit = limit
        self._held = 0

    def hold(self, size: int) -> None:
        """Hold so many bytes from now on, in place of those before.

        Raises:
            UpstreamFault: these are more than one answer may have, or than all may have together.
        """
        if size > self._limit:
            raise UpstreamFault(Fault.TOO_LARGE, f"its answer has more than {self._limit} bytes")
        if size - self._held > self._budget.left:
            raise UpstreamFault(Fault.BUSY, "too many bytes of answers are on their way")
        self._budget.held += size - self._held
        self._held = size

    def release(self) -> None:
        """Hold nothing."""
        self._budget.held -= self._held
        self._held = 0
