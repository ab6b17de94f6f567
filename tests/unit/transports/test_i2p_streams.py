from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.errors import DialRefused, SamFailed
from relay.primitives.i2p import I2PKey, i2p_from_hash
from relay.transports import i2p_streams
from relay.transports.i2p_bridge import I2PSession, SamBridge
from relay.transports.i2p_sam import Hops
from relay.transports.i2p_streams import I2PListener, SamDialer
from relay.transports.sockets import SocketFactory, SocketRules
from tests.aids.sam_bridge import Lie, SamServer, make_destination, make_key, text_of
from tests.aids.until import until

pytestmark = pytest.mark.asyncio


class Peer(asyncio.Protocol):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.heard = b""
        self.lost = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.heard += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True

    def say(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[SamServer]:
    async with SamServer() as found:
        yield found


@asynccontextmanager
async def held(server: SamServer) -> AsyncIterator[I2PSession]:
    """A session of a destination of its own."""
    bridge = SamBridge(SocketFactory(SocketRules.only(server.address)), server.address)
    session = I2PSession(bridge, Hops(3), secrets.token_bytes)
    async with asyncio.TaskGroup() as tasks:
        holding = tasks.create_task(session.hold(I2PKey(make_key()), lambda: None))
        await session.wait()
        try:
            yield session
        finally:
            holding.cancel()


async def never(_: float) -> None:
    await asyncio.Event().wait()


@asynccontextmanager
async def listening(
    session: I2PSession,
    *,
    has_room: Callable[[], bool] = lambda: True,
    accepts: int = 4,
    look: float = 30.0,
    sleep: Callable[[float], Awaitable[None]] = never,
) -> AsyncIterator[tuple[I2PListener, list[Peer]]]:
    peers: list[Peer] = []

    def made() -> Peer:
        peers.append(Peer())
        return peers[-1]

    listener = I2PListener(session, made, has_room, accepts=accepts, look=look, sleep=sleep)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(listener.run())
        try:
            yield listener, peers
        finally:
            running.cancel()
            for each in peers:
                if each.transport is not None:
                    each.transport.abort()


def at(session: I2PSession) -> Endpoint:
    assert session.address is not None
    return Endpoint(Network.I2P, session.address, 0)


# -- both ends -----------------------------------------------------------------------------------------


async def test_two_relays_talk_through_their_router(server: SamServer) -> None:
    async with held(server) as one, held(server) as two, listening(two) as (listener, peers):
        await until(lambda: listener.counts.waiting == 4, "accepts wait")
        transport, mine = await SamDialer(one).dial(at(two), Peer)
        mine.say(b"\x01hello")
        await until(lambda: peers and peers[0].heard == b"\x01hello", "the bytes are there")
        peers[0].say(b"and back")
        await until(lambda: mine.heard == b"and back", "the answer is there")
        await until(lambda: listener.counts.waiting == 4, "another accept waits in its place")
        assert listener.counts.accepted == 1
        transport.abort()
    # One connection a purpose: the session of each, the stream that was dialed, and accepts.
    assert len(server.asked("NAMING LOOKUP")) == len(server.asked("STREAM CONNECT")) == 1


async def test_peers_first_bytes_in_the_same_packet_as_the_line_are_the_peers(server: SamServer) -> None:
    destination = text_of(make_destination()).encode()
    server.lies["STREAM ACCEPT"] = [
        b"STREAM STATUS RESULT=OK\n" + destination + b"\n\x01\xffbytes\n",
        Lie.SILENT,
    ]
    async with held(server) as session, listening(session, accepts=1) as (_, peers):
        await until(lambda: peers and peers[0].heard == b"\x01\xffbytes\n", "the bytes are there")


# -- dialing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "to",
    [
        Endpoint.parse("192.0.2.1", 30303),
        Endpoint.parse("node.example", 30303),
        Endpoint(Network.I2P, i2p_from_hash(bytes(32)), 30303),
    ],
)
async def test_nothing_but_i2p_is_dialed(server: SamServer, to: Endpoint) -> None:
    async with held(server) as session:
        before = len(server.said)
        with pytest.raises(DialRefused):
            await SamDialer(session).dial(to, Peer)
        with pytest.raises(DialRefused, match="our own"):
            await SamDialer(session).dial(at(session), Peer)
        assert len(server.said) == before


