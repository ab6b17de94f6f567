"""eth_subscribe on the unix socket: order, several clients, ends, and clients that do not read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from relay.rpc.dispatcher import Dispatcher
from relay.rpc.errors import RpcError
from relay.rpc.ipc import IpcOptions, IpcServer
from relay.rpc.subscriptions import MAX_SUBSCRIPTIONS, PENDING, PendingFeed, Subscriptions
from relay.transports.sockets import SocketFactory, SocketRules

HASH = bytes(range(32))
TEXT = "0x" + HASH.hex()


def tx(tx_hash: bytes = HASH) -> Any:
    return SimpleNamespace(hash=tx_hash)


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._id = 0

    def request(self, method: str, *params: object) -> bytes:
        self._id += 1
        return json.dumps({"jsonrpc": "2.0", "id": self._id, "method": method, "params": params}).encode()

    async def call(self, method: str, *params: object) -> Any:
        self.writer.write(self.request(method, *params))
        return await self.read()

    async def read(self) -> Any:
        return json.loads(await self.reader.readline())


@asynccontextmanager
async def serving(
    path: Path, dispatcher: Dispatcher, feed: PendingFeed, options: IpcOptions | None = None
) -> AsyncIterator[IpcServer]:
    async with asyncio.timeout(8), asyncio.TaskGroup() as tasks:
        server = IpcServer(dispatcher, tasks, options=options, feeds={PENDING: feed})
        await server.start(SocketFactory(SocketRules.anywhere()).listen_unix(str(path)))
        try:
            yield server
        finally:
            await server.close()


@asynccontextmanager
async def client(path: Path) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pyrelay.ipc"


@pytest.fixture
def feed() -> PendingFeed:
    return PendingFeed()


async def test_subscriber_is_told_of_each_transaction_in_geth_s_form(path, dispatcher, feed):
    async with serving(path, dispatcher, feed), client(path) as one:
        key = (await one.call("eth_subscribe", PENDING))["result"]
        assert key.startswith("0x")
        feed.publish(tx())
        assert await one.read() == {
            "jsonrpc": "2.0",
            "method": "eth_subscription",
            "params": {"subscription": key, "result": TEXT},
        }


async def test_every_subscriber_is_told_and_others_are_not(path, dispatcher, feed):
    async with (
        serving(path, dispatcher, feed),
        client(path) as one,
        client(path) as two,
        client(path) as mute,
    ):
        for each in (one, two):
            await each.call("eth_subscribe", PENDING)
        feed.publish(tx())
        for each in (one, two):
            assert (await each.read())["params"]["result"] == TEXT
        assert (await mute.call("eth_chainId"))["result"] == "0x1e77"


async def test_other_calls_go_on_beside_a_subscription(path, dispatcher, feed):
    async with serving(path, dispatcher, feed), client(path) as one:
        await one.call("eth_subscribe", PENDING)
        assert (await one.call("eth_chainId"))["result"] == "0x1e77"


async def test_nothing_is_told_after_unsubscribing(path, dispatcher, feed):
    async with serving(path, dispatcher, feed), client(path) as one:
        key = (await one.call("eth_subscribe", PENDING))["result"]
        assert (await one.call("eth_unsubscribe", key))["result"] is True
        feed.publish(tx())
        assert (await one.call("eth_chainId"))["result"] == "0x1e77"


@pytest.mark.parametrize(
    ("method", "param", "code", "words"),
    [
        ("eth_subscribe", "newBlobs", -32601, 'no "newBlobs" subscription in eth namespace'),
        ("eth_unsubscribe", "0x1", -32000, "subscription not found"),
    ],
)
async def test_what_is_not_there_is_refused_in_geth_s_words(
    path, dispatcher, feed, method, param, code, words
):
    async with serving(path, dispatcher, feed), client(path) as one:
        assert (await one.call(method, param))["error"] == {"code": code, "message": words}


async def test_client_that_leaves_is_forgotten(path, dispatcher, feed):
    async with serving(path, dispatcher, feed):
        async with client(path) as one:
            await one.call("eth_subscribe", PENDING)
        while feed._listeners:
            await asyncio.sleep(0)
        feed.publish(tx())


async def test_client_that_does_not_read_is_cut_off(path, dispatcher, feed):
    options = IpcOptions(backlog_bytes=100_000)
    async with serving(path, dispatcher, feed, options), client(path) as one:
        await one.call("eth_subscribe", PENDING)
        for number in range(50_000):
            feed.publish(tx(number.to_bytes(32, "big")))
            if number % 100 == 0:
                await asyncio.sleep(0)
        while feed._listeners:
            await asyncio.sleep(0)


async def test_id_of_a_subscription_is_told_before_what_it_brings(feed):
    written: list[bytes] = []
    subscriptions = Subscriptions({PENDING: feed}, written.append)
    key = await subscriptions.methods()["eth_subscribe"].function([PENDING])
    feed.publish(tx())
    subscriptions.release(b"the answer of another call")
    assert written == []
    subscriptions.release(b'{"result":"' + key.encode() + b'"}')
    assert len(written) == 1
    feed.publish(tx())
    assert len(written) == 2


async def test_subscriptions_of_a_client_are_bounded(feed):
    subscriptions = Subscriptions({PENDING: feed}, lambda _line: None)
    subscribe = subscriptions.methods()["eth_subscribe"].function
    keys = {await subscribe([PENDING]) for _ in range(MAX_SUBSCRIPTIONS)}
    assert len(keys) == MAX_SUBSCRIPTIONS
    with pytest.raises(RpcError, match="too many subscriptions"):
        await subscribe([PENDING])
    subscriptions.close()
    assert await subscribe([PENDING]) not in keys


async def test_whole_transactions_are_told_to_those_who_want_them():
    attached = []
    feed = PendingFeed(attached.append, lambda tx_hash: {"hash": "0x" + tx_hash.hex()})
    lines: list[bytes] = []
    subscriptions = Subscriptions({PENDING: feed}, lines.append)
    methods = subscriptions.methods()
    subscribe = methods["eth_subscribe"].function
    keys = [await subscribe([PENDING, whole]) for whole in (True, False, None)]
    subscriptions.release("".join(keys).encode())
    feed.publish(tx())
    told = {each["params"]["subscription"]: each["params"]["result"] for each in map(json.loads, lines)}
    assert told == {keys[0]: {"hash": TEXT}, keys[1]: TEXT, keys[2]: TEXT}
    for key in reversed(keys):
        assert attached[-1] is not None
        assert methods["eth_unsubscribe"].function(key)
    assert (attached[-1], len(attached)) == (None, 2)
    for params in ([PENDING, "yes"], [PENDING, True, True]):
        with pytest.raises(RpcError, match="argument"):
            await subscribe(params)
    assert len(attached) == 2


class Chain:
    """An upstream that pushes."""

    def __init__(self):
        self.asked, self.ended = [], 0
        self.refusal = None
        self.tell = None

    async def subscribe(self, params, on_message):
        if self.refusal is not None:
            raise self.refusal
        self.asked.append(params)
        self.tell = on_message
        on_message('"early"')

        def end():
            self.ended += 1

        return end


async def test_heads_come_from_the_upstream_after_the_key(feed):
    chain, written = Chain(), []
    subscriptions = Subscriptions({PENDING: feed}, written.append, chain)
    methods = subscriptions.methods()
    key = await methods["eth_subscribe"].function(["logs", {"address": "0x01"}])
    assert chain.asked == [["logs", {"address": "0x01"}]]
    assert written == []
    subscriptions.release(key.encode())
    chain.tell('{"number":"0x1"}')
    assert [json.loads(line)["params"] for line in written] == [
        {"subscription": key, "result": "early"},
        {"subscription": key, "result": {"number": "0x1"}},
    ]
    assert methods["eth_unsubscribe"].function(key) is True
    assert chain.ended == 1


async def test_refusal_of_the_upstream_is_passed_on_and_leaves_nothing(feed):
    chain = Chain()
    chain.refusal = RpcError(-32602, "invalid params")
    subscriptions = Subscriptions({PENDING: feed}, lambda _line: None, chain)
    for _ in range(MAX_SUBSCRIPTIONS + 1):
        with pytest.raises(RpcError, match="invalid params"):
            await subscriptions.methods()["eth_subscribe"].function(["logs", 5])
    with pytest.raises(RpcError, match='no "blobs" subscription'):
        await subscriptions.methods()["eth_subscribe"].function(["blobs"])


async def test_heads_without_an_upstream_are_refused_with_the_remedy(feed):
    subscriptions = Subscriptions({PENDING: feed}, lambda _line: None)
    with pytest.raises(RpcError, match=r"newHeads.*--rpc-upstream") as refusal:
        await subscriptions.methods()["eth_subscribe"].function(["newHeads"])
    assert refusal.value.code == -32601
