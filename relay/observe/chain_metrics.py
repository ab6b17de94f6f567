"""Requests for chain data on the metrics page: what came, how it was answered, who was asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client.metrics_core import CounterMetricFamily, Metric

from relay.relaying.chain_data.counters import ProxyCounters

__all__ = ["chain_metrics"]

_COUNTS: Final = (  # attribute of ProxyCounters, metric, help
    ("from_cache", "chain_cached", "requests for chain data answered from the cache"),
    ("from_peers", "chain_relayed", "requests for chain data answered after asking peers"),
    ("empty", "empty_answers", "requests for chain data answered with nothing"),
    ("absent", "chain_absent", "questions for chain data not put, because nobody had it a moment ago"),
    ("cancelled", "chain_cancelled", "requests for chain data whose peer left before the answer"),
    ("expired", "chain_expired", "requests for chain data answered with what there was in time"),
    ("coalesced", "chain_coalesced", "questions for chain data that joined one under way"),
    ("timeouts", "chain_timeouts", "questions for chain data that a peer did not answer in time"),
    ("late", "chain_late", "of those, answered later"),
    ("unhelpful", "chain_unhelpful", "answers of peers with nothing in them"),
    ("lies", "chain_lies", "answers of peers that were wrong, and ended them"),
    ("disagreements", "chain_disagreements", "answers of peers that others contradict near the head"),
    ("fetched_bytes", "chain_fetched_bytes", "bytes of answers of peers"),
)


def chain_metrics(counts: ProxyCounters) -> Iterator[Metric]:
    """Write what was counted."""
    for attribute, name, words in _COUNTS:
        yield CounterMetricFamily(f"pyrelay_{name}", words, value=getattr(counts, attribute))
    for name, words, label, by_label in (
        ("chain_requests", "requests of peers for chain data", "kind", counts.requests),
        ("chain_asked", "questions to peers for chain data", "kind", counts.asked),
        ("chain_refused", "requests and questions for chain data over a bound", "bound", counts.refused),
    ):
        family = CounterMetricFamily(f"pyrelay_{name}", words, labels=(label,))
        for key, count in by_label.items():
            family.add_metric((key,), count)
        yield family
