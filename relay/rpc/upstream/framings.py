"""How JSON stands in a connection that stays: in WebSocket's frames, or one value after another. No I/O."""

from __future__ import annotations

from typing import Final, Protocol

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Message,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
)
from wsproto.utilities import ProtocolError

from relay.rpc.errors import RpcError
from relay.rpc.framing import JsonFramer
from relay.rpc.upstream.budget import Share
from relay.rpc.upstream.faults import Fault, UpstreamFault
from relay.rpc.upstream.http import USER_AGENT
from relay.rpc.upstream.urls import UpstreamUrl

__all__ = ["Framing", "LineFraming", "WebSocketFraming"]

MAX_DEPTH: Final = 512  # brackets of an answer that no newline ends


class Framing(Protocol):
    """One connection's state."""

    @property
    def ready(self) -> bool:
        """Whether messages may be sent."""
        ...

    def hello(self) -> bytes:
        """Return the bytes that open the connection."""
        ...

    def wrap(self, message: bytes) -> bytes:
        """Return the bytes that carry a message."""
        ...

    def receive(self, data: bytes) -> tuple[list[bytes], bytes]:
        """Take bytes; return the messages that they complete, and what is to be sent at once.

        Raises:
            UpstreamFault: the connection can't be read any further, or is closed.
        """
        ...


class WebSocketFraming:
    """Text messages of RFC 6455, without compression.

    Args:
        url: for the opening request.
        share: counts the bytes of a message.
    """

    def __init__(self, url: UpstreamUrl, share: Share) -> None:
        self.ready = False
        self._url = url
        self._share = share
        self._connection = WSConnection(ConnectionType.CLIENT)
        self._parts: list[bytes] = []
        self._size = 0

    def hello(self) -> bytes:
        """See `Framing`."""
        headers = [(b"User-Agent", USER_AGENT)]
        if self._url.authorization:
            headers.append((b"Authorization", self._url.authorization.encode()))
        asked = Request(host=self._url.authority, target=self._url.target, extra_headers=headers)
        return self._connection.send(asked)

    def wrap(self, message: bytes) -> bytes:
        """See `Framing`."""
        return self._connection.send(Message(data=message.decode()))

    def receive(self, data: bytes) -> tuple[list[bytes], bytes]:
        """See `Framing`."""
        try:
            self._connection.receive_data(data)
            return self._events()
        except (ProtocolError, UnicodeDecodeError) as error:
            raise UpstreamFault(Fault.GARBAGE, f"it sends bad WebSocket: {str(error)[:120]}") from None

    def _events(self) -> tuple[list[bytes], bytes]:
        messages: list[bytes] = []
        reply = b""
        for event in self._connection.events():
            match event:
                case Message(data=data, message_finished=finished):
                    if isinstance(event, BytesMessage):
                        raise UpstreamFault(Fault.GARBAGE, "it sends binary messages")
                    self._add(str(data).encode())
                    if finished:
                        messages.append(self._taken())
                case Ping():
                    reply += self._connection.send(event.response())
                case AcceptConnection():
                    self.ready = True
                case Pong() | RejectData():
                    continue
                case RejectConnection(status_code=status):
                    raise _refused(status)
                case CloseConnection(code=code):
                    raise UpstreamFault(Fault.BROKEN, f"it closed the connection with code {int(code)}")
        return messages, reply

    def _add(self, part: bytes) -> None:
        self._size += len(part)
        self._share.hold(self._size)
        self._parts.append(part)

    def _taken(self) -> bytes:
        message = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        self._share.release()
        return message


class LineFraming:
    """JSON values in a row, as on geth's unix socket.

    Most servers end each with a newline, and then newlines are looked for: following the brackets of a large
    answer takes a hundred times longer. What the first value shows holds for the connection.

    Args:
        share: counts the bytes of what is unfinished.
    """

    ready = True

    def __init__(self, share: Share) -> None:
        self._share = share
        self._framer: JsonFramer | None = JsonFramer(max_value=1 << 62, max_depth=MAX_DEPTH)
        self._parts: list[bytes] = []
        self._size = 0

    def hello(self) -> bytes:
        """See `Framing`."""
        return b""

    def wrap(self, message: bytes) -> bytes:
        """See `Framing`."""
        return message + b"\n"

    def receive(self, data: bytes) -> tuple[list[bytes], bytes]:
        """See `Framing`."""
        messages = self._lines(data) if self._framer is None else self._values(self._framer, data)
        if messages:
            self._share.release()
        self._share.hold(self._size)
        return messages, b""

    def _values(self, framer: JsonFramer, data: bytes) -> list[bytes]:
        try:
            found = list(framer.feed(data))
        except RpcError:
            raise UpstreamFault(Fault.GARBAGE, "it sends what is no JSON") from None
        self._size = len(framer.finish()) if found else self._size + len(data)
        if found and data.endswith(b"\n") and not self._size:
            self._framer = None
        return found

    def _lines(self, data: bytes) -> list[bytes]:
        *ends, rest = data.split(b"\n")
        messages = []
        for end in ends:
            messages.append(b"".join((*self._parts, end)))
            self._parts.clear()
            self._size = 0
        if rest:
            self._parts.append(rest)
            self._size += len(rest)
        return [message for message in messages if message.strip()]


def _refused(status: int) -> UpstreamFault:
    fault = Fault.LIMITED if status in (429, 503) else Fault.STATUS
    return UpstreamFault(fault, f"it refuses WebSocket with HTTP status {status}")
