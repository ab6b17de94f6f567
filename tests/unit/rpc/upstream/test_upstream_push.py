"""Upstreams that push, by WebSocket and unix socket: calls side by side, subscriptions, bad servers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from relay.rpc.errors import RpcError
from tests.aids.until import until
from tests.aids.upstream import Act, Script, ScriptedHttp, ScriptedUnix, ScriptedWs, notification
from tests.unit.rpc.upstream.conftest import upstreams_of


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "node.ipc")


@pytest.mark.parametrize("ending", [b"\n", b"", b"\r\n", b" "])
async def test_calls_go_side_by_side_over_one_unix_socket(path, ending):
    async with ScriptedUnix(path=path, ending=ending) as node, upstreams_of(node.url) as upstreams:
        node.results["slow"], node.results["quick"] = "slow", {"a": '}]"\\', "b": [1]}
        await upstreams.call("quick")
        node.scripts = [Script(Act.LATE)]
        async with asyncio.TaskGroup() as tasks:
            slow = tasks.create_task(upstreams.call("slow"))
            await until(lambda: "slow" in node.methods, "the slow one is asked")
            for _ in range(3):
                assert await upstreams.call("quick") == {"a": '}]"\\', "b": [1]}
            assert not slow.done()
            node.released.set()
        assert slow.result() == "slow"
        assert node.connections == 1


async def test_calls_and_pings_over_websocket():
    async with ScriptedWs() as node, upstreams_of(node.url) as upstreams:
        node.results["x"] = ["é"] * 50_000
        assert await upstreams.call("x") == ["é"] * 50_000
        await node.ping()
        assert await upstreams.call("x") == ["é"] * 50_000
        assert node.connections == 1
    told = {name.lower() for name in node.heads[0]}
    assert told == {
        "host",
        "upgrade",
        "connection",
        "sec-websocket-version",
        "sec-websocket-key",
        "user-agent",
    }
    assert node.heads[0]["User-Agent"] == "pyrelay"


async def test_websocket_is_opened_anew_after_it_was_closed():
    async with ScriptedWs() as node, upstreams_of(node.url) as upstreams:
        await upstreams.call("x")
        await node.cut()
        await until(lambda: not upstreams._upstreams[0].link.connected, "we know it")
        assert await upstreams.call("x") == "0x1e77"
        assert node.connections == 2


async def test_call_whose_connection_breaks_fails_over(path):
    async with (
        ScriptedUnix(path=path, scripts=[Script(Act.RESET)]) as node,
        ScriptedHttp() as other,
        upstreams_of(node.url, other.url) as both,
    ):
        assert await both.call("x") == "0x1e77"
        assert (node.methods, other.methods) == (["x"], ["x"])


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (Script(Act.HANG), "does not answer within"),
        (Script(Act.RAW, body=b"hello]"), "JSON|does not answer"),
        (Script(Act.RAW, body=b'{"jsonrpc":"2.0","id":3,"result":}'), "not JSON"),
        (Script(Act.RAW, body=b'{"jsonrpc":"2.0","id":99,"result":1}'), "does not answer within"),
        (Script(Act.ENDLESS), "more than 100000 bytes"),
    ],
)
async def test_unix_socket_that_misbehaves_is_told_of(path, script, words):
    limits = {"answer_bytes": 100_000, "call_seconds": 0.3}
    async with ScriptedUnix(path=path) as node, upstreams_of(node.url, **limits) as upstreams:
        await upstreams.call("x")
        node.calls.clear()
        node.script = script
        with pytest.raises(RpcError, match=words):
            await upstreams.call("x")
        node.script = Script()


async def test_websocket_that_refuses_or_sends_binary_is_told_of():
    async with ScriptedWs(refuse=403) as node, upstreams_of(node.url) as upstreams:
        with pytest.raises(RpcError, match="refuses WebSocket with HTTP status 403"):
            await upstreams.call("x")
    async with ScriptedWs(binary=True) as node, upstreams_of(node.url) as upstreams:
        with pytest.raises(RpcError, match="binary"):
            await upstreams.call("x")
    async with (
        ScriptedHttp() as node,
        upstreams_of(node.url.replace("http", "ws"), connect_seconds=0.2) as one,
    ):
        with pytest.raises(RpcError, match="upstream 1"):
            await one.call("x")


async def test_websocket_message_over_the_limit_is_given_up():
    async with ScriptedWs() as node, upstreams_of(node.url, answer_bytes=10_000) as upstreams:
        node.results["x"] = "a" * 20_000
        with pytest.raises(RpcError, match="more than 10000 bytes"):
            await upstreams.call("x")
        assert upstreams._budget.held == 0


# -- subscriptions


async def test_connection_that_is_left_ends_with_its_last_answer(path):
    async with ScriptedUnix(path=path) as node, upstreams_of(node.url) as upstreams:
        node.results["slow"] = "slow"
        await upstreams.call("x")
        node.scripts = [Script(Act.LATE)]
        async with asyncio.TaskGroup() as tasks:
            slow = tasks.create_task(upstreams.call("slow"))
            await until(lambda: "slow" in node.methods, "it is under way")
            link = upstreams._upstreams[0].link
            old = link._connection
            upstreams.leave()
            assert await upstreams.call("x") == "0x1e77"
            assert link._connection is not old
            assert old.usable
            node.released.set()
        assert slow.result() == "slow"
        assert not old.usable
        assert link.connected
        assert node.connections == 2
        assert set(upstreams.counters) == {"call"}  # and no failure


async def test_subscription_moves_to_the_connection_that_follows_a_left_one():
    async with ScriptedWs() as node, upstreams_of(node.url) as upstreams:
        node.results["eth_subscribe"] = "0x01"
        told: list[str] = []
        await upstreams.subscribe(["newHeads"], told.append)
        upstreams.leave()
        await until(lambda: node.methods == ["eth_subscribe"] * 2, "it is begun anew")
        await until(lambda: upstreams._pushes._by_key, "it stands")
        await node.push("0x01", {"number": "0x2"})
        await until(lambda: told, "it is told")
        assert told == ['{"number":"0x2"}']
        assert node.connections == 2
        upstreams.leave()
        upstreams.leave()
        await until(lambda: node.connections == 3, "one more")


async def test_nothing_is_left_where_nothing_is_open(path):
    async with ScriptedUnix(path=path) as node, upstreams_of(node.url) as upstreams:
        upstreams.leave()
        assert await upstreams.call("x") == "0x1e77"
        assert node.connections == 1


async def test_two_who_want_the_same_share_one_subscription(path):
    async with ScriptedUnix(path=path) as node, upstreams_of(node.url) as upstreams:
        node.results["eth_subscribe"] = "0xcafe"
        one, two = [], []
        end_one = await upstreams.subscribe(["newHeads"], one.append)
        end_two = await upstreams.subscribe(["newHeads"], two.append)
        assert node.methods == ["eth_subscribe"]
        node.push("0xcafe", {"number": "0x1"})
        node.push("0xbeef", {"number": "0x2"})
        await until(lambda: one and two, "both are told")
        assert one == two == ['{"number":"0x1"}']
        end_one()
        end_one()
        node.push("0xcafe", {"number": "0x3"})
        await until(lambda: len(two) == 2, "the other is told")
        assert len(one) == 1
        end_two()
        await until(lambda: "eth_unsubscribe" in node.methods, "it is ended")
        assert node.calls[-1] == ("eth_unsubscribe", ["0xcafe"])


async def test_what_comes_before_the_answer_is_told(path):
    async with ScriptedUnix(path=path) as node, upstreams_of(node.url) as upstreams:
        await upstreams.call("x")
        node.results["eth_subscribe"] = "0xcafe"
        node.before = [notification("0xcafe", {"number": "0x1"})]
        told = []
        await upstreams.subscribe(["newHeads"], told.append)
        assert told == ['{"number":"0x1"}']


async def test_lost_subscription_is_begun_anew_at_whoever_is_there(path):
    async with ScriptedUnix(path=path) as node, ScriptedWs() as other:
        node.results["eth_subscribe"], other.results["eth_subscribe"] = "0x01", "0x02"
        async with upstreams_of(node.url, other.url, pause_seconds=0.01, failures=1) as both:
            told = []
            await both.subscribe(["logs", {"topics": []}], told.append)
            node.script = Script(Act.RESET)
            node.cut()
            await until(lambda: "eth_subscribe" in other.methods and both._pushes._by_key, "it is begun anew")
            assert other.calls[-1] == ("eth_subscribe", ["logs", {"topics": []}])
            await other.push("0x02", {"data": "0x"})
            await until(lambda: told, "it is told")
            assert both.counters["subscription lost"] == 1


async def test_subscription_that_nobody_wants_any_more_is_not_begun_anew(path):
    async with ScriptedUnix(path=path) as node, upstreams_of(node.url) as upstreams:
        node.results["eth_subscribe"] = "0x01"
        end = await upstreams.subscribe(["newHeads"], lambda _told: None)
        end()
        await until(lambda: "eth_unsubscribe" in node.methods, "it is ended")
        node.cut()
        await until(lambda: not upstreams._upstreams[0].link.connected, "we know it")
        assert not upstreams._pushes._topics
        assert not upstreams._pushes._by_key


async def test_refused_subscription_is_told_and_leaves_nothing(path):
    async with ScriptedUnix(path=path) as node, upstreams_of(node.url, subscriptions=1) as upstreams:
        node.script = Script(Act.ERROR, error={"code": -32601, "message": 'no "x" subscription'})
        for _ in range(3):
            with pytest.raises(RpcError, match='no "x" subscription'):
                await upstreams.subscribe(["x"], lambda _told: None)
        node.script = Script()
        await upstreams.subscribe(["newHeads"], lambda _told: None)
        with pytest.raises(RpcError, match="too many subscriptions"):
            await upstreams.subscribe(["logs"], lambda _told: None)


async def test_upstreams_that_can_not_push_say_so():
    async with ScriptedHttp() as node, upstreams_of(node.url) as upstreams:
        with pytest.raises(RpcError, match="ws, wss or unix") as refusal:
            await upstreams.subscribe(["newHeads"], lambda _told: None)
        assert refusal.value.code == -32601
        assert node.calls == []


async def test_notifications_that_are_none_are_passed_over(path):
    async with ScriptedUnix(path=path) as node, upstreams_of(node.url) as upstreams:
        node.results["eth_subscribe"] = "0x01"
        told = []
        await upstreams.subscribe(["newHeads"], told.append)
        for value in (
            [],
            {"method": 5, "params": {}},
            {"method": "x", "params": {"subscription": "0x01"}},
            7,
        ):
            for writer in node._writers:
                writer.write(json.dumps(value).encode() + b"\n")
        node.push("0x01", "good")
        await until(lambda: told, "the good one is told")
        assert told == ['"good"']
