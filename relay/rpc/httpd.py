"""The one place that knows aiohttp's server: HTTP as plain calls, for JSON-RPC and for the metrics page.

A handler gets a `Request` and returns an `Answer`; both are plain. What the server says of itself is
constant: no version of Python or aiohttp, neither in a header nor in an error page.

Import this module late: aiohttp costs 11 to 17 MB of memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import structlog
from aiohttp import WSMsgType, web

from relay.primitives.errors import RelayError
from relay.rpc.hosts import HostRule
from relay.transports.sockets import StreamSocket

__all__ = [
    "Answer",
    "BodyTooLarge",
    "BodyTooSlow",
    "HttpOptions",
    "HttpServer",
    "Request",
    "Socket",
    "SocketHandler",
]

B = TypeVar("B", bytes, bytearray)

SERVER_NAME = "pyrelay"
TEXT = "text/plain; charset=utf-8"
NO_SNIFFING = {"X-Content-Type-Options": "nosniff"}
SOCKET_BUFFER = 64 * 1024  # bytes written to a WebSocket before its client has to make room

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
        message_bytes: of one WebSocket message (geth's limit of an HTTP body).
        ping_seconds: between two pings of a WebSocket; one without a pong in half of it is cut off.
    """

    vhosts: tuple[str, ...] = ("localhost",)
    connections: int = 256
    header_bytes: int = 8190
    headers: int = 64
    idle_seconds: float = 120.0
    body_seconds: float = 30.0
    linger_seconds: float = 2.0
    stop_seconds: float = 1.0
    message_bytes: int = 5 * 1024 * 1024
    ping_seconds: float = 30.0


class BodyTooLarge(RelayError):
    """More than the handler wants to read."""


class BodyTooSlow(RelayError):
    """The body does not come, or breaks off."""


class Request:
    """One request; the body is not read before the handler asks for it."""

    __slots__ = ("_message", "_seconds", "client", "headers", "method", "path", "query")

    def __init__(self, message: web.BaseRequest, seconds: float) -> None:
        self._message = message
        self._seconds = seconds
        self.method: str = message.method
        self.path: str = message.rel_url.raw_path
        self.query: str = message.rel_url.raw_query_string
        self.headers: Mapping[str, str] = message.headers
        """Names in any case."""
        self.client: str = message.remote or ""
        """IP address of who asks."""

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
        content = self._message.content
        if (
            content.is_eof() and content.exception() is None
        ):  # all of it came with the head, as it mostly does
            return _bounded(content.read_nowait(), limit)
        await self._say_continue()
        body = bytearray()
        try:
            async with asyncio.timeout(self._seconds):
                async for chunk in content.iter_any():
                    body += chunk
                    _bounded(body, limit)
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


def _bounded(body: B, limit: int) -> B:
    if len(body) > limit:
        raise BodyTooLarge(f"the body has more than {limit} bytes")
    return body


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

    # One with an attribute `stream` that is not None has its body follow from there, piece by piece.


Handler = Callable[[Request], Awaitable[Answer]]


class Socket:
    """One WebSocket connection."""

    def __init__(self, socket: web.WebSocketResponse, message: web.BaseRequest) -> None:
        self._socket = socket
        self._message = message
        self.client: str = message.remote or ""
        """IP address of who asks."""

    async def messages(self) -> AsyncGenerator[bytes, None]:
        """Give each message, text or binary.

        Raises:
            OSError: the connection has ended; there is no half of it that could still be answered.
        """
        async for message in self._socket:
            if message.type is WSMsgType.TEXT:
                yield message.data.encode("utf-8", "surrogatepass")
            elif message.type is WSMsgType.BINARY:
                yield message.data
            else:
                break
        raise ConnectionResetError("the client has gone")

    async def send(self, messages: Sequence[bytes]) -> None:
        """Send text messages; returns when there is room for more.

        Raises:
            OSError: the connection is broken.
        """
        for message in messages:
            await self._socket.send_str(message.decode())

    def abort(self) -> None:
        """Break the connection."""
        if self._message.transport is not None:
            self._message.transport.abort()


class SocketHandler(Protocol):
    """Serves WebSocket connections."""

    def allows(self, origin: str | None, /) -> bool:
        """Tell whether a page of this origin may connect; None is no page."""
        ...

    async def serve(self, socket: Socket, /) -> None:
        """Serve one until it ends."""
        ...


