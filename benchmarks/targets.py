"""The targets as data, and what a run says to them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.scenarios import SINKS, Figures


@dataclass(frozen=True)
class Target:
    """A bound: of the ratio to geth in the same run, or of our own value."""

    bound: float
    of_ratio: bool = True
    at_most: bool = True

    def holds(self, value: float) -> bool:
        return value <= self.bound if self.at_most else value >= self.bound

    def words(self, unit: str) -> str:
        sign = "<=" if self.at_most else ">="
        return f"{sign} {self.bound:g} x" if self.of_ratio else f"{sign} {self.bound:g} {unit}"


@dataclass(frozen=True)
class Measure:
    """One row of the table. Without a target it is there to be read."""

    label: str
    figure: str
    unit: str
    target: Target | None = None


@dataclass(frozen=True)
class Row:
    """A measure with its values, of geth NaN where there is none."""

    measure: Measure
    ours: float
    geth: float

    @property
    def ratio(self) -> float:
        return self.ours / self.geth if self.geth else math.nan

    @property
    def verdict(self) -> str:
        target = self.measure.target
        if target is None:
            return ""
        value = self.ratio if target.of_ratio else self.ours
        if math.isnan(value):
            return "not measured"
        return "met" if target.holds(value) else "MISSED"


def ratio(bound: float) -> Target:
    return Target(bound)


def value(bound: float) -> Target:
    return Target(bound, of_ratio=False)


MS, US, RATE = "ms", "us", "/s"

MEASURES = (
    Measure("CPU a transaction, 1 sink, full speed", "full_1.cpu_us", US, ratio(0.65)),
    Measure("throughput, 1 sink", "full_1.rate", RATE, Target(1.0, at_most=False)),
    Measure("CPU a transaction, 25 sinks, full speed", "full_25.cpu_us", US, ratio(0.5)),
    Measure("throughput, 25 sinks", "full_25.rate", RATE),
    Measure("CPU a transaction, 25 sinks, 2,000/s", "paced_2000_25.cpu_us", US, ratio(0.5)),
    Measure("CPU a transaction, 1 sink, 2,000/s", "paced_2000_1.cpu_us", US),
    *(
        Measure(f"latency {name}, {sinks} sink{'s' * (sinks > 1)}, {rate:,}/s", key, MS, ratio(1.0))
        for rate in (200, 2000)
        for sinks in (1, SINKS)
        for name, key in (
            ("p50", f"paced_{rate}_{sinks}.p50_ms"),
            ("p99", f"paced_{rate}_{sinks}.p99_ms"),
        )
    ),
    Measure("CPU a transaction, 1 sink, 200/s", "paced_200_1.cpu_us", US, ratio(0.5)),
    Measure("CPU a transaction, 25 sinks, 200/s", f"paced_200_{SINKS}.cpu_us", US, ratio(0.5)),
    Measure("announced only, p50", "announced.p50_ms", MS, ratio(0.25)),
    Measure("announced only, p99", "announced.p99_ms", MS),
    Measure(
        "fetched in vain a transaction (announced, then pushed within 200 ms)",
        "announced.duplicate_bytes",
        "bytes",
    ),
    Measure("memory with 50 idle peers", "peers.rss_50_mb", "MB", ratio(0.8)),
    Measure("memory of each further peer", "peers.per_peer_kb", "KB", value(100)),
    Measure("memory with 1,000 peers", "peers.rss_1000_mb", "MB", value(200)),
    Measure("memory at its peak, full speed, 1 sink", "full_1.peak_rss_mb", "MB"),
    Measure("cores with 1,000 peers, 200/s", "crowd.cores", "", value(1)),
    Measure("latency p50, 1,000 peers, 200/s", "crowd.p50_ms", MS),
    Measure("latency p99, 1,000 peers, 200/s", "crowd.p99_ms", MS),
    Measure("memory at its peak, 1,000 peers, 200/s", "crowd.peak_rss_mb", "MB", value(300)),
    Measure("500 handshakes at once, each", "handshakes.ms", MS, value(3)),
    Measure("longest wait of another peer meanwhile", "handshakes.longest_wait_ms", MS, value(50)),
    Measure("longest stall of the event loop, full speed, 1 sink", "full_1.stall_ms", MS, value(20)),
    Measure("longest stall of the event loop, full speed, 25 sinks", "full_25.stall_ms", MS, value(20)),
)

HARMED = ("missing", "foreign")  # transactions that did not arrive, or not as they were sent
CEILING_FACTOR = 2.0


def medians(rounds: Sequence[Figures]) -> Figures:
    """The median of each figure over the rounds that have it."""
    names = dict.fromkeys(name for figures in rounds for name in figures)
    return {name: median(figures[name] for figures in rounds if name in figures) for name in names}


def judge(ours: Figures, geth: Figures) -> list[Row]:
    """The rows that were measured for us."""
    return [
        Row(measure, ours[measure.figure], geth.get(measure.figure, math.nan))
        for measure in MEASURES
        if measure.figure in ours
    ]


def lost(raw: Mapping[str, Sequence[Figures]]) -> dict[str, float]:
    """Relay and figure: transactions that some sink lacked or got changed, summed over the rounds."""
    found: dict[str, float] = {}
    for relay, rounds in raw.items():
        for figures in rounds:
            for name, count in figures.items():
                if name.rpartition(".")[2] in HARMED and count:
                    found[f"{relay} {name}"] = found.get(f"{relay} {name}", 0) + count
    return found


def ceiling_words(ceiling: Figures, all_medians: Mapping[str, Figures]) -> list[str]:
    """Whether the load could have done twice of what it was asked for."""
    lines = []
    for sinks in (1, SINKS):
        top = ceiling.get(f"ceiling.rate_{sinks}")
        rates = {
            name: found[f"full_{sinks}.rate"]
            for name, found in all_medians.items()
            if f"full_{sinks}.rate" in found
        }
        if top is None or not rates:
            continue
        fastest = max(rates.values())
        verdict = "met" if top >= CEILING_FACTOR * fastest else "MISSED"
        lines.append(
            f"the load without a relay, {sinks} sink{'s' * (sinks > 1)}: {top:,.0f}/s,"
            f" {top / fastest:.1f} times the fastest relay (target >= {CEILING_FACTOR:g}: {verdict})"
        )
    return lines
