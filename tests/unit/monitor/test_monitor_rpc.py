"""Asking nodes over real sockets: what they say, and how they fail."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from relay.monitor.monitor import Monitor
from relay.monitor.node import BeaconNode, ExecutionNode
from relay.monitor.rpc import BeaconApi, JsonRpc, RpcRefused, items
from relay.primitives.address import TcpAddress, UnixAddress
from relay.rpc.upstream.urls import parse_upstream
from relay.transports.dialer import TcpDialer
from relay.transports.sockets import SocketFactory, SocketRules
from tests.aids.until import until
from tests.unit.monitor.conftest import FakeNode, fixture

SECONDS = 20.0


def factory(fake: FakeNode) -> SocketFactory:
    return SocketFactory(SocketRules.only(TcpAddress("127.0.0.1", fake.port), UnixAddress(str(fake.path))))


def rpc(fake: FakeNode, url: str = "", seconds: float = SECONDS) -> JsonRpc:
    sockets = factory(fake)
    return JsonRpc(parse_upstream(url or fake.url), TcpDialer(sockets), sockets, seconds=seconds)


@asynccontextmanager
async def execution(fake: FakeNode, url: str = "", seconds: float = SECONDS) -> AsyncIterator[ExecutionNode]:
    watched = ExecutionNode(rpc(fake, url, seconds))
    try:
        yield watched
    finally:
        watched.close()


@pytest.mark.parametrize("way", ["http", "ipc"])
async def test_node_is_looked_at(node: FakeNode, way: str) -> None:
    node.answers_of_geth(fixture("geth")["result"])

    async with execution(node, str(node.path) if way == "ipc" else "") as watched:
        seen = await watched.look()
        again = await watched.look()

    assert (seen.client, seen.chain, seen.head) == (
        "Geth/v1.17.8-stable/linux-amd64/go1.24.4",
        "mainnet",
        23_900_768,
    )
    assert (seen.syncing, seen.target, len(seen.peers)) == (False, None, 3)
    assert seen.lag(seen.peers[0]) == 768
    assert again == seen


async def test_syncing_node_tells_how_far(node: FakeNode) -> None:
    node.answers_of_geth([])
    node.results["eth_syncing"] = {"currentBlock": "0x10", "highestBlock": "0x20"}

    async with execution(node) as watched:
        seen = await watched.look()

    assert (seen.syncing, seen.target) == (True, 32)


async def test_node_without_the_other_methods_is_still_watched(node: FakeNode) -> None:
    node.results = {"admin_peers": fixture("reth")["result"], "web3_clientVersion": "reth/v2.5.1"}

    async with execution(node) as watched:
        seen = await watched.look()

    assert (seen.client, seen.head, seen.syncing, seen.chain) == ("reth/v2.5.1", None, None, "")
    assert len(seen.peers) == 1


async def test_pyrelay_is_known_by_its_name(node: FakeNode) -> None:
    node.answers_of_geth(fixture("pyrelay")["result"])
    node.results["admin_nodeInfo"] = {"id": "aa", "name": "pyrelay/v0.1.0"}

    async with execution(node) as watched:
        seen = await watched.look()

    assert [each.address.network for each in seen.peers] == ["onion", "onion"]


async def test_beacon_node_is_looked_at(node: FakeNode) -> None:
    node.results = {
        "/eth/v1/node/version": {"version": "Prysm/v7.1.6 (linux amd64)"},
        "/eth/v1/node/identity": {"peer_id": "16Uiu2HAm"},
        "/eth/v1/node/syncing": {"head_slot": "100", "sync_distance": "3", "is_syncing": True},
        "/eth/v1/node/peers": fixture("prysm")["data"],
    }
    sockets = factory(node)
    watched = BeaconNode(BeaconApi(parse_upstream(node.url), TcpDialer(sockets), sockets, seconds=SECONDS))

    seen = await watched.look()
    watched.close()

    assert (seen.kind, seen.head, seen.target, seen.syncing) == ("beacon", 100, 103, True)
    assert (len(seen.peers), seen.waiting) == (2, 1)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"<html>nginx</html>", "is this address one of JSON-RPC"),
        (b"\xff\xfe", "no UTF-8"),
        (b"[]", "neither a result nor an error"),
        (b'{"jsonrpc":"2.0","id":1}', "neither a result nor an error"),
        (b'{"error": "text"}', "no known form"),
        (b"[" * 100_000, "no JSON"),
    ],
)
async def test_other_shapes_are_refused_in_words(node: FakeNode, raw: bytes, words: str) -> None:
    node.raw = raw

    async with execution(node) as watched:
        with pytest.raises(RpcRefused, match=words):
            await watched._rpc.call("eth_blockNumber")


@pytest.mark.parametrize(
    ("result", "words"), [(None, "null"), ({}, "an object"), ("x", "a text"), (4, "a number")]
)
async def test_peers_that_are_no_list_are_refused(node: FakeNode, result: object, words: str) -> None:
    node.answers_of_geth([])
    node.results["admin_peers"] = result

    async with execution(node) as watched:
        with pytest.raises(RpcRefused, match=f"no list but {words}"):
            await watched.look()


async def test_node_without_admin_says_what_to_do(node: FakeNode) -> None:
    node.results = {"eth_blockNumber": "0x1"}

    async with execution(node) as watched:
        with pytest.raises(RpcRefused, match="does not serve admin_peers here: give its unix socket"):
            await watched.look()


@pytest.mark.parametrize(
    ("status", "words"), [(401, "wants to know who asks"), (403, "host name"), (502, "502")]
)
async def test_unauthorised_and_broken_servers_are_told_apart(
    node: FakeNode, status: int, words: str
) -> None:
    node.answers_of_geth([])
    node.status = status

    async with execution(node) as watched:
        with pytest.raises(RpcRefused, match=words):
            await watched.look()


async def test_slow_node_is_given_up(node: FakeNode) -> None:
    node.raw = None

    async with execution(node, seconds=0.2) as watched:
        with pytest.raises(RpcRefused, match=r"no answer within 0\.2 s"):
            await watched.look()


async def test_connection_that_hangs_is_not_asked_again(node: FakeNode) -> None:
    node.answers_of_geth([])
    async with execution(node, str(node.path), seconds=0.5) as watched:
        node.raw = None
        with pytest.raises(RpcRefused, match=r"no answer within 0\.5 s"):
            await watched.look()
        node.raw = b""

        async def answers() -> bool:
            try:
                return (await watched.look()).peers == ()
            except RpcRefused:  # a machine that is busy
                return False

        await until(answers, "another connection answers", SECONDS)


async def test_monitor_survives_the_restart_of_its_node(node: FakeNode) -> None:
    node.answers_of_geth(fixture("geth")["result"])
    async with execution(node, str(node.path)) as watched:
        monitor = Monitor(watched, clock=asyncio.get_running_loop().time, interval=0.02)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(monitor.run())
            await until(lambda: monitor.watch.looks, "a look")
            await node.stop()
            await until(lambda: monitor.watch.failure, "a failure")
            assert len(monitor.watch.peers) == 3
            assert "can't be reached" in monitor.watch.failure or "connection ended" in monitor.watch.failure
            looks = monitor.watch.looks
            await node.start()
            await until(lambda: monitor.watch.looks > looks, "another look")
            running.cancel()

    assert monitor.watch.failure == ""
    assert monitor.watch.disconnects.total() == 0


def test_large_list_is_read_entry_by_entry() -> None:
    entries = [{"id": f"{number:064x}", "name": ']},{"\\ ☃' * 5} for number in range(5000)]
    forms = (
        {"jsonrpc": "2.0", "id": 7, "result": entries},
        {"id": 7, "jsonrpc": "2.0", "result": entries},
        {"result": entries, "id": 7},
        {"data": entries, "meta": {"count": 3}},
    )

    for form in forms:
        for indent in (None, 1):
            assert list(items(json.dumps(form, indent=indent).encode())) == entries


def test_large_list_that_is_cut_off_is_refused() -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": 7, "result": [{"id": "x" * 100}] * 5000}).encode()

    for cut in (body[:-3], body[:-2].replace(b"}, {", b"}; {"), body[: len(body) // 2]):
        with pytest.raises(RpcRefused, match="no JSON"):
            list(items(cut))


def test_large_error_is_told(tmp_path: Path) -> None:
    body = json.dumps({"id": 1, "error": {"code": -32000, "message": "\x1b[2Jno " + "x" * 300_000}}).encode()

    with pytest.raises(RpcRefused) as caught:
        list(items(body))

    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200
