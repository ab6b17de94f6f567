"""Upstreams by HTTP/1.1: h11 over connections of our own, one call at a time each, kept for the next ones.

Nothing is followed, stored or decompressed: a redirect or a content coding is a fault. No header of ours
tells host name, locale or version; the User-Agent is one word in every mode: some servers insist on one.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import Final

import h11

from relay.rpc.upstream.budget import Budget, Share
from relay.rpc.upstream.faults import Fault, UpstreamFault
from relay.rpc.upstream.opener import Opener
from relay.rpc.upstream.options import UpstreamOptions
from relay.rpc.upstream.urls import UpstreamUrl
from relay.transports.sockets import describe

__all__ = ["USER_AGENT", "HttpLink"]

USER_AGENT: Final = b"pyrelay"
MAX_HEADERS: Final = 16 * 1024  # bytes before a body begins
MAX_USES: Final = 4096  # calls on one connection; then, through Tor, another circuit is taken
LONGEST_RETRY: Final = 60.0  # seconds of a Retry-After that we heed
_JSON: Final = b"application/json"
_SPEAKS: Final = frozenset({200, 400, 404, 422})  # what servers send a JSON-RPC error with


class HttpLink:
    """The connections to one upstream.

    Args:
        opener: makes them.
        options: limits.
        budget: of bytes on their way.
        method: of HTTP.
    """

    def __init__(
        self, opener: Opener, options: UpstreamOptions, budget: Budget, *, method: bytes = b"POST"
    ) -> None:
        self._opener = opener
        self._options = options
        self._budget = budget
        self._method = method
        self._kept: list[_Stream] = []

    async def exchange(self, _call_id: int, body: bytes, *, once: bool) -> bytes:
        """Send a request and return the body of its answer. Cancelled, its connection is closed.

        Args:
            _call_id: what other links match answers by; here an answer belongs to its connection.
            body: the request.
            once: it must never be sent twice, so no kept connection is used, which may be closed already.

        Raises:
            UpstreamFault: there is no such answer.
        """
        kept = None if once else self._take_kept()
        if kept is not None:
            try:
                return await self._ask(kept, body)
            except _ClosedBefore:
                pass
        try:
            return await self._ask(await self._open(), body)
        except _ClosedBefore as error:
            raise UpstreamFault(Fault.BROKEN, str(error)) from None

    def close(self) -> None:
        """Close what is kept."""
        while self._kept:
            self._kept.pop().close()

    async def _open(self) -> _Stream:
        share = Share(self._budget, self._options.answer_bytes)
        transport, stream = await self._opener.open(lambda: _Stream(self._opener.url, share, self._method))
        stream.transport = transport  # TLS has put its own over the first
        return stream

    async def _ask(self, stream: _Stream, body: bytes) -> bytes:
        with ExitStack() as guard:
            guard.callback(stream.close)
            answer = await stream.ask(body)
            if stream.usable and len(self._kept) < self._options.kept:
                guard.pop_all()
                self._keep(stream)
        return answer

    def _keep(self, stream: _Stream) -> None:
        self._kept.append(stream)
        loop = asyncio.get_running_loop()
        stream.timer = loop.call_later(self._options.idle_seconds, self._expire, stream)

    def _expire(self, stream: _Stream) -> None:
        self._kept.remove(stream)
        stream.close()

    def _take_kept(self) -> _Stream | None:
        while self._kept:
            stream = self._kept.pop()
            assert stream.timer is not None
            stream.timer.cancel()
            if stream.usable:
                return stream
            stream.close()
        return None


class _ClosedBefore(UpstreamFault):
    """A connection ended before the first byte of an answer: a kept one may have been closed long ago."""

    def __init__(self, words: str) -> None:
        super().__init__(Fault.BROKEN, f"it closed the connection: {words}")


class _Stream(asyncio.Protocol):
    """One connection."""

    def __init__(self, url: UpstreamUrl, share: Share, method: bytes) -> None:
        self.transport: asyncio.Transport | None = None
        self.timer: asyncio.TimerHandle | None = None
        self._head = _headers(url)
        self._target = url.target.encode()
        self._method = method
        self._share = share
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEADERS)
        self._uses = 0
        self._status = 0
        self._began = False
        self._ended = False
        self._parts: list[bytes] = []
        self._size = 0
        self._answer: asyncio.Future[bytes] | None = None

    @property
    def usable(self) -> bool:
        """Whether another call may go out."""
        open_ = self.transport is not None and not self.transport.is_closing() and not self._ended
        return open_ and self._http.our_state is h11.IDLE and self._uses < MAX_USES

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    async def ask(self, body: bytes) -> bytes:
        """Return the body of the answer. Cancelled, the connection is of no more use."""
        assert self.transport is not None
        self._uses += 1
        self._began = False
        if self.transport.is_closing():
            raise _ClosedBefore("it was closed already")
        self._answer = asyncio.get_running_loop().create_future()
        headers = [*self._head, (b"Content-Length", b"%d" % len(body))]
        head = self._http.send(h11.Request(method=self._method, target=self._target, headers=headers))
        self._http.send(h11.Data(data=body))
        self._http.send(h11.EndOfMessage())
        self.transport.write((head or b"") + body)
        return await self._answer

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._answer.done():
            self.close()  # nobody asked
            return
        self._began = True
        self._receive(data)

    def eof_received(self) -> None:
        self._ended = True
        if self._answer is not None and not self._answer.done() and self._began:
            self._receive(b"")  # a body without a length ends with the stream

    def connection_lost(self, error: Exception | None) -> None:
        words = describe(error) if isinstance(error, OSError) else "without an answer"
        if self._began:
            self._fail(UpstreamFault(Fault.BROKEN, f"it closed the connection in its answer: {words}"))
        else:
            self._fail(_ClosedBefore(words))
        self.close()

    def close(self) -> None:
        """Close at once: an orderly end of TLS would wait for the other side."""
        self._share.release()
        self._parts.clear()
        if self.timer is not None:
            self.timer.cancel()
        if self.transport is not None:
            self.transport.abort()

    def _fail(self, fault: UpstreamFault) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(fault)

    def _receive(self, data: bytes) -> None:
        try:
            self._http.receive_data(data)
            self._take_events()
        except h11.RemoteProtocolError as error:
            if not data:
                self._fail(UpstreamFault(Fault.BROKEN, "it closed the connection in its answer"))
                return
            self._fail(UpstreamFault(Fault.GARBAGE, f"it sends bad HTTP: {str(error)[:120]}"))
        except UpstreamFault as fault:
            self._fail(fault)

    def _take_events(self) -> None:
        while True:
            match self._http.next_event():
                case h11.Response() as response:
                    self._check(response)
                case h11.Data(data=data):
                    self._size += len(data)
                    self._share.hold(self._size)
                    self._parts.append(bytes(data))
                case h11.EndOfMessage():
                    self._finish()
                    return
                case h11.InformationalResponse():
                    continue
                case h11.NEED_DATA:
                    return
                case _:
                    raise UpstreamFault(Fault.BROKEN, "it closed the connection in its answer")

    def _check(self, response: h11.Response) -> None:
        self._status = status = response.status_code
        if status in (429, 503):
            pause = _retry_after(response)
            raise UpstreamFault(Fault.LIMITED, f"it answers with HTTP status {status}", pause=pause)
        if status not in _SPEAKS:
            raise UpstreamFault(Fault.STATUS, f"it answers with HTTP status {status}")
        headers = dict(response.headers)
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise UpstreamFault(Fault.GARBAGE, "its answer is compressed, which nobody asked for")
        if status != 200 and headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != _JSON:
            raise UpstreamFault(Fault.STATUS, f"it answers with HTTP status {status}")

    def _finish(self) -> None:
        assert self._answer is not None
        self._answer.set_result(b"".join(self._parts))
        self._parts.clear()
        self._size = 0
        self._share.release()
        both = (self._http.our_state, self._http.their_state)
        if both == (h11.DONE, h11.DONE) and not self._http.trailing_data[0] and not self._ended:
            self._http.start_next_cycle()


def _headers(url: UpstreamUrl) -> list[tuple[bytes, bytes]]:
    headers = [
        (b"Host", url.authority.encode()),
        (b"User-Agent", USER_AGENT),
        (b"Accept", _JSON),
        (b"Content-Type", _JSON),
    ]
    if url.authorization:
        headers.append((b"Authorization", url.authorization.encode()))
    return headers


def _retry_after(response: h11.Response) -> float | None:
    """Read seconds; a date is not heeded, since it would need this host's clock to be right."""
    text = dict(response.headers).get(b"retry-after", b"").strip()
    return min(float(text), LONGEST_RETRY) if text.isdigit() and len(text) < 10 else None
