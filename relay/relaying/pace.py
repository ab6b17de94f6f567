"""How many transactions peers may bring: token buckets, one a peer and one for all.

A peer beyond its share is not read for a while: nothing is lost, and its own socket holds it back. Geth has
no such limit; it sleeps when more than a quarter of a batch was refused (eth/fetcher/tx_fetcher.go).
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Allowance", "PaceOptions"]


@dataclass(frozen=True, slots=True)
class PaceOptions:
    """Limits of what peers bring.

    Attributes:
        peer_rate: transactions a second of one peer; 0: no limit.
        peer_burst: transactions that one may bring at once.
        total_rate: the same of all peers together; 0: no limit.
        total_burst: the same at once.
        refused_rate: transactions a second that a node may rule bad before the peer that brought them is
            sent away, on the average; see `--verdict`.
        refused_burst: the same at once.
    """

    peer_rate: float = 2000.0
    peer_burst: float = 16_384.0
    total_rate: float = 10_000.0
    total_burst: float = 65_536.0
    refused_rate: float = 10.0
    refused_burst: float = 2_000.0


class Allowance:
    """A token bucket that may be overdrawn: what was brought is there already.

    Args:
        rate: tokens a second; 0: no limit.
        burst: tokens at most.
        now: monotonic seconds.
    """

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = self._left = burst
        self._at = now

    def spend(self, count: int, now: float) -> float:
        """Take tokens; returns the seconds until the bucket is out of debt, 0.0 if it is not in any."""
        if not self._rate:
            return 0.0
        self._left = min(self._burst, self._left + (now - self._at) * self._rate) - count
        self._at = now
        return -self._left / self._rate if self._left < 0.0 else 0.0
