"""A place to try relays in, on a scripted SOCKS5 proxy or on real Tor: the same test runs on both.

async with scripted_lab() as place:
    dialer = await place.relay("--only-onion")
    asked = await place.watch(dialer)
    ...
    assert asked() == [(target.onion, target.onion_port)]
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Protocol

from relay.localnet.client import ClientHandle
from relay.localnet.network import PrivateTor
from relay.tor.control import TorControl
from relay.tor.control_protocol import Reply
from tests.aids.control_server import DROP, ControlServer, control_server
from tests.aids.lab import Chain, OnionRelay, through
from tests.aids.socks_server import SocksServer
from tests.aids.tor_clients import tor_clients

Asked = Callable[[], list[tuple[str, int]]]
"""Host and port of each request that a relay's proxy got since the watch began, in order."""


class Proxies(Protocol):
    """Tor, or what stands for it."""

    async def flags(self, relay: OnionRelay) -> list[str]:
        """Flags by which a relay uses it."""
        ...

    async def watch(self, relay: OnionRelay) -> Asked:
        """Record what a relay's proxy is asked from now on."""
        ...

    async def lose_control(self, relay: OnionRelay) -> None:
        """Have a relay's control port die, and not come back."""
        ...


class Place:
    """Makes relays in a folder of its own, whose path is short: sockets are below it."""

    def __init__(self, folder: Path, proxies: Proxies, stack: AsyncExitStack) -> None:
        self.folder, self.proxies, self._stack = folder, proxies, stack
        self.chain = Chain(folder)
        self._made = 0

    async def relay(self, *flags: str, onion_port: int = 30303) -> OnionRelay:
        """A relay with Tor, not started."""
        relay = self.plain(*flags, onion_port=onion_port)
        relay.arguments += await self.proxies.flags(relay)
        return relay

    def plain(self, *flags: str, onion_port: int = 30303) -> OnionRelay:
        """A relay without Tor, not started."""
        self._made += 1
        folder = self.folder / f"relay{self._made}"
        relay = OnionRelay(folder, self.chain.path, *flags, onion_port=onion_port)
        self._stack.push_async_callback(relay.stop)
        return relay

    async def watch(self, relay: OnionRelay) -> Asked:
        """Record what a relay's proxy is asked from now on."""
        return await self.proxies.watch(relay)


class ScriptedTor:
    """One SOCKS5 server for all and a control port for each; an onion leads to what ADD_ONION named.

    Attributes:
        server: the proxy; its script may be changed.
        routes: further destinations, by host and port.
    """

    def __init__(self, server: SocksServer, folder: Path, stack: AsyncExitStack) -> None:
        self.server = server
        self.routes: dict[tuple[str, int], tuple[str, int]] = {}
        self._folder, self._stack = folder, stack
        self._controls: dict[str, ControlServer] = {}
        server.routes = self._route

    def control(self, relay: OnionRelay) -> ControlServer:
        """The control port of a relay."""
        return self._controls[relay.onion]

    async def flags(self, relay: OnionRelay) -> list[str]:
        folder = self._folder / f"control{len(self._controls)}"
        folder.mkdir()
        service_id = relay.onion.removesuffix(".onion")
        control = await self._stack.enter_async_context(control_server(folder, service_id=service_id))
        self._controls[relay.onion] = control
        return ["--tor-proxy", self.server.address, "--tor-control", f"127.0.0.1:{control.port}"]

    async def watch(self, relay: OnionRelay) -> Asked:
        begin = len(self.server.asked)
        return lambda: [(each.host, each.port) for each in self.server.asked[begin:]]

    async def lose_control(self, relay: OnionRelay) -> None:
        control = self.control(relay)
        control.answers["PROTOCOLINFO"] = DROP
        control.drop()

    def _route(self, host: str, port: int) -> tuple[str, int] | None:
        control = self._controls.get(host)
        if control is None or not control.services:
            return self.routes.get((host, port))
        for word in control.matching("ADD_ONION")[-1].split():
            if word.startswith(f"Port={port},"):
                target, _, target_port = word.partition(",")[2].rpartition(":")
                return target, int(target_port)
        return None


class RealTor:
    """A Tor client of the private network for each relay."""

    def __init__(self, clients: list[ClientHandle], stack: AsyncExitStack) -> None:
        self._free, self._stack = list(clients), stack
        self._used: dict[str, ClientHandle] = {}

    def client(self, relay: OnionRelay) -> ClientHandle:
        """The Tor of a relay."""
        return self._used[relay.id]

    async def flags(self, relay: OnionRelay) -> list[str]:
        client = self._used[relay.id] = self._free.pop(0)
        return through(client)

    async def watch(self, relay: OnionRelay) -> Asked:
        control = await self._stack.enter_async_context(TorControl.connect(self.client(relay).open_control))
        targets: list[tuple[str, int]] = []

        def take(event: Reply) -> None:
            # STREAM <id> NEW 0 <target> ... PURPOSE=USER: what came in by SOCKS (control-spec, "STREAM")
            words = event.text.split()
            if words[2] == "NEW" and "PURPOSE=USER" in words:
                host, _, port = words[4].rpartition(":")
                targets.append((host, int(port)))

        control.listen("STREAM", take)
        await control.set_events()
        return lambda: list(targets)

    async def lose_control(self, relay: OnionRelay) -> None:
        await self.client(relay).kill()


@asynccontextmanager
async def scripted_lab() -> AsyncIterator[Place]:
    """A place with a SOCKS5 server and control ports that are no Tor."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(SocksServer())
        folder = _folder(stack)
        yield Place(folder, ScriptedTor(server, folder, stack), stack)


@asynccontextmanager
async def tor_lab(network: PrivateTor, clients: int = 3) -> AsyncIterator[Place]:
    """A place on the private Tor network, with a client for each relay, up to so many."""
    found = await tor_clients(network, clients)
    async with AsyncExitStack() as stack:
        yield Place(_folder(stack), RealTor(found, stack), stack)


def _folder(stack: AsyncExitStack) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="pr-"))
    stack.callback(shutil.rmtree, folder)
    return folder
