from __future__ import annotations

import asyncio
import json

import pytest

from relay.localnet.scrape import Reading, read_metrics, reading_of
from relay.transports.sockets import SocketFactory, SocketRules

PAGE = {
    "p2p_peers_inbound": 2.0,
    "p2p_peers_outbound": 1.0,
    "p2p_ingress": 1234.0,
    "p2p_egress": 4321.0,
    "pyrelay_tor_bootstrap_percent": 100.0,
    "pyrelay_onion_service_up": 1.0,
    "pyrelay_transactions_accepted_total": 7.0,
    "pyrelay_transactions_submitted_total": 3.0,
    "pyrelay_transactions_relayed_total": 9.0,
    "pyrelay_peers": [
        {"labels": {"network": "onion", "direction": "inbound"}, "value": 2.0},
        {"labels": {"network": "onion", "direction": "outbound"}, "value": 1.0},
        {"labels": {"network": "ipv4", "direction": "outbound"}, "value": 5.0},
    ],
}
READING = Reading(100, True, 3, 2, 1, 10, 9, 1234, 4321)
SOCKETS = SocketFactory(SocketRules.anywhere())


def test_reading_is_picked_from_the_page():
    assert reading_of(PAGE) == READING
    assert reading_of({}) == Reading()


async def ask(answer: bytes) -> tuple[Reading | None, bytes]:
    requests = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer[:20])
        await writer.drain()
        writer.write(answer[20:])
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        found = await read_metrics(SOCKETS, server.sockets[0].getsockname()[1])
    return found, requests[0]


async def test_page_is_asked_for_as_json():
    body = json.dumps(PAGE).encode()
    found, request = await ask(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + body)
    assert found == READING
    assert request.startswith(b"GET /debug/metrics HTTP/1.0\r\n")
    assert b"\r\nAccept: application/json\r\n" in request


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.0 503 no\r\n\r\n{}", b"HTTP/1.0 200 OK\r\n\r\n{", b"HTTP/1.0 200 OK\r\n\r\n[]", b""],
)
async def test_page_that_is_no_metrics_tells_nothing(answer):
    assert (await ask(answer))[0] is None


async def test_nobody_there_tells_nothing():
    with SOCKETS.listen_tcp("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
    assert await read_metrics(SOCKETS, port) is None
