"""Where a Tor listens, and where to look for its control port when nobody said."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from relay.primitives.address import Address, TcpAddress, UnixAddress
from relay.primitives.errors import TorControlError, TransportError

if TYPE_CHECKING:
    import asyncio

Streams: TypeAlias = "tuple[asyncio.StreamReader, asyncio.StreamWriter]"
OpenStream: TypeAlias = "Callable[[], Awaitable[Streams]]"

DEBIAN_CONTROL_SOCKET: Final = "/run/tor/control"
DEFAULT_CONTROL_PORT: Final = 9051
COOKIE_GROUP: Final = "debian-tor"
GROUP_REMEDY: Final = (
    f"add yourself to Tor's group and log in again: sudo adduser $USER {COOKIE_GROUP}"
    " (or start Tor by --tor-launch, or give --tor-password-file)"
)


Opener: TypeAlias = Callable[[Address], Awaitable["Streams"]]


def probe_list(proxy_host: str | None) -> tuple[Address, ...]:
    """Where a control port is looked for, in this order, when none was given.

    Stock Debian has only the unix socket; others follow the manual and use 9051 beside the proxy.
    """
    debian = UnixAddress(DEBIAN_CONTROL_SOCKET)
    if proxy_host is None:
        return (debian,)
    return (debian, TcpAddress(proxy_host, DEFAULT_CONTROL_PORT))


def probing(opener: Opener, addresses: tuple[Address, ...]) -> OpenStream:
    """An ``open_stream`` that takes the first of some addresses that accepts a connection.

    It probes anew at each call, so a Tor that comes up later is found. When none accepts, it raises
    TorControlError that names each address with its reason.
    """

    async def open_first() -> Streams:
        failures: list[str] = []
        for address in addresses:
            try:
                return await opener(address)
            except (OSError, TransportError) as error:
                failures.append(f"{address}: {describe_failure(error)}")
        raise TorControlError("no control port of Tor found: " + "; ".join(failures))

    return open_first


def describe_failure(error: BaseException) -> str:
    """Why a control port could not be reached, with the way out where rights are missing."""
    if isinstance(error, PermissionError) or isinstance(error.__cause__, PermissionError):
        return f"permission denied; {GROUP_REMEDY}"
    return str(error) or type(error).__name__
