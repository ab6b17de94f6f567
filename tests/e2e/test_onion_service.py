"""Onion services that only chosen visitors find, those of our own Tor, and bridges: on real Tor."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.localnet.client import ClientHandle
from relay.localnet.network import PrivateTor
from relay.primitives.address import Address, UnixAddress
from relay.primitives.onion import OnionKey
from relay.tor.address import OpenStream
from relay.tor.bridges import Bridge, Transport
from relay.tor.client_auth import AuthorizedClient, OnionAccess, forget_access, give_access
from relay.tor.control import TorControl
from relay.tor.launched import LaunchedTor, LaunchOptions
from relay.tor.onion_service import OnionService, OnionServiceOptions
from relay.tor.process import TorProcess, find_tor
from relay.tor.publishing import ServiceFolder
from relay.tor.single_hop import SingleHopTor, refuse_single_hop
from relay.tor.status import StatusBoard
from relay.tor.torrc import control_line, quoted_path
from relay.transports.first_byte import parse_circuit_line
from relay.transports.sockets import SocketFactory, SocketRules
from tests.aids.lab import OnionRelay
from tests.aids.obfs4_bridge import obfs4_bridge
from tests.aids.tor_clients import tor_clients
from tests.aids.tor_lab import tor_lab
from tests.aids.until import until

pytestmark = [pytest.mark.tor, pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

SECONDS = 120.0
VIRTUAL_PORT = 30303
NO_KEY, WRONG_KEY = 0xF4, 0xF5  # tor's extended errors of client authorization
FACTORY = SocketFactory(SocketRules.anywhere())


class Service:
    """A running service, its listener, and what came in there."""

    def __init__(self) -> None:
        self.key = OnionKey.generate(secrets.token_bytes)
        self.board = StatusBoard()
        self.told: asyncio.Queue[str] = asyncio.Queue()
        self.came: asyncio.Queue[bytes] = asyncio.Queue()

    async def next(self) -> str:
        async with asyncio.timeout(SECONDS):
            return await self.told.get()

    async def first_line(self) -> bytes:
        async with asyncio.timeout(SECONDS):
            return await self.came.get()

    async def until_introduced(self, count: int) -> None:
        enough = asyncio.Event()
        self.board.subscribe(lambda status: enough.set() if status.introductions >= count else None)
        async with asyncio.timeout(SECONDS):
            await enough.wait()

    @contextlib.asynccontextmanager
    async def running(
        self,
        control: OpenStream,
        clients: tuple[AuthorizedClient, ...] = (),
        folder: ServiceFolder | None = None,
        health: float = 1.0,
    ) -> AsyncIterator[Service]:
        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.came.put_nowait(await reader.readline())
            writer.write(b"welcome\n")
            with contextlib.suppress(OSError):
                await reader.read()
            writer.transport.abort()

        listener = await asyncio.start_server(take, "127.0.0.1", 0)
        target = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        options = OnionServiceOptions(
            self.key, VIRTUAL_PORT, target, clients=clients, folder=folder, health_interval=health
        )
        service = OnionService(
            options,
            control,
            self.board,
            on_up=lambda _address: self.told.put_nowait("up"),
            on_down=self.told.put_nowait,
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(service.run())
            try:
                yield self
            finally:
                service.stop()
                listener.close()


async def visit(socks: Address, key: OnionKey) -> int:
    """Connect on a circuit of its own and say a line; the reply code of SOCKS."""
    host, user = str(key.address).encode(), secrets.token_hex(8).encode()
    reader, writer = await FACTORY.open_stream(socks)
    try:
        async with asyncio.timeout(SECONDS):
            writer.write(b"\x05\x01\x02")
            await reader.readexactly(2)
            writer.write(b"\x01" + bytes([len(user)]) + user + b"\x01x")
            await reader.readexactly(2)
            port = VIRTUAL_PORT.to_bytes(2, "big")
            writer.write(b"\x05\x01\x00\x03" + bytes([len(host)]) + host + port)
            _version, code, _reserved, kind = await reader.readexactly(4)
            await reader.readexactly((16 if kind == 4 else 4) + 2)  # IPv6 where the proxy is a unix socket
            if code == 0:
                writer.write(b"hello\n")
                assert await reader.readline() == b"welcome\n"
        return code
    finally:
        writer.transport.abort()


async def until_reached(socks: Address, key: OnionKey) -> None:
    """Visit again as a person would: a busy Tor gives a circuit up, and the next try has another."""

    async def reached() -> bool:
        return await visit(socks, key) == 0

    await until(reached, "the service is reached", SECONDS, 1.0)


async def given(visitor: ClientHandle, key: OnionKey, access: OnionAccess) -> int:
    """What a visit comes to while Tor has a key."""
    async with TorControl.connect(visitor.open_control) as control:
        await give_access(control, [access])
        try:
            return await visit(visitor.socks, key)
        finally:
            await forget_access(control, [access])


async def test_only_who_has_a_key_finds_a_private_service(private_tor: PrivateTor) -> None:
    here, there = await tor_clients(private_tor, 2)
    service = Service()
    good = OnionAccess.generate(service.key.address, secrets.token_bytes)
    wrong = OnionAccess.generate(service.key.address, secrets.token_bytes)
    async with service.running(here.open_control, clients=(good.client,)):
        assert await service.next() == "up"
        assert await visit(there.socks, service.key) == NO_KEY
        assert await given(there, service.key, wrong) == WRONG_KEY
        assert await given(there, service.key, good) == 0
        assert await service.first_line() == b"hello\n"
        assert service.came.empty()


@contextlib.asynccontextmanager
async def own_tor(
    private_tor: PrivateTor, folder: Path, options: LaunchOptions | None = None
) -> AsyncIterator[LaunchedTor]:
    lines = private_tor.client_lines
    launched = LaunchedTor(find_tor(), folder, FACTORY.open_stream, options=options, extra=lines)
    await launched.prepare()
    started = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(launched.run(started.set))
        await started.wait()
        try:
            yield launched
        finally:
            running.cancel()


async def test_service_of_our_own_tor_tells_circuits_and_has_the_points_it_was_told(
    private_tor: PrivateTor, tmp_path: Path
) -> None:
    (there,) = await tor_clients(private_tor, 1)
    service = Service()
    good = OnionAccess.generate(service.key.address, secrets.token_bytes)
    async with own_tor(private_tor, tmp_path / "tor", LaunchOptions(vanguards=True)) as launched:
        folder = ServiceFolder(launched.service_folder, introduction_points=4)
        running = service.running(launched.open_control, (good.client,), folder)
        async with running:
            assert await service.next() == "up"
            await service.until_introduced(4)
            assert await visit(there.socks, service.key) == NO_KEY
            async with TorControl.connect(there.open_control) as control:
                await give_access(control, [good])
                lines = []
                for _ in range(3):
                    await until_reached(there.socks, service.key)
                    lines.append(await service.first_line())
                await forget_access(control, [good])
            circuits = {parse_circuit_line(line.rstrip(b"\r\n")) for line in lines}
            assert len(circuits) == 3
            assert (launched.service_folder / "hs_ed25519_secret_key").stat().st_mode & 0o777 == 0o600
            assert service.board.upload_age is not None
        assert await service.next() == "withdrawn"
        assert not (launched.service_folder / "hs_ed25519_secret_key").exists()


async def test_service_of_our_own_tor_that_was_taken_away_is_published_again(
    private_tor: PrivateTor, tmp_path: Path
) -> None:
    (there,) = await tor_clients(private_tor, 1)
    service = Service()
    async with own_tor(private_tor, tmp_path / "tor") as launched:
        folder = ServiceFolder(launched.service_folder)
        async with service.running(launched.open_control, (), folder):
            assert await service.next() == "up"
            async with TorControl.connect(launched.open_control) as behind_our_back:
                await behind_our_back.command("RESETCONF", "HiddenServiceDir")
            assert await service.next() == "tor no longer holds the onion service"
            assert await service.next() == "up"
            await launched.process.kill()
            assert "tor" in await service.next()
            assert await service.next() == "up"
            await until_reached(there.socks, service.key)


async def test_own_tor_enters_by_an_obfs4_bridge_alone(private_tor: PrivateTor, tmp_path: Path) -> None:
    program = shutil.which("obfs4proxy")
    if program is None:
        pytest.skip("no obfs4proxy: apt install obfs4proxy")
    (there,) = await tor_clients(private_tor, 1)
    service, visited = Service(), Service()
    async with obfs4_bridge(private_tor, tmp_path / "bridge", program) as line:
        bridge = Bridge.parse(line)
        options = LaunchOptions((bridge,), (Transport(("obfs4",), Path(program)),))
        async with own_tor(private_tor, tmp_path / "tor", options) as launched:
            folder = ServiceFolder(launched.service_folder)
            async with (
                service.running(launched.open_control, (), folder),
                visited.running(there.open_control),
            ):
                assert [await service.next(), await visited.next()] == ["up", "up"]
                await until_reached(there.socks, service.key)
                await until_reached(launched.socks, visited.key)
                async with TorControl.connect(launched.open_control) as control:
                    links = (await control.get_info("orconn-status")).splitlines()
    assert len(links) >= 1
    assert {each.split()[0].partition("~")[0].removeprefix("$") for each in links} == {bridge.fingerprint}


async def test_tor_in_single_hop_mode_is_refused() -> None:
    with tempfile.TemporaryDirectory(prefix="pr-") as name:
        folder = Path(name)
        control = UnixAddress(str(folder / "control"))
        lines = ["HiddenServiceSingleHopMode 1", "HiddenServiceNonAnonymousMode 1", "SocksPort 0"]
        lines += ["DisableNetwork 1", control_line(control), f"DataDirectory {quoted_path(folder / 'data')}"]
        process = TorProcess(find_tor(), folder, [*lines, f"__OwningControllerProcess {os.getpid()}"])
        await process.start()
        try:
            await until((folder / "control").exists, "Tor's control socket", SECONDS)
            with pytest.raises(SingleHopTor, match="HiddenServiceSingleHopMode"):
                async with TorControl.connect(lambda: FACTORY.open_stream(control)) as connection:
                    await refuse_single_hop(connection)
        finally:
            await process.stop()


def _tor_of(private_tor: PrivateTor, folder: Path) -> dict[str, str]:
    """An environment in which `tor` joins the private network."""
    folder.mkdir()
    lines = folder / "network"
    lines.write_text("\n".join(private_tor.client_lines) + "\n")
    program = folder / "tor"
    program.write_text(
        "#!/bin/sh\n"
        f'if [ "$1" = --version ]; then exec {find_tor()} --version; fi\n'
        f'exec {find_tor()} --defaults-torrc {lines} -f "$4"\n'
    )
    program.chmod(0o700)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


async def test_private_relay_with_its_own_tor_has_the_peer_with_the_key_and_no_other(
    private_tor: PrivateTor, tmp_path: Path
) -> None:
    async with tor_lab(private_tor, 2) as place:
        friend = await place.relay("--only-onion", "--discovery", "off")
        stranger = await place.relay("--only-onion", "--discovery", "off")
        clients = place.folder / "clients"
        hidden = OnionRelay(
            place.folder / "hidden",
            place.chain.path,
            *("--tor-launch", "--only-onion", "--onion-auth-clients", str(clients)),
            environment=_tor_of(private_tor, tmp_path / "bin"),
        )
        access = OnionAccess.generate(hidden.onion_key.address, secrets.token_bytes)
        clients.write_text(f"# friends\n{access.client.base32}\n")
        keys = place.folder / "friend.auth_private"
        keys.touch(mode=0o600)
        keys.write_text(access.auth_private_line + "\n")
        friend.arguments += ["--onion-auth-keys", str(keys)]
        try:
            for relay in (hidden, friend, stranger):
                relay.launch()
            for relay in (hidden, friend, stranger):
                await relay.wait_ready(SECONDS)
            friend.name_static_nodes(hidden.onion_enode)
            stranger.name_static_nodes(hidden.onion_enode)
            await friend.joined(hidden)
            await hidden.joined(friend)
            await stranger.until_metric("p2p_dials_error_connection", 1, SECONDS)
            await stranger.joined()
            assert hidden.onion.removesuffix(".onion") not in await hidden.own_record()
            assert await hidden.metric("pyrelay_onion_service_introductions") >= 1
            assert await hidden.metric("pyrelay_onion_service_upload_age_seconds") >= 0
        finally:
            await hidden.stop()
