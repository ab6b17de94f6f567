"""How a DNS message stands in a stream, without I/O: behind its length (RFC 7766), or in HTTP/1.1 (RFC 8484).

HTTP is h11's, which is strict about what a hostile server may send. Nothing is followed, stored or
decompressed: a redirect, another type or a content coding is a bad answer.
"""

from __future__ import annotations

from typing import Final, Protocol

import h11

from relay.discovery.dns.servers import DnsServer, Scheme
from relay.primitives.errors import DecodeError

__all__ = ["Framing", "HttpFraming", "LengthFraming", "framing_of"]

MAX_MESSAGE: Final = 0xFFFF  # bytes of a DNS message; RFC 1035 4.2.2
MAX_HEADERS: Final = 16 * 1024  # bytes before the body begins (our choice)
MAX_HTTP: Final = 128 * 1024  # bytes of a whole answer, chunks' frames and interim answers included
_TYPE: Final = b"application/dns-message"


class Framing(Protocol):
    """One stream's state: a question goes out, then its answer comes in."""

    @property
    def reusable(self) -> bool:
        """Whether another question may be sent on the same stream."""
        ...

    def request(self, wire: bytes) -> bytes:
        """Return the bytes that ask."""
        ...

    def receive(self, data: bytes) -> bytes | None:
        """Take bytes of the stream, b"" for its end; return the answer once it is whole.

        Raises:
            DecodeError: the stream can't be an answer.
        """
        ...


class LengthFraming:
    """Two bytes of length before each message."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.reusable = True

    def request(self, wire: bytes) -> bytes:
        """Return the message behind its length."""
        return len(wire).to_bytes(2, "big") + wire

    def receive(self, data: bytes) -> bytes | None:
        """See `Framing`."""
        if not data:
            raise DecodeError("the stream ends before the answer does")
        self._buffer += data
        end = 2 + int.from_bytes(self._buffer[:2], "big")
        if len(self._buffer) < end or len(self._buffer) < 2:
            return None
        message = bytes(self._buffer[2:end])
        if len(self._buffer) > end:
            raise DecodeError("more bytes than the answer has: one question was asked")
        self._buffer.clear()
        return message


class HttpFraming:
    """A POST for each question.

    Args:
        server: for Host and path.
    """

    def __init__(self, server: DnsServer) -> None:
        self._target = server.path.encode()
        self._host = server.authority.encode()
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEADERS)
        self._body = bytearray()
        self._received = 0
        self._ended = False

    @property
    def reusable(self) -> bool:
        """Whether the server keeps the connection."""
        return self._http.our_state is h11.IDLE

    def request(self, wire: bytes) -> bytes:
        """Return a request with the message as its body; nothing in it tells what program asks."""
        self._received = 0
        headers = [
            (b"Host", self._host),
            (b"Accept", _TYPE),
            (b"Content-Type", _TYPE),
            (b"Content-Length", str(len(wire)).encode()),
        ]
        events: tuple[h11.Event, ...] = (
            h11.Request(method=b"POST", target=self._target, headers=headers),
            h11.Data(data=wire),
            h11.EndOfMessage(),
        )
        return b"".join(self._http.send(event) or b"" for event in events)

    def receive(self, data: bytes) -> bytes | None:
        """See `Framing`."""
        self._received += len(data)
        self._ended = not data
        if self._received > MAX_HTTP:
            raise DecodeError(f"an answer of more than {MAX_HTTP} bytes")
        try:
            self._http.receive_data(data)
            return self._next_message()
        except h11.RemoteProtocolError as error:
            raise DecodeError(f"bad HTTP: {str(error)[:120]}") from None

    def _next_message(self) -> bytes | None:
        while True:
            match self._http.next_event():
                case h11.Response() as response:
                    _check(response)
                case h11.Data(data=data):
                    self._add(bytes(data))
                case h11.EndOfMessage():
                    return self._finished()
                case h11.InformationalResponse():
                    continue
                case h11.NEED_DATA:
                    return None
                case _:
                    raise DecodeError("the stream ends before the answer does")

    def _add(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > MAX_MESSAGE:
            raise DecodeError(f"a body of more than {MAX_MESSAGE} bytes")

    def _finished(self) -> bytes:
        message = bytes(self._body)
        self._body.clear()
        if self._http.trailing_data[0]:
            raise DecodeError("more bytes than the answer has: one question was asked")
        both = (self._http.our_state, self._http.their_state)
        if both == (h11.DONE, h11.DONE) and not self._ended:
            self._http.start_next_cycle()
        return message


def framing_of(server: DnsServer) -> Framing:
    """Return a new stream's framing."""
    return HttpFraming(server) if server.scheme is Scheme.HTTPS else LengthFraming()


def _check(response: h11.Response) -> None:
    headers = dict(response.headers)
    if response.status_code != 200:
        raise DecodeError(f"HTTP status {response.status_code}")
    if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != _TYPE:
        raise DecodeError("the body is not of the type application/dns-message")
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise DecodeError("the body is compressed, which nobody asked for")
