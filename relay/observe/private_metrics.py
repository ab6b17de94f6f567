"""Private broadcast on the metrics page. Sums alone: no number is about one transaction."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from relay.relaying.private.counters import PrivateCounters

__all__ = ["private_metrics"]


def private_metrics(counts: PrivateCounters | None) -> Iterator[Metric]:
    """Write what was counted; nothing where private broadcast is off."""
    if counts is None:
        return
    waiting = "transactions of our own users that wait for their echo"
    yield GaugeMetricFamily("pyrelay_private_waiting", waiting, value=counts.waiting)
    for name, words, value in (
        ("submitted", "transactions of our own users taken for private broadcast", counts.submitted),
        ("rounds", "rounds of short connections", counts.rounds),
        ("dials", "short connections begun", counts.dials),
        ("delivered", "short connections whose other side confirmed the transaction", counts.delivered),
    ):
        yield CounterMetricFamily(f"pyrelay_private_{name}", words, value=value)
    for name, words, label, by_label in (
        ("failed", "short connections that came to nothing", "cause", counts.failed),
        ("ended", "transactions that are sent no more", "why", counts.ended),
    ):
        family = CounterMetricFamily(f"pyrelay_private_{name}", words, labels=(label,))
        for key, count in by_label.items():
            family.add_metric((key,), count)
        yield family
