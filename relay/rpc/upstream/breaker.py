"""Leaves an upstream alone that fails, and lets one call try it now and then."""

from __future__ import annotations

from collections.abc import Callable

from relay.rpc.upstream.options import UpstreamOptions

__all__ = ["Breaker"]


class Breaker:
    """One upstream's standing.

    Args:
        options: how many failures, which pauses.
        clock: monotonic seconds.
        rand: random bytes: those who share an upstream must not come back in step.
    """

    def __init__(
        self, options: UpstreamOptions, clock: Callable[[], float], rand: Callable[[int], bytes]
    ) -> None:
        self._options = options
        self._clock = clock
        self._rand = rand
        self._failures = 0
        self._until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether it has failed so that calls go elsewhere, be its pause over or not."""
        return self._until > 0.0

    @property
    def remaining(self) -> float:
        """Seconds until somebody may try."""
        return max(0.0, self._until - self._clock())

    def admits(self) -> bool:
        """Tell whether a call may go there: after a pause one may, the others once it has answered."""
        if not self._until:
            return True
        now = self._clock()
        if now < self._until:
            return False
        self._until = now + self._options.attempt_seconds
        return True

    def succeeded(self) -> None:
        """It answers."""
        self._failures = 0
        self._until = 0.0

    def failed(self, pause: float | None = None) -> None:
        """It does not. pause: seconds that it asked for; it then gets them at the first failure."""
        self._failures += 1
        over = self._failures - self._options.failures
        if over < 0 and pause is None:
            return
        own = min(self._options.pause_seconds * 2.0 ** min(max(over, 0), 16), self._options.longest_pause)
        jitter = 1.0 + self._rand(1)[0] / 512
        self._until = self._clock() + max(own * jitter, pause or 0.0)
