"""The pages over HTTP, as app joins them."""

import json

from relay.observe.loop_stall import LoopStallMonitor
from relay.observe.metrics import Metrics
from relay.observe.pages import Pages
from relay.observe.snapshot import MetricsSnapshot, PeerKind
from relay.rpc.httpd import HttpServer
from relay.transports.sockets import SocketFactory, SocketRules
from tests.aids.http_client import Reply, exchange, request
from tests.unit.observe.conftest import Loop, Source


async def test_scrape_shows_peers_and_strangers_see_nothing(
    metrics: Metrics, stalls: LoopStallMonitor, loop_clock: Loop, source: Source
) -> None:
    source.now = MetricsSnapshot(peers={PeerKind("onion", False): 2})
    server = HttpServer(Pages(metrics, stalls, lambda: (), clock=loop_clock.time).answer)
    sock = SocketFactory(SocketRules.anywhere()).listen_tcp("127.0.0.1", 0)
    port = sock.getsockname()[1]
    await server.start(sock)

    async def get(path: str, method: str = "GET", **headers: str) -> Reply:
        return await exchange(port, request(method, path, headers=headers), head_only=method == "HEAD")

    text = await get("/debug/metrics?x=1")
    data = await get("/debug/metrics", Accept="application/json")
    rebound = await get("/debug/metrics", Host="evil.example")
    head = await get("/healthz", "HEAD")
    posted = await get("/healthz", "POST")
    await server.close()

    assert b"\np2p_peers 2\n" in text.body
    assert text.headers["server"] == "pyrelay"
    assert json.loads(data.body)["p2p_peers"] == 2
    assert (rebound.status, rebound.body) == (403, b"invalid host specified\n")
    assert (head.status, head.body) == (200, b"")
    assert posted.status == 405
