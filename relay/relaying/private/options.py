"""How a private broadcast is made; Bitcoin Core 31's numbers where it has them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PrivateOptions"]


@dataclass(frozen=True, slots=True)
class PrivateOptions:
    """Bounds and delays.

    Attributes:
        copies: receivers of a transaction in one round (Bitcoin Core: 3); fewer where there are fewer peers.
        attempts: dials in one round: most peers are full, and many exits refuse port 30303.
        connections: short connections at a time, of all transactions together.
        echo_min, echo_max: seconds to wait for the echo before the next round; at random, so that the rounds
            of one transaction are no clock.
        unsent_min, unsent_max: the same after a round in which nobody took it.
        lonely: the same after one in which there was nobody to dial.
        lifetime: seconds from a transaction's first round until it is given up (the pool's for local ones).
        count: transactions at a time.
        bytes: of all of them.
        sour: seconds in which a peer that did not take one is asked after all others.
        sour_count: how many such peers are remembered.
        strangers_first: ask our own peers last. That hides from them who sends, and tells who knows our links
            and the receivers of ten transactions of one account whose they are: `benchmarks.privacy`.
    """

    copies: int = 3
    attempts: int = 30
    connections: int = 8
    echo_min: float = 180.0
    echo_max: float = 300.0
    unsent_min: float = 30.0
    unsent_max: float = 60.0
    lonely: float = 5.0
    lifetime: float = 3 * 3600.0
    count: int = 512
    bytes: int = 16 * 1024 * 1024
    sour: float = 600.0
    sour_count: int = 1024
    strangers_first: bool = False
