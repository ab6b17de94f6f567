from __future__ import annotations

import asyncio
import errno
import socket
from pathlib import Path

import pytest

from relay.primitives.address import TcpAddress, UnixAddress, parse_address
from relay.primitives.errors import LocalError
from relay.transports.listener import EXHAUSTED_PAUSE, Label, Listener, serve
from relay.transports.sockets import SocketFactory, SocketRules
from tests.aids.streams import Recorder
from tests.unit.transports.conftest import no_descriptors

LOOPBACK = TcpAddress("127.0.0.1", 0)
FACTORY = SocketFactory(SocketRules.anywhere())


class Door:
    """Counts connections that are not admitted, as the room above does."""

    def __init__(self, places: int) -> None:
        self.places = places
        self.guests: list[Recorder] = []
        self.came = asyncio.Condition()

    def has_room(self) -> bool:
        return len(self.guests) < self.places

    def guest(self) -> Recorder:
        self.guests.append(Recorder())
        return self.guests[-1]

    async def close(self) -> None:
        for guest in self.guests:
            if guest.transport is not None:
                guest.transport.abort()
                await guest.wait_lost()


async def connect(listener: Listener) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await FACTORY.open_stream(listener.address)


async def until(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_listener_hands_connections_to_protocols(kind: str, tmp_path: Path) -> None:
    address = LOOPBACK if kind == "tcp" else UnixAddress(str(tmp_path / "onion"))
    door = Door(5)
    async with asyncio.TaskGroup() as tasks:
        listener = serve(tasks, FACTORY, address, door.guest, Label.ONION, has_room=door.has_room)
        assert str(listener.address) == str(parse_address(str(listener.address)))
        _, writer = await connect(listener)
        writer.write(b"hello")
        await until(lambda: door.guests)
        assert await door.guests[0].wait_for_bytes(5) == b"hello"
        await listener.close()
        # What is there lives on.
        writer.write(b" again")
        assert await door.guests[0].wait_for_bytes(11) == b"hello again"
        writer.close()
        await door.close()
    assert (listener.accepted, listener.refused, listener.label) == (1, 0, "onion")
    assert not (tmp_path / "onion").exists()


async def test_connections_beyond_the_room_are_closed_at_once_and_counted() -> None:
    door = Door(3)
    async with asyncio.TaskGroup() as tasks:
        listener = serve(tasks, FACTORY, LOOPBACK, door.guest, Label.CLEARNET, has_room=door.has_room)
        streams = [await connect(listener) for _ in range(10)]
        await until(lambda: listener.accepted + listener.refused == 10)
        for reader, _ in streams[3:]:
            assert await reader.read() == b""
        assert (listener.accepted, listener.refused, len(door.guests)) == (3, 7, 3)
        door.places = 4
        streams.append(await connect(listener))
        await until(lambda: listener.accepted == 4)
        for _, writer in streams:
            writer.close()
        await door.close()
        await listener.close()


async def test_flood_neither_piles_up_nor_starves_others() -> None:
    door = Door(20)
    turns = 0
    async with asyncio.TaskGroup() as tasks:
        listener = serve(tasks, FACTORY, LOOPBACK, door.guest, Label.CLEARNET, has_room=door.has_room)
        port = listener.address.port if isinstance(listener.address, TcpAddress) else 0
        for _ in range(20):
            for sock in (clients := [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]):
                assert sock.fileno() > 0
            before = listener.accepted + listener.refused
            while listener.accepted + listener.refused < before + 100:
                turns += 1
                await asyncio.sleep(0)
            for sock in clients[20:] or clients:
                sock.close()
            if before == 0:
                held = clients[:20]
            else:
                for sock in clients[:20]:
                    sock.close()
        assert (listener.accepted, listener.refused) == (20, 1980)
        # One connection a turn of the loop: whoever else is ready comes between any two.
        assert turns >= 1900
        for sock in held:
            sock.close()
        await door.close()
        await listener.close()


async def test_listener_outlives_a_shortage_of_descriptors() -> None:
    door = Door(5)
    paused, go_on = asyncio.Event(), asyncio.Event()
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        paused.set()
        await go_on.wait()

    async with asyncio.TaskGroup() as tasks:
        listener = serve(tasks, FACTORY, LOOPBACK, door.guest, Label.ONION, sleep=sleep)
        _, writer = await connect(listener)
        await until(lambda: door.guests)
        client = socket.socket()
        with no_descriptors():
            assert isinstance(listener.address, TcpAddress)
            client.connect((listener.address.host, listener.address.port))
            async with asyncio.timeout(5):
                await paused.wait()
            assert len(door.guests) == 1
        go_on.set()
        await until(lambda: len(door.guests) == 2)
        assert pauses == [EXHAUSTED_PAUSE]
        client.close()
        writer.close()
        await door.close()
        await listener.close()


async def test_connection_that_is_gone_before_it_is_accepted_is_passed_over() -> None:
    class Odd:
        """A listening socket whose first accept fails as when the client gave up."""

        def __init__(self, sock: socket.socket) -> None:
            self.sock = sock
            self.failures = [ConnectionAbortedError(errno.ECONNABORTED, "aborted")]

        def accept(self) -> object:
            if self.failures:
                raise self.failures.pop()
            return self.sock.accept()

        def __getattr__(self, name: str) -> object:
            return getattr(self.sock, name)

    door = Door(5)
    listener = Listener(Odd(FACTORY.listen_tcp("127.0.0.1", 0)), Label.ONION, remove=None)  # type: ignore[arg-type]
    async with asyncio.TaskGroup() as tasks:
        listener.start(tasks, door.guest, door.has_room, asyncio.sleep)
        _, writer = await connect(listener)
        await until(lambda: door.guests)
        writer.close()
        await door.close()
        await listener.close()
    assert listener.accepted == 1


async def test_cancelled_group_closes_the_listener_even_before_it_began(tmp_path: Path) -> None:
    path = tmp_path / "onion"

    class Stop(Exception):
        pass

    async def stopped() -> None:
        async with asyncio.TaskGroup() as tasks:
            serve(tasks, FACTORY, UnixAddress(str(path)), Recorder, Label.ONION)
            raise Stop

    with pytest.raises(ExceptionGroup):
        await stopped()
    await asyncio.sleep(0)
    assert not path.exists()


async def test_closing_twice_is_fine_and_a_strangers_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "onion"
    async with asyncio.TaskGroup() as tasks:
        listener = serve(tasks, FACTORY, UnixAddress(str(path)), Recorder, Label.ONION)
        path.unlink()
        path.write_text("another program's")
        await listener.close()
        await listener.close()
    assert path.read_text() == "another program's"


async def test_unix_file_that_is_gone_already_is_no_trouble(tmp_path: Path) -> None:
    path = tmp_path / "onion"
    async with asyncio.TaskGroup() as tasks:
        listener = serve(tasks, FACTORY, UnixAddress(str(path)), Recorder, Label.ONION)
        path.unlink()
        await listener.close()
    assert not path.exists()


async def test_listener_that_was_never_started_can_be_closed() -> None:
    listener = Listener(FACTORY.listen_tcp("127.0.0.1", 0), Label.CLEARNET, remove=None)
    await listener.close()


async def test_wildcard_is_refused_where_the_ip_is_hidden() -> None:
    hidden = SocketFactory(SocketRules.only())
    async with asyncio.TaskGroup() as tasks:
        with pytest.raises(LocalError, match="every interface"):
            serve(tasks, hidden, TcpAddress("0.0.0.0", 0), Recorder, Label.ONION)


async def test_taken_port_is_told() -> None:
    async with asyncio.TaskGroup() as tasks:
        listener = serve(tasks, FACTORY, LOOPBACK, Recorder, Label.ONION)
        with pytest.raises(LocalError, match="another program has it"):
            serve(tasks, FACTORY, listener.address, Recorder, Label.ONION)
        await listener.close()
