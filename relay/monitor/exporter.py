"""What a monitor saw as Prometheus metrics. No label names a peer or an address.

Names of clients are chosen by peers: only short plain ones become labels, and only so many at a time; the
rest is "other". So a stranger can make neither a line of the page nor an endless number of series.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from relay.monitor.anomalies import find_anomalies
from relay.monitor.geography import Geography, Nowhere
from relay.monitor.peer import UNKNOWN, Peer
from relay.monitor.watch import SESSION_BUCKETS, Watch
from relay.observe.histogram import histogram

__all__ = ["Exporter", "ExporterPage"]

NETWORKS: Final = ("onion", "i2p", "ipv4", "ipv6", "private", "loopback", "unknown")
DIRECTIONS: Final = {True: "inbound", False: "outbound", None: "unknown"}
KINDS: Final = ("stale", "no_peers", "loss", "dominance", "subnet", "eclipse_new", "eclipse_inbound")
QUANTILES: Final = (0.5, 0.9, 1.0)
MAX_CLIENTS: Final = 24
MAX_PROTOCOLS: Final = 32
OTHER: Final = "other"
_PLAIN_CLIENT: Final = re.compile(r"[a-z][a-z0-9._-]{1,19}")
_PLAIN_CAP: Final = re.compile(r"([a-z]{2,8})/([0-9]{1,3})")

PROMETHEUS: Final = "text/plain; version=0.0.4; charset=utf-8"
TEXT: Final = "text/plain; charset=utf-8"
SAFE: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'",
    "X-Content-Type-Options": "nosniff",
}
INDEX: Final = b"pyrelay monitor: /metrics for Prometheus, /healthz\n"


class HttpRequest(Protocol):
    """The part of a request that is looked at."""

    @property
    def method(self) -> str:
        """In capitals."""
        ...

    @property
    def path(self) -> str:
        """Without the query."""
        ...


@dataclass(frozen=True, slots=True)
class ExporterPage:
    """An answer."""

    status: int
    body: bytes
    content_type: str = TEXT
    headers: Mapping[str, str] = field(default_factory=lambda: SAFE)


class Exporter:
    """Answers scrapes.

    Args:
        watch: what was seen.
        clock: that the watch is told of.
        geography: for countries; without a file there is no such metric.
    """

    def __init__(
        self, watch: Watch, clock: Callable[[], float], geography: Geography | Nowhere | None = None
    ) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Reader(watch, clock, geography or Nowhere()))

    def text(self) -> bytes:
        """Return Prometheus' text format."""
        return generate_latest(self._registry)

    async def answer(self, request: HttpRequest) -> ExporterPage:
        """Answer one request."""
        if request.method not in ("GET", "HEAD"):
            return ExporterPage(405, b"method not allowed\n", headers={**SAFE, "Allow": "GET, HEAD"})
        match request.path:
            case "/metrics":
                return ExporterPage(200, self.text(), PROMETHEUS)
            case "/healthz":
                return ExporterPage(200, b"ok\n")
            case "/":
                return ExporterPage(200, INDEX)
            case _:
                return ExporterPage(404, b"no such page\n")


class _Reader(Collector):
    def __init__(self, watch: Watch, clock: Callable[[], float], geography: Geography | Nowhere) -> None:
        self._watch, self._clock, self._geography = watch, clock, geography

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not read anything."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Read the watch."""
        watch, now = self._watch, self._clock()
        up = watch.view is not None and not watch.failure
        yield _gauge("up", "1 while the node answers", float(up))
        yield CounterMetricFamily("peermon_rpc_failures", "looks that failed", value=watch.failures)
        yield CounterMetricFamily("peermon_looks", "looks that succeeded", value=watch.looks)
        age = watch.age(now)
        if age is not None:
            yield _gauge("data_age_seconds", "age of all that is told here", age)
        yield from _changes(watch)
        if watch.view is not None:  # as it was seen last, also while the node does not answer: see its age
            yield from _node(watch)
            yield from _peers(watch)
            if self._geography.known:
                countries = Counter(self._geography.country(peer.address) for peer in watch.peers)
                counts = {OTHER if name == UNKNOWN else name: n for name, n in countries.items()}
                yield _by("peers_by_country", "peers with a public address, by country", "country", counts)
        yield _anomalies(watch, now)


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(f"peermon_{name}", words, value=value)


