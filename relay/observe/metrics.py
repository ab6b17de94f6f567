"""The metrics in Prometheus' text and as JSON: geth's names where geth has the metric, else pyrelay_ before.

geth exposes its meters as gauges, running totals among them (metrics/prometheus/collector.go); so do we for
its names, and keep to Prometheus' conventions for ours. No label names a peer or an address.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from relay.observe.chain_metrics import chain_metrics
from relay.observe.discovery_metrics import discovery_metrics
from relay.observe.histogram import histogram
from relay.observe.loop_stall import BUCKETS, LoopStallMonitor
from relay.observe.private_metrics import private_metrics
from relay.observe.snapshot import (
    DIAL_ERRORS,
    SERVE_ERRORS,
    Connections,
    MetricsSnapshot,
    MetricsSource,
    PeerKind,
)
from relay.observe.stem_metrics import stem_metrics
from relay.relaying.counters import RelayCounters

__all__ = ["Metrics"]

NETWORKS: Final = ("onion", "i2p", "ipv4", "ipv6")
STATIC_STATES: Final = ("loaded", "rejected", "connected")
POOL_EXITS: Final = ("evicted", "replaced", "expired")

TRANSACTION_COUNTS: Final = (  # attribute of RelayCounters, metric, help
    ("seen", "transactions_seen", "transactions that came in whole"),
    ("accepted", "transactions_accepted", "transactions of peers that went into the pool"),
    ("submitted", "transactions_submitted", "transactions of our own users that went into the pool"),
    ("relayed", "transactions_relayed", "transactions sent or announced to at least one peer"),
    ("duplicates", "transactions_duplicate", "transactions that came in whole although they were held"),
    ("duplicate_bytes", "transactions_duplicate_bytes", "bytes of duplicates"),
    ("repeats", "transactions_repeated", "transactions that came in whole after they had been refused"),
    ("pushes", "gossip_pushes", "deliveries of whole transactions"),
    ("announcements", "gossip_announcements", "deliveries of announcements"),
    ("gossip_frames", "gossip_messages", "messages these took"),
    ("downgraded", "gossip_downgraded", "pushes that became announcements because the peer was slow"),
    ("outbox_dropped", "gossip_dropped", "announcements that fell out of a slow peer's queue"),
    ("announced_in", "announced", "hashes announced to us"),
    ("announced_known", "announced_known", "of those, held or dropped before"),
    ("announced_refused", "announced_refused", "of those, over a bound or of a type that is not relayed"),
    ("fetches", "fetch_requests", "requests for announced transactions"),
    ("fetched", "fetch_transactions", "transactions asked for"),
    ("fetch_timeouts", "fetch_timeouts", "requests that were not answered in time"),
    ("direct_in_wait", "fetch_saved", "announced transactions that arrived before they were fetched"),
    ("requests", "pooled_requests", "requests of peers for transactions"),
    ("served", "pooled_served", "transactions given as answers"),
    ("missed", "pooled_missed", "hashes asked for that were not held"),
    ("blobs_verified", "blobs_verified", "blobs that were found to be right and went into the pool"),
    ("cells_asked", "cells_asked", "cells of blobs asked for"),
    ("cells_fetched", "cells_fetched", "cells of blobs that were delivered"),
    ("cells_served", "cells_served", "cells of blobs given as answers"),
    ("cells_timeouts", "cells_timeouts", "requests for cells that were not answered in time"),
    ("range_polls", "head_polls", "looks for the head of the chain"),
    ("range_refused", "head_refused", "blocks that peers named as theirs and not enough of them had"),
    ("heads", "head_moves", "times that the head moved"),
    ("reorgs", "head_reorgs", "of those, to another branch"),
    ("held_back", "peers_held_back", "times that a peer was not read because it brought too many"),
    ("included", "transactions_included", "transactions of peers that a block brought while they were held"),
)


class Metrics:
    """A registry of its own that reads a source at each scrape.

    Args:
        source: tells the counts.
        stalls: the loop's monitor.
        version: of this program.
    """

    def __init__(self, source: MetricsSource, stalls: LoopStallMonitor, *, version: str) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Reader(source, stalls, version))
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """Return Prometheus' text format, version 0.0.4.

        Not by generate_latest, which writes 2 as 2.0 and a gigabyte as 1e+09; people grep this page.
        """
        return "".join(line for metric in self._registry.collect() for line in _lines(metric)).encode()

    def values(self) -> dict[str, object]:
        """Return name to value; for a metric with labels a list of {"labels": ..., "value": ...}."""
        found: dict[str, object] = {}
        for metric in self._registry.collect():
            for sample in metric.samples:
                if sample.labels:
                    entries = found.setdefault(sample.name, [])
                    assert isinstance(entries, list)
                    entries.append({"labels": sample.labels, "value": sample.value})
                else:
                    found[sample.name] = sample.value
        return found


class _Reader(Collector):
    def __init__(self, source: MetricsSource, stalls: LoopStallMonitor, version: str) -> None:
        self._source = source
        self._stalls = stalls
        self._version = version

    def describe(self) -> Iterable[Metric]:
        """Nothing: the names are fixed, and registering must not read the source."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Read the source."""
        now = self._source.snapshot()
        yield from _geth_peers(now)
        yield from _geth_connections("dials", now.dials, DIAL_ERRORS)
        yield from _geth_connections("serves", now.serves, SERVE_ERRORS)
        yield from _tor(now)
        yield from _ours(now)
        yield from _relaying(now.transactions)
        yield from chain_metrics(now.transactions.chain)
        yield from discovery_metrics(now)
        yield from private_metrics(now.private)
        yield from stem_metrics(now.transactions.stems)
        yield from _rpc(now)
        yield from _stalls(self._stalls)
        # Not Python's version, nor the system's: they tell one relay from another.
        info = GaugeMetricFamily("pyrelay_build_info", "version of this program", labels=("version",))
        info.add_metric((self._version,), 1)
        yield info


