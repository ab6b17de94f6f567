"""The one place that knows aiohttp's server: HTTP as plain calls, for JSON-RPC and for the metrics page.

A handler gets a `Request` and returns an `Answer`; both are plain. What the server says of itself is
constant: no version of Python or aiohttp, neither in a header nor in an error page.

Import this module late: aiohttp costs 11 to 17 MB of memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import structlog
from aiohttp import web

from relay.primitives.errors import RelayError
from relay.rpc.hosts import HostRule
from relay.transports.sockets import StreamSocket

__all__ = ["Answer", "BodyTooLarge", "BodyTooSlow", "HttpOptions", "HttpServer", "Request"]

SERVER_NAME = "pyrelay"
TEXT = "text/plain; charset=utf-8"

_log = structlog.get_logger("relay.rpc")


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """Limits of a server.

    Attributes:
        vhosts: names in the Host header that are served besides IP literals (geth: --http.vhosts).
        connections: at a time; a further one is hung up on.
        header_bytes: of one header line, and of the request line.
        headers: lines.
        idle_seconds: without a whole request head, after which a connection is closed (geth: IdleTimeout).
        body_seconds: for a request's body (geth: ReadTimeout).
        linger_seconds: that a refused request's body may still come, so that the reason is read before the
            connection breaks.
        stop_seconds: that running requests get when the server stops.
    """

    vhosts: tuple[str, ...] = ("localhost",)
    connections: int = 256
    header_bytes: int = 8190
    headers: int = 64
    idle_seconds: float = 120.0
    body_seconds: float = 30.0
    linger_seconds: float = 2.0
    stop_seconds: float = 1.0


class BodyTooLarge(RelayError):
    """More than the handler wants to read."""


class BodyTooSlow(RelayError):
    """The body does not come, or breaks off."""


class Request:
    """One request; the body is not read before the handler asks for it."""

    __slots__ = ("_message", "_seconds", "headers", "method", "path", "query")

    def __init__(self, message: web.BaseRequest, seconds: float) -> None:
        self._message = message
        self._seconds = seconds
        self.method: str = message.method
        self.path: str = message.rel_url.raw_path
        self.query: str = message.rel_url.raw_query_string
        self.headers: Mapping[str, str] = message.headers
        """Names in any case."""

    @property
    def content_length(self) -> int | None:
        """As announced; None for a body in chunks."""
        return self._message.content_length

    @property
    def has_body(self) -> bool:
        """Whether a body follows."""
        return self._message.can_read_body

    async def read(self, limit: int) -> bytes:
        """Read the body.

        Raises:
            BodyTooLarge: it has more bytes than `limit`.
            BodyTooSlow: it is not there in time, or is cut off.
        """
        await self._say_continue()
        body = bytearray()
        try:
            async with asyncio.timeout(self._seconds):
                async for chunk in self._message.content.iter_any():
                    body += chunk
                    if len(body) > limit:
                        raise BodyTooLarge(f"the body has more than {limit} bytes")
        except TimeoutError:
            raise BodyTooSlow("read timeout") from None
        except (web.RequestPayloadError, ConnectionError):
            raise BodyTooSlow("read error") from None
        return bytes(body)

    async def _say_continue(self) -> None:
        # curl waits a second for this before it sends a larger body; RFC 9110, 10.1.1.
        if self.headers.get("Expect", "").lower() == "100-continue":
            await self._message.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._message.writer.output_size = 0


class Answer(Protocol):
    """What a handler returns."""

    @property
    def status(self) -> int:
        """HTTP status."""
        ...

    @property
    def content_type(self) -> str:
        """With its charset; empty for an answer without a body."""
        ...

    @property
    def body(self) -> bytes:
        """All of it."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Further ones."""
        ...


Handler = Callable[[Request], Awaitable[Answer]]


class HttpServer:
    """Serves a listening socket until it is closed.

    Args:
        handler: answers each request.
        options: limits.
    """

    def __init__(self, handler: Handler, *, options: HttpOptions | None = None) -> None:
        self._handler = handler
        self._options = options or HttpOptions()
        self._hosts = HostRule(self._options.vhosts)
        self._runner: web.ServerRunner | None = None

    async def start(self, sock: StreamSocket) -> None:
        """Serve a listening socket, which this object owns from now on."""
        options = self._options
        server = _Server(
            self._handle,
            options.connections,
            keepalive_timeout=options.idle_seconds,
            max_line_size=options.header_bytes,
            max_field_size=options.header_bytes,
            max_headers=options.headers,
            access_log=None,
            auto_decompress=False,  # a small body must stay small
            lingering_time=options.linger_seconds,
        )
        self._runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=options.stop_seconds)
        await self._runner.setup()
        await web.SockSite(self._runner, sock).start()

    async def close(self) -> None:
        """Stop listening and end every connection."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _handle(self, message: web.BaseRequest) -> web.StreamResponse:
        if not self._hosts.allows(message.headers.get("Host", "")):
            return _response(403, TEXT, b"invalid host specified\n", {})
        answer = await self._handler(Request(message, self._options.body_seconds))
        return _response(answer.status, answer.content_type, answer.body, answer.headers)


class _Server(web.Server):
    """Bounds connections, and makes protocols that say nothing of themselves."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        connections: int,
        **options: object,
    ) -> None:
        super().__init__(handler)
        self._limit = connections
        self._options = options

    def __call__(self) -> web.RequestHandler:
        return _Protocol(self, loop=asyncio.get_running_loop(), **self._options)  # type: ignore[arg-type]

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if len(self.connections) > self._limit:
            _log.warning("http connection refused", connections=self._limit)
            transport.abort()


class _Protocol(web.RequestHandler):
    """aiohttp's own error answers carry its version and the exception's text; these carry neither."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP, or a bug of ours, which is logged."""
        if status == 500:
            _log.error("http handler failed", exc_info=exc)
        words = b"internal error\n" if status >= 500 else b"bad request\n"
        answer = _response(status, TEXT, words, {})
        answer.force_close()
        return answer


def _response(status: int, content_type: str, body: bytes, headers: Mapping[str, str]) -> web.Response:
    named = {"Server": SERVER_NAME, **headers}
    if content_type:
        named["Content-Type"] = content_type
    return web.Response(status=status, body=body or None, headers=named)
