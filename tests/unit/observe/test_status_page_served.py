"""The page over HTTP: streams begin, end with their client, and do not hold up the end of the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest_asyncio

from relay.observe.loop_stall import LoopStallMonitor
from relay.observe.metrics import Metrics
from relay.observe.pages import Pages
from relay.observe.status_page.site import StatusSite
from relay.rpc.httpd import HttpOptions, HttpServer
from relay.transports.sockets import SocketFactory, SocketRules
from tests.aids.http_client import exchange, request
from tests.aids.until import until
from tests.unit.observe.conftest import Loop, Source
from tests.unit.observe.test_status_page import ONION, Told


class Served:
    def __init__(self, site: StatusSite, server: HttpServer, port: int) -> None:
        self.site, self.server, self.port = site, server, port

    async def stream(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request(path="/events"))
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Content-Type: text/event-stream\r\n" in head
        assert b"Server: pyrelay\r\n" in head
        assert b"Date:" not in head
        await reader.readuntil(b'"total":0')
        return reader, writer


@pytest_asyncio.fixture
async def served(
    metrics: Metrics, stalls: LoopStallMonitor, loop_clock: Loop, source: Source
) -> AsyncIterator[Served]:
    site = StatusSite(source, Told(), lambda: (), lambda: 0.0, loop_clock, version="1")
    pages = Pages(metrics, stalls, lambda: (), clock=loop_clock.time, site=site)
    # A server that waited for its pages would wait longer than any test.
    server = HttpServer(pages.answer, options=HttpOptions(stop_seconds=3600.0))
    sock = SocketFactory(SocketRules.anywhere()).listen_tcp("127.0.0.1", 0)
    await server.start(sock)
    yield Served(site, server, sock.getsockname()[1])
    await server.close()


async def test_page_is_for_get_and_for_hosts_of_ours(served: Served) -> None:
    page = await exchange(served.port, request())
    head = await exchange(served.port, request("HEAD", "/events"), head_only=True)
    posted = await exchange(served.port, request("POST", "/"))
    rebound = await exchange(served.port, request(headers={"Host": "evil.example"}))
    passed_on = await exchange(served.port, request(headers={"X-Forwarded-For": "192.0.2.1"}))
    metrics = await exchange(served.port, request(path="/debug/metrics"))

    assert ONION.encode() in page.body
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert (head.status, posted.status, rebound.status) == (200, 405, 403)
    assert ONION.encode() not in passed_on.body
    assert b"p2p_peers 0" in metrics.body


async def test_stream_ends_with_its_client(served: Served) -> None:
    _, writer = await served.stream()
    assert served.site._live == 1
    writer.close()

    await until(lambda: served.site._live == 0, "the stream ends")


async def test_server_ends_at_once_though_pages_are_live(served: Served) -> None:
    streams = [await served.stream() for _ in range(3)]

    async with asyncio.timeout(30):
        await served.server.close()

    assert served.site._live == 0
    for reader, writer in streams:
        with suppress(ConnectionError):
            await reader.read()
        writer.close()