def _lines(metric: Metric) -> Iterator[str]:
    name = f"{metric.name}_total" if metric.type == "counter" else metric.name
    yield f"# HELP {name} {_escaped(metric.documentation)}\n# TYPE {name} {metric.type}\n"
    for sample in metric.samples:
        labels = ",".join(f'{key}="{_escaped(value)}"' for key, value in sorted(sample.labels.items()))
        yield f"{sample.name}{{{labels}}} " if labels else f"{sample.name} "
        yield f"{_number(sample.value)}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(name, words, value=value)


def _by_label(
    kind: type[GaugeMetricFamily] | type[CounterMetricFamily],
    name: str,
    words: str,
    label: str,
    counts: Mapping[str, float],
) -> Metric:
    family = kind(name, words, labels=(label,))
    for key, count in counts.items():
        family.add_metric((key,), count)
    return family


def _geth_peers(now: MetricsSnapshot) -> Iterator[Metric]:
    inbound = sum(count for kind, count in now.peers.items() if kind.inbound)
    total = sum(now.peers.values())
    yield _gauge("p2p_peers", "joined peers", total)
    yield _gauge("p2p_peers_inbound", "joined peers that dialed us", inbound)
    yield _gauge("p2p_peers_outbound", "joined peers that we dialed", total - inbound)
    yield _gauge("p2p_ingress", "bytes from peers since the start", now.ingress)
    yield _gauge("p2p_egress", "bytes to peers since the start", now.egress)


def _geth_connections(what: str, now: Connections, causes: tuple[str, ...]) -> Iterator[Metric]:
    yield _gauge(f"p2p_{what}", f"{what} since the start", now.tried)
    yield _gauge(f"p2p_{what}_success", f"{what} that became peers", now.joined)
    yield _gauge(f"p2p_{what}_success_1min", f"{what} that became peers for a minute", now.stayed)
    counts = dict.fromkeys(causes, 0)
    for cause, count in now.errors.items():
        counts[cause if cause in counts else "other"] += count
    for cause, count in counts.items():
        yield _gauge(f"p2p_{what}_error_{cause}", f"{what} that failed: {cause}", count)


