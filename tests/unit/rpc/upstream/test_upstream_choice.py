"""Whom to ask: order, balance, pauses, hedging, health, filters; and what is kept."""

from __future__ import annotations

import asyncio

import pytest

from relay.rpc.errors import RpcError
from relay.rpc.upstream.breaker import Breaker
from relay.rpc.upstream.options import UpstreamOptions
from relay.rpc.upstream.policy import MethodRules
from tests.aids.until import until
from tests.aids.upstream import Act, Script, ScriptedHttp
from tests.unit.rpc.upstream.conftest import upstreams_of

FAILS = Script(Act.STATUS, status=500)


# -- order and pauses


async def test_ordered_asks_the_first_and_comes_back_to_it_after_its_pause(moved):
    async with (
        ScriptedHttp() as first,
        ScriptedHttp() as second,
        upstreams_of(first.url, second.url, clock=moved, pause_seconds=100.0, longest_pause=1000.0) as both,
    ):
        first.scripts = [FAILS] * 3
        for _ in range(5):
            assert await both.call("x") == "0x1e77"
        assert (len(first.methods), len(second.methods), both.well) == (3, 5, 1)
        moved.moved += 101.0
        await both.call("x")
        await both.call("x")
        assert (len(first.methods), len(second.methods), both.well) == (5, 5, 2)


async def test_upstream_in_its_pause_is_not_asked_and_the_caller_learns_when(moved):
    async with (
        ScriptedHttp(script=FAILS) as node,
        upstreams_of(node.url, clock=moved, pause_seconds=100.0, longest_pause=1000.0) as alone,
    ):
        for _ in range(3):
            with pytest.raises(RpcError, match="HTTP status 500"):
                await alone.call("x")
        with pytest.raises(RpcError, match=r"no upstream answers; the next try is in 1?[0-9][0-9]"):
            await alone.call("x")
        assert len(node.methods) == 3


async def test_retry_after_is_heeded_at_the_first_time(moved):
    busy = Script(Act.STATUS, status=429, headers={"Retry-After": "30"})
    async with (
        ScriptedHttp(scripts=[busy]) as node,
        ScriptedHttp() as other,
        upstreams_of(node.url, other.url, clock=moved) as both,
    ):
        for _ in range(3):
            await both.call("x")
        assert (len(node.methods), len(other.methods)) == (1, 3)
        moved.moved += 31.0
        await both.call("x")
        assert len(node.methods) == 2


async def test_balanced_spreads_calls():
    async with (
        ScriptedHttp() as one,
        ScriptedHttp() as two,
        ScriptedHttp() as three,
        upstreams_of(one.url, two.url, three.url, balance="balanced") as all_,
    ):
        for _ in range(9):
            await all_.call("x")
        assert [len(node.methods) for node in (one, two, three)] == [3, 3, 3]
        one.script = Script(Act.LATE)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(3):
                tasks.create_task(all_.call("x"))
            await until(lambda: all_._upstreams[0].in_flight and len(two.methods) > 3, "all are asked")
            before = len(one.methods)
            for _ in range(6):
                await all_.call("x")
            assert len(one.methods) == before
            one.released.set()


async def test_filter_is_used_where_it_was_made():
    async with (
        ScriptedHttp() as one,
        ScriptedHttp() as two,
        upstreams_of(one.url, two.url, balance="balanced") as both,
    ):
        one.results["eth_newFilter"], two.results["eth_newFilter"] = "0xaa", "0xbb"
        made = [await both.call("eth_newFilter", [{}]) for _ in range(2)]
        assert sorted(made) == ["0xaa", "0xbb"]
        for _ in range(3):
            await both.call("eth_getFilterChanges", ["0xbb"])
        assert one.methods == ["eth_newFilter"]
        assert two.methods == ["eth_newFilter"] + ["eth_getFilterChanges"] * 3


# -- hedging


async def test_slow_read_is_asked_of_a_second_one_and_the_first_answer_counts():
    async with (
        ScriptedHttp(script=Script(Act.HANG)) as slow,
        ScriptedHttp() as quick,
        upstreams_of(slow.url, quick.url, hedge_seconds=0.01) as both,
    ):
        quick.results["eth_blockNumber"] = "0x2"
        assert await both.call("eth_blockNumber") == "0x2"
        assert (both.counters["hedge"], both.counters["failover"]) == (1, 0)
        assert both._upstreams[0].in_flight == 0


