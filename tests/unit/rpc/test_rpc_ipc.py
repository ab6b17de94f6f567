import asyncio
import json
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.primitives.errors import LocalError
from relay.rpc.client import CallFailed, call
from relay.rpc.dispatcher import Dispatcher
from relay.rpc.ipc import IpcOptions, IpcServer
from relay.rpc.methods import NAMESPACES, Method, all_methods, select
from relay.transports.sockets import SocketFactory, SocketRules
from tests.unit.rpc.conftest import Clock, Node, recorded
from tests.unit.rpc.test_rpc_as_geth import (
    DIFFERENT_ON_A_STREAM,
    ELSEWHERE,
    LATE_ON_A_STREAM,
    NOT_OURS,
    OWN_VALUES,
    loads,
)

CHAIN_ID = b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}'


@asynccontextmanager
async def serving(
    path: Path, dispatcher: Dispatcher, options: IpcOptions | None = None
) -> AsyncIterator[IpcServer]:
    async with asyncio.timeout(8), asyncio.TaskGroup() as tasks:
        server = IpcServer(dispatcher, tasks, options=options)
        await server.start(SocketFactory(SocketRules.anywhere()).listen_unix(str(path)))
        try:
            yield server
        finally:
            await server.close()


async def say(path: Path, data: bytes) -> bytes:
    """Send all and close our side, then read to the end."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(data)
    writer.write_eof()
    try:
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pyrelay.ipc"


async def test_answers_come_in_order_on_lines_of_their_own(path: Path, dispatcher: Dispatcher) -> None:
    async with serving(path, dispatcher):
        answer = await say(
            path, CHAIN_ID + CHAIN_ID.replace(b"1,", b"2,") + b"\n" + CHAIN_ID.replace(b"1,", b"3,")
        )

    assert [json.loads(line)["id"] for line in answer.splitlines()] == [1, 2, 3]
    assert answer.endswith(b"\n")


async def test_client_gets_its_answer_without_a_newline_or_an_end(path: Path, dispatcher: Dispatcher) -> None:
    async with serving(path, dispatcher):
        reader, writer = await asyncio.open_unix_connection(str(path))
        for half in (CHAIN_ID[:20], CHAIN_ID[20:]):
            writer.write(half)
            await writer.drain()
        assert json.loads(await reader.readline())["result"] == "0x1e77"
        writer.close()


async def test_socket_is_for_its_owner_only_and_gone_after_close(path: Path, dispatcher: Dispatcher) -> None:
    async with serving(path, dispatcher) as server:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()
    await server.close()  # a second time does nothing


async def test_file_of_another_daemon_stays(path: Path, dispatcher: Dispatcher) -> None:
    async with serving(path, dispatcher):
        path.unlink()
        path.write_text("another")
    assert path.read_text() == "another"


async def test_garbage_is_told_once_and_ends_the_connection(path: Path, dispatcher: Dispatcher) -> None:
    async with serving(path, dispatcher):
        answer = await say(path, CHAIN_ID + b"hello " + CHAIN_ID)

    first, second = map(json.loads, answer.splitlines())
    assert first["result"] == "0x1e77"
    assert second["error"] == {"code": -32700, "message": "parse error"}


async def test_request_over_the_limit_is_refused(path: Path, dispatcher: Dispatcher) -> None:
    async with serving(path, dispatcher, IpcOptions(request_bytes=1000)):
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b'{"a":"' + b"x" * 5000)
        assert "request too large" in json.loads(await reader.readline())["error"]["message"]
        writer.close()


async def test_client_too_many_is_hung_up_on_and_has_room_later(path: Path, dispatcher: Dispatcher) -> None:
    async with serving(path, dispatcher, IpcOptions(clients=1)):
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(CHAIN_ID)
        await reader.readline()
        assert await say(path, CHAIN_ID) == b""
        writer.close()
        while not await say(path, CHAIN_ID):
            await asyncio.sleep(0)


def big_answers(clock: Clock) -> Dispatcher:
    return Dispatcher({"x_big": Method("x_big", lambda: "a" * 1_000_000)}, clock=clock)


async def test_client_that_never_reads_is_dropped_at_the_deadline(path: Path, clock: Clock) -> None:
    async with serving(path, big_answers(clock), IpcOptions(write_seconds=0.05)) as server:
        reader, writer = await asyncio.open_unix_connection(str(path), limit=1)
        request = b'{"jsonrpc":"2.0","id":1,"method":"x_big"}'
        writer.write(request * 4)
        while not server._clients:
            await asyncio.sleep(0)
        while server._clients:
            await asyncio.sleep(0.01)
        writer.close()
        del reader


async def test_client_with_a_backlog_over_the_bound_is_dropped_at_once(path: Path, clock: Clock) -> None:
    async with serving(path, big_answers(clock), IpcOptions(backlog_bytes=100_000)):
        assert len(await say(path, b'{"jsonrpc":"2.0","id":1,"method":"x_big"}')) < 1_000_000


async def test_client_that_hangs_up_does_no_harm(path: Path, clock: Clock, dispatcher: Dispatcher) -> None:
    async with serving(path, big_answers(clock)) as server:
        _, writer = await asyncio.open_unix_connection(str(path), limit=1)
        writer.write(b'{"jsonrpc":"2.0","id":1,"method":"x_big"}' * 3)
        while not server._clients:
            await asyncio.sleep(0)
        writer.transport.abort()
        while server._clients:
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    "case", recorded("ipc", without=NOT_OURS | OWN_VALUES | ELSEWHERE | DIFFERENT_ON_A_STREAM)
)
async def test_stream_is_answered_as_by_geth(
    path: Path, dispatcher: Dispatcher, case: dict[str, Any]
) -> None:
    async with serving(path, dispatcher):
        ours = loads(await say(path, case["request"].encode()))
    if case["name"] in LATE_ON_A_STREAM:
        assert ours["error"]["code"] in ("-32600", "-32700")
    elif case["kind"] == "broken" and case["answer"]:
        assert ours["error"]["code"] == loads(case["answer"])["error"]["code"]
    else:
        assert ours == loads(case["answer"])


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=60) | st.just(CHAIN_ID), max_size=6))
def test_fuzz_any_stream_gets_well_formed_lines(
    tmp_path: Path, node: Node, clock: Clock, parts: list[bytes]
) -> None:
    async def run() -> bytes:
        dispatcher = Dispatcher(select(all_methods(node, node, node), NAMESPACES), clock=clock)
        async with serving(tmp_path / "fuzz.ipc", dispatcher):
            return await say(tmp_path / "fuzz.ipc", b" ".join(parts))

    for line in asyncio.run(run()).splitlines():
        assert json.loads(line)


# -- the client


async def test_call_returns_the_result(path: Path, dispatcher: Dispatcher) -> None:
    async with serving(path, dispatcher):
        assert await call(str(path), "web3_sha3", ["0x68656c6c6f"]) == "0x" + (
            "1c8aff950685c2ed4bc3174f3472287b56d9517b9c948127319a09a7a36deac8"
        )


async def test_call_tells_the_daemons_refusal(path: Path, dispatcher: Dispatcher) -> None:
    async with serving(path, dispatcher):
        with pytest.raises(CallFailed, match="the method x_y does not exist") as raised:
            await call(str(path), "x_y")
    assert raised.value.code == -32601


async def test_call_says_when_no_daemon_is_there(path: Path) -> None:
    with pytest.raises(LocalError, match="is the daemon running"):
        await call(str(path), "eth_chainId")


@pytest.mark.parametrize("answer", [b"hello\n", b"[]\n", b"[" * 100_000 + b"\n", b'{"error":5}\n'])
async def test_call_says_when_it_is_no_json_rpc(path: Path, answer: bytes) -> None:
    async with answering(path, answer):
        with pytest.raises(LocalError, match="does not speak JSON-RPC"):
            await call(str(path), "eth_chainId")


async def test_call_says_when_the_answer_breaks_off(path: Path) -> None:
    async with answering(path, b'{"jsonrpc'):
        with pytest.raises(LocalError, match="hung up in the middle"):
            await call(str(path), "eth_chainId")


async def test_call_gives_up_in_time(path: Path) -> None:
    async with answering(path, None):
        with pytest.raises(LocalError, match=r"does not answer within 0.05 s"):
            await call(str(path), "eth_chainId", timeout=0.05)


@asynccontextmanager
async def answering(path: Path, answer: bytes | None) -> AsyncIterator[None]:
    """A daemon that answers anything with these bytes, or with silence."""
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        if answer is None:
            await done.wait()
        else:
            writer.write(answer)
        writer.close()

    server = await asyncio.start_unix_server(serve, str(path))
    try:
        yield
    finally:
        done.set()
        server.close()