async def test_without_a_session_nothing_is_dialed(server: SamServer) -> None:
    bridge = SamBridge(SocketFactory(SocketRules.only(server.address)), server.address)
    dialer = SamDialer(I2PSession(bridge, Hops(3), secrets.token_bytes))
    with pytest.raises(SamFailed, match="no session with the I2P router yet"):
        await dialer.dial(Endpoint(Network.I2P, i2p_from_hash(bytes(32)), 0), Peer)
    assert server.said == []


OTHER = text_of(make_destination())


@pytest.mark.parametrize(
    ("request_", "lie", "words"),
    [
        ("NAMING", f"NAMING REPLY RESULT=OK NAME=x VALUE={OTHER}\n".encode(), "of another address"),
        ("NAMING", b"NAMING REPLY RESULT=OK NAME=x VALUE=" + b"A" * 6000 + b"\n", "no destination"),
        ("NAMING", b"NAMING REPLY RESULT=KEY_NOT_FOUND NAME=x\n", "not found"),
        ("NAMING", Lie.ENDLESS, "a line of more than"),
        ("NAMING", Lie.CLOSE, "closed the connection"),
        ("NAMING", b"\x80\x81\n", "garbage"),
        ("STREAM CONNECT", b"STREAM STATUS RESULT=CANT_REACH_PEER\n", "not reached"),
        ("STREAM CONNECT", b"STREAM STATUS RESULT=INVALID_ID\n", "no such session"),
        ("STREAM CONNECT", b"STREAM STATUS\n", "without a RESULT"),
        ("STREAM CONNECT", Lie.CLOSE, "closed the connection"),
        ("HELLO", b"HELLO REPLY RESULT=I2P_ERROR\n", "router's own"),
    ],
)
async def test_dial_through_a_liar_fails_and_leaves_no_socket(
    server: SamServer, request_: str, lie: bytes | Lie, words: str
) -> None:
    async with held(server) as one, held(server) as two:
        before = len(server._writers)
        server.lies[request_] = [lie]
        made: list[Peer] = []
        with pytest.raises(SamFailed, match=words):
            await SamDialer(one).dial(at(two), lambda: made.append(Peer()) or made[-1])
        assert made == []
        await until(lambda: len(server._writers) == before, "the connection is closed")


async def test_cancelled_dial_leaves_no_socket(server: SamServer) -> None:
    async with held(server) as one, held(server) as two:
        before = len(server._writers)
        server.lies["STREAM CONNECT"] = [Lie.SILENT]
        async with asyncio.TaskGroup() as tasks:
            dial = tasks.create_task(SamDialer(one).dial(at(two), Peer))
            await until(lambda: server.asked("STREAM CONNECT"), "it waits for the reply")
            dial.cancel()
        await until(lambda: len(server._writers) == before, "the connection is closed")


async def test_ok_and_then_silence_is_a_connection_that_the_protocol_must_judge(server: SamServer) -> None:
    async with held(server) as one, held(server) as two:
        server.lies["STREAM CONNECT"] = [b"STREAM STATUS RESULT=OK\n"]
        transport, peer = await SamDialer(one).dial(at(two), Peer)
        assert peer.heard == b""
        transport.abort()


# -- accepting -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        b"garbage\n",
        b"\xff" * 600 + b"\n",
        OTHER[:-4].encode() + b"\n",
        b"A" * 8000 + b"\n",
        b"B" * 20_000,
        b"STREAM STATUS RESULT=I2P_ERROR\n",
    ],
)
async def test_accept_line_that_is_a_lie_brings_no_peer(server: SamServer, line: bytes) -> None:
    server.lies["STREAM ACCEPT"] = [b"STREAM STATUS RESULT=OK\n" + line]
    async with held(server) as session, listening(session, accepts=1) as (listener, peers):
        await until(lambda: listener.counts.failed == 1, "it is noticed")
        assert peers == []
        assert listener.counts.accepted == 0