async def test_read_that_is_answered_in_time_is_not_hedged():
    async with (
        ScriptedHttp() as one,
        ScriptedHttp() as two,
        upstreams_of(one.url, two.url, hedge_seconds=20.0) as both,
    ):
        await both.call("x")
        one.script = Script(Act.ERROR, error={"code": 3, "message": "execution reverted"})
        with pytest.raises(RpcError, match="execution reverted"):
            await both.call("eth_call", [{}])
        assert two.calls == []
        one.script = FAILS
        assert await both.call("x") == "0x1e77"
        assert (both.counters["hedge"], both.counters["failover"]) == (0, 1)


async def test_hedged_read_fails_only_when_all_fail():
    async with (
        ScriptedHttp(script=FAILS) as one,
        ScriptedHttp(script=FAILS) as two,
        upstreams_of(one.url, two.url, hedge_seconds=0.01) as both,
    ):
        with pytest.raises(RpcError, match="no upstream answers"):
            await both.call("x")


# -- health


async def test_silent_upstream_is_looked_after_and_a_failed_one_is_found_well_again(moved):
    async with (
        ScriptedHttp() as node,
        asyncio.timeout(20),
        asyncio.TaskGroup() as tasks,
        upstreams_of(node.url, clock=moved, health_seconds=0.01, failures=1, pause_seconds=0.001) as alone,
    ):
        await node.stop()
        care = tasks.create_task(alone.run())
        moved.moved += 1.0
        await until(lambda: alone.well == 0, "it is found to be down")
        await node.__aenter__()
        moved.moved += 100.0
        await until(lambda: alone.well == 1, "it is found to be up")
        care.cancel()
    assert node.methods == []


async def test_upstream_that_changes_its_chain_is_asked_no_more(moved):
    async with (
        ScriptedHttp() as node,
        asyncio.TaskGroup() as tasks,
        upstreams_of(node.url, clock=moved, health_seconds=0.01, longest_pause=1e6) as alone,
    ):
        await alone.call("x")
        node.chain = 1
        care = tasks.create_task(alone.run())
        moved.moved += 1.0
        await until(lambda: alone.well == 0, "it is found to have another chain")
        care.cancel()
        with pytest.raises(RpcError, match="no upstream answers"):
            await alone.call("x")
        assert len(node.methods) == 1


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_pauses_double_up_to_the_longest_and_one_call_tries_after_each():
    clock = Clock()
    breaker = Breaker(UpstreamOptions(failures=2, pause_seconds=1.0, longest_pause=4.0), clock, bytes)
    breaker.failed()
    assert breaker.admits()
    lengths = []
    for _ in range(4):
        breaker.failed()
        lengths.append(breaker.remaining)
        assert not breaker.admits()
        clock.now += breaker.remaining
        assert breaker.admits()
        assert not breaker.admits()
    assert lengths == [1.0, 2.0, 4.0, 4.0]
    breaker.succeeded()
    assert all(breaker.admits() for _ in range(3))
    breaker.failed(pause=9.0)
    assert breaker.remaining == 9.0


# -- what is kept


def block(number):
    return {"number": hex(number), "hash": "0x" + "aa" * 32}


def chain(node, final):
    node.results["eth_getBlockByNumber"] = lambda params: (
        block(final)
        if params[0] == "finalized"
        else block(int(params[0], 16))
        if params[0][:2] == "0x"
        else {}
    )


async def test_finalized_block_is_asked_for_once_and_others_always(moved):
    async with ScriptedHttp() as node, upstreams_of(node.url, clock=moved, cache_bytes=1 << 20) as one:
        chain(node, 100)
        await one.call("eth_getBlockByNumber", ["0x64", False])
        await until(lambda: one.cache.final == 100, "finality is known")
        for _ in range(3):
            assert await one.call("eth_getBlockByNumber", ["0x64", False]) == block(100)
            await one.call("eth_getBlockByNumber", ["0x65", False])
            await one.call("eth_getBlockByNumber", ["latest", False])
        asked = [params for method, params in node.calls if method == "eth_getBlockByNumber"]
        assert asked.count(["0x64", False]) == 2
        assert asked.count(["0x65", False]) == 3
        assert asked.count(["latest", False]) == 3
        assert asked.count(["finalized", False]) == 1
        assert one.counters["cache hit"] == 2