def _by(name: str, words: str, label: str, counts: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"peermon_{name}", words, labels=(label,))
    for key, count in counts.items():
        family.add_metric((key,), count)
    return family


def _node(watch: Watch) -> Iterator[Metric]:
    view = watch.view
    assert view is not None
    if view.head is not None:
        yield _gauge("head_block_number", "newest block, or slot of a beacon node", view.head)
    if view.syncing is not None:
        yield _gauge("syncing", "1 while the node syncs", float(view.syncing))
    yield _gauge("entries_refused", "entries of the node's list that are no peers", view.refused)
    lags = sorted(lag for peer in view.peers if (lag := view.lag(peer)) is not None)
    if lags:
        found = {str(each): float(lags[min(len(lags) - 1, int(each * len(lags)))]) for each in QUANTILES}
        words = "blocks that peers are behind, of those that tell: quantile 1.0 is the furthest"
        yield _by("peer_head_lag_blocks", words, "quantile", found)


def _peers(watch: Watch) -> Iterator[Metric]:
    kinds = Counter((DIRECTIONS[peer.inbound], peer.address.network) for peer in watch.peers)
    for direction in ("inbound", "outbound"):
        for network in NETWORKS[:-1]:
            kinds.setdefault((direction, network), 0)
    family = GaugeMetricFamily("peermon_peers", "connected peers", labels=("direction", "network"))
    for labels, count in sorted(kinds.items()):
        family.add_metric(labels, count)
    yield family
    clients = Counter(_plain(peer.name.client) for peer in watch.peers)
    yield _by("peers_by_client", "connected peers", "client", _bounded(clients, MAX_CLIENTS))
    yield _by("peers_flagged", "static and trusted peers", "flag", {
        "static": sum(peer.static for peer in watch.peers),
        "trusted": sum(peer.trusted for peer in watch.peers),
    })  # fmt: skip
    words = "peers that speak eth or snap in this version, or offer another protocol"
    protocols = GaugeMetricFamily("peermon_peers_by_protocol", words, labels=("protocol", "version"))
    offers = Counter(cap for peer in watch.peers for cap in _spoken(peer))
    for cap, count in offers.most_common(MAX_PROTOCOLS):
        protocols.add_metric(cap, count)
    yield protocols


def _spoken(peer: Peer) -> set[tuple[str, str]]:
    offered = {tuple(cap.split("/")) for cap in peer.caps if _PLAIN_CAP.fullmatch(cap)}
    found = {(name, version) for name, version in offered if name not in ("eth", "snap")}
    return found | {
        (name, str(version)) for name, version in (("eth", peer.eth), ("snap", peer.snap)) if version
    }


def _changes(watch: Watch) -> Iterator[Metric]:
    words = "peers that came since the monitor began"
    yield CounterMetricFamily("peermon_peer_connects", words, value=watch.connects)
    gone = CounterMetricFamily("peermon_peer_disconnects", "peers that went", labels=("reason",))
    for reason, count in watch.disconnects.items():
        gone.add_metric((reason,), count)
    yield gone
    seen = "for how long peers that went had been seen"
    bounds, counts = SESSION_BUCKETS, watch.sessions
    yield histogram("peermon_peer_session_seconds", seen, bounds, counts, watch.session_seconds)


def _anomalies(watch: Watch, now: float) -> Metric:
    found = {anomaly.kind for anomaly in find_anomalies(watch, now)}
    return _by("anomaly", "1 while it is seen", "kind", {kind: float(kind in found) for kind in KINDS})


def _plain(client: str) -> str:
    if client == UNKNOWN:
        return "unknown"
    return client if _PLAIN_CLIENT.fullmatch(client) else OTHER


def _bounded(counts: Counter[str], limit: int) -> Mapping[str, int]:
    kept = dict(counts.most_common(limit))
    rest = counts.total() - sum(kept.values())
    if rest:
        kept[OTHER] = kept.get(OTHER, 0) + rest
    return kept