async def test_line_that_never_ends_does_not_hold_its_place(
    server: SamServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(i2p_streams, "LINE_PATIENCE", 0.05)
    server.lies["STREAM ACCEPT"] = [b"STREAM STATUS RESULT=OK\nAAAA"]
    async with held(server) as session, listening(session, accepts=1) as (listener, _):
        await until(lambda: listener.counts.failed == 1, "it is given up")


async def test_failed_accept_is_tried_again_after_a_pause(server: SamServer) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    server.lies["STREAM ACCEPT"] = [Lie.CLOSE, b"x\n", b"STREAM STATUS RESULT=OK\n"]
    async with held(server) as session, listening(session, accepts=1, sleep=sleep) as (listener, _):
        await until(lambda: listener.counts.waiting == 1, "it waits after all")
    assert pauses == [i2p_streams.FAULT_PAUSE] * 2
    assert listener.counts.failed == 2


async def test_router_that_takes_one_accept_at_a_time_is_not_pressed(server: SamServer) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.Event().wait()

    server.most_accepts = 1
    async with held(server) as session, listening(session, sleep=sleep) as (listener, _):
        await until(lambda: len(pauses) == 3, "three of four rest")
        assert listener.counts.waiting == 1
    assert pauses == [i2p_streams.SPARE_PAUSE] * 3
    assert listener.counts.failed == 0


async def test_no_room_closes_a_stream_at_once(server: SamServer) -> None:
    async with held(server) as one, held(server) as two:
        async with listening(two, has_room=lambda: False) as (listener, peers):
            await until(lambda: listener.counts.waiting == 4, "accepts wait")
            _, mine = await SamDialer(one).dial(at(two), Peer)
            await until(lambda: mine.lost, "it is closed")
        assert (listener.counts.refused, listener.counts.accepted, peers) == (1, 0, [])


async def test_stream_from_ourselves_is_refused(server: SamServer) -> None:
    async with held(server) as session:
        own = text_of(server.sessions[session.name]).encode()
        server.lies["STREAM ACCEPT"] = [b"STREAM STATUS RESULT=OK\n" + own + b"\n", Lie.SILENT]
        async with listening(session, accepts=1) as (listener, peers):
            await until(lambda: listener.counts.refused == 1, "it is refused")
            assert peers == []


async def test_listener_waits_for_the_next_session(server: SamServer) -> None:
    bridge = SamBridge(SocketFactory(SocketRules.only(server.address)), server.address)
    session, key = I2PSession(bridge, Hops(3), secrets.token_bytes), I2PKey(make_key())
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async def hold() -> None:
        with pytest.raises(SamFailed):
            await session.hold(key, lambda: None)

    async with listening(session, sleep=sleep) as (listener, _):
        assert server.asked("STREAM ACCEPT") == []
        for _ in range(2):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(hold())
                await until(lambda: listener.counts.waiting == 4, "accepts wait")
                server.cut()
            await until(lambda: listener.counts.waiting == 0, "they are gone")


async def test_accepts_of_a_lost_session_that_the_bridge_forgets_are_begun_anew(server: SamServer) -> None:
    server.forgets = True
    bridge = SamBridge(SocketFactory(SocketRules.only(server.address)), server.address)
    session, key = I2PSession(bridge, Hops(3), secrets.token_bytes), I2PKey(make_key())

    async def at_once(_: float) -> None:
        await asyncio.sleep(0)

    async with listening(session, look=0.01, sleep=at_once):
        for _ in range(2):
            async with asyncio.TaskGroup() as tasks:
                holding = tasks.create_task(session.hold(key, lambda: None))
                name = await session.wait()
                await until(lambda name=name: len(server.waiting.get(name, ())) == 4, "its accepts wait")
                holding.cancel()
