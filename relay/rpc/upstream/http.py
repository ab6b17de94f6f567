"""Upstreams by HTTP/1.1: h11 over connections of our own, one call at a time each, kept for the next ones.

Nothing is followed, stored or decompressed: a redirect or a content coding is a fault. No header of ours
tells host name, locale or version; the User-Agent is one word in every mode: some servers insist on one.
"""

from __future__ import annotations

import asyncio
import re
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
MAX_SAME: Final = 512  # bytes of bodies whose heads are kept
MAX_USES: Final = 4096  # calls on one connection; then, through Tor, another circuit is taken
LONGEST_RETRY: Final = 60.0  # seconds of a Retry-After that we heed
_JSON: Final = b"application/json"
_HEAD_END: Final = b"\r\n\r\n"
_PLAIN_HEAD: Final = re.compile(
    rb"HTTP/1\.1 200 [\x20-\x7e]*\r\n(?:[A-Za-z0-9!#$%&'*+.^_`|~-]+:[\x20-\x7e\t]*\r\n)*"
)
_UNUSUAL: Final = re.compile(
    rb"\n(?:transfer-encoding|connection|content-encoding|upgrade|trailer):", re.IGNORECASE
)
_LENGTH: Final = re.compile(rb"\ncontent-length:[ \t]*([0-9]{1,15})[ \t]*\r", re.IGNORECASE)
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
        self._head = _Head(opener.url, method)
        self._kept: list[_Stream] = []
        self._age = 0

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

    def leave(self) -> None:
        """Keep no connection of now for later; calls under way go on."""
        self._age += 1
        self.close()

    async def _open(self) -> _Stream:
        share = Share(self._budget, self._options.answer_bytes)
        transport, stream = await self._opener.open(lambda: _Stream(self._head, share))
        stream.transport = transport  # TLS has put its own over the first
        return stream

    async def _ask(self, stream: _Stream, body: bytes) -> bytes:
        age = self._age
        with ExitStack() as guard:
            guard.callback(stream.close)
            answer = await stream.ask(body)
            if stream.usable and age == self._age and len(self._kept) < self._options.kept:
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
    """One connection.

    Most answers have one form, status 200 with a length, which a pattern reads; h11 reads all others, and
    would take a hundred microseconds for what the pattern does in five.
    """

    def __init__(self, head: _Head, share: Share) -> None:
        self.transport: asyncio.Transport | None = None
        self.timer: asyncio.TimerHandle | None = None
        self._head = head
        self._share = share
        self._sent = 0
        self._http: h11.Connection | None = None  # where the pattern does not fit
        self._uses = 0
        self._began = False
        self._ended = False
        self._reusable = True
        self._start = b""  # of an answer, until its head is whole
        self._parts: list[bytes] = []
        self._size = 0
        self._length = -1  # of the body that the pattern found
        self._answer: asyncio.Future[bytes] | None = None

    @property
    def usable(self) -> bool:
        """Whether another call may go out."""
        open_ = self.transport is not None and not self.transport.is_closing() and not self._ended
        return open_ and self._reusable and self._uses < MAX_USES

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
        self._reusable = False
        self._sent = len(body)
        self.transport.write(self._head.of(len(body)) + body)
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
            if self._http is None and self._receive_plain(data):
                return
            http = self._http
            if http is None:
                http = self._http = self._head.connection(self._sent)
                data, self._start = self._start, b""
            http.receive_data(data)
            self._take_events(http)
        except h11.RemoteProtocolError as error:
            ended = UpstreamFault(Fault.BROKEN, "it closed the connection in its answer")
            self._fail(
                UpstreamFault(Fault.GARBAGE, f"it sends bad HTTP: {str(error)[:120]}") if data else ended
            )
        except UpstreamFault as fault:
            self._fail(fault)

    # -- the form that most answers have ---------------------------------------------------------------

    def _receive_plain(self, data: bytes) -> bool:
        """Take bytes of an answer of the usual form; false where it has another one."""
        if self._length < 0:
            self._start += data
            end = self._start.find(_HEAD_END)
            if end < 0:
                whole = b"\n\n" in self._start  # of a server that ends lines in the old way
                return bool(data) and not whole and len(self._start) <= MAX_HEADERS
            self._length = _plain_length(self._start[: end + 2])
            if self._length < 0:
                return False
            data, self._start = self._start[end + 4 :], b""
            self._share.hold(self._length)
        elif not data:
            raise UpstreamFault(Fault.BROKEN, "it closed the connection in its answer")
        self._parts.append(data)
        self._size += len(data)
        if self._size >= self._length:
            self._finish(reusable=self._size == self._length)
        return True

    # -- all others ------------------------------------------------------------------------------------

    def _take_events(self, http: h11.Connection) -> None:
        while True:
            match http.next_event():
                case h11.Response() as response:
                    _check(response)
                case h11.Data(data=data):
                    self._size += len(data)
                    self._share.hold(self._size)
                    self._parts.append(bytes(data))
                case h11.EndOfMessage():
                    both = (http.our_state, http.their_state)
                    self._length = self._size
                    self._finish(reusable=both == (h11.DONE, h11.DONE) and not http.trailing_data[0])
                    return
                case h11.InformationalResponse():
                    continue
                case h11.NEED_DATA:
                    return
                case _:
                    raise UpstreamFault(Fault.BROKEN, "it closed the connection in its answer")

    def _finish(self, *, reusable: bool) -> None:
        assert self._answer is not None
        self._answer.set_result(b"".join(self._parts)[: self._length])
        self._parts.clear()
        self._size, self._length, self._http = 0, -1, None
        self._share.release()
        self._reusable = reusable


def _plain_length(head: bytes) -> int:
    """Return the length of the body behind a head of the usual form; -1 where anything is unusual."""
    if not _PLAIN_HEAD.fullmatch(head) or _UNUSUAL.search(head):
        return -1
    lengths = _LENGTH.findall(head)
    return int(lengths[0]) if len(lengths) == 1 else -1


def _check(response: h11.Response) -> None:
    status = response.status_code
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


class _Head:
    """Heads of requests, by the length of the body."""

    def __init__(self, url: UpstreamUrl, method: bytes) -> None:
        self._method = method
        self._target = url.target.encode()
        self._headers = [
            (b"Host", url.authority.encode()),
            (b"User-Agent", USER_AGENT),
            (b"Accept", _JSON),
            (b"Content-Type", _JSON),
        ]
        if url.authorization:
            self._headers.append((b"Authorization", url.authorization.encode()))
        self._made: dict[int, bytes] = {}

    def of(self, length: int) -> bytes:
        """Return the bytes before a body of this length."""
        made = self._made.get(length)
        if made is None:
            made = h11.Connection(h11.CLIENT).send(self._request(length)) or b""
            if length < MAX_SAME:
                self._made[length] = made
        return made

    def connection(self, length: int) -> h11.Connection:
        """Return a connection that has sent a request with a body of this length."""
        http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEADERS)
        http.send(self._request(length))
        http.send(h11.Data(data=bytes(length)))
        http.send(h11.EndOfMessage())
        return http

    def _request(self, length: int) -> h11.Request:
        headers = [*self._headers, (b"Content-Length", b"%d" % length)]
        return h11.Request(method=self._method, target=self._target, headers=headers)


def _retry_after(response: h11.Response) -> float | None:
    """Read seconds; a date is not heeded, since it would need this host's clock to be right."""
    text = dict(response.headers).get(b"retry-after", b"").strip()
    return min(float(text), LONGEST_RETRY) if text.isdigit() and len(text) < 10 else None
