"""Upstreams by HTTP: what goes out, what comes back, and every way in which a server fails."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import pytest
from structlog.testing import capture_logs

from relay.rpc.errors import RpcError
from relay.rpc.params import Number
from relay.rpc.upstream.faults import UpstreamFault
from relay.rpc.upstream.opener import verifying
from relay.transports.host_dialer import HostDialer
from relay.transports.sockets import SocketFactory, SocketRules
from tests.aids.dns_server import Authority
from tests.aids.until import until
from tests.aids.upstream import Act, Script, ScriptedHttp, ScriptedWs
from tests.unit.rpc.upstream.conftest import upstreams_of

LIMITED, UNAVAILABLE = -32005, -32002


async def test_result_comes_as_the_upstream_wrote_it():
    async with ScriptedHttp() as node, upstreams_of(node.url) as upstreams:
        spaced = b'{"jsonrpc":"2.0","id":2,"result":{ "a" :[1.50, 2e3]}}'
        node.scripts = [Script(Act.RAW, body=spaced), Script()]
        node.results["x"] = {"b": None}
        assert (await upstreams.call_raw("x", [])).text == '{ "a" :[1.50, 2e3]}'
        assert await upstreams.call("x", []) == {"b": None}


async def test_params_go_out_to_the_digit():
    async with ScriptedHttp() as node, upstreams_of(node.url) as upstreams:
        params = [Number("10000000000000000000001"), {"a": [Number("1.50")], "b": []}, "é", {}]
        await upstreams.call("x", params)
        assert node.calls[-1] == ("x", [10000000000000000000001, {"a": [1.5], "b": []}, "é", {}])


async def test_connection_is_kept_and_headers_tell_nothing():
    async with ScriptedHttp() as node, upstreams_of(node.url.replace("//", "//user:pass@") + "/k?e=y") as one:
        for _ in range(3):
            await one.call("x")
    assert node.connections == 1
    lines = node.heads[0].strip().splitlines()
    assert lines[0] == "POST /k?e=y HTTP/1.1"
    named = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines[1:]}
    assert named.pop("content-length").isdigit()
    assert named == {
        "host": f"127.0.0.1:{node.port}",
        "user-agent": "pyrelay",
        "accept": "application/json",
        "content-type": "application/json",
        "authorization": "Basic dXNlcjpwYXNz",
    }


async def test_connections_of_now_are_left_without_harm_to_calls_under_way():
    async with ScriptedHttp() as node, upstreams_of(node.url) as upstreams:
        await upstreams.call("x")
        upstreams.leave()
        await upstreams.call("x")
        assert node.connections == 2
        node.script = Script(Act.LATE)
        async with asyncio.TaskGroup() as tasks:
            slow = tasks.create_task(upstreams.call("slow"))
            await until(lambda: "slow" in node.methods, "it is under way")
            upstreams.leave()
            node.released.set()
        assert slow.result() == "0x1e77"
        node.script = Script()
        await upstreams.call("x")
        assert node.connections == 3
        assert set(upstreams.counters) == {"call"}  # and no failure


async def test_calls_under_way_have_connections_of_their_own_within_a_bound():
    async with ScriptedHttp() as node, upstreams_of(node.url, in_flight=4, waiting=4) as upstreams:
        await upstreams.call("x")
        node.script = Script(Act.LATE)
        async with asyncio.TaskGroup() as tasks:
            calls = [tasks.create_task(upstreams.call("x", [number])) for number in range(8)]
            await until(lambda: len(node.methods) == 5, "four calls are under way")
            with pytest.raises(RpcError, match="too many calls wait") as refusal:
                await upstreams.call("x")
            assert refusal.value.code == LIMITED
            node.released.set()
        assert all(call.result() == "0x1e77" for call in calls)
        assert node.connections == 4
        assert upstreams.well == 1


async def test_own_error_of_the_upstream_is_passed_on_with_its_data():
    async with (
        ScriptedHttp() as node,
        ScriptedHttp() as other,
        upstreams_of(node.url, other.url) as upstreams,
    ):
        error = {"code": 3, "message": "execution reverted", "data": "0x08c379a0"}
        node.script = Script(Act.ERROR, error=error)
        with pytest.raises(RpcError) as refusal:
            await upstreams.call("eth_call", [{}])
        assert (refusal.value.code, refusal.value.message) == (3, "execution reverted")
        assert refusal.value.data == "0x08c379a0"
    assert other.calls == []


async def test_error_with_an_http_status_is_the_upstream_s_own():
    async with ScriptedHttp() as node, upstreams_of(node.url) as upstreams:
        await upstreams.call("x")
        body = b'{"jsonrpc":"2.0","id":3,"error":{"code":-32602,"message":"bad params"}}'
        node.script = Script(Act.STATUS, status=400, body=body)
        with pytest.raises(RpcError, match="bad params"):
            await upstreams.call("x")


async def test_method_that_one_lacks_is_asked_of_the_next_without_blame():
    async with (
        ScriptedHttp() as node,
        ScriptedHttp() as other,
        upstreams_of(node.url, other.url) as upstreams,
    ):
        node.script = Script(Act.ERROR, error={"code": -32601, "message": "no such method"})
        for _ in range(5):
            assert await upstreams.call("trace_block", ["0x1"]) == "0x1e77"
        assert upstreams.well == 2
        other.script = node.script
        with pytest.raises(RpcError, match="no such method"):
            await upstreams.call("trace_block", ["0x1"])


FAILURES = {
    "html": (Script(Act.RAW, body=b"<!DOCTYPE html><html>hello</html>"), "its answer is HTML"),
    "html status": (
        Script(Act.STATUS, status=502, body=b"<html>", headers={"Content-Type": "text/html"}),
        "HTTP status 502",
    ),
    "404 page": (
        Script(Act.STATUS, status=404, body=b"nope", headers={"Content-Type": "text/plain"}),
        "HTTP status 404",
    ),
    "401": (Script(Act.STATUS, status=401), "HTTP status 401"),
    "redirect": (
        Script(Act.STATUS, status=301, headers={"Location": "http://127.0.0.1/"}),
        "HTTP status 301",
    ),
    "429": (Script(Act.STATUS, status=429), "HTTP status 429"),
    "limit in json": (
        Script(Act.ERROR, error={"code": -32005, "message": "slow down"}),
        "it limits our calls",
    ),
    "invalid json": (Script(Act.RAW, body=b'{"jsonrpc":"2.0","id":2,"result":[1,}'), "not JSON"),
    "two values": (Script(Act.RAW, body=b'{"jsonrpc":"2.0","id":2,"result":1,"id":9}'), "not JSON"),
    "not a number": (Script(Act.RAW, body=b'{"jsonrpc":"2.0","id":2,"result":NaN}'), "not JSON"),
    "not utf-8": (Script(Act.RAW, body=b'{"jsonrpc":"2.0","id":2,"result":"\xff"}'), "not UTF-8"),
    "too deep": (Script(Act.RAW, body=b'{"jsonrpc":"2.0","id":2,"result":' + b"[" * 50_000), "not JSON"),
    "no envelope": (Script(Act.RAW, body=b"[]"), "not the one to this request"),
    "another id": (Script(Act.RAW, body=b'{"jsonrpc":"2.0","id":77,"result":1}'), "not the one"),
    "no result": (Script(Act.RAW, body=b'{"jsonrpc":"2.0","id":2}'), "neither a result nor an error"),
    "odd error": (Script(Act.RAW, body=b'{"jsonrpc":"2.0","id":2,"error":[5]}'), "none of JSON-RPC"),
    "empty": (Script(Act.RAW, body=b""), "not JSON"),
    "compressed": (Script(Act.RAW, body=b"x", headers={"Content-Encoding": "gzip"}), "compressed"),
    "reset": (Script(Act.RESET), "closed the connection"),
    "cut": (Script(Act.CUT), "closed the connection in its answer"),
    "huge": (Script(Act.RAW, body=b'"' + b"a" * 300_000 + b'"'), "more than 100000 bytes"),
    "endless": (Script(Act.ENDLESS), "more than 100000 bytes"),
    "bad length": (Script(Act.RAW, body=b"{}", headers={"Content-Length": "x"}), "bad HTTP"),
    "hang": (Script(Act.HANG), "does not answer within"),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_failure_is_told_clearly_and_another_one_answers(name):
    script, words = FAILURES[name]
    async with ScriptedHttp() as node, ScriptedHttp() as other:
        limits = {"answer_bytes": 100_000, "attempt_seconds": 0.2 if name == "hang" else 10.0}
        other.results["eth_blockNumber"] = "0x10"
        node.script = script
        async with upstreams_of(node.url, **limits) as alone:
            with pytest.raises(RpcError, match="no upstream answers: upstream 1: ") as refusal:
                await alone.call("eth_blockNumber", timeout=0.2 if name == "hang" else None)
            assert words in refusal.value.message
            assert "127.0.0.1" not in refusal.value.message
            assert refusal.value.code in (LIMITED, UNAVAILABLE)
            assert alone._budget.held == 0
        async with upstreams_of(node.url, other.url, **limits) as both:
            assert await both.call("eth_blockNumber") == "0x10"
            assert both.counters["failover"] == 1


async def test_refused_connection_fails_over():
    async with ScriptedHttp() as node, ScriptedHttp() as gone:
        await gone.stop()
        async with upstreams_of(gone.url, node.url) as upstreams:
            assert await upstreams.call("x") == "0x1e77"
            assert upstreams.counters["unreachable"] == 1


async def test_kept_connection_that_was_closed_is_replaced_without_a_failure():
    async with ScriptedHttp() as node, upstreams_of(node.url) as upstreams:
        await upstreams.call("x")
        for writer in node._writers:
            writer.close()
        assert await upstreams.call("x") == "0x1e77"
        assert (node.connections, upstreams.counters["broken"]) == (2, 0)


@pytest.mark.parametrize("act", [Act.RESET, Act.HANG, Act.CUT, Act.STATUS])
async def test_transaction_is_never_sent_twice(act):
    async with (
        ScriptedHttp() as node,
        ScriptedHttp() as other,
        upstreams_of(node.url, other.url, hedge_seconds=0.01) as upstreams,
    ):
        await upstreams.call("x")
        node.script = Script(act, status=500)
        with pytest.raises(RpcError, match="no upstream answers"):
            await upstreams.call("eth_sendRawTransaction", ["0x00"], timeout=0.3)
    assert node.methods == ["x", "eth_sendRawTransaction"]
    assert "eth_sendRawTransaction" not in other.methods


async def test_transaction_takes_a_connection_of_its_own():
    async with ScriptedHttp() as node, upstreams_of(node.url) as upstreams:
        await upstreams.call("x")
        for _ in range(2):
            await upstreams.call("eth_sendRawTransaction", ["0x00"])
        assert node.connections == 3


async def test_answers_on_their_way_share_one_budget():
    async with (
        ScriptedHttp() as node,
        upstreams_of(node.url, answer_bytes=1 << 20, held_bytes=1 << 18) as upstreams,
    ):
        await upstreams.call("x")
        node.script = Script(Act.ENDLESS)
        with pytest.raises(RpcError, match="too many bytes of answers") as refusal:
            await upstreams.call("x")
        assert refusal.value.code == LIMITED
        assert upstreams._budget.held == 0
        node.script = Script()
        assert await upstreams.call("x") == "0x1e77"


async def test_large_answer_is_passed_on_whole_and_checked_to_its_last_bracket():
    value = [{"number": hex(number), "data": "0x" + "ab" * 40, "odd": 'q"[{\\'} for number in range(25_000)]
    async with ScriptedHttp() as node, upstreams_of(node.url, failures=9) as upstreams:
        node.results["x"] = value
        text = (await upstreams.call_raw("x")).text
        assert len(text) > 3_000_000
        assert json.loads(text) == value
        for wrong in (text[:-1], text[:-1] + "}", text[:1000] + "}" + text[1000:], text + ',"id":5'):
            body = b'{"jsonrpc":"2.0","id":%d,"result":' % (len(node.calls) + 1) + wrong.encode() + b"}"
            node.script = Script(Act.RAW, body=body)
            with pytest.raises(RpcError, match=r"JSON|brackets"):
                await upstreams.call_raw("x")


async def test_upstream_of_another_chain_is_refused_before_anything_is_asked():
    async with (
        ScriptedHttp(chain=5) as wrong,
        ScriptedHttp() as right,
        upstreams_of(wrong.url, right.url) as upstreams,
    ):
        with capture_logs() as logs:
            assert await upstreams.call("eth_blockNumber") == "0x1e77"
        assert wrong.methods == []
        assert "its chain is 0x5, not 0x1e77" in logs[0]["why"]
        assert upstreams.well == 1


async def test_log_shows_no_key_of_a_provider():
    async with (
        ScriptedHttp() as node,
        upstreams_of(node.url.replace("//", "//u:secret1@") + "/secret2") as upstreams,
    ):
        node.script = Script(Act.STATUS, status=500)
        with capture_logs() as logs:
            for _ in range(4):
                with pytest.raises(RpcError):
                    await upstreams.call("x")
    assert [entry["event"] for entry in logs] == ["upstream fails"]
    assert "secret" not in repr(logs)


async def test_cancelled_call_closes_its_connection():
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(ScriptedHttp())
        upstreams = await stack.enter_async_context(upstreams_of(node.url))
        await upstreams.call("x")
        node.script = Script(Act.HANG)
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(upstreams.call("x"))
            await until(lambda: len(node.methods) == 2, "it is asked")
            call.cancel()
        node.script = Script()
        assert await upstreams.call("x") == "0x1e77"
        assert node.connections == 2


# -- how an answer may come


BODY = b'{"jsonrpc":"2.0","id":1,"result":"ok"}'
FORMS = {
    "plain": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 38\r\n\r\n" + BODY,
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n26\r\n" + BODY + b"\r\n0\r\n\r\n",
    "closed": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 38\r\n\r\n" + BODY,
    "until the end": b"HTTP/1.0 200 OK\r\n\r\n" + BODY,
    "interim": b"HTTP/1.1 103 Hi\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length:38\r\n\r\n" + BODY,
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 38\r\nContent-Length: 38\r\n\r\n" + BODY,
    "bare newlines": b"HTTP/1.1 200 OK\nContent-Length: 38\n\n" + BODY,
    "more": b"HTTP/1.1 200 OK\r\nContent-Length: 38\r\n\r\n" + BODY + b"HTTP/1.1 200",
}
KEPT = {"plain", "chunks", "interim", "two lengths", "bare newlines"}


@asynccontextmanager
async def saying(raw: bytes, size: int, connections: list[int]):
    """A server that answers each request with these bytes, so many at a time."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r")[0]))
                for at in range(0, len(raw), size):
                    writer.write(raw[at : at + size])
                    await writer.drain()
                    await asyncio.sleep(0)
                if b"HTTP/1.0" in raw or b"close" in raw:
                    return
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("form", FORMS)
async def test_answer_is_read_in_every_form_of_http_however_it_is_cut(form, size):
    connections: list[int] = []
    async with saying(FORMS[form], size, connections) as url, upstreams_of(url, chain_id=None) as upstreams:
        link = upstreams._upstreams[0].link
        for _ in range(2):
            assert await link.exchange(1, b"{}", once=False) == BODY
        assert len(connections) == (1 if form in KEPT else 2)
        assert upstreams._budget.held == 0


