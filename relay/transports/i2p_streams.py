"""Streams over I2P: dialing by address, and taking those that come in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog

from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.errors import DialRefused, SamFailed
from relay.primitives.i2p import I2PAddress
from relay.transports import i2p_sam as sam
from relay.transports.i2p_bridge import I2PSession, read_line
from relay.transports.sockets import StreamSocket, adopt, describe, until_readable

__all__ = ["ACCEPTS", "I2PListener", "ListenerCounts", "SamDialer"]

P = TypeVar("P", bound=asyncio.BaseProtocol)
log = structlog.get_logger("relay.transports")

ACCEPTS: Final = 4  # that wait at a time; bridges of version 3.1 in its strict form take one
NETWORK_PATIENCE: Final = 120.0  # seconds; the caller's deadline is the shorter one
LINE_PATIENCE: Final = 10.0  # seconds from the first byte of who it is to the last
SPARE_PAUSE: Final = 60.0  # seconds until a further accept is tried again where one waits already
_ONE_AT_A_TIME: Final = frozenset({"ALREADY_ACCEPTING", "I2P_ERROR"})
LOOK: Final = 30.0  # seconds between two looks whether the session of an accept is still there
FAULT_PAUSE: Final = 5.0  # seconds after an accept that failed while none waits


class SamDialer:
    """Connects to I2P addresses; a `Dialer`.

    That the router says OK means that it has sent the first packet: whether anybody is there, only the
    protocol above learns.

    Args:
        session: ours; without one nothing is dialed.
    """

    def __init__(self, session: I2PSession) -> None:
        self._session = session

    async def dial(self, to: Endpoint, protocol_factory: Callable[[], P]) -> tuple[asyncio.Transport, P]:
        """Connect; the caller owns the deadline, and cancelling closes the socket.

        Raises:
            DialRefused: no I2P address, or our own; the bridge was not asked.
            SamFailed: the bridge said no, or lies.
        """
        address = self._permitted(to)
        session, bridge = self._session, self._session.bridge
        if not session.name:
            raise SamFailed("there is no session with the I2P router yet: it builds its tunnels, or is gone")
        with ExitStack() as guard:
            sock = await bridge.open()
            guard.callback(sock.close)
            reply = await bridge.ask(sock, sam.lookup(address), NETWORK_PATIENCE)
            request = sam.stream_connect(session.name, sam.looked_up(reply, address))
            sam.check_status(await bridge.ask(sock, request, NETWORK_PATIENCE))
            guard.pop_all()
        return await adopt(sock, protocol_factory)

    def _permitted(self, to: Endpoint) -> I2PAddress:
        if to.network is not Network.I2P or not to.can_be_dialed:
            raise DialRefused("only I2P addresses are dialed by SAM")
        if to.host == self._session.address:
            raise DialRefused("it is our own I2P address")
        return I2PAddress(to.host)


@dataclass(slots=True)
class ListenerCounts:
    """Counts since the start, but for `waiting`.

    Attributes:
        waiting: accepts that wait for a peer now.
        accepted: streams handed to a protocol.
        refused: closed at once: no room, or from ourselves.
        failed: accepts that the bridge refused or broke.
    """

    waiting: int = 0
    accepted: int = 0
    refused: int = 0
    failed: int = 0


class I2PListener:
    """Takes streams that come in to our destination, while a session is held.

    Args:
        session: ours.
        protocol_factory: called for each stream there is room for.
        has_room: asked at each stream.
        accepts: that wait at a time, as far as the bridge takes them.
        look: seconds between two looks whether the session is still there; for tests.
        sleep: waits; for tests.

    Attributes:
        counts: what came in.
    """

    def __init__(
        self,
        session: I2PSession,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        has_room: Callable[[], bool],
        *,
        accepts: int = ACCEPTS,
        look: float = LOOK,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._session, self._factory, self._has_room = session, protocol_factory, has_room
        self._accepts, self._look, self._sleep = accepts, look, sleep
        self.counts = ListenerCounts()

    async def run(self) -> None:
        """Accept until cancelled; connections that are there live on."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(self._accepts):
                tasks.create_task(self._accept_all(), name=f"accept i2p {number}")

    async def _accept_all(self) -> None:
        while True:
            try:
                await self._accept()
            except SamFailed as error:
                if self.counts.waiting and error.result in _ONE_AT_A_TIME:
                    await self._sleep(SPARE_PAUSE)  # this router takes one accept at a time
                    continue
                self.counts.failed += 1
                log.debug("accept over i2p failed", cause=str(error))
                await self._sleep(FAULT_PAUSE)

    async def _accept(self) -> None:
        name, bridge = await self._session.wait(), self._session.bridge
        with ExitStack() as guard:
            sock = await bridge.open()
            guard.callback(sock.close)
            sam.check_status(await bridge.ask(sock, sam.stream_accept(name)))
            peer = await self._wait_for_peer(sock, name)
            if peer == self._session.address or not self._has_room():
                self.counts.refused += 1
                return
            guard.pop_all()
        self.counts.accepted += 1
        await adopt(sock, self._factory)

    async def _wait_for_peer(self, sock: StreamSocket, name: str) -> I2PAddress:
        """Wait as long as it takes for the first byte of the line that names who has come."""
        self.counts.waiting += 1
        try:
            await self._until_peer(sock, name)
        finally:
            self.counts.waiting -= 1
        try:
            async with asyncio.timeout(LINE_PATIENCE):
                return sam.accepted_from(await read_line(sock))
        except TimeoutError:
            raise SamFailed("the SAM bridge begins to name a peer, and does not end") from None
        except OSError as error:
            raise SamFailed(f"the SAM bridge broke an accept off: {describe(error)}") from error

    async def _until_peer(self, sock: StreamSocket, name: str) -> None:
        """Wait for a byte while the session is there: a bridge may leave the accepts of a lost one open."""
        while self._session.name == name:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._look):
                    await until_readable(sock)
                    return
        raise SamFailed("the session that an accept waited on is lost")
