"""Dials a host that the user named, an IP, a name or an onion; where direct connections are fine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.errors import ConnectFailed, DialRefused, TransportError
from relay.transports.dialer import Dialer, TcpDialer
from relay.transports.sockets import SocketFactory

__all__ = ["HostDialer"]

P = TypeVar("P", bound=asyncio.BaseProtocol)


class HostDialer:
    """Connects directly, names too.

    Args:
        sockets: must allow direct connections and look-ups.
        onions: for onion addresses; None without Tor.
    """

    def __init__(self, sockets: SocketFactory, onions: Dialer | None) -> None:
        self._sockets = sockets
        self._tcp = TcpDialer(sockets)
        self._onions = onions

    async def dial(self, to: Endpoint, protocol_factory: Callable[[], P]) -> tuple[asyncio.Transport, P]:
        """Connect to the first address that answers; the caller owns the deadline.

        Raises:
            TransportError: none does, or an onion without Tor.
        """
        if to.is_ip:
            return await self._tcp.dial(to, protocol_factory)
        if to.network is Network.ONION:
            if self._onions is None:
                raise DialRefused("an onion address needs Tor: give --tor-proxy")
            return await self._onions.dial(to, protocol_factory)
        failure: TransportError = ConnectFailed("the name has no address")
        for target in await self._sockets.resolve(to.host, to.port):
            try:
                return await self._tcp.dial(target, protocol_factory)
            except ConnectFailed as error:
                failure = error
        raise failure
