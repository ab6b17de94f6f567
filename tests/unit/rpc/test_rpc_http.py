import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from relay.rpc.dispatcher import Dispatcher
from relay.rpc.httpd import HttpOptions, HttpServer, Request
from relay.rpc.methods import NAMESPACES, all_methods, select
from relay.rpc.over_http import HttpAnswer, JsonRpcOverHttp, RpcHttpOptions
from relay.transports.sockets import SocketFactory, SocketRules
from tests.aids.http_client import Reply, exchange, read_reply, request
from tests.unit.rpc.conftest import Clock, Node, recorded

JSON_TYPE = {"Content-Type": "application/json"}
CHAIN_ID = '{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}'


@asynccontextmanager
async def listening(server: HttpServer) -> AsyncIterator[int]:
    sock = SocketFactory(SocketRules.anywhere()).listen_tcp("127.0.0.1", 0)
    port: int = sock.getsockname()[1]
    await server.start(sock)
    try:
        yield port
    finally:
        await server.close()


@asynccontextmanager
async def serving(
    dispatcher: Dispatcher, http: HttpOptions | None = None, rpc: RpcHttpOptions | None = None
) -> AsyncIterator[int]:
    async with listening(HttpServer(JsonRpcOverHttp(dispatcher, options=rpc).answer, options=http)) as port:
        yield port


@pytest.mark.parametrize("case", recorded("headers"))
async def test_request_is_let_in_or_refused_as_by_geth(dispatcher: Dispatcher, case: dict[str, Any]) -> None:
    raw = request(case["method"], body=case["request"], headers=case["headers"])
    async with serving(dispatcher) as port:
        reply = await exchange(port, raw, head_only=case["method"] == "HEAD")

    if case["name"] == "head":
        assert reply.status == 200  # geth: 415; a load balancer may ask either way
    elif case["name"] == "host ipv6 without port":
        assert reply.status == 200  # geth: 403, since it does not strip the brackets
    else:
        assert (reply.status, reply.body.decode()) == (case["status"], case["answer"])
        assert reply.headers.get("content-type", "").lower() == case["content_type"]


async def test_server_tells_no_version_and_allows_no_origin(dispatcher: Dispatcher) -> None:
    async with serving(dispatcher) as port:
        replies = [
            await exchange(port, request("POST", body=CHAIN_ID, headers={**JSON_TYPE, "Origin": "http://x"})),
            await exchange(port, request("PUT")),
            await exchange(port, b"garbage\r\n\r\n"),
        ]

    for reply in replies:
        assert reply.headers["server"] == "pyrelay"
        assert "date" not in reply.headers
        assert "access-control-allow-origin" not in reply.headers
        assert b"aiohttp" not in reply.body
    assert replies[2].status == 400
    assert replies[2].body == b"bad request\n"


async def test_connection_is_kept_for_the_next_request(dispatcher: Dispatcher) -> None:
    async with serving(dispatcher) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(3):
            writer.write(request("POST", body=CHAIN_ID, headers=JSON_TYPE))
            assert json.loads((await read_reply(reader)).body)["result"] == "0x1e77"
        writer.close()


async def test_body_in_chunks_is_bounded_too(dispatcher: Dispatcher) -> None:
    head = request("POST", headers={**JSON_TYPE, "Transfer-Encoding": "chunked"}).replace(
        b"Content-Length: 0\r\n", b""
    )
    async with serving(dispatcher, rpc=RpcHttpOptions(body_bytes=100)) as port:
        small = await exchange(port, head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(CHAIN_ID), CHAIN_ID.encode()))
        large = await exchange(port, head + b"65\r\n" + b" " * 101 + b"\r\n0\r\n\r\n")

    assert json.loads(small.body)["result"] == "0x1e77"
    assert json.loads(large.body)["error"] == {"code": -32700, "message": "the body has more than 100 bytes"}


async def test_compressed_body_is_not_unpacked(dispatcher: Dispatcher) -> None:
    headers = {**JSON_TYPE, "Content-Encoding": "gzip"}
    async with serving(dispatcher) as port:
        reply = await exchange(port, request("POST", body=b"\x1f\x8b\x08\x00", headers=headers))
    assert json.loads(reply.body)["error"]["code"] == -32700


