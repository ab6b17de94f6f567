"""The pages of the metrics port: metrics, health, readiness. Plain answers to plain requests.

`app` joins this to the server of relay.rpc.httpd, which checks the Host header and bounds what may come in.
Nothing here waits for Tor, a peer or a disk, so the pages answer from the first second on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from relay.observe.loop_stall import LoopStallMonitor
from relay.observe.metrics import Metrics
from relay.observe.status_page.site import Asked, Found, StatusSite

__all__ = ["HttpRequest", "Page", "Pages", "Readiness"]

JSON: Final = "application/json"
HTML: Final = "text/html; charset=utf-8"
TEXT: Final = "text/plain; charset=utf-8"
PROMETHEUS: Final = "text/plain; version=0.0.4; charset=utf-8"

SAFE: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'",
    "X-Content-Type-Options": "nosniff",
}

INDEX: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>pyrelay</title>
<h1>pyrelay</h1>
<ul>
<li><a href="/debug/metrics">/debug/metrics</a>: Prometheus text; JSON for Accept: application/json
<li><a href="/debug/metrics/prometheus">/debug/metrics/prometheus</a>: the same
<li><a href="/healthz">/healthz</a>: the event loop runs
<li><a href="/readyz">/readyz</a>: peers can be reached and can reach us
</ul>
</html>
"""


class HttpRequest(Asked, Protocol):
    """The part of a request that is looked at."""

    @property
    def method(self) -> str:
        """In capitals."""
        ...

    @property
    def path(self) -> str:
        """Without the query."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Names in any case."""
        ...


@dataclass(frozen=True, slots=True)
class Page:
    """An answer."""

    status: int
    body: bytes
    content_type: str = TEXT
    headers: Mapping[str, str] = field(default_factory=lambda: SAFE)


@dataclass(frozen=True, slots=True)
class Readiness:
    """One thing that must be so before peers are served well.

    Attributes:
        name: one word: listening, tor, onion-service.
        ready: it is so.
        detail: for a person, such as "bootstrapped 45%".
    """

    name: str
    ready: bool
    detail: str = ""


class Pages:
    """Answers GET and HEAD.

    Args:
        metrics: rendered at each scrape.
        stalls: shown by /healthz.
        readiness: what has to be so; read at each request.
        clock: monotonic seconds.
        site: the status page; None for a list of links in its place.
    """

    def __init__(
        self,
        metrics: Metrics,
        stalls: LoopStallMonitor,
        readiness: Callable[[], Sequence[Readiness]],
        *,
        clock: Callable[[], float],
        site: StatusSite | None = None,
    ) -> None:
        self._site = site
        self._metrics = metrics
        self._stalls = stalls
        self._readiness = readiness
        self._clock = clock
        self._started = clock()
        self._routes: Mapping[str, Callable[[bool], Page]] = {
            "/": lambda _: Page(200, INDEX.encode(), HTML),
            "/debug/metrics": self._metrics_page,
            "/debug/metrics/prometheus": lambda _: self._metrics_page(False),
            "/healthz": self._health_page,
            "/readyz": self._ready_page,
        }

    async def answer(self, request: HttpRequest) -> Page | Found:
        """Answer one request."""
        route = self._routes.get(request.path)
        site = self._site if self._site is not None and self._site.has(request.path) else None
        if route is None and site is None:
            return Page(404, b"no such page\n")
        if request.method not in ("GET", "HEAD"):
            return Page(405, b"method not allowed\n", headers={**SAFE, "Allow": "GET, HEAD"})
        if site is not None:
            return site.answer(request)
        assert route is not None
        return route(prefers_json(request.headers.get("Accept", "")))

    def _metrics_page(self, as_json: bool) -> Page:
        if as_json:
            return _json_page(200, self._metrics.values())
        return Page(200, self._metrics.text(), PROMETHEUS)

    def _health_page(self, _: bool) -> Page:
        # That this code runs is the proof; a loop that is stuck answers nothing at all.
        stall = round(self._stalls.recent_max, 6)
        uptime = round(self._clock() - self._started, 3)
        return _json_page(200, {"status": "ok", "uptime_seconds": uptime, "event_loop_stall_seconds": stall})

    def _ready_page(self, as_json: bool) -> Page:
        parts = self._readiness()
        missing = [part for part in parts if not part.ready]
        status = 503 if missing else 200
        if as_json:
            listed = {part.name: {"ready": part.ready, "detail": part.detail} for part in parts}
            missing_names = [part.name for part in missing]
            return _json_page(status, {"ready": not missing, "missing": missing_names, "parts": listed})
        lines = ["not ready" if missing else "ready", *map(_line, parts)]
        return Page(status, ("\n".join(lines) + "\n").encode())


def _line(part: Readiness) -> str:
    state = "ok" if part.ready else "missing"
    return f"{part.name}: {state}" + (f" ({part.detail})" if part.detail else "")


def _json_page(status: int, value: object) -> Page:
    return Page(status, json.dumps(value).encode() + b"\n", JSON)


def prefers_json(accept: str) -> bool:
    """Tell whether an Accept header names JSON above plain text; without a wish it is text."""
    weights = dict(_weight(part) for part in accept.lower().split(","))
    wanted = weights.get(JSON, 0.0)
    text = max(weights.get("text/plain", 0.0), weights.get("text/*", 0.0), weights.get("text/html", 0.0))
    return wanted > 0 and wanted > text


def _weight(part: str) -> tuple[str, float]:
    kind, *parameters = (piece.strip() for piece in part.split(";"))
    for parameter in parameters:
        if parameter.startswith("q="):
            return kind, _quality(parameter[2:])
    return kind, 1.0


def _quality(text: str) -> float:
    try:
        quality = float(text)
    except ValueError:
        return 0.0
    return quality if 0.0 <= quality <= 1.0 else 0.0
