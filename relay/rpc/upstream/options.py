"""How patient we are with upstreams, and how much of ours they may take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Balance", "UpstreamOptions"]

Balance = Literal["ordered", "balanced"]


@dataclass(frozen=True, slots=True)
class UpstreamOptions:
    """Limits; the figures are our choice where nothing else is said.

    Attributes:
        balance: ordered asks the first one that works, balanced the one with the fewest calls under way.
        hedge_seconds: a read without an answer after this long is given to a second one, too; 0 for never.
        chain_id: that every upstream must have; None takes any.
        call_seconds: for a call, however many upstreams it takes.
        attempt_seconds: for one upstream while there is another to turn to.
        connect_seconds: for a connection, TLS and WebSocket's handshake included.
        in_flight: calls at one upstream at a time.
        waiting: calls that wait for one of these places; a further one goes elsewhere, or fails.
        answer_bytes: of one answer.
        held_bytes: of all answers that are on their way, of all upstreams.
        kept: idle connections of HTTP to one upstream.
        idle_seconds: that such a connection is kept.
        failures: in a row, after which an upstream is left alone.
        pause_seconds: the first pause; each further failure doubles it.
        longest_pause: the last one.
        health_seconds: an upstream that answered nobody for this long is asked for its chain; 0 for never.
        subscriptions: at all upstreams together.
    """

    balance: Balance = "ordered"
    hedge_seconds: float = 0.0
    chain_id: int | None = None
    call_seconds: float = 30.0
    attempt_seconds: float = 10.0
    connect_seconds: float = 10.0
    in_flight: int = 32
    waiting: int = 256
    answer_bytes: int = 32 * 1024 * 1024
    held_bytes: int = 128 * 1024 * 1024
    kept: int = 16
    idle_seconds: float = 55.0
    failures: int = 3
    pause_seconds: float = 0.5
    longest_pause: float = 15.0
    health_seconds: float = 30.0
    subscriptions: int = 256

    @classmethod
    def through_tor(
        cls, *, balance: Balance = "ordered", hedge_seconds: float = 0.0, chain_id: int | None = None
    ) -> UpstreamOptions:
        """Return what a way of seconds needs: patience, and few connections, each of them a circuit."""
        return cls(
            balance=balance,
            hedge_seconds=hedge_seconds,
            chain_id=chain_id,
            call_seconds=90.0,
            attempt_seconds=40.0,
            connect_seconds=35.0,
            in_flight=8,
            kept=4,
            idle_seconds=120.0,
            pause_seconds=2.0,
            longest_pause=60.0,
            health_seconds=120.0,
        )