async def test_finality_is_asked_for_again_only_after_a_while_and_when_somebody_asks(moved):
    async with ScriptedHttp() as node, upstreams_of(node.url, clock=moved, cache_bytes=1 << 20) as one:
        chain(node, 10)
        for final, wait in ((10, 0.0), (20, 11.0), (20, 2.0)):
            moved.moved += wait
            chain(node, final)
            await one.call("eth_getBlockByNumber", ["0x14", False])
            await until(lambda final=final, wait=wait: wait == 11.0 or one.cache.final == final, "known")
        polls = [params for _, params in node.calls if params == ["finalized", False]]
        assert len(polls) == 2


async def test_chain_without_finality_keeps_nothing_and_goes_on(moved):
    async with ScriptedHttp() as node, upstreams_of(node.url, clock=moved, cache_bytes=1 << 20) as one:
        node.script = Script(Act.ERROR, error={"code": -39001, "message": "Unknown block"})
        node.scripts = [Script()]
        node.results["eth_getTransactionReceipt"] = {"blockNumber": "0x1"}
        await one.call("eth_getTransactionReceipt", ["0x" + "11" * 32])
        await until(lambda: "eth_getBlockByNumber" in node.methods, "finality is asked for")
        assert len(one.cache) == 0


async def test_cache_keeps_within_its_bytes_and_lets_the_oldest_go(moved):
    async with ScriptedHttp() as node, upstreams_of(node.url, clock=moved, cache_bytes=20_000) as one:
        one.cache.finalized(block(1000))
        node.results["eth_getBlockReceipts"] = lambda params: [{"blockNumber": params[0], "x": "a" * 1000}]
        for number in range(40):
            await one.call("eth_getBlockReceipts", [hex(number)])
        assert 10 < len(one.cache) < 20
        assert one.cache.bytes <= 20_000
        asked = len(node.calls)
        assert (await one.call_raw("eth_getBlockReceipts", ["0x27"])).text.startswith(
            '[{"blockNumber":"0x27"'
        )
        assert len(node.calls) == asked
        await one.call("eth_getBlockReceipts", ["0x0"])
        assert len(node.calls) == asked + 1


async def test_null_and_blocks_ahead_of_finality_are_never_kept(moved):
    async with ScriptedHttp() as node, upstreams_of(node.url, clock=moved, cache_bytes=1 << 20) as one:
        one.cache.finalized(block(5))
        one.cache.asking()
        tx = "0x" + "Ab" * 32
        for result in (None, {"blockNumber": None}, {"blockNumber": "0x6"}, [], "0x5"):
            node.results["eth_getTransactionByHash"] = result
            assert await one.call("eth_getTransactionByHash", [tx]) == result
        assert len(one.cache) == 0
        node.results["eth_getTransactionByHash"] = {"blockNumber": "0x5"}
        await one.call("eth_getTransactionByHash", [tx])
        asked = len(node.calls)
        await one.call("eth_getTransactionByHash", [tx.lower()])
        assert len(node.calls) == asked


# -- rules


@pytest.mark.parametrize(
    ("allow", "deny", "method", "serves", "forwards"),
    [
        ((), (), "eth_call", True, True),
        ((), (), "debug_traceTransaction", True, False),
        (("*",), (), "debug_traceTransaction", True, False),
        (("*", "debug_trace*"), (), "debug_traceTransaction", True, True),
        (("*", "debug_trace*"), (), "debug_setHead", True, False),
        (("eth_*",), (), "net_version", False, True),
        (("eth_*",), ("eth_getLogs",), "eth_getLogs", False, False),
        ((), ("debug_*", "eth_get*"), "eth_getBalance", False, False),
        ((), (), "eth_sendRawTransaction", True, False),
        (("eth_sendRawTransaction",), (), "eth_sendRawTransaction", True, False),
        (("engine_*",), (), "engine_newPayloadV4", True, True),
        (("eth_call.",), (), "eth_callx", False, True),
    ],
)
def test_rules(allow, deny, method, serves, forwards):
    rules = MethodRules(allow, deny)
    assert (rules.serves(method), rules.forwards(method)) == (serves, forwards)
