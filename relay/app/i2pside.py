"""Everything that has to do with I2P, joined: the router's bridge, our destination, streams in and out."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Final

import structlog

from relay.app.datadir import DataDir
from relay.observe.pages import Readiness
from relay.primitives.errors import SamFailed
from relay.primitives.i2p import I2PAddress, I2PKey
from relay.settings import Settings
from relay.tor.backoff import Backoff
from relay.transports.i2p_bridge import I2PSession, SamBridge
from relay.transports.i2p_sam import Hops
from relay.transports.i2p_streams import I2PListener, SamDialer
from relay.transports.policy import Mode
from relay.transports.sockets import SocketFactory

__all__ = ["I2PSide", "make_i2p"]

log = structlog.get_logger("relay.app")

LONGEST_PAUSE: Final = 30.0  # seconds; a router that restarts takes minutes to build its tunnels anyway


class I2PSide:
    """The daemon's I2P, from `run` on.

    Args:
        settings: the flags; they name a SAM bridge.
        sockets: opens the way to it.
        data: where our destination's key is kept.
        rand: random bytes.
        backoff: pauses between two tries to get a session.

    Attributes:
        dialer: reaches I2P peers, while there is a session.
        listener: what came in; None before `run`.

    Raises:
        KeyFileError: the key file is unreadable or no key.
    """

    def __init__(
        self,
        settings: Settings,
        sockets: SocketFactory,
        data: DataDir,
        rand: Callable[[int], bytes],
        backoff: Backoff | None = None,
    ) -> None:
        assert settings.i2p_sam is not None
        self._settings, self._data = settings, data
        self._key = data.i2p_key(settings.i2p_key)
        self._session = I2PSession(SamBridge(sockets, settings.i2p_sam), Hops(settings.i2p_hops), rand)
        self._backoff = backoff or Backoff(longest=LONGEST_PAUSE)
        self._problem = "no session with the router yet"
        self.dialer = SamDialer(self._session)
        self.listener: I2PListener | None = None

    @property
    def address(self) -> I2PAddress | None:
        """Our own address, reachable or not; None before the router has made one."""
        return None if self._key is None else self._key.address

    async def run(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        has_room: Callable[[], bool],
        *,
        on_up: Callable[[I2PAddress], None],
        on_down: Callable[[], None],
    ) -> None:
        """Keep a session, and take the streams that come in, until cancelled.

        Args:
            protocol_factory: of each stream.
            has_room: asked at each stream.
            on_up: told our address when it can be reached.
            on_down: told when it no longer can.

        Raises:
            StorageError: the key that the router has made can't be kept.
        """
        self.listener = I2PListener(self._session, protocol_factory, has_room)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.listener.run(), name="i2p listener")
            await self._keep_session(on_up, on_down)

    async def _keep_session(self, on_up: Callable[[I2PAddress], None], on_down: Callable[[], None]) -> None:
        def up() -> None:
            self._backoff.reset()
            self._up(on_up)

        while True:
            try:
                await self._session.hold(await self._made_key(), up)
            except SamFailed as error:
                if not self._problem:
                    on_down()
                self._say(str(error))
            await asyncio.sleep(self._backoff.next_pause())

    async def wait_up(self) -> None:
        """Wait for the session, where nothing can be done without it; elsewhere return at once."""
        if self._settings.mode is Mode.ONLY_I2P:
            await self._session.wait()

    def readiness(self) -> list[Readiness]:
        """What has to be so before peers are served well; next to Tor I2P is an extra."""
        if self._settings.mode is not Mode.ONLY_I2P:
            return []
        return [Readiness("i2p", not self._problem, self._problem)]

    async def _made_key(self) -> I2PKey:
        if self._key is None:
            key = await self._session.bridge.generate_key()
            # Kept first: an address that is lost with the process is nobody's any more.
            self._data.keep_i2p_key(key)
            self._key = key
        return self._key

    def _up(self, on_up: Callable[[I2PAddress], None]) -> None:
        assert self.address is not None
        self._problem = ""
        log.info("i2p session up", address=self.address, hops=self._settings.i2p_hops)
        on_up(self.address)

    def _say(self, problem: str) -> None:
        if problem != self._problem:
            log.warning("waiting for the i2p router", cause=problem)
        self._problem = problem


def make_i2p(settings: Settings, sockets: SocketFactory, data: DataDir) -> I2PSide | None:
    """Return the daemon's I2P; None where none is asked for.

    Raises:
        KeyFileError: the key file is unreadable or no key.
    """
    return None if settings.i2p_sam is None else I2PSide(settings, sockets, data, secrets.token_bytes)
