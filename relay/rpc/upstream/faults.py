"""What goes wrong with an upstream, as told to whoever chooses the next one."""

from __future__ import annotations

from enum import StrEnum

from relay.primitives.errors import RelayError

__all__ = ["Fault", "UpstreamFault"]


class Fault(StrEnum):
    """What went wrong; the label of counters."""

    UNREACHABLE = "unreachable"
    BROKEN = "broken"
    TIMEOUT = "timeout"
    BUSY = "busy"
    LIMITED = "limited"
    STATUS = "status"
    GARBAGE = "garbage"
    TOO_LARGE = "too large"
    WRONG_CHAIN = "wrong chain"
    PAUSED = "paused"


class UpstreamFault(RelayError):
    """An upstream did not answer as it should.

    Attributes:
        fault: what kind.
        pause: seconds that it asked to be left alone; None where it did not.
    """

    def __init__(self, fault: Fault, words: str, *, pause: float | None = None) -> None:
        super().__init__(words)
        self.fault = fault
        self.pause = pause

    @property
    def blames(self) -> bool:
        """Whether it tells against the upstream, rather than against the load that we put on it."""
        return self.fault not in (Fault.BUSY, Fault.PAUSED)
