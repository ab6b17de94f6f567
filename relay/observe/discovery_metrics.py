"""Discovery on the metrics page: tables, sessions, packets by kind, what was refused, and candidates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from relay.observe.snapshot import DiscoveryCounts, MetricsSnapshot

__all__ = ["discovery_metrics"]

_Rows: TypeAlias = Iterator[tuple[tuple[str, ...], int]]


def discovery_metrics(now: MetricsSnapshot) -> Iterator[Metric]:
    """Write what a snapshot tells of discovery."""
    found = now.discovery
    for attribute, words in (
        ("table", "nodes in the table"),
        ("live", "nodes in the table that have answered"),
        ("sessions", "session keys that are kept"),
        ("streams", "open streams"),
    ):
        gauge = GaugeMetricFamily(f"pyrelay_discovery_{attribute}", words, labels=("protocol",))
        for name, counts in found.items():
            gauge.add_metric((name,), getattr(counts, attribute))
        yield gauge
    yield _counter("lookups", "random walks that ended", ("protocol",), _lookups(found))
    packets = "messages of discovery"
    yield _counter("packets", packets, ("protocol", "direction", "kind"), _packets(found))
    refused = "packets of discovery that were not taken"
    yield _counter("refused", refused, ("protocol", "reason"), _refused(found))
    yield _counter("failed", "requests without an answer", ("protocol", "reason"), _failed(found))
    dropped = "packets not looked into or not sent, streams not wanted"
    yield _counter("dropped", dropped, ("way", "reason"), _dropped(now.dropped))
    yield from _feeds(now)
    dht = GaugeMetricFamily("pyrelay_dht", "the provider DHT", labels=("what",))
    for name, value in now.dht.items():
        dht.add_metric((name,), value)
    yield dht


def _counter(name: str, words: str, labels: tuple[str, ...], rows: _Rows) -> Metric:
    family = CounterMetricFamily(f"pyrelay_discovery_{name}", words, labels=labels)
    for values, count in rows:
        family.add_metric(values, count)
    return family


def _lookups(found: Mapping[str, DiscoveryCounts]) -> _Rows:
    for name, counts in found.items():
        yield (name,), counts.lookups


def _packets(found: Mapping[str, DiscoveryCounts]) -> _Rows:
    for name, counts in found.items():
        for direction, kinds in (("in", counts.received), ("out", counts.sent)):
            for kind, count in kinds.items():
                yield (name, direction, kind), count


def _refused(found: Mapping[str, DiscoveryCounts]) -> _Rows:
    for name, counts in found.items():
        for reason, count in counts.refused.items():
            yield (name, reason), count


def _failed(found: Mapping[str, DiscoveryCounts]) -> _Rows:
    for name, counts in found.items():
        for reason, count in counts.failed.items():
            yield (name, reason), count


def _dropped(dropped: Mapping[str, Mapping[str, int]]) -> _Rows:
    for way, counts in dropped.items():
        for reason, count in counts.items():
            yield (way, reason), count


def _feeds(now: MetricsSnapshot) -> Iterator[Metric]:
    waiting = GaugeMetricFamily("pyrelay_candidates", "candidates that wait for a dial", labels=("source",))
    taken = CounterMetricFamily("pyrelay_candidates_taken", "candidates dialed", labels=("source",))
    refused = CounterMetricFamily(
        "pyrelay_candidates_refused", "candidates dropped", labels=("source", "reason")
    )
    for name, feed in now.feeds.items():
        waiting.add_metric((name,), feed.waiting)
        taken.add_metric((name,), feed.taken)
        for reason, count in feed.refused.items():
            refused.add_metric((name, reason), count)
    yield from (waiting, taken, refused)
