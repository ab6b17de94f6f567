"""JSON-RPC by WebSocket: calls side by side, subscriptions, origins, tokens, clients that misbehave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType

from relay.rpc.dispatcher import Dispatcher
from relay.rpc.httpd import HttpOptions, HttpServer
from relay.rpc.messages import RawJson
from relay.rpc.meters import Meters, Rate
from relay.rpc.methods import Method
from relay.rpc.over_http import JsonRpcOverHttp
from relay.rpc.over_ws import JsonRpcOverWs, RpcWsOptions
from relay.rpc.subscriptions import PENDING, PendingFeed
from relay.transports.sockets import SocketFactory, SocketRules
from tests.aids.http_client import exchange, request
from tests.aids.until import until
from tests.unit.rpc.conftest import Clock


class Heads:
    """An upstream that pushes."""

    def __init__(self) -> None:
        self.listeners: list[Any] = []

    async def subscribe(self, params: Any, on_message: Any) -> Any:
        self.listeners.append(on_message)
        return lambda: self.listeners.remove(on_message)


class Server:
    def __init__(self, clock: Clock) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.begun = self.under_way = 0
        self.feed, self.heads = PendingFeed(), Heads()
        self.port = 0
        methods = {"x_big": Method("x_big", lambda: "a" * 1_000_000), "x_fast": Method("x_fast", lambda: 1)}
        self.dispatcher = Dispatcher(methods, clock=clock, fallback=self.slow)

    async def slow(self, call: Any) -> RawJson:
        self.begun += 1
        self.under_way += 1
        try:
            await self.gate.wait()
        finally:
            self.under_way -= 1
        return RawJson('"slow"')


@asynccontextmanager
async def serving(
    clock: Clock,
    options: RpcWsOptions | None = None,
    http: HttpOptions | None = None,
    *,
    meters: Meters | None = None,
    both: bool = False,
    refusal: Any = None,
) -> AsyncIterator[Server]:
    made = Server(clock)
    over_ws = JsonRpcOverWs(
        made.dispatcher, feeds={PENDING: made.feed}, pushing=made.heads, options=options, meters=meters
    )
    over_http = JsonRpcOverHttp(made.dispatcher).answer if both else None
    server = HttpServer(over_http, options=http, sockets=over_ws, refusal=refusal)
    sock = SocketFactory(SocketRules.anywhere()).listen_tcp("127.0.0.1", 0)
    made.port = sock.getsockname()[1]
    async with asyncio.timeout(20):
        await server.start(sock)
        try:
            yield made
        finally:
            await server.close()


class Client:
    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def send(self, method: str, *params: object, id_: object = 1) -> None:
        await self.socket.send_json({"jsonrpc": "2.0", "id": id_, "method": method, "params": params})

    async def read(self) -> Any:
        return json.loads(await self.socket.receive_str())

    async def call(self, method: str, *params: object) -> Any:
        await self.send(method, *params)
        return await self.read()


@asynccontextmanager
async def client(server: Server, **more: Any) -> AsyncIterator[Client]:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"ws://127.0.0.1:{server.port}/", max_msg_size=0, **more) as socket,
    ):
        yield Client(socket)


async def test_calls_are_answered_side_by_side(clock: Clock) -> None:
    async with serving(clock) as server, client(server) as one:
        server.gate.clear()
        await one.send("up_slow", id_=1)
        assert (await one.call("x_fast"))["result"] == 1
        await one.send("x_fast", id_="two")
        assert (await one.read())["id"] == "two"
        server.gate.set()
        assert await one.read() == {"jsonrpc": "2.0", "id": 1, "result": "slow"}


async def test_batch_and_binary_messages_are_taken_and_garbage_ends_the_connection(clock: Clock) -> None:
    async with serving(clock) as server, client(server) as one:
        call = {"jsonrpc": "2.0", "id": 1, "method": "x_fast"}
        await one.socket.send_json([call, {**call, "id": 2}])
        assert [answer["id"] for answer in await one.read()] == [1, 2]
        await one.socket.send_bytes(json.dumps(call).encode())
        assert (await one.read())["result"] == 1
        await one.socket.send_str("hello")
        assert (await one.read())["error"] == {"code": -32700, "message": "parse error"}
        assert (await one.socket.receive()).type is WSMsgType.CLOSE


async def test_requests_of_one_client_at_a_time_are_bounded(clock: Clock) -> None:
    async with serving(clock, RpcWsOptions(at_once=3)) as server, client(server) as one:
        server.gate.clear()
        for number in range(10):
            await one.send("up_slow", id_=number)
        await until(lambda: server.begun == 3, "three are under way")
        for _ in range(20):
            await asyncio.sleep(0)
        assert server.begun == 3
        server.gate.set()
        assert sorted([(await one.read())["id"] for _ in range(10)]) == list(range(10))


async def test_calls_of_a_client_that_has_gone_are_given_up(clock: Clock) -> None:
    async with serving(clock) as server:
        server.gate.clear()
        async with client(server) as one:
            await one.send("up_slow")
            await until(lambda: server.under_way == 1, "it is under way")
        await until(lambda: server.under_way == 0, "it is given up")


async def test_subscriptions_of_both_kinds(clock: Clock) -> None:
    async with serving(clock) as server:
        async with client(server) as one:
            pending = (await one.call("eth_subscribe", PENDING))["result"]
            heads = (await one.call("eth_subscribe", "newHeads"))["result"]
            server.feed.publish(SimpleNamespace(hash=bytes(32)))
            server.heads.listeners[0]('{"number":"0x5"}')
            told = [(await one.read())["params"] for _ in range(2)]
            assert told == [
                {"subscription": pending, "result": "0x" + "00" * 32},
                {"subscription": heads, "result": {"number": "0x5"}},
            ]
            assert (await one.call("eth_unsubscribe", heads))["result"] is True
            assert server.heads.listeners == []
            assert (await one.call("eth_subscribe", "x"))["error"]["code"] == -32601
            await one.call("eth_subscribe", "newHeads")
        await until(lambda: not (server.feed._listeners or server.heads.listeners), "all is forgotten")


async def raw_client(server: Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """One that has shaken hands, and reads nothing by itself."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1)
    writer.write(
        request(
            headers={
                "Connection": "Upgrade",
                "Upgrade": "websocket",
                "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
            }
        )
    )
    return reader, writer