async def test_client_that_asks_before_it_sends_is_told_to_go_on(dispatcher: Dispatcher) -> None:
    async with serving(dispatcher) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        raw = request("POST", body=CHAIN_ID, headers={**JSON_TYPE, "Expect": "100-continue"})
        head, _, body = raw.partition(b"\r\n\r\n")
        writer.write(head + b"\r\n\r\n")
        assert (await read_reply(reader)).status == 100
        writer.write(body)
        assert json.loads((await read_reply(reader)).body)["result"] == "0x1e77"
        writer.close()


async def test_body_that_does_not_come_is_given_up(dispatcher: Dispatcher) -> None:
    async with serving(dispatcher, HttpOptions(body_seconds=0.05)) as port:
        reply = await exchange(port, request("POST", headers={**JSON_TYPE, "Content-Length": "10"}))
    assert json.loads(reply.body)["error"] == {"code": -32700, "message": "read timeout"}


async def test_client_that_goes_in_the_middle_of_a_body_does_no_harm(dispatcher: Dispatcher) -> None:
    async with serving(dispatcher) as port:
        with capture_logs() as logs:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(
                request("POST", headers={**JSON_TYPE, "Expect": "100-continue", "Content-Length": "9"})
            )
            await read_reply(reader)  # now the body is waited for
            writer.close()
            assert (await exchange(port, request())).status == 200
    assert logs == []


async def test_body_in_broken_chunks_is_given_up(dispatcher: Dispatcher) -> None:
    chunks = request("POST", headers={**JSON_TYPE, "Expect": "100-continue", "Transfer-Encoding": "chunked"})
    async with serving(dispatcher, HttpOptions(body_seconds=0.05, linger_seconds=0.05)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(chunks.replace(b"Content-Length: 0\r\n", b""))
        await read_reply(reader)
        writer.write(b"hello\r\n")
        assert json.loads((await read_reply(reader)).body)["error"]["code"] == -32700
        assert await reader.read() == b""
        writer.close()


async def test_connection_without_a_request_is_closed(dispatcher: Dispatcher) -> None:
    async with serving(dispatcher, HttpOptions(idle_seconds=0.05)) as port, asyncio.timeout(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nHost:")
        assert await reader.read() == b""
        writer.close()


async def test_connections_are_bounded(dispatcher: Dispatcher) -> None:
    async with serving(dispatcher, HttpOptions(connections=1)) as port, asyncio.timeout(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request())
        await read_reply(reader)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await exchange(port, request())
        writer.close()


async def test_hosts_are_options(dispatcher: Dispatcher) -> None:
    raw = request("GET", headers={"Host": "relay.example:80"})
    for vhosts, status in ((("localhost",), 403), (("Relay.example",), 200), (("*",), 200)):
        async with serving(dispatcher, HttpOptions(vhosts=vhosts)) as port:
            assert (await exchange(port, raw)).status == status


async def test_bug_in_a_handler_tells_the_client_nothing() -> None:
    async def broken(request: Request) -> HttpAnswer:
        raise ZeroDivisionError("inner words")

    async with listening(HttpServer(broken)) as port:
        with capture_logs() as logs:
            reply: Reply = await exchange(port, request())
    assert [entry["event"] for entry in logs] == ["http handler failed"]
    assert (reply.status, reply.body) == (500, b"internal error\n")


async def test_server_that_never_started_can_be_closed(dispatcher: Dispatcher) -> None:
    await HttpServer(JsonRpcOverHttp(dispatcher).answer).close()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=80), min_size=1, max_size=8))
def test_fuzz_any_body_gets_one_well_formed_answer(node: Node, clock: Clock, bodies: list[bytes]) -> None:
    async def run() -> list[Reply]:
        dispatcher = Dispatcher(select(all_methods(node, node, node), NAMESPACES), clock=clock)
        async with serving(dispatcher) as port:
            return [await exchange(port, request("POST", body=body, headers=JSON_TYPE)) for body in bodies]

    for reply in asyncio.run(run()):
        assert reply.status == 200
        assert not reply.body or json.loads(reply.body)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=120))
def test_fuzz_any_bytes_leave_the_server_alive(node: Node, clock: Clock, raw: bytes) -> None:
    async def run() -> Reply:
        dispatcher = Dispatcher(select(all_methods(node, node, node), NAMESPACES), clock=clock)
        async with serving(dispatcher) as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(raw + b"\r\n\r\n")
            writer.close()
            return await exchange(port, request())

    assert asyncio.run(run()).status == 200
