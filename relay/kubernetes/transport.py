"""The way to the API server below lightkube's HTTP client: sockets of our one maker, and bounds on answers.

Nothing but the API server's address can be connected. A watch that ends is told of, which lightkube would
begin anew at once and for ever.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

import httpcore2
import httpx2

from relay.primitives.address import TcpAddress, parse_ip
from relay.primitives.errors import DecodeError, TransportError
from relay.transports.sockets import SocketFactory, SocketRules, describe

__all__ = ["AnswerTooLarge", "ApiTransport", "WatchEnded"]

MAX_ANSWER: Final = 32 << 20  # bytes; a thousand leases with an entry each have some 3 MB
MAX_EVENT: Final = 8 << 20  # bytes of one line of a watch: a full ConfigMap has 1 MiB, and its managers
CONNECTIONS: Final = 8
SLOWEST: Final = 120.0  # seconds for an answer, however steadily it trickles


class WatchEnded(httpx2.ReadError):
    """The server ended a watch in good order."""


class AnswerTooLarge(httpx2.ReadError):
    """More came than any answer that we ask for may have."""


class ApiTransport(httpx2.AsyncHTTPTransport):
    """Carries requests to one server.

    Args:
        host: of the server: an IP address, as pods are told, or a name.
        port: of the server.
        context: for TLS.
        sockets: for tests; by default one that allows this server only.

    Attributes:
        server_date: the Date of the latest answer; empty before.
    """

    def __init__(
        self, host: str, port: int, context: ssl.SSLContext, *, sockets: SocketFactory | None = None
    ) -> None:
        super().__init__(verify=context, trust_env=False)
        # httpx2 has no argument for a backend of its pool; httpcore2, below it, documents one.
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=context,
            max_connections=CONNECTIONS,
            keepalive_expiry=30.0,
            network_backend=_Backend(sockets or SocketFactory(_rules(host, port))),
        )
        self.server_date = ""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request."""
        async with asyncio.timeout(SLOWEST):
            response = await super().handle_async_request(request)
        self.server_date = response.headers.get("Date", self.server_date)
        watching = request.url.params.get("watch") == "true" and response.status_code == 200
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Watched(response.stream) if watching else _Bounded(response.stream)
        return response


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        loop, total = asyncio.get_running_loop(), 0
        end = loop.time() + SLOWEST
        async for part in self._inner:
            total += len(part)
            if total > MAX_ANSWER:
                raise AnswerTooLarge(f"the answer has more than {MAX_ANSWER} bytes")
            if loop.time() > end:  # the client's own limit is for each part
                raise httpx2.ReadTimeout(f"the answer takes longer than {SLOWEST:g} s")
            yield part

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Watched(_Bounded):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        line = 0
        async for part in self._inner:
            line = len(part) - 1 - part.rfind(b"\n") if b"\n" in part else line + len(part)
            if line > MAX_EVENT:
                raise AnswerTooLarge(f"an event has more than {MAX_EVENT} bytes")
            yield part
        raise WatchEnded("the API server ended the watch")


class _Backend(httpcore2.AsyncNetworkBackend):
    """Connects by the house's socket factory."""

    def __init__(self, sockets: SocketFactory) -> None:
        self._sockets = sockets

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                return await self._connect(host.strip("[]"), port)
        except TimeoutError:
            raise httpcore2.ConnectTimeout(f"no connection within {timeout} s") from None
        except TransportError as error:
            raise httpcore2.ConnectError(str(error)) from error

    async def _connect(self, host: str, port: int) -> httpcore2.AsyncNetworkStream:
        if _ip(host) is not None:
            return _Stream(*await self._sockets.open_stream(TcpAddress(parse_ip(host), port)))
        failure: TransportError | None = None
        for endpoint in await self._sockets.resolve(host, port):
            try:
                return _Stream(*await self._sockets.open_stream(TcpAddress(endpoint.host, port)))
            except TransportError as error:
                failure = error
        assert failure is not None
        raise failure

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _Stream(httpcore2.AsyncNetworkStream):
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            async with asyncio.timeout(timeout):
                return await self._reader.read(max_bytes)
        except TimeoutError:
            raise httpcore2.ReadTimeout(f"nothing came within {timeout} s") from None
        except OSError as error:
            raise httpcore2.ReadError(_words(error)) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        try:
            async with asyncio.timeout(timeout):
                self._writer.write(buffer)
                await self._writer.drain()
        except TimeoutError:
            raise httpcore2.WriteTimeout(f"nothing could be sent within {timeout} s") from None
        except OSError as error:
            raise httpcore2.WriteError(_words(error)) from error

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                await self._writer.start_tls(ssl_context, server_hostname=server_hostname)
        except TimeoutError:
            await self.aclose()
            raise httpcore2.ConnectTimeout(f"no TLS within {timeout} s") from None
        except OSError as error:
            await self.aclose()
            raise httpcore2.ConnectError(_words(error)) from error
        return self

    async def aclose(self) -> None:
        # Without the end of TLS: its answer would have to be waited for, and nothing of ours is on its way.
        self._writer.transport.abort()
        await asyncio.sleep(0)

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - whatever asyncio has
        if info == "is_readable":  # of a kept connection: has the server closed it?
            return self._reader.at_eof() or self._writer.is_closing()
        return self._writer.get_extra_info(info)


def _rules(host: str, port: int) -> SocketRules:
    address = _ip(host)
    return SocketRules.anywhere() if address is None else SocketRules.only(TcpAddress(address, port))


def _ip(host: str) -> str | None:
    try:
        return parse_ip(host)
    except DecodeError:
        return None


def _words(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not believed: {error.verify_message.rstrip('.')}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or 'it fails'}"
    return describe(error)
