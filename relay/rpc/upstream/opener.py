"""Opens connections to one upstream: by the mode's dialer, or a unix socket of this machine; with TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from typing import TypeVar

from relay.primitives.errors import ConnectFailed, DialRefused, TransportError
from relay.rpc.upstream.faults import Fault, UpstreamFault
from relay.rpc.upstream.urls import UpstreamUrl
from relay.transports.dialer import Dialer
from relay.transports.sockets import SocketFactory, adopt, describe

__all__ = ["Opener", "TlsContext", "system_tls", "verifying"]

P = TypeVar("P", bound=asyncio.BaseProtocol)
TlsContext = Callable[[], ssl.SSLContext]


@cache
def system_tls() -> ssl.SSLContext:
    """Return a context that believes the system's certificate authorities and checks names."""
    return verifying()


def verifying(cafile: str | None = None) -> ssl.SSLContext:
    """Make a context. cafile: certificate authorities in place of the system's."""
    context = ssl.create_default_context(cafile=cafile)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


class Opener:
    """Opens connections to one upstream.

    Args:
        url: where and how.
        dialer: the mode's own: through Tor alone where the mode hides our address.
        sockets: for unix sockets.
        seconds: for a connection with its TLS.
        tls: makes the context.

    Attributes:
        opened: connections so far.
    """

    def __init__(
        self,
        url: UpstreamUrl,
        dialer: Dialer,
        sockets: SocketFactory,
        *,
        seconds: float,
        tls: TlsContext = system_tls,
    ) -> None:
        self.url = url
        self.opened = 0
        self._dialer = dialer
        self._sockets = sockets
        self._seconds = seconds
        self._tls = tls

    async def open(self, protocol_factory: Callable[[], P]) -> tuple[asyncio.Transport, P]:
        """Connect; a cancelled call leaves no socket behind.

        Raises:
            UpstreamFault: it can't be reached.
        """
        try:
            async with asyncio.timeout(self._seconds):
                return await self._open(protocol_factory)
        except TimeoutError:
            raise UpstreamFault(Fault.UNREACHABLE, f"no connection within {self._seconds:g} s") from None
        except DialRefused as error:
            raise UpstreamFault(Fault.UNREACHABLE, f"may not be dialed: {error}") from None
        except TransportError as error:
            raise UpstreamFault(Fault.UNREACHABLE, f"can't be reached: {error}") from None

    async def _open(self, protocol_factory: Callable[[], P]) -> tuple[asyncio.Transport, P]:
        url = self.url
        if url.socket is not None:
            transport, protocol = await adopt(
                await self._sockets.open_unix(url.socket.path), protocol_factory
            )
        else:
            assert url.endpoint is not None
            transport, protocol = await self._dialer.dial(url.endpoint, protocol_factory)
        self.opened += 1
        if url.scheme.is_encrypted:
            with ExitStack() as guard:
                guard.callback(transport.abort)
                transport = await self._start_tls(transport, protocol)
                guard.pop_all()
        return transport, protocol

    async def _start_tls(
        self, transport: asyncio.Transport, protocol: asyncio.BaseProtocol
    ) -> asyncio.Transport:
        assert self.url.endpoint is not None
        try:
            # Through Tor the name still goes into the check, unresolved.
            encrypted = await asyncio.get_running_loop().start_tls(
                transport, protocol, self._tls(), server_hostname=self.url.endpoint.host.rstrip(".")
            )
        except ssl.SSLCertVerificationError as error:
            why = error.verify_message.rstrip(".")
            raise ConnectFailed(
                f"its certificate is not believed: {why} (are ca-certificates there?)"
            ) from None
        except OSError as error:
            words = (error.reason or "it fails") if isinstance(error, ssl.SSLError) else describe(error)
            raise ConnectFailed(f"TLS: {words}") from error
        if encrypted is None:  # closed by the other side at the very moment that the handshake ended
            raise ConnectFailed("TLS: the connection is closed")
        return encrypted