class HttpServer:
    """Serves a listening socket until it is closed.

    Args:
        handler: answers each request; None where there is nothing but WebSocket.
        options: limits.
        sockets: serves WebSocket; None for none.
        refusal: says why the value of an Authorization header is not enough, empty where it is; None to ask
            for none.
    """

    def __init__(
        self,
        handler: Handler | None,
        *,
        options: HttpOptions | None = None,
        sockets: SocketHandler | None = None,
        refusal: Callable[[str], str] | None = None,
    ) -> None:
        self._handler = handler
        self._sockets = sockets
        self._refusal = refusal
        self._open: set[Socket] = set()
        self._streams: set[asyncio.Task[Any]] = set()
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
            for socket in tuple(self._open):
                socket.abort()
            for task in tuple(self._streams):
                task.cancel()
            await self._runner.cleanup()
            self._runner = None

    async def _handle(self, message: web.BaseRequest) -> web.StreamResponse:
        if self._refusal is not None and (words := self._refusal(message.headers.get("Authorization", ""))):
            return _response(401, TEXT, f"{words}\n".encode(), NO_SNIFFING)
        if self._sockets is not None and _is_upgrade(message):
            return await self._serve_socket(self._sockets, message)
        if self._handler is None:
            return _response(404, TEXT, b"404 page not found\n", NO_SNIFFING)
        if not self._hosts.allows(message.headers.get("Host", "")):
            return _response(403, TEXT, b"invalid host specified\n", {})
        answer = await self._handler(Request(message, self._options.body_seconds))
        stream: AsyncGenerator[bytes, None] | None = getattr(answer, "stream", None)
        if stream is not None and message.method == "GET":
            return await self._serve_stream(answer, stream, message)
        return _response(answer.status, answer.content_type, answer.body, answer.headers)

    async def _serve_stream(
        self, answer: Answer, stream: AsyncGenerator[bytes, None], message: web.BaseRequest
    ) -> web.StreamResponse:
        """Send pieces as they come, until there are no more, or the client has gone or takes none."""
        named = {"Server": SERVER_NAME, **answer.headers, "Content-Type": answer.content_type}
        response = web.StreamResponse(status=answer.status, headers=named)
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        try:
            async with aclosing(stream):
                await response.prepare(message)
                async for piece in stream:
                    async with asyncio.timeout(self._options.body_seconds):
                        await response.write(piece)
        except (ConnectionError, TimeoutError):
            response.force_close()
            if message.transport is not None:
                message.transport.abort()
        finally:
            self._streams.discard(task)
        return response

    async def _serve_socket(self, sockets: SocketHandler, message: web.BaseRequest) -> web.StreamResponse:
        if not sockets.allows(message.headers.get("Origin")):
            return _response(403, TEXT, b"Forbidden\n", NO_SNIFFING)
        response = web.WebSocketResponse(
            max_msg_size=self._options.message_bytes,
            heartbeat=self._options.ping_seconds,
            timeout=self._options.stop_seconds,
            compress=False,  # a small message must stay small
            writer_limit=SOCKET_BUFFER,
        )
        response.headers["Server"] = SERVER_NAME
        try:
            await response.prepare(message)
        except web.HTTPBadRequest:
            return _response(400, TEXT, b"Bad Request\n", NO_SNIFFING)
        socket = Socket(response, message)
        self._open.add(socket)
        try:
            await sockets.serve(socket)
            await response.close()
        finally:
            self._open.discard(socket)
        return response


class _Server(web.Server):
    """Bounds connections, and makes protocols that say nothing of themselves."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        connections: int,
        **options: object,
    ) -> None:
        super().__init__(handler, request_factory=_request)
        self._limit = connections
        self._options = options

    def __call__(self) -> web.RequestHandler:
        return _Protocol(self, loop=asyncio.get_running_loop(), **self._options)  # type: ignore[arg-type]

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if len(self.connections) > self._limit:
            _log.warning("http connection refused", connections=self._limit)
            transport.abort()


class _Request(web.BaseRequest):
    """Answered without a Date: this host's clock is nobody's business (RFC 9110 6.6.1: for caches)."""

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        response.headers.popall("Date", None)


def _request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:  # noqa: ANN401
    return _Request(message, payload, protocol, writer, task, asyncio.get_running_loop())


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


def _is_upgrade(message: web.BaseRequest) -> bool:
    headers = message.headers
    asks = "upgrade" in headers.get("Connection", "").lower()
    return asks and headers.get("Upgrade", "").strip().lower() == "websocket"


def _response(status: int, content_type: str, body: bytes, headers: Mapping[str, str]) -> web.Response:
    named = {"Server": SERVER_NAME, **headers}
    if content_type:
        named["Content-Type"] = content_type
    return web.Response(status=status, body=body or None, headers=named)
