"""One devp2p connection without its socket: RLPx handshake, Hello, frames, Ping and Pong, code ranges.

    auth/ack  ->  RemoteIdentified  ->  Hello both ways  ->  Connected  ->  Message ...  ->  Disconnected

Bytes go in by `receive`, come out by `take_output`, `send` and `send_packed`. The frames of one direction
are chained by their MACs, so what these three return must be written in the order in which it was got.
Deadlines are the driver's. Spec: rlpx.md.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from relay.primitives import rlp
from relay.primitives.errors import (
    DecodeError,
    HandshakeFailed,
    PeerError,
    ProtocolBreach,
    SelfConnect,
    UnexpectedIdentity,
    UselessPeer,
)
from relay.primitives.keys import NodeKey, PublicKey
from relay.protocols.devp2p import messages, snappy
from relay.protocols.devp2p.capabilities import BASE_LENGTH, SharedCapability, negotiate
from relay.protocols.devp2p.events import (
    Connected,
    Disconnected,
    Event,
    Message,
    PongReceived,
    RemoteIdentified,
)
from relay.protocols.devp2p.messages import DisconnectReason, Hello
from relay.protocols.rlpx.framing import HEADER, MAC, MAX_FRAME, BadMac, FrameCodec, padded
from relay.protocols.rlpx.handshake import PREFIX, Initiator, Recipient, packet_length

__all__ = ["DevP2PConnection"]

_CODES: Final = tuple(rlp.encode_int(code) for code in range(0x80))
_MAX_CODE: Final = 9  # bytes of an encoded message code: geth reads 64 bits
_PACKED_EMPTY: Final = snappy.compress(messages.EMPTY)


class DevP2PConnection:
    """The protocol's state on one side. Made by `initiator` or `recipient`.

    Attributes:
        remote_public: the other side's key; of a recipient None until the handshake is done.
        remote_hello: its Hello, also one that shares nothing with ours; None before it came.
        shared: the shared capabilities, empty before Connected.
        handshake_done: whether the RLPx handshake is done.
        closed: whether it ended: by a Disconnect, ours or theirs, or by an error.
    """

    __slots__ = (
        "_codec",
        "_greeted",
        "_handshake",
        "_held",
        "_hello",
        "_key",
        "_need",
        "_output",
        "_packed",
        "_proven",
        "_routes",
        "_size",
        "closed",
        "remote_hello",
        "remote_public",
        "shared",
    )

    def __init__(self, key: NodeKey, hello: Hello, handshake: Initiator | Recipient) -> None:
        if not all(each.length for each in hello.capabilities):
            raise ValueError("our own capabilities need their lengths")
        self._key = key
        self._hello = hello
        self._handshake: Initiator | Recipient | None = handshake
        self._codec: FrameCodec | None = None
        self._held = bytearray()  # at most one incomplete packet or frame, and never more
        self._need = PREFIX  # bytes from which on something can be done
        self._size = -1  # of the packet or frame whose front was read, else -1
        self._output: list[bytes] = []
        self._greeted = False  # whether our Hello went out
        self._proven = False  # whether a frame of theirs was authentic
        self._packed = True  # whether messages are compressed
        self._routes: list[tuple[SharedCapability, int]] = []
        self.closed = False
        self.remote_public: PublicKey | None = None
        self.remote_hello: Hello | None = None
        self.shared: tuple[SharedCapability, ...] = ()

    @classmethod
    def initiator(
        cls, key: NodeKey, remote_public: PublicKey, hello: Hello, rand: Callable[[int], bytes]
    ) -> DevP2PConnection:
        """Begin a connection that we opened; its first bytes wait in `take_output`.

        Raises:
            DecodeError: remote_public is no point of the curve.
        """
        handshake = Initiator(key, remote_public, rand)
        connection = cls(key, hello, handshake)
        connection.remote_public = remote_public
        connection._output.append(handshake.auth)
        return connection

    @classmethod
    def recipient(cls, key: NodeKey, hello: Hello, rand: Callable[[int], bytes]) -> DevP2PConnection:
        """Begin a connection that the other side opened."""
        return cls(key, hello, Recipient(key, rand))

    @property
    def handshake_done(self) -> bool:
        """Whether the RLPx handshake is done, so that `remote_public` is proven or about to be."""
        return self._codec is not None

    # -- receiving -------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> list[Event]:
        """Take bytes from the other side.

        Cheap for any chunking: bytes are copied a bounded number of times, and a call that completes nothing
        only stores them.

        Raises:
            HandshakeFailed: the other side does not hold the key, or sent garbage before its first frame.
            ProtocolBreach: it broke a rule later.
            UselessPeer, SelfConnect, UnexpectedIdentity: its Hello or key will not do.
                After any of them the connection is closed, events of this call are gone, and `take_output`
                may hold a Disconnect that says why.
        """
        if self.closed:
            return []
        held = self._held
        if held:
            held += data
            if len(held) < self._need:
                return []
            data = bytes(held)
            held.clear()
        events: list[Event] = []
        try:
            pos = 0 if self._codec else self._read_handshake(data, events)
            if self._codec:
                pos = self._read_frames(self._codec, data, pos, events)
        except PeerError as error:
            self._fail(error)
            raise
        if pos < len(data) and not self.closed:
            held += memoryview(data)[pos:]
        return events

    def _read_handshake(self, data: bytes, events: list[Event]) -> int:
        if len(data) < PREFIX:
            return 0
        if self._size < 0:
            self._size = packet_length(data[:PREFIX])
            self._need = PREFIX + self._size
        handshake, length = self._handshake, self._need
        if handshake is None or len(data) < length:
            return 0
        self._codec = FrameCodec(handshake.receive(data[:length]))
        # Hello is the first frame, and small: a larger one is refused by its header.
        self._codec.limit = messages.MAX_HELLO + _MAX_CODE
        self.remote_public = handshake.remote_public
        if isinstance(handshake, Recipient):
            self._output.append(handshake.ack)
        self._handshake = None  # and with it the ephemeral key: what was said cannot be read later
        self._size, self._need = -1, HEADER
        if self.remote_public == self._key.public_key:
            raise SelfConnect("the other side is this node itself")
        events.append(RemoteIdentified(self.remote_public))
        return length

    def _read_frames(self, codec: FrameCodec, data: bytes, pos: int, events: list[Event]) -> int:
        """Read the complete frames from pos on; return where the first byte is that was not used."""
        end = len(data)
        size = self._size
        while not self.closed:
            if size < 0:
                if end - pos < HEADER:
                    self._need = HEADER
                    break
                size = codec.open_header(data[pos : pos + HEADER])
                pos += HEADER
            stop = pos + padded(size)
            if stop + MAC > end:
                self._need = stop + MAC - pos
                break
            plain = codec.open_data(data[pos:stop], data[stop : stop + MAC])
            pos = stop + MAC
            self._proven = True
            self._take_frame(plain, size, events)
            size = -1
        self._size = size
        return pos

    def _take_frame(self, plain: bytes, size: int, events: list[Event]) -> None:
        first = plain[0] if size else 0
        if 0 < first < 0x80:
            code, start = first, 1
        else:
            code, start = _read_code(plain, size)
        payload = plain[start:size]
        if self.remote_hello is None:
            self._take_first(code, payload, events)
        elif code < BASE_LENGTH:
            self._take_base(code, payload, events)
        elif code - BASE_LENGTH >= len(self._routes):
            raise ProtocolBreach(f"message code {code:#x} belongs to no shared capability")
        else:
            capability, relative = self._routes[code - BASE_LENGTH]
            if self._packed:
                payload = _unpack(payload, capability.max_message)
            events.append(Message(capability, relative, payload))

    def _take_first(self, code: int, payload: bytes, events: list[Event]) -> None:
        if code == messages.DISCONNECT:
            self._take_disconnect(payload, events)
            return
        if code != messages.HELLO:
            raise ProtocolBreach(f"the first message is Hello or Disconnect, not {code:#x}")
        if len(payload) > messages.MAX_HELLO:
            raise ProtocolBreach(f"Hello of {len(payload)} bytes, at most {messages.MAX_HELLO} are allowed")
        try:
            hello = Hello.decode(payload)
        except DecodeError as error:
            raise ProtocolBreach(f"bad Hello: {error}") from None
        self._take_hello(hello)
        events.append(Connected(hello, self.shared))

    def _take_hello(self, hello: Hello) -> None:
        self._packed = hello.version >= messages.SNAPPY_VERSION
        if len(hello.public_key) != 64 or not any(hello.public_key):
            raise UnexpectedIdentity("Hello without a node id", reason=DisconnectReason.INVALID_IDENTITY)
        if hello.public_key != self.remote_public:
            raise UnexpectedIdentity("Hello names another key than the handshake")
        self.remote_hello = hello
        self.shared = negotiate(self._hello.capabilities, hello.capabilities)
        if not self.shared:
            raise UselessPeer("no capability is shared")
        self._routes = [(each, code) for each in self.shared for code in range(each.length)]
        if self._codec:
            self._codec.limit = MAX_FRAME

    def _take_base(self, code: int, payload: bytes, events: list[Event]) -> None:
        if code == messages.DISCONNECT:
            self._take_disconnect(payload, events)
            return
        if self._packed:
            _unpack(payload, snappy.MAX_MESSAGE)
        if code == messages.PING:
            self._queue(messages.PONG, messages.EMPTY, _PACKED_EMPTY)
        elif code == messages.PONG:
            events.append(PongReceived())
        # Other codes of the base protocol may come to mean something: ignored, as geth does.

    def _take_disconnect(self, payload: bytes, events: list[Event]) -> None:
        # Compressed after Hello and not before; which of the two it is for the sender depends on what it has
        # read of ours, so both are understood. A packed reason has at least three bytes.
        if self._packed and len(payload) > 2:
            with suppress(DecodeError):
                payload = snappy.decompress(payload, messages.MAX_HELLO)
        self.closed = True
        events.append(Disconnected(messages.decode_disconnect(payload)))

    def _fail(self, error: PeerError) -> None:
        if isinstance(error, BadMac) and not self._proven:
            # Whoever this is, it does not hold the key of the handshake: it gets no frame of ours.
            self._fail_unproven()
            raise HandshakeFailed(f"first frame: {error}") from None
        if isinstance(error, BadMac) or self._codec is None:
            self._fail_unproven()
        else:
            self.disconnect(error.reason)

    def _fail_unproven(self) -> None:
        self.closed = True
        self._greeted = True
        self._held.clear()

    # -- sending ---------------------------------------------------------------------------------------

    def take_output(self) -> bytes:
        """Return the bytes to write now; our Hello is among them once the RLPx handshake is done.

        Until then `disconnect` still comes before Hello, which spares a refused peer one round trip.
        """
        if self._codec and not self._greeted:
            self._greeted = True
            self._output.append(self._codec.encode(_CODES[messages.HELLO], self._hello.encode()))
        if not self._output:
            return b""
        output = b"".join(self._output)
        self._output.clear()
        return output

    def send(self, code: int, payload: bytes) -> bytes:
        """Return the bytes of a message, preceded by what waits in `take_output`.

        Args:
            code: absolute, so a capability's offset is already in it.
            payload: not compressed.

        Raises:
            RuntimeError: before Connected; ours to avoid. On a closed connection nothing is sent (b"").
        """
        return self._frame(code, snappy.compress(payload) if self._packed else payload)

    def send_packed(self, code: int, body: bytes) -> bytes:
        """As `send`, for a payload that was compressed before, once for many peers."""
        return self._frame(code, body if self._packed else snappy.decompress(body))

    def ping(self) -> None:
        """Queue a Ping; its answer is reported as PongReceived."""
        if self.remote_hello and not self.closed:
            self._queue(messages.PING, messages.EMPTY, _PACKED_EMPTY)

    def disconnect(self, reason: int) -> None:
        """Queue a Disconnect where the other side can read one, and close: nothing is received any more."""
        if self.closed:
            return
        self.closed = True
        self._held.clear()
        if self._codec is None:
            self._output.clear()
            return
        payload = messages.encode_disconnect(reason)
        if self._greeted:
            # It has our Hello by then and so expects what our version promises, unless its own says less.
            self._queue(messages.DISCONNECT, payload, snappy.compress(payload))
        else:
            self._greeted = True
            self._output.append(self._codec.encode(_CODES[messages.DISCONNECT], payload))

    def _frame(self, code: int, body: bytes) -> bytes:
        if self.closed:
            return b""
        if self._codec is None or self.remote_hello is None:
            raise RuntimeError("a message needs a connection whose capabilities are known")
        # Queued frames were encoded earlier, so they must be written earlier.
        queued = self.take_output() if self._output or not self._greeted else b""
        frame = self._codec.encode(_CODES[code] if code < 0x80 else rlp.encode_int(code), body)
        return queued + frame if queued else frame

    def _queue(self, code: int, payload: bytes, packed_payload: bytes) -> None:
        if self._codec and not self._greeted:
            self._output.append(self.take_output())
        if self._codec:
            body = packed_payload if self._packed else payload
            self._output.append(self._codec.encode(_CODES[code], body))


def _read_code(plain: bytes, size: int) -> tuple[int, int]:
    """Read a message code that is not one byte from 0x01 to 0x7f; return it and where the payload begins."""
    try:
        is_list, start, end = rlp.read_header(plain, 0, size)
        if is_list:
            raise DecodeError("it is a list")
        return rlp.to_int(plain[start:end], 8), end
    except DecodeError as error:
        raise ProtocolBreach(f"bad message code: {error}") from None


def _unpack(payload: bytes, limit: int) -> bytes:
    try:
        return snappy.decompress(payload, limit)
    except DecodeError as error:
        raise ProtocolBreach(f"bad message: {error}") from None
