from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from relay.primitives.address import TcpAddress, UnixAddress
from relay.primitives.errors import DialRefused, SamFailed
from relay.primitives.i2p import I2PKey
from relay.transports.i2p_bridge import I2PSession, SamBridge, read_line
from relay.transports.i2p_sam import Hops
from relay.transports.sockets import SocketFactory, SocketRules
from tests.aids.sam_bridge import Lie, SamServer, make_destination, make_key, text_of
from tests.aids.until import until

pytestmark = pytest.mark.asyncio

KEY = I2PKey(make_key())


@pytest_asyncio.fixture
async def server() -> AsyncIterator[SamServer]:
    async with SamServer() as found:
        yield found


def bridge_to(server: SamServer, patience: float = 10.0) -> SamBridge:
    return SamBridge(SocketFactory(SocketRules.only(server.address)), server.address, patience=patience)


def session_on(server: SamServer, patience: float = 10.0) -> I2PSession:
    return I2PSession(bridge_to(server, patience), Hops(3), secrets.token_bytes)


# -- lines ---------------------------------------------------------------------------------------------


async def test_line_is_read_and_not_a_byte_behind_it() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.sendall(b"STREAM STATUS RES")
        async with asyncio.TaskGroup() as tasks:
            line = tasks.create_task(read_line(ours))
            await asyncio.sleep(0)
            theirs.sendall(b"ULT=OK\nbytes of\na peer")
        assert line.result() == b"STREAM STATUS RESULT=OK"
        assert ours.recv(100) == b"bytes of\na peer"


async def test_line_without_an_end_is_refused_at_the_limit() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.sendall(b"x" * 100)
        with pytest.raises(SamFailed, match="a line of more than 64 bytes"):
            await read_line(ours, 64)
        assert ours.recv(100) == b"x" * 36
        theirs.sendall(b"x" * 63 + b"\n")
        assert await read_line(ours, 64) == b"x" * 63


async def test_end_before_the_newline_is_told() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        ours.setblocking(False)
        theirs.sendall(b"HELLO")
        theirs.close()
        with pytest.raises(SamFailed, match="closed the connection before"):
            await read_line(ours)


# -- the bridge ----------------------------------------------------------------------------------------


async def test_every_connection_is_greeted(server: SamServer) -> None:
    (await bridge_to(server).open()).close()
    assert server.said == ["HELLO VERSION MIN=3.1 MAX=3.1"]


async def test_bridge_that_is_not_there_is_told_with_a_remedy() -> None:
    address = UnixAddress("/nonexistent/sam")
    bridge = SamBridge(SocketFactory(SocketRules.only(address)), address)
    with pytest.raises(SamFailed, match=r"no SAM bridge answers at unix:/nonexistent/sam .*SAM switched on"):
        await bridge.open()


async def test_bridge_outside_of_the_rules_is_never_connected(server: SamServer) -> None:
    bridge = SamBridge(SocketFactory(SocketRules.only(TcpAddress("127.0.0.1", 1))), server.address)
    with pytest.raises(DialRefused):
        await bridge.open()
    assert server.said == []


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (Lie.SILENT, "says nothing for 0.05 s"),
        (Lie.CLOSE, "closed the connection before its answer"),
        (Lie.ENDLESS, "a line of more than 8192 bytes"),
        (b"HTTP/1.0 400 Bad Request\r\n\r\n", "answers in HTTP"),
        (b"\x00\x00\xff\n", "SOCKS4"),
        (b"HELLO REPLY RESULT=NOVERSION\n", "too old"),
        (b"HELLO REPLY RESULT=OK VERSION=9.9\n", "chose version"),
        (b"STREAM STATUS RESULT=OK\n", "to our greeting"),
    ],
)
async def test_greeting_that_is_a_lie_ends_the_connection(
    server: SamServer, lie: bytes | Lie, words: str
) -> None:
    server.lies["HELLO"] = [lie]
    with pytest.raises(SamFailed, match=words):
        await bridge_to(server, 0.05 if lie is Lie.SILENT else 10).open()
    await until(lambda: not server._writers, "the connection is closed")


async def test_key_is_made_by_the_router(server: SamServer) -> None:
    key = await bridge_to(server).generate_key()
    assert server.said[1] == "DEST GENERATE SIGNATURE_TYPE=7"
    assert len(key.to_file()) == 679
    server.lies["DEST"] = [f"DEST REPLY PUB={text_of(make_destination())} PRIV={key.to_text()}\n".encode()]
    with pytest.raises(SamFailed, match="not of the destination beside it"):
        await bridge_to(server).generate_key()


# -- the session ---------------------------------------------------------------------------------------


async def test_session_is_there_while_it_is_held(server: SamServer) -> None:
    session, ups = session_on(server), []
    async with asyncio.TaskGroup() as tasks:
        holding = tasks.create_task(session.hold(KEY, lambda: ups.append(session.name)))
        name = await session.wait()
        assert server.sessions == {name: KEY.to_file()[:391]}
        assert ups == [name]
        assert session.address == KEY.address
        holding.cancel()
    assert session.name == ""
    await until(lambda: not server.sessions, "the router ends it")


async def test_each_session_has_a_name_of_its_own(server: SamServer) -> None:
    names = []
    for _ in range(2):
        session = session_on(server)
        async with asyncio.TaskGroup() as tasks:
            holding = tasks.create_task(session.hold(KEY, lambda: None))
            names.append(await session.wait())
            holding.cancel()
        await until(lambda: not server.sessions, "the router ends it")
    assert names[0] != names[1]
    assert not any("pyrelay" in each for each in server.said)


async def test_end_of_the_router_ends_the_session(server: SamServer) -> None:
    session = session_on(server)

    async def hold() -> str:
        with pytest.raises(SamFailed) as caught:
            await session.hold(KEY, lambda: None)
        return str(caught.value)

    async with asyncio.TaskGroup() as tasks:
        ended = tasks.create_task(hold())
        await session.wait()
        server.cut()
    assert "ended our session" in ended.result()
    assert session.name == ""


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (b"SESSION STATUS RESULT=DUPLICATED_DEST\n", "second relay"),
        (f"SESSION STATUS RESULT=OK DESTINATION={text_of(make_key())}\n".encode(), "another destination"),
        (b"SESSION STATUS RESULT=OK DESTINATION=" + b"A" * 8 + b"\n", "what is no key"),
        (Lie.CLOSE, "closed the connection"),
        (Lie.ENDLESS, "a line of more than"),
    ],
)
async def test_session_that_is_a_lie_is_none(server: SamServer, lie: bytes | Lie, words: str) -> None:
    server.lies["SESSION"] = [lie]
    session, ups = session_on(server), []
    with pytest.raises(SamFailed, match=words):
        await session.hold(KEY, lambda: ups.append(1))
    assert (session.name, ups) == ("", [])


async def test_tunnels_that_never_come_end_the_wait(server: SamServer) -> None:
    server.lies["SESSION"] = [Lie.SILENT]
    with pytest.raises(SamFailed, match=r"says nothing for 0\.05 s"):
        await session_on(server).hold(KEY, lambda: None, patience=0.05)
