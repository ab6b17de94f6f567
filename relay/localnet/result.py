"""What a run came to."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from dataclasses import dataclass

__all__ = ["Outcome", "Result", "percentile"]


@dataclass(frozen=True, slots=True)
class Result:
    """The figures that ``--json`` prints.

    Attributes:
        relays: daemons.
        bootstrap_seconds: from the start until every Tor client was at 100%; None if that was not reached.
        onion_peers: joined peers by onion, summed over the relays, as their own metrics tell.
        transactions_sent: accepted by relay 1.
        transactions_arrived: of these, those that every other relay told of.
        p50: milliseconds from submission to arrival at one relay, median; None without any arrival.
        p99: the same, 99th percentile.
    """

    relays: int
    bootstrap_seconds: float | None
    onion_peers: int
    transactions_sent: int
    transactions_arrived: int
    p50: float | None
    p99: float | None

    @property
    def complete(self) -> bool:
        """Whether all that was sent arrived, and anything was sent."""
        return 0 < self.transactions_sent == self.transactions_arrived

    def to_json(self) -> str:
        """Return one JSON object, on one line."""
        return json.dumps(
            {
                "relays": self.relays,
                "bootstrap_seconds": _rounded(self.bootstrap_seconds),
                "onion_peers": self.onion_peers,
                "transactions_sent": self.transactions_sent,
                "transactions_arrived": self.transactions_arrived,
                "latency_ms": {"p50": _rounded(self.p50), "p99": _rounded(self.p99)},
            }
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run went.

    Attributes:
        result: its figures.
        overdue: transactions that did not arrive everywhere in time.
        first_arrival: seconds from the command to the first transaction that was everywhere.
        wanted: transactions that should have been sent, 0 for any number.
        kept: where everything stays; empty if it is gone.
    """

    result: Result
    overdue: int
    first_arrival: float | None
    wanted: int = 0
    kept: str = ""

    @property
    def good(self) -> bool:
        """Whether all that should have arrived did."""
        done = self.result.transactions_sent >= self.wanted
        return not self.overdue and (not self.wanted or (done and self.result.complete))

    def lines(self) -> list[str]:
        """Tell a person."""
        result = self.result
        found = [
            f"{result.transactions_arrived} of {result.transactions_sent} transactions arrived at all of"
            f" {result.relays} relays; {result.onion_peers} peers by onion"
        ]
        if self.first_arrival is not None:
            found.append(f"the first was everywhere {self.first_arrival:.1f} s after the command")
        if self.overdue:
            found.append(f"{self.overdue} transactions did not arrive everywhere in time")
        if self.kept:
            found.append(f"keys, logs and configuration are in {self.kept}")
        return found


def percentile(values: Collection[float], percent: float) -> float | None:
    """Return the smallest value that `percent` of all do not exceed; None of none."""
    if not values:
        return None
    rank = max(1, math.ceil(len(values) * percent / 100))
    return sorted(values)[rank - 1]


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 2)