def _tor(now: MetricsSnapshot) -> Iterator[Metric]:
    tor = now.tor
    yield _gauge("pyrelay_tor_bootstrap_percent", "how far Tor's start is, 0 to 100", tor.bootstrap_percent)
    yield _gauge("pyrelay_tor_control_connected", "1 while Tor's control port answers", tor.control_connected)
    yield _gauge("pyrelay_onion_service_up", "1 while peers can reach our onion address", tor.service_up)
    uploads = "pyrelay_onion_service_uploads"
    yield CounterMetricFamily(uploads, "descriptor uploads that succeeded", value=tor.service_uploads)
    failures = "pyrelay_onion_service_upload_failures"
    yield CounterMetricFamily(failures, "descriptor uploads that failed", value=tor.service_upload_failures)
    if tor.service_upload_age is not None:
        age, words = "pyrelay_onion_service_upload_age_seconds", "time since a directory took our descriptor"
        yield _gauge(age, words, tor.service_upload_age)
    points = "circuits to introduction points of our onion service"
    yield _gauge("pyrelay_onion_service_introductions", points, tor.introductions)


def _ours(now: MetricsSnapshot) -> Iterator[Metric]:
    peers = GaugeMetricFamily("pyrelay_peers", "joined peers", labels=("network", "direction"))
    for network in dict.fromkeys((*NETWORKS, *(kind.network for kind in now.peers))):
        for inbound, direction in ((True, "inbound"), (False, "outbound")):
            peers.add_metric((network, direction), now.peers.get(PeerKind(network, inbound), 0))
    yield peers
    states = {state: now.static_nodes.get(state, 0) for state in STATIC_STATES}
    yield _by_label(
        GaugeMetricFamily, "pyrelay_static_nodes", "entries of static-nodes.json", "state", states
    )
    yield _gauge("pyrelay_pool_transactions", "transactions in the pool", now.pool_transactions)
    yield _gauge("pyrelay_pool_bytes", "bytes in the pool", now.pool_bytes)
    yield _gauge("chain_head_block", "latest block that is confirmed", now.head)
    yield _gauge("pyrelay_earliest_block", "first block that peers serve", now.earliest)
    startup = "seconds that a step of the start took"
    yield _by_label(GaugeMetricFamily, "pyrelay_startup_seconds", startup, "step", now.startup)


def _relaying(counts: RelayCounters) -> Iterator[Metric]:
    for attribute, name, words in TRANSACTION_COUNTS:
        yield CounterMetricFamily(f"pyrelay_{name}", words, value=getattr(counts, attribute))
    dropped = "transactions that were not taken"
    yield _by_label(CounterMetricFamily, "pyrelay_transactions_dropped", dropped, "cause", counts.dropped)
    offences = "peers disconnected for what they sent"
    yield _by_label(CounterMetricFamily, "pyrelay_offences", offences, "cause", counts.offences)
    words = "rulings of a node on transactions of peers"
    yield _by_label(CounterMetricFamily, "pyrelay_verdicts", words, "outcome", counts.verdicts)
    yield _gauge("pyrelay_pool_blob_transactions", "blob transactions in the pool", counts.blob_held)
    yield _gauge("pyrelay_pool_blob_bytes", "bytes of their blobs, extensions included", counts.blob_bytes)
    left = {why: getattr(counts, why) for why in POOL_EXITS}
    yield _by_label(CounterMetricFamily, "pyrelay_pool_left", "transactions that left the pool", "why", left)
    yield _gauge("pyrelay_intake_slice_seconds_max", "longest run of intake at a time", counts.longest_slice)
    yield SummaryMetricFamily(
        "pyrelay_relay_latency_seconds",
        "from the arrival of a transaction to its first delivery",
        count_value=counts.latency_count,
        sum_value=counts.latency_sum,
    )


def _rpc(now: MetricsSnapshot) -> Iterator[Metric]:
    refused, asked = "what clients of JSON-RPC were refused", "calls of JSON-RPC's upstreams and their faults"
    yield _by_label(CounterMetricFamily, "pyrelay_rpc_refusals", refused, "event", now.rpc)
    yield _by_label(CounterMetricFamily, "pyrelay_rpc_upstream_events", asked, "event", now.upstreams)
    if now.breaches is not None:
        words = "calls that the tripwire stopped before they got outside of Tor"
        yield CounterMetricFamily("pyrelay_tripwire_breaches", words, value=now.breaches)


def _stalls(stalls: LoopStallMonitor) -> Iterator[Metric]:
    recent = "longest time that the event loop was held within the last minute"
    yield _gauge("pyrelay_event_loop_stall_seconds", recent, stalls.recent_max)
    late = "how late a probe ran that was due every 100 ms"
    yield histogram("pyrelay_event_loop_lateness_seconds", late, BUCKETS, stalls.counts, stalls.total)
