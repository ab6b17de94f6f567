"""relay/tor and relay/localnet on real Tor: published, reached, killed, back, withdrawn, launched."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from relay.localnet.client import ClientHandle
from relay.localnet.network import PrivateTor
from relay.primitives.address import Address, TcpAddress
from relay.primitives.errors import TorControlError
from relay.primitives.onion import OnionAddress, OnionKey
from relay.tor.control import CommandRefused, TorControl
from relay.tor.launched import LaunchedTor
from relay.tor.onion_service import OnionService, OnionServiceOptions
from relay.tor.process import find_tor
from relay.tor.status import StatusBoard
from relay.transports.sockets import SocketFactory, SocketRules
from tests.aids.tor_clients import tor_clients

pytestmark = [pytest.mark.tor, pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

VIRTUAL_PORT = 30303
REACH_SECONDS = 30.0
FACTORY = SocketFactory(SocketRules.anywhere())


class Service:
    """Our onion service with what it told."""

    def __init__(self, client: ClientHandle, target: str, key: OnionKey | None = None) -> None:
        self.key = key or OnionKey.generate(secrets.token_bytes)
        self.board = StatusBoard()
        self.told: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._service = OnionService(
            OnionServiceOptions(self.key, VIRTUAL_PORT, target),
            client.open_control,
            self.board,
            on_up=lambda address: self.told.put_nowait(("up", address)),
            on_down=lambda reason: self.told.put_nowait(("down", reason)),
        )

    async def next(self) -> tuple[str, str]:
        async with asyncio.timeout(REACH_SECONDS):
            return await self.told.get()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Service]:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._service.run())
            try:
                yield self
            finally:
                self._service.stop()


@dataclass(frozen=True)
class Reached:
    """A stream through Tor."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def echoes(self, message: bytes) -> bool:
        self.writer.write(message)
        async with asyncio.timeout(REACH_SECONDS):
            return await self.reader.readexactly(len(message)) == message

    def close(self) -> None:
        self.writer.transport.abort()


async def reach(
    socks: Address, host: str, port: int = VIRTUAL_PORT, seconds: float = REACH_SECONDS
) -> Reached | int:
    """Connect by SOCKS on a circuit of its own; a refusal's code instead, which is not 0."""
    user = secrets.token_hex(8).encode()
    reader, writer = await FACTORY.open_stream(socks)
    try:
        async with asyncio.timeout(seconds):
            writer.write(b"\x05\x01\x02")
            assert await reader.readexactly(2) == b"\x05\x02"
            writer.write(b"\x01" + bytes([len(user)]) + user + b"\x01x")
            assert await reader.readexactly(2) == b"\x01\x00"
            writer.write(b"\x05\x01\x00\x03" + bytes([len(host)]) + host.encode() + port.to_bytes(2, "big"))
            answer = await reader.readexactly(10)
    except BaseException:
        writer.transport.abort()
        raise
    if answer[1] == 0:
        return Reached(reader, writer)
    writer.transport.abort()
    return answer[1]


