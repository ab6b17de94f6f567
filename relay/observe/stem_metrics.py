"""Stems on the metrics page. Sums alone: no number is about one transaction."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from relay.relaying.stem_counters import StemCounters

__all__ = ["stem_metrics"]


def stem_metrics(counts: StemCounters) -> Iterator[Metric]:
    """Write what was counted; ours and others' together: who reads it need not know which were ours."""
    words = "transactions that were passed on and that gossip has not brought yet"
    yield GaugeMetricFamily("pyrelay_stem_held", words, value=counts.held)
    words = "transactions that were passed on to one relay, before gossip"
    yield CounterMetricFamily("pyrelay_stem_passed", words, value=counts.begun + counts.carried)
    ended = CounterMetricFamily("pyrelay_stem_ended", "stems that ended here", labels=("why",))
    for why, count in counts.ended.items():
        ended.add_metric((why,), count)
    yield ended
