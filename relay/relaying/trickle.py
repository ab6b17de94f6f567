"""When peers are told of transactions, if not at once: Bitcoin Core's way of hiding who knew first.

A peer is told at the moments of a Poisson process, so that how long it waited says nothing of when we came to
know. Peers that we dialed have a clock each. Those that came in share one: whoever makes many connections to
us hears everything at one moment on all of them, and learns no more than from one.

Precedent: net_processing.cpp, `NextInvToInbounds`; 2 s for outbound and 5 s for inbound peers there.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from math import log
from typing import Final

__all__ = ["TrickleClocks", "TrickleOptions", "exponential"]

_UNIT: Final = 1 << 53


@dataclass(frozen=True, slots=True)
class TrickleOptions:
    """How long peers wait.

    Attributes:
        outbound: mean of the seconds between two moments of a peer that we dialed; 0: nobody waits.
        inbound: the same of all that came in, who share one clock.
        batch: transactions that wait for one clock, at most; more go out at once.
    """

    outbound: float = 0.0
    inbound: float = 0.0
    batch: int = 4096

    @property
    def is_on(self) -> bool:
        """Whether anybody waits."""
        return self.outbound > 0.0


class TrickleClocks:
    """The next moment of each clock.

    Nothing runs: a moment is drawn when it is asked for and the one before has passed. A Poisson process has
    no memory, so that is the same as if it had been running all the time.

    Args:
        options: mean times.
        rand: random bytes.
    """

    __slots__ = ("_due", "_inbound", "_options", "_rand")

    def __init__(self, options: TrickleOptions, rand: Callable[[int], bytes]) -> None:
        self._options = options
        self._rand = rand
        self._due: dict[Hashable, float] = {}
        self._inbound = float("-inf")

    def inbound(self, now: float) -> float:
        """Return when all that came in are told what is known now, monotonic seconds."""
        if self._inbound <= now:
            self._inbound = now + exponential(self._options.inbound, self._rand)
        return self._inbound

    def outbound(self, peer: Hashable, now: float) -> float:
        """Return the same of one peer that we dialed."""
        due = self._due.get(peer, float("-inf"))
        if due <= now:
            due = self._due[peer] = now + exponential(self._options.outbound, self._rand)
        return due

    def forget(self, peer: Hashable) -> None:
        """Drop the clock of a peer that left."""
        self._due.pop(peer, None)


def exponential(mean: float, rand: Callable[[int], bytes]) -> float:
    """Draw from the exponential distribution of this mean."""
    return -mean * log(1.0 - (int.from_bytes(rand(8), "big") >> 11) / _UNIT)
