"""Figures from guesses: shares with their confidence, delays."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from math import sqrt
from statistics import fmean
from typing import Any

from benchmarks.privacy.estimators import NAMED, UNNAMED
from benchmarks.privacy.spread import Simulation, Trace

Z = 1.96  # of 95 %


def interval(share: float, count: int) -> tuple[float, float]:
    """Wilson's interval, 95 %."""
    centre = (share + Z * Z / (2 * count)) / (1 + Z * Z / count)
    half = Z / (1 + Z * Z / count) * sqrt(share * (1 - share) / count + Z * Z / (4 * count * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def judge(runs: Sequence[tuple[Simulation, Sequence[Trace]]]) -> dict[str, Any]:
    """What each estimator finds in all runs: recall, precision as of the Dandelion papers, and the delays."""
    estimators = {name: _named(name, runs) for name in NAMED}
    estimators |= {name: _recall([score(*each) for each in _each(runs)]) for name, score in UNNAMED.items()}
    best = max(estimators, key=lambda name: estimators[name]["recall"])
    return {
        "transactions": sum(len(traces) for _, traces in runs),
        "estimators": estimators,
        "best": best,
        "best_recall": estimators[best]["recall"],
        "guess": round(fmean(1.0 / len(simulation.world.honest) for simulation, _ in runs), 4),
        "seconds": _delays([trace for _, trace in _each(runs)]),
    }


def _each(runs: Sequence[tuple[Simulation, Sequence[Trace]]]) -> Iterator[tuple[Simulation, Trace]]:
    for simulation, traces in runs:
        for trace in traces:
            yield simulation, trace


def _recall(scores: Sequence[float]) -> dict[str, float]:
    """Of all transactions, those traced to their origin; all are guessed, so this is precision, too."""
    recall = fmean(scores)
    low, high = interval(recall, len(scores))
    return {"recall": round(recall, 4), "low": round(low, 4), "high": round(high, 4)}


def _named(name: str, runs: Sequence[tuple[Simulation, Sequence[Trace]]]) -> dict[str, float]:
    """With the precision of Fanti et al.: of what is laid at a relay's door, its own: the mean of all."""
    hits: list[float] = []
    precisions = []
    for simulation, traces in runs:
        laid: dict[int, Counter[bool]] = defaultdict(Counter)
        for trace in traces:
            guess = NAMED[name](simulation, trace)
            hits.append(guess == trace.origin)
            if guess is not None:
                laid[guess][guess == trace.origin] += 1
        shares = sum(counts[True] / counts.total() for counts in laid.values())
        precisions.append(shares / len(simulation.world.honest))
    return _recall(hits) | {"precision": round(fmean(precisions), 4)}


def _delays(traces: Sequence[Trace]) -> dict[str, float]:
    """From submission: until half and nearly all of the relays have it, over all relays and transactions."""
    every = [when - trace.began for trace in traces for when in trace.times.values()]
    first = [min(trace.times.values()) - trace.began for trace in traces]
    last = [max(trace.times.values()) - trace.began for trace in traces]
    return {
        "p50": round(quantile(every, 0.5), 2),
        "p99": round(quantile(every, 0.99), 2),
        "gossip_begins": round(quantile(first, 0.5), 2),
        "last_relay": round(quantile(last, 0.5), 2),
    }
