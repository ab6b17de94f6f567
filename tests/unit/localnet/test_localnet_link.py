from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from relay.localnet.link import DaemonLink
from relay.primitives.errors import LocalError
from relay.rpc.client import CallFailed

Answer = Callable[[dict[str, Any]], list[dict[str, Any]]]


@asynccontextmanager
async def daemon(path: Path, answer: Answer) -> AsyncIterator[asyncio.Server]:
    """One that answers each request with lines of a script."""

    connections: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        decoder, text = json.JSONDecoder(), ""
        while data := await reader.read(65_536):
            text += data.decode()
            while text:
                request, end = decoder.raw_decode(text)
                text = text[end:]
                for message in answer(request):
                    writer.write(json.dumps(message).encode() + b"\n")
        writer.close()

    server = await asyncio.start_unix_server(serve, str(path))
    try:
        yield server
    finally:
        server.close()
        for writer in connections:
            writer.transport.abort()
        await asyncio.sleep(0)  # aborting takes a turn of the loop


@asynccontextmanager
async def linked(path: Path) -> AsyncIterator[DaemonLink]:
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        link = DaemonLink(path, "relay 2")
        running = tasks.create_task(link.run())
        await link.opened.wait()
        try:
            yield link
        finally:
            running.cancel()


def result(request: dict[str, Any], value: object) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request["id"], "result": value}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pyrelay.ipc"


async def test_calls_get_their_own_answers_in_any_order(path):
    waiting: list[dict[str, Any]] = []

    def answer(request):
        waiting.append(request)
        return [result(each, each["params"][0]) for each in reversed(waiting)] if len(waiting) == 2 else []

    async with daemon(path, answer), linked(path) as link:
        assert await asyncio.gather(link.call("a", 1), link.call("b", 2)) == [1, 2]


async def test_refusal_names_the_relay_and_keeps_the_link(path):
    def answer(request):
        if request["method"] == "no":
            return [{"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32000, "message": "never"}}]
        return [result(request, True)]

    async with daemon(path, answer), linked(path) as link:
        with pytest.raises(CallFailed, match="relay 2: never"):
            await link.call("no")
        assert await link.call("yes") is True


async def test_notifications_reach_their_subscriber_and_others_nobody(path):
    got: list[Any] = []

    def told(key, value):
        return {"method": "eth_subscription", "params": {"subscription": key, "result": value}}

    def answer(request):
        if request["method"] == "eth_subscribe":
            return [result(request, "0x1"), told("0x1", "first")]
        return [told("0x2", "foreign"), told("0x1", "second"), result(request, None)]

    async with daemon(path, answer), linked(path) as link:
        await link.subscribe("newPendingTransactions", got.append)
        await link.call("more")
    assert got == ["first", "second"]


async def test_link_waits_for_a_daemon_that_is_not_there_yet(path):
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        link = DaemonLink(path, "relay 2")
        running = tasks.create_task(link.run())
        await asyncio.sleep(0)
        async with daemon(path, lambda request: [result(request, 1)]):
            await link.opened.wait()
            assert await link.call("x") == 1
            running.cancel()


@pytest.mark.parametrize("line", [{"id": "x"}, [], {"id": 1}])
async def test_daemon_that_speaks_something_else_ends_the_run(path, line):
    with pytest.raises(ExceptionGroup) as caught:
        async with daemon(path, lambda _request: [line]), linked(path) as link:
            await link.call("x")
    assert caught.group_contains(LocalError, match="does not speak JSON-RPC")


async def test_daemon_that_hangs_up_ends_the_run(path, monkeypatch):
    monkeypatch.setattr("relay.localnet.link.HUNG_UP_SECONDS", 0)

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_unix_server(hang_up, str(path))
    with pytest.raises(ExceptionGroup) as caught:
        async with linked(path) as link:
            await link.call("x")
    server.close()
    assert caught.group_contains(LocalError, match="relay 2 hung up")


async def test_daemon_that_does_not_answer_is_given_up_on(path, monkeypatch):
    monkeypatch.setattr("relay.localnet.link.ANSWER_SECONDS", 0.02)

    def late(request):
        return [] if request["method"] == "slow" else [{"id": 1, "result": 0}, result(request, "now")]

    async with daemon(path, late), linked(path) as link:
        with pytest.raises(LocalError, match=r"relay 2 does not answer slow in 0\.02 s"):
            await link.call("slow")
        monkeypatch.setattr("relay.localnet.link.ANSWER_SECONDS", 5)
        assert await link.call("fast") == "now"
