"""The sidecar's pages: /metrics, /healthz, /readyz; and the daemon's node for who wants to join.

No metric names a pod or an address.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from relay.observe.pages import JSON, PROMETHEUS, SAFE, Page
from relay.rpc.httpd import Request

__all__ = ["DiscoveryCounts", "DiscoveryPages", "NodeInfoPage"]

_MAX_REQUEST: Final = 4096  # bytes of a JSON-RPC request for the node
_TOLD: Final = ("id", "name", "enode", "enr", "ports", "protocols")


@dataclass(frozen=True, slots=True)
class DiscoveryCounts:
    """What the metrics page tells.

    Attributes:
        entries: other relays by state: fresh, stale, rejected, unreached.
        updates: changes by result: accepted, rejected, written, write_failed.
        conflicts: claims of keys that another pod has.
        last_sync: seconds since 1970 when the book was last known to be up to date; 0 before.
        watch_ends: ends of watches by cause.
        peers: URLs in static-nodes.json.
        objects: our entry is an object of its own.
        synced: the book is followed now.
    """

    entries: Mapping[str, int]
    updates: Mapping[str, int]
    conflicts: int
    last_sync: float
    watch_ends: Mapping[str, int] = field(default_factory=dict)
    peers: int = 0
    objects: bool = False
    synced: bool = False


class DiscoveryPages:
    """Answers GET.

    Args:
        counts: read at each scrape.
    """

    def __init__(self, counts: Callable[[], DiscoveryCounts]) -> None:
        self._counts = counts
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Reader(counts))

    async def answer(self, request: Request) -> Page:
        """Answer one request."""
        if request.method not in ("GET", "HEAD"):
            return Page(405, b"method not allowed\n", headers={**SAFE, "Allow": "GET, HEAD"})
        if request.path in ("/metrics", "/debug/metrics/prometheus"):
            return Page(200, generate_latest(self._registry), PROMETHEUS)
        if request.path == "/healthz":
            return Page(200, b"ok\n")
        if request.path == "/readyz":
            # Never "has peers": the first pod of a cluster has none, and must become ready.
            synced = self._counts().synced
            words = b"ready\n" if synced else b"not ready\naddress book: not followed\n"
            return Page(200 if synced else 503, words)
        return Page(404, b"no such page\n")


class NodeInfoPage:
    """Answers admin_nodeInfo, and nothing else: for an onion service that other clusters join by.

    Args:
        info: what our daemon told last; None before.
    """

    def __init__(self, info: Callable[[], Mapping[str, Any] | None]) -> None:
        self._info = info

    async def answer(self, request: Request) -> Page:
        """Answer one request."""
        if request.method != "POST":
            return Page(405, b"method not allowed\n", headers={**SAFE, "Allow": "POST"})
        call_id, method = _called(await request.read(_MAX_REQUEST))
        if method != "admin_nodeInfo":
            error = {
                "code": -32601,
                "message": "the method is not available: only admin_nodeInfo is served here",
            }
            return _json({"jsonrpc": "2.0", "id": call_id, "error": error})
        info = self._info()
        if info is None:
            error = {"code": -32000, "message": "the daemon has not told its node yet"}
            return _json({"jsonrpc": "2.0", "id": call_id, "error": error})
        told = {name: info[name] for name in _TOLD if name in info}
        return _json({"jsonrpc": "2.0", "id": call_id, "result": told})


def _called(body: bytes) -> tuple[object, object]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None, None
    if not isinstance(value, dict):
        return None, None
    call_id = value.get("id")
    return (call_id if isinstance(call_id, int | str) else None), value.get("method")


def _json(value: object) -> Page:
    return Page(200, json.dumps(value).encode() + b"\n", JSON)


class _Reader(Collector):
    def __init__(self, counts: Callable[[], DiscoveryCounts]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        now = self._counts()
        entries = GaugeMetricFamily(
            "pyrelay_discovery_entries", "other relays in the address book", labels=("state",)
        )
        for state, count in now.entries.items():
            entries.add_metric((state,), count)
        yield entries
        yield _counter("pyrelay_discovery_updates", "entries read and written", "result", now.updates)
        conflicts = CounterMetricFamily("pyrelay_discovery_conflicts", "pods that claimed another's keys")
        conflicts.add_metric((), now.conflicts)
        yield conflicts
        yield _gauge("last_sync_timestamp_seconds", "when the book was last up to date", now.last_sync)
        yield _counter("pyrelay_discovery_watch_ends", "watches that ended", "cause", now.watch_ends)
        yield _gauge("static_nodes", "peers in static-nodes.json", now.peers)
        yield _gauge("objects", "1: the own entry is an object of its own", float(now.objects))
        yield _gauge("synced", "1: the address book is followed", float(now.synced))


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(f"pyrelay_discovery_{name}", words, value=value)


def _counter(name: str, words: str, label: str, values: Mapping[str, int]) -> Metric:
    metric = CounterMetricFamily(name, words, labels=(label,))
    for each, count in values.items():
        metric.add_metric((each,), count)
    return metric