@pytest.mark.parametrize(
    "raw",
    [
        b"hello\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: x\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 40_000,
        b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 10_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n Content-Length: 1\r\n\r\na",
    ],
)
async def test_bad_http_is_told_of(raw):
    async with saying(raw, 1000, []) as url, upstreams_of(url, chain_id=None) as upstreams:
        with pytest.raises(UpstreamFault) as fault:
            await upstreams._upstreams[0].link.exchange(1, b"{}", once=False)
        assert "bad HTTP" in str(fault.value)
        assert upstreams._budget.held == 0


async def test_length_over_the_limit_is_refused_before_the_body():
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n"
    async with saying(raw, 1000, []) as url, upstreams_of(url, chain_id=None) as upstreams:
        with pytest.raises(UpstreamFault, match="more than 33554432 bytes"):
            await upstreams._upstreams[0].link.exchange(1, b"{}", once=False)


# -- TLS


@pytest.mark.parametrize(("scheme", "server"), [("https", ScriptedHttp), ("wss", ScriptedWs)])
async def test_tls_and_its_certificate(scheme, server, tmp_path):
    authority = Authority(tmp_path)
    dialer = HostDialer(SocketFactory(SocketRules.anywhere(), lookup=loopback), None)
    for names, words in (
        (("node.test", "127.0.0.1"), ""),
        (("other.test",), "its certificate is not believed"),
    ):
        async with server(ssl=authority.server_context(names)) as node:
            url = f"{scheme}://node.test:{node.port}/key"
            tls = partial(verifying, str(authority.cafile))
            async with upstreams_of(url, dialer=dialer, tls=tls) as upstreams:
                if not words:
                    for _ in range(2):
                        assert await upstreams.call("x") == "0x1e77"
                    assert node.connections == 1
                    continue
                with pytest.raises(RpcError, match=words):
                    await upstreams.call("x")
                assert node.methods == []  # nothing was said to it


def loopback(name, port):
    return [(2, 1, 6, "", ("127.0.0.1", port))]