def masked(text: bytes) -> bytes:
    assert len(text) < 126
    return bytes((0x81, 0x80 | len(text))) + bytes(4) + text


async def pester(writer: asyncio.StreamWriter, text: bytes) -> None:
    """Send the same again and again, until the connection breaks."""
    while True:
        writer.write(masked(text))
        await writer.drain()
        await asyncio.sleep(0.001)


async def test_client_that_never_reads_its_answers_is_cut_off_at_the_bytes(clock: Clock) -> None:
    async with serving(clock, RpcWsOptions(backlog_bytes=4_000_000)) as server:
        _, writer = await raw_client(server)
        for _ in range(40):
            writer.write(masked(b'{"jsonrpc":"2.0","id":1,"method":"x_big"}'))
        # Its reading stops; what was asked for fills the buffers, then the bound.
        with pytest.raises(ConnectionError):
            await pester(writer, b'{"jsonrpc":"2.0","id":1,"method":"x_big"}')


async def test_client_that_takes_nothing_is_cut_off_at_the_deadline(clock: Clock) -> None:
    async with serving(clock, RpcWsOptions(write_seconds=0.1)) as server:
        _, writer = await raw_client(server)
        writer.write(masked(b'{"jsonrpc":"2.0","id":1,"method":"x_big"}') * 8)
        with pytest.raises(ConnectionError):
            await pester(writer, b"[]")


async def test_subscriber_that_never_reads_is_cut_off(clock: Clock) -> None:
    async with serving(clock, RpcWsOptions(backlog_bytes=100_000)) as server:
        _, writer = await raw_client(server)
        body = b'{"jsonrpc":"2.0","id":1,"method":"eth_subscribe","params":["newPendingTransactions"]}'
        writer.write(masked(body))
        await until(lambda: server.feed._listeners, "it has subscribed")

        def published() -> bool:
            for number in range(1000):
                server.feed.publish(SimpleNamespace(hash=number.to_bytes(32, "big")))
            return not server.feed._listeners

        await until(published, "it is cut off", deadline=15.0, every=0.0)
        writer.close()


async def test_message_over_the_limit_ends_the_connection(clock: Clock) -> None:
    async with serving(clock, http=HttpOptions(message_bytes=1000)) as server, client(server) as one:
        await one.socket.send_str("[" + " " * 2000 + "]")
        message = await one.socket.receive()
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1009)


async def test_client_that_answers_no_ping_is_cut_off(clock: Clock) -> None:
    async with serving(clock, http=HttpOptions(ping_seconds=0.05)) as server:
        reader, writer = await raw_client(server)
        await reader.read(1 << 16)
        while await reader.read(1 << 16):
            pass
        writer.close()


async def test_page_of_another_origin_is_refused(clock: Clock) -> None:
    async with serving(clock, RpcWsOptions(origins=("https://wallet.example",))) as server:
        for origin in ("https://evil.example", "http://localhost"):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
                async with client(server, origin=origin):
                    pass
            assert refusal.value.status == 403
        async with client(server, origin="https://wallet.example") as one:
            assert (await one.call("x_fast"))["result"] == 1


async def test_port_of_websocket_alone_serves_nothing_else_and_one_of_both_does(clock: Clock) -> None:
    post = request(
        "POST",
        body='{"jsonrpc":"2.0","id":1,"method":"x_fast"}',
        headers={"Content-Type": "application/json"},
    )
    async with serving(clock) as server:
        assert (await exchange(server.port, post)).status == 404
    async with serving(clock, both=True) as server, client(server) as one:
        assert json.loads((await exchange(server.port, post)).body)["result"] == 1
        assert (await one.call("x_fast"))["result"] == 1


async def test_token_is_asked_for_before_anything_else(clock: Clock) -> None:
    def refusal(authorization: str) -> str:
        return "" if authorization == "Bearer good" else "missing token"

    async with serving(clock, both=True, refusal=refusal) as server:
        reply = await exchange(server.port, request("POST", headers={"Host": "evil.example"}))
        assert (reply.status, reply.body) == (401, b"missing token\n")
        with pytest.raises(aiohttp.WSServerHandshakeError) as error:
            async with client(server):
                pass
        assert error.value.status == 401
        async with client(server, headers={"Authorization": "Bearer good"}) as one:
            assert (await one.call("x_fast"))["result"] == 1


async def test_handshake_that_is_none_is_refused_without_a_word_on_who_we_are(clock: Clock) -> None:
    async with serving(clock) as server:
        reply = await exchange(
            server.port,
            request(headers={"Connection": "upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "5"}),
        )
        assert (reply.status, reply.headers["server"]) == (400, "pyrelay")
        assert b"aiohttp" not in reply.body
        async with client(server) as one:
            assert one.socket._response.headers["Server"] == "pyrelay"


async def test_rate_holds_for_an_address_over_all_its_connections(clock: Clock) -> None:
    meters = Meters(Rate(3, 60.0), clock)
    async with serving(clock, meters=meters) as server, client(server) as one, client(server) as two:
        codes = []
        for each in (one, two, one, two):
            codes.append((await each.call("x_fast")).get("error", {}).get("code"))
        assert codes == [None, None, None, -32005]
