"""What is shown of a run: filled by the run, read by the screen or the plain lines. Knows neither."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final, Protocol

from relay.localnet.scrape import Reading
from relay.localnet.traffic import Delivery

__all__ = ["Board", "RelayRow", "Reporter", "TransactionLine"]

LOG_LINES: Final = 100  # the oldest fall out


@dataclass(slots=True)
class RelayRow:
    """One relay.

    Attributes:
        number: from 1.
        onion: its address.
        started: its process runs.
        reading: what it told last.
    """

    number: int
    onion: str
    started: bool = False
    reading: Reading = field(default_factory=Reading)

    @property
    def state(self) -> str:
        """One or two words."""
        if not self.started:
            return "waiting"
        if self.reading.tor_percent < 100:
            return f"Tor {self.reading.tor_percent}%"
        if self.reading.onion_peers:
            return "connected"
        return "published" if self.reading.service_up else "publishing"


@dataclass(frozen=True, slots=True)
class TransactionLine:
    """A transaction that arrived everywhere, or did not.

    Attributes:
        number: from 1, in the order in which their fate became known.
        elapsed: seconds of the run.
        hash: hex digits.
        latencies: milliseconds by relay.
        overdue: some never told of it.
    """

    number: int
    elapsed: float
    hash: str
    latencies: dict[int, float]
    overdue: bool = False


@dataclass(slots=True)
class Board:
    """The whole run.

    Attributes:
        elapsed: seconds since the command.
        percent: of Tor's start: the private network, then the relays' clients.
        words: what Tor does now.
        rows: the relays.
        sent: transactions that relay 1 took.
        arrived: those that are everywhere.
        waiting: those on their way.
        overdue: those that were given up on.
        rate: a second, arrived everywhere.
        p50: latency in milliseconds.
        p99: latency in milliseconds.
        first_arrival: seconds from the command to the first transaction that was everywhere.
        log: the last transactions.
        kept: where logs and keys stay; empty if nowhere.
    """

    elapsed: float = 0.0
    percent: int = 0
    words: str = "starting"
    rows: list[RelayRow] = field(default_factory=list)
    sent: int = 0
    arrived: int = 0
    waiting: int = 0
    overdue: int = 0
    rate: float = 0.0
    p50: float | None = None
    p99: float | None = None
    first_arrival: float | None = None
    log: deque[TransactionLine] = field(default_factory=lambda: deque(maxlen=LOG_LINES))
    kept: str = ""

    @property
    def onion_peers(self) -> int:
        """Peers by onion, summed over the relays."""
        return sum(row.reading.onion_peers for row in self.rows)

    def add_line(self, delivery: Delivery) -> None:
        """Show a transaction whose fate is known."""
        latencies = {number: seconds * 1000 for number, seconds in sorted(delivery.latencies.items())}
        number = self.log[-1].number + 1 if self.log else 1
        line = TransactionLine(number, self.elapsed, delivery.hash.hex(), latencies, delivery.overdue)
        self.log.append(line)


class Reporter(Protocol):
    """Shows a board."""

    def update(self, board: Board) -> None:
        """Show it as it is now."""

    def close(self, board: Board) -> None:
        """Show it for the last time."""
