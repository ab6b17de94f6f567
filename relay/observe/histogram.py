"""A histogram of Prometheus from counts that somebody kept by bound."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client.core import HistogramMetricFamily

__all__ = ["histogram"]


def histogram(
    name: str, words: str, bounds: Sequence[float], counts: Sequence[int], total: float
) -> HistogramMetricFamily:
    """Return the family.

    Args:
        name: of the metric.
        words: its help.
        bounds: the largest value of each bucket, in order; one without a bound follows them.
        counts: of values in each bucket alone, one more than bounds.
        total: sum of all values.
    """
    buckets, reached = [], 0
    for bound, count in zip((*map(repr, bounds), "+Inf"), counts, strict=True):
        reached += count
        buckets.append((bound, float(reached)))
    return HistogramMetricFamily(name, words, buckets=buckets, sum_value=total)
