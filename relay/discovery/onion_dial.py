"""Dialing discovery streams: in turn with all other dials over Tor, each on a circuit of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final, Protocol, TypeVar

from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.errors import ConnectFailed, ConnectTimeout, DialRefused, TransportError
from relay.protocols.discv5.patience import Estimate
from relay.transports.dialer import Dialer
from relay.transports.pacing import DialPacer

__all__ = ["NoTurn", "OnionDial", "onion_dial"]

P = TypeVar("P", bound=asyncio.BaseProtocol)

LEAST: Final = 15.0  # seconds
MOST: Final = 60.0  # seconds; p95 of onion requests on the public network is 50 s (tor.md, Numbers)


class NoTurn(TransportError):
    """Too many dials over Tor are under way: nothing is known about this one's destination."""


class Timed(Protocol):
    """What is needed of the event loop."""

    def time(self) -> float:
        """Return monotonic seconds."""


class OnionDial:
    """Dials onions; made by `onion_dial`.

    Attributes:
        times: how long dials took, waiting for their turn excluded, and the deadline that follows from it.
    """

    def __init__(self, dialer: Dialer, pacer: DialPacer, clock: Timed, network: Network) -> None:
        self._dialer = dialer
        self._pacer = pacer
        self._clock = clock
        self._network = network
        self.times = Estimate(LEAST, MOST)

    async def __call__(self, to: Endpoint, factory: Callable[[], P], /) -> tuple[asyncio.Transport, P]:
        """Connect; a cancelled call leaves nothing behind.

        Raises:
            NoTurn: too many dials wait.
            TransportError: the dial failed.
        """
        if to.network is not self._network:
            raise DialRefused(f"these discovery streams lead to addresses of {self._network} only")
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self._pacer.turn())
            except ConnectFailed as error:
                raise NoTurn(str(error)) from None
            return await self._timed(to, factory)

    async def _timed(self, to: Endpoint, factory: Callable[[], P]) -> tuple[asyncio.Transport, P]:
        began, seconds = self._clock.time(), self.times.timeout
        try:
            async with asyncio.timeout(seconds):
                dialed = await self._dialer.dial(to, factory)
        except TimeoutError:
            self.times.missed()
            raise ConnectTimeout(f"no connection within {seconds:g} s") from None
        self.times.took(self._clock.time() - began)
        return dialed


def onion_dial(dialer: Dialer, pacer: DialPacer, clock: Timed, network: Network = Network.ONION) -> OnionDial:
    """Make the dial of `OnionStreams`.

    Args:
        dialer: `SocksDialer.for_purpose(Purpose.DISCOVERY)`: it gives each connection credentials of its own,
            so each peer a circuit of its own, and refuses our own onion.
        pacer: shared with all other dials of onions: what Tor's guards count is circuits, whatever for.
        clock: the event loop.
        network: that streams lead to: onion, or I2P with its own dialer and pacer.
    """
    return OnionDial(dialer, pacer, clock, network)