async def is_reached(socks: Address, address: str) -> bool:
    found = await reach(socks, address)
    if isinstance(found, int):
        return False
    echoed = await found.echoes(b"through tor")
    found.close()
    return echoed


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def echo_target() -> AsyncIterator[str]:
    """IP:PORT of a listener that sends back what it gets."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.transport.abort()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


async def test_service_is_published_reached_and_withdrawn(private_tor: PrivateTor, echo_target: str) -> None:
    here, there = await tor_clients(private_tor, 2)
    async with Service(here, echo_target).running() as service:
        assert await service.next() == ("up", service.key.address)
        status = service.board.status
        assert (status.bootstrap_percent, status.service_up, status.network_live) == (100, True, True)
        assert status.uploads >= 1
        assert status.version.startswith("0.")
        assert all([await is_reached(there.socks, service.key.address) for _ in range(5)])
    assert await service.next() == ("down", "withdrawn")
    with pytest.raises(TimeoutError):  # Tor goes on trying for minutes
        await reach(there.socks, service.key.address, seconds=3)
    async with TorControl.connect(here.open_control) as control:
        with pytest.raises(CommandRefused):
            await control.command("DEL_ONION", service.key.address.removesuffix(".onion"))


async def test_service_comes_back_with_its_address_after_tor_was_killed(
    private_tor: PrivateTor, echo_target: str
) -> None:
    here, there = await tor_clients(private_tor, 2)
    async with Service(here, echo_target).running() as service:
        assert await service.next() == ("up", service.key.address)
        await here.kill()
        state, reason = await service.next()
        assert (state, service.board.status.control_connected) == ("down", False)
        assert reason
        await here.restart()
        assert await service.next() == ("up", service.key.address)
        assert await is_reached(there.socks, service.key.address)


async def test_service_waits_while_another_connection_holds_its_address(
    private_tor: PrivateTor, echo_target: str
) -> None:
    (here,) = await tor_clients(private_tor, 1)
    key = OnionKey.generate(secrets.token_bytes)
    service = Service(here, echo_target, key)
    collided = asyncio.Event()
    service.board.subscribe(lambda status: collided.set() if "still holds" in status.problem else None)
    async with TorControl.connect(here.open_control) as earlier:
        await earlier.command("ADD_ONION", key.add_onion_blob(), "Port=1,127.0.0.1:1")
        async with asyncio.TaskGroup() as tasks:
            ending = tasks.create_task(_until_up(service))
            async with asyncio.timeout(REACH_SECONDS):
                await collided.wait()
            await earlier.command("DEL_ONION", key.address.removesuffix(".onion"))
            assert await ending == key.address


async def _until_up(service: Service) -> OnionAddress | str:
    async with service.running():
        return (await service.next())[1]


async def test_exit_reaches_loopback(private_tor: PrivateTor, echo_target: str) -> None:
    (client,) = await tor_clients(private_tor, 1)
    host, port = echo_target.split(":")
    found = await reach(client.socks, host, int(port))
    assert isinstance(found, Reached)
    assert await found.echoes(b"by an exit")
    found.close()


async def test_wrong_onion_is_told_by_an_extended_error(private_tor: PrivateTor) -> None:
    (client,) = await tor_clients(private_tor, 1)
    assert await reach(client.socks, "a" * 56 + ".onion") == 0xF6  # bad checksum
    unpublished = OnionKey.generate(secrets.token_bytes).address
    assert await reach(client.socks, unpublished) == 0xF0


async def test_launched_tor_bootstraps_is_owned_and_restarted(
    private_tor: PrivateTor, tmp_path: Path
) -> None:
    launched = LaunchedTor(
        find_tor(), tmp_path / ("long" * 20) / "tor", FACTORY.open_stream, extra=private_tor.client_lines
    )
    assert await launched.prepare() >= launched.version
    started: asyncio.Queue[int | None] = asyncio.Queue()
    board = StatusBoard()
    bootstrapped = asyncio.Event()
    board.subscribe(lambda status: bootstrapped.set() if status.bootstrap_percent == 100 else None)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(launched.run(lambda: started.put_nowait(launched.process.pid)))
        async with asyncio.timeout(REACH_SECONDS):
            first = await started.get()
            watching = tasks.create_task(OnionService(None, launched.open_control, board).run())
            await bootstrapped.wait()
            assert not isinstance(await reach(launched.socks, "127.0.0.1", 1), Reached)
            await launched.process.kill()
            second = await started.get()
        assert first != second
        watching.cancel()
        running.cancel()
    assert not launched.process.running
    assert not Path(launched.socks.path).exists()


async def test_second_tor_in_one_folder_is_named(private_tor: PrivateTor, tmp_path: Path) -> None:
    client = (await tor_clients(private_tor, 1))[0]
    locked = f'DataDirectory "{client.process.directory}/data"'
    launched = LaunchedTor(
        find_tor(), tmp_path / "tor", FACTORY.open_stream, extra=[locked, *private_tor.client_lines]
    )
    with pytest.raises(TorControlError, match="another tor uses"):
        await launched.run()


async def test_network_ends_its_processes_by_id(private_tor: PrivateTor) -> None:
    client = await private_tor.add_client("ended", wait=False)
    pid = client.process.pid
    assert pid is not None
    await client.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert isinstance(client.socks, TcpAddress)
