import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.observe.loop_stall import LoopStallMonitor
from relay.observe.metrics import Metrics
from relay.observe.pages import Page, Pages, Readiness, prefers_json
from tests.unit.observe.conftest import Loop


@dataclass(frozen=True)
class Request:
    path: str = "/"
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)


AS_JSON = {"Accept": "application/json"}
STARTING = (
    Readiness("listening", True, "127.0.0.1:30303"),
    Readiness("tor", False, "bootstrapped 45%"),
    Readiness("onion-service", False),
)


class Desk:
    """Pages and what they look at."""

    def __init__(self, metrics: Metrics, stalls: LoopStallMonitor, clock: Loop) -> None:
        self.clock = clock
        self.parts: tuple[Readiness, ...] = STARTING
        self.pages = Pages(metrics, stalls, lambda: self.parts, clock=clock.time)

    async def get(self, path: str, headers: Mapping[str, str] | None = None) -> Page:
        return await self.pages.answer(Request(path, headers=headers or {}))


@pytest.fixture
def desk(metrics: Metrics, stalls: LoopStallMonitor, loop_clock: Loop) -> Desk:
    return Desk(metrics, stalls, loop_clock)


@pytest.mark.parametrize("path", ["/debug/metrics", "/debug/metrics/prometheus"])
async def test_metrics_are_prometheus_text(desk: Desk, path: str) -> None:
    page = await desk.get(path)

    assert page.status == 200
    assert page.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert b"\np2p_peers 0\n" in page.body


async def test_metrics_are_json_for_who_asks(desk: Desk) -> None:
    page = await desk.get("/debug/metrics", AS_JSON)

    values = json.loads(page.body)
    assert page.content_type == "application/json"
    assert values["p2p_peers"] == 0
    assert values["pyrelay_static_nodes"][0] == {"labels": {"state": "loaded"}, "value": 0}
    assert (await desk.get("/debug/metrics/prometheus", AS_JSON)).body.startswith(b"#")


async def test_health_is_well_while_the_loop_runs(desk: Desk) -> None:
    desk.clock.now += 12.5
    page = await desk.get("/healthz")

    assert page.status == 200
    assert json.loads(page.body) == {"status": "ok", "uptime_seconds": 12.5, "event_loop_stall_seconds": 0.0}


async def test_readiness_lists_what_is_missing(desk: Desk) -> None:
    text, data = await desk.get("/readyz"), await desk.get("/readyz", AS_JSON)

    assert text.status == data.status == 503
    assert text.body.decode().splitlines() == [
        "not ready",
        "listening: ok (127.0.0.1:30303)",
        "tor: missing (bootstrapped 45%)",
        "onion-service: missing",
    ]
    assert json.loads(data.body)["missing"] == ["tor", "onion-service"]
    assert json.loads(data.body)["parts"]["tor"] == {"ready": False, "detail": "bootstrapped 45%"}


async def test_readiness_is_reached_when_nothing_is_missing(desk: Desk) -> None:
    desk.parts = (Readiness("listening", True),)
    text, data = await desk.get("/readyz"), await desk.get("/readyz", AS_JSON)

    assert (text.status, text.body) == (200, b"ready\nlistening: ok\n")
    assert json.loads(data.body)["ready"] is True


async def test_start_page_links_to_what_is_there(desk: Desk) -> None:
    page = await desk.get("/")

    assert page.content_type.startswith("text/html")
    for path in ("/debug/metrics", "/healthz", "/readyz"):
        assert f'href="{path}"'.encode() in page.body
        assert (await desk.get(path)).status in (200, 503)
    assert b"<script" not in page.body
    assert page.headers["Content-Security-Policy"] == "default-src 'none'"


@pytest.mark.parametrize("path", ["/debug", "/debug/metrics/", "//", "/../healthz", "/healthz%00"])
async def test_other_pages_are_not_there(desk: Desk, path: str) -> None:
    assert (await desk.get(path)).status == 404


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("POST", 405), ("DELETE", 405), ("X", 405)])
async def test_pages_are_only_read(desk: Desk, method: str, status: int) -> None:
    page = await desk.pages.answer(Request("/healthz", method))

    assert page.status == status
    if status == 405:
        assert page.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    ("accept", "wants_json"),
    [
        ("", False),
        ("*/*", False),
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("application/json;q=0", False),
        ("text/plain, application/json;q=0.9", False),
        ("text/plain;q=0.5, application/json", True),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False),
        ("application/json, text/plain", False),
        ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", False),
        ("application/json;q=x", False),
        ("application/json;q=7", False),
        ("application/json;q=nan", False),
    ],
)
def test_json_is_given_to_who_prefers_it(accept: str, wants_json: bool) -> None:
    assert prefers_json(accept) is wants_json


@given(st.text(max_size=60))
def test_fuzz_any_accept_header_is_read(accept: str) -> None:
    assert prefers_json(accept) in (True, False)
