"""Talking to the SAM bridge of an I2P router: its connections, and the session that is our destination."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final, NoReturn

from relay.primitives.address import Address
from relay.primitives.errors import ConnectFailed, SamFailed
from relay.primitives.i2p import I2PAddress, I2PKey
from relay.transports import i2p_sam as sam
from relay.transports.sockets import SocketFactory, StreamSocket, describe, until_readable

__all__ = ["I2PSession", "SamBridge", "read_line"]

GREETING_PATIENCE: Final = 10.0  # seconds; a bridge answers a greeting, and makes keys, by itself
SESSION_PATIENCE: Final = 300.0  # seconds; a router answers once its tunnels are built
_NAME_BYTES: Final = 10
_DEAD: Final = "does an I2P router run here, with SAM switched on? (i2pd: [sam] enabled = true)"


class SamBridge:
    """Opens connections to a bridge, and asks on them.

    Args:
        sockets: must allow the address.
        address: where the bridge listens, TCP or unix.
        patience: seconds for answers that need no network.
    """

    def __init__(
        self, sockets: SocketFactory, address: Address, *, patience: float = GREETING_PATIENCE
    ) -> None:
        self._sockets = sockets
        self._patience = patience
        self.address = address

    async def open(self) -> StreamSocket:
        """Connect and greet; a cancelled call leaves no socket behind.

        Raises:
            SamFailed: nobody answers there, or no SAM bridge of our version.
        """
        with ExitStack() as guard:
            try:
                sock = await self._sockets.open(self.address)
            except ConnectFailed as error:
                raise SamFailed(f"no SAM bridge answers at {self.address} ({error}): {_DEAD}") from error
            guard.callback(sock.close)
            sam.check_hello(await self.ask(sock, sam.hello()))
            guard.pop_all()
        return sock

    async def ask(self, sock: StreamSocket, request: bytes, patience: float | None = None) -> sam.Reply:
        """Write a line and read the reply, and no byte that follows it.

        Args:
            sock: greeted.
            request: a line.
            patience: seconds for the reply; the bridge's own by default.

        Raises:
            SamFailed: no reply, in time or at all; or none of SAM's.
        """
        seconds = self._patience if patience is None else patience
        deadline = asyncio.timeout(seconds)
        try:
            async with deadline:
                await asyncio.get_running_loop().sock_sendall(sock, request)
                return sam.parse_reply(await read_line(sock))
        except TimeoutError:
            if not deadline.expired():
                raise SamFailed(f"the SAM bridge {self.address} timed out; {_DEAD}") from None  # ETIMEDOUT
            raise SamFailed(
                f"the SAM bridge {self.address} says nothing for {seconds:g} s: {sam.REMEDY}"
            ) from None
        except OSError as error:
            raise SamFailed(
                f"the SAM bridge {self.address} broke the connection off: {describe(error)}; {_DEAD}"
            ) from error

    async def generate_key(self) -> I2PKey:
        """Have a destination made.

        Raises:
            SamFailed: see `open` and `relay.transports.i2p_sam.generated_key`.
        """
        sock = await self.open()
        try:
            return sam.generated_key(await self.ask(sock, sam.new_key()))
        finally:
            sock.close()


class I2PSession:
    """Our destination on the router: others reach it, and we dial from it, while `hold` runs.

    Every peer that we dial is told the destination by I2P itself: one session is one identity.

    Args:
        bridge: of the router.
        hops: routers in each tunnel.
        rand: random bytes, for the session's name, which the router alone sees.

    Attributes:
        name: what the router calls it; empty while there is none.
        address: our own, once there is a key.
    """

    def __init__(self, bridge: SamBridge, hops: sam.Hops, rand: Callable[[int], bytes]) -> None:
        self._hops, self._rand = hops, rand
        self._there = asyncio.Event()
        self.bridge = bridge
        self.name = ""
        self.address: I2PAddress | None = None

    async def wait(self) -> str:
        """Wait until there is one; returns its name."""
        await self._there.wait()
        return self.name

    async def hold(
        self, key: I2PKey, on_up: Callable[[], None], patience: float = SESSION_PATIENCE
    ) -> NoReturn:
        """Make the session and keep it until it is lost; the router ends it when this returns.

        Args:
            key: of our destination.
            on_up: called once it is there.
            patience: seconds for its tunnels.

        Raises:
            SamFailed: it could not be made, or is lost.
        """
        self.address = key.address
        sock = await self.bridge.open()
        try:
            name = self._rand(_NAME_BYTES).hex()
            request = sam.session_create(name, key, self._hops)
            sam.check_created(await self.bridge.ask(sock, request, patience), key)
            self.name = name
            self._there.set()
            on_up()
            await until_readable(sock)  # a bridge of version 3.1 has nothing to say here, but its end
            raise SamFailed("the SAM bridge ended our session: has the router stopped?")
        finally:
            self.name = ""
            self._there.clear()
            sock.close()


async def read_line(sock: StreamSocket, limit: int = sam.MAX_LINE) -> bytes:
    """Read up to the newline, which is taken and left out, and not a byte more: those are a peer's.

    Raises:
        SamFailed: the connection ended before, or the line has more than `limit` bytes.
        OSError: the socket broke.
    """
    line = bytearray()
    while len(line) < limit:
        try:
            seen = sock.recv(limit - len(line), socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            await until_readable(sock)
            continue
        if not seen:
            raise SamFailed(f"the SAM bridge closed the connection before its answer: {sam.REMEDY}")
        end = seen.find(b"\n")
        line += sock.recv(len(seen) if end < 0 else end + 1)
        if end >= 0:
            return bytes(line[:-1])
    raise SamFailed(f"the SAM bridge sends a line of more than {limit} bytes: {sam.REMEDY}")
