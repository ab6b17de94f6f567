"""Calls that wait: coroutine functions, the fallback, batches of both kinds, limits of clients."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from relay.primitives.errors import RelayError
from relay.rpc.dispatcher import Dispatcher, DispatcherOptions
from relay.rpc.errors import RpcError
from relay.rpc.messages import Call, RawJson
from relay.rpc.meters import MAX_CLIENTS, Bucket, Meters, Rate, parse_rate
from relay.rpc.methods import Method
from relay.rpc.params import TEXT
from tests.unit.rpc.conftest import Clock


def request(method: str, *params: object, id_: object = 1) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": id_, "method": method, "params": params}


async def ask(dispatcher: Dispatcher, value: object, meter: Any = None) -> Any:
    answer = await dispatcher.answer(json.dumps(value).encode(), meter)
    return json.loads(answer) if answer else None


class Elsewhere:
    """A fallback that answers when it is let."""

    def __init__(self) -> None:
        self.asked: list[Call] = []
        self.most = self.now = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, call: Call) -> object:
        self.asked.append(call)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.gate.wait()
        finally:
            self.now -= 1
        if call.method == "up_fails":
            raise RpcError(3, "execution reverted", "0x08")
        return RawJson('{"x":1.50}')


@pytest.fixture
def elsewhere() -> Elsewhere:
    return Elsewhere()


@pytest.fixture
def dispatcher(elsewhere: Elsewhere, clock: Clock) -> Dispatcher:
    async def slow(text: str) -> str:
        await elsewhere.gate.wait()
        if text == "bad":
            raise RelayError("not today")
        return text

    async def raw(params: object) -> object:
        return repr(params)

    methods = {
        "own_fast": Method("own_fast", lambda: "fast"),
        "own_slow": Method("own_slow", slow, (TEXT,), is_async=True),
        "own_raw": Method("own_raw", raw, None, is_async=True),
    }
    return Dispatcher(
        methods, clock=clock, fallback=elsewhere, options=DispatcherOptions(batch_waiting=4, batch_bytes=5000)
    )


async def test_method_that_waits_is_answered_and_its_errors_are_told(dispatcher: Dispatcher) -> None:
    assert (await ask(dispatcher, request("own_slow", "yes")))["result"] == "yes"
    assert (await ask(dispatcher, request("own_slow", "bad")))["error"] == {
        "code": -32000,
        "message": "not today",
    }
    assert (await ask(dispatcher, request("own_slow")))["error"]["code"] == -32602
    assert (await ask(dispatcher, request("own_raw", [])))["result"] == "[[]]"


async def test_unknown_method_goes_elsewhere_and_comes_back_as_it_was_written(
    dispatcher: Dispatcher, elsewhere: Elsewhere
) -> None:
    body = b'{"jsonrpc":"2.0","id":"a","method":"up_call","params":{"k":[1]}}'
    assert await dispatcher.answer(body) == b'{"jsonrpc":"2.0","id":"a","result":{"x":1.50}}'
    error = (await ask(dispatcher, request("up_fails")))["error"]
    assert error == {"code": 3, "message": "execution reverted", "data": "0x08"}
    assert await ask(dispatcher, {"jsonrpc": "2.0", "method": "up_call"}) is None
    assert [call.method for call in elsewhere.asked] == ["up_call", "up_fails", "up_call"]


async def test_subscriptions_never_go_elsewhere(dispatcher: Dispatcher, elsewhere: Elsewhere) -> None:
    for method in ("eth_subscribe", "eth_unsubscribe"):
        assert (await ask(dispatcher, request(method, "newHeads")))["error"]["code"] == -32601
    assert elsewhere.asked == []


async def test_batch_keeps_its_order_and_waits_side_by_side_within_a_bound(
    dispatcher: Dispatcher, elsewhere: Elsewhere
) -> None:
    elsewhere.gate.clear()
    names = ["up_a", "own_fast", "up_fails", "own_slow"] * 5
    batch = [request(name, *(["s"] if name == "own_slow" else []), id_=n) for n, name in enumerate(names)]
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(ask(dispatcher, batch))
        while elsewhere.now < 3:
            await asyncio.sleep(0)
        elsewhere.gate.set()
    answers = asked.result()
    assert [answer["id"] for answer in answers] == list(range(20))
    kinds = ["error" if "error" in answer else answer["result"] for answer in answers]
    assert kinds == [{"x": 1.5}, "fast", "error", "s"] * 5
    assert elsewhere.most <= 4


async def test_batch_that_takes_too_long_tells_so_for_what_is_missing(
    elsewhere: Elsewhere, clock: Clock
) -> None:
    elsewhere.gate.clear()
    methods = {"own_fast": Method("own_fast", lambda: "fast")}
    dispatcher = Dispatcher(
        methods,
        clock=clock,
        fallback=elsewhere,
        options=DispatcherOptions(batch_seconds=0.05, batch_waiting=2),
    )
    batch = [request("own_fast", id_=0), *(request("up_a", id_=n) for n in range(1, 6))]
    answers = await ask(dispatcher, [*batch, {"jsonrpc": "2.0", "method": "up_note"}])
    assert answers[0]["result"] == "fast"
    late = {"code": -32002, "message": "request timed out"}
    assert [answer["error"] for answer in answers[1:]] == [late] * 5
    assert elsewhere.now == 0


async def test_answers_beyond_the_bytes_of_a_batch_are_refused(elsewhere: Elsewhere, clock: Clock) -> None:
    async def big() -> str:
        return "a" * 3000

    dispatcher = Dispatcher(
        {"own_big": Method("own_big", big, is_async=True)},
        clock=clock,
        options=DispatcherOptions(batch_bytes=5000, batch_waiting=2),
    )
    answers = await ask(dispatcher, [request("own_big", id_=n) for n in range(8)])
    refused = [answer for answer in answers if answer.get("error", {}).get("code") == -32003]
    assert [answer["id"] for answer in answers] == list(range(8))
    assert len(refused) >= 5


@pytest.mark.parametrize("deep", ["[" * 300 + "]" * 300, '{"a":' * 300 + "1" + "}" * 300])
async def test_request_nested_too_deep_is_refused(
    dispatcher: Dispatcher, elsewhere: Elsewhere, deep: str
) -> None:
    body = f'{{"jsonrpc":"2.0","id":1,"method":"up_call","params":[{deep}]}}'
    error = json.loads(await dispatcher.answer(body.encode()))["error"]
    assert error == {"code": -32700, "message": "exceeded max depth"}
    assert elsewhere.asked == []
    body = f'{{"jsonrpc":"2.0","id":1,"method":"up_call","params":[{"[" * 200 + "]" * 200}]}}'
    assert "result" in json.loads(await dispatcher.answer(body.encode()))


# -- limits of clients


async def test_client_over_its_rate_is_refused_call_by_call(dispatcher: Dispatcher, clock: Clock) -> None:
    bucket = Bucket(Rate(3, 1.0), clock)
    answers = await ask(dispatcher, [request("own_fast", id_=n) for n in range(5)], bucket)
    assert [answer.get("result") for answer in answers] == ["fast"] * 3 + [None] * 2
    assert answers[4]["error"]["code"] == -32005
    assert "try again in 0.333 s" in answers[4]["error"]["message"]
    clock.now += 0.34
    assert "result" in await ask(dispatcher, request("own_fast"), bucket)
    assert "error" in await ask(dispatcher, request("up_call"), bucket)
    clock.now += 1000.0
    answers = await ask(dispatcher, [request("own_fast", id_=n) for n in range(5)], bucket)
    assert sum("result" in answer for answer in answers) == 3


def test_address_is_a_client_and_so_is_a_network_of_ipv6(clock: Clock) -> None:
    meters = Meters(Rate(1, 60.0), clock)
    meters.of_address("10.0.0.1").admit()
    for same in ("10.0.0.1", "::ffff:10.0.0.1"):
        with pytest.raises(RpcError, match="limit exceeded: 1 calls in 60 s"):
            meters.of_address(same).admit()
    meters.of_address("10.0.0.2").admit()
    meters.of_address("2001:db8::1").admit()
    with pytest.raises(RpcError, match="limit exceeded"):
        meters.of_address("2001:db8::2%eth0").admit()
    meters.of_address("2001:db8:0:1::1").admit()
    assert meters.of_connection() is not meters.of_connection()


def test_buckets_are_bounded(clock: Clock) -> None:
    meters = Meters(Rate(1, 60.0), clock)
    for number in range(MAX_CLIENTS + 10):
        meters.of_address(f"10.0.{number >> 8}.{number & 255}")
    assert len(meters._buckets) == MAX_CLIENTS


@pytest.mark.parametrize(
    ("text", "rate"),
    [("50", Rate(50, 1.0)), ("50/s", Rate(50, 1.0)), (" 600/m ", Rate(600, 60.0)), ("5/h", Rate(5, 3600.0))],
)
def test_rates(text: str, rate: Rate) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "0", "-1", "5/d", "5/ s", "1.5", "99999999"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(RelayError, match="is no rate"):
        parse_rate(text)
