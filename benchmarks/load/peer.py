"""A peer as lean as it can be: what a load generator needs of RLPx, devp2p and eth, without any sockets.

MACs of what comes in are not checked, which halves the cost of a frame: every transaction is compared with
what was sent byte for byte later on. What goes out is complete.
"""

from __future__ import annotations

from collections.abc import Callable
from secrets import token_bytes
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from relay.primitives.keys import NodeKey, PublicKey
from relay.protocols.devp2p import messages, snappy
from relay.protocols.devp2p.capabilities import Capability
from relay.protocols.devp2p.messages import Hello
from relay.protocols.eth.messages import Status
from relay.protocols.rlpx.framing import FrameCodec
from relay.protocols.rlpx.handshake import PREFIX, Initiator, Recipient, Secrets, packet_length

ETH = 69  # the only version that is offered, so that both relays run the same
OFFSET = 16
STATUS, TRANSACTIONS, ANNOUNCEMENT = 0x00, 0x02, 0x08
GET_POOLED, POOLED = 0x09, 0x0A
_EMPTY = snappy.compress(messages.EMPTY)
_CODE_ZERO = 0x80  # how the code 0, Hello, is encoded


class Ended(Exception):
    """The other side disconnected; the reason is in the text."""


class Peer:
    """One connection. Made with the other side's key it dials, without it accepts.

    Attributes:
        out: bytes to write.
        on_message: called with (code, compressed body, now) for each eth message after Status.
        on_pong: called with (now).
        joined_at: monotonic seconds at which the other side's Status came; 0 before.
        status: the Status to answer with when accepting; a dialing peer says what the other side said.
    """

    def __init__(self, key: NodeKey, remote: PublicKey | None, status: Status | None = None) -> None:
        self._key = key
        self._handshake: Initiator | Recipient | None
        self.out = bytearray()
        if remote is not None:
            self._handshake = Initiator(key, remote, token_bytes)
            self.out += self._handshake.auth
        else:
            self._handshake = Recipient(key, token_bytes)
        self._status = status
        self._rest = b""
        self._size = -1
        self._codec: FrameCodec | None = None
        self._decrypt: Callable[[bytes], bytes] = bytes
        self._deliver: Callable[[int, bytes, float], None] = self._first
        self.on_message: Callable[[int, bytes, float], None] = lambda _code, _body, _now: None
        self.on_pong: Callable[[float], None] = lambda _now: None
        self.bytes_in = 0
        self.joined_at = 0.0

    # -- out

    def send(self, code: int, body: bytes) -> None:
        """Queue an eth message, compressed already."""
        self.out += self.frame(OFFSET + code, body)

    def frame(self, code: int, body: bytes) -> bytes:
        assert self._codec is not None
        return self._codec.encode(bytes((code,)), body)

    def ping(self) -> None:
        self.out += self.frame(messages.PING, _EMPTY)

    # -- in

    def receive(self, data: bytes, now: float) -> None:
        self.bytes_in += len(data)
        if self._rest:
            data = self._rest + data
        pos = 0 if self._codec is not None else self._read_handshake(data)
        if self._codec is None:
            self._rest = data
            return
        end, size, decrypt = len(data), self._size, self._decrypt
        while True:
            if size < 0:
                if end - pos < 32:
                    break
                size = int.from_bytes(decrypt(data[pos : pos + 16])[:3], "big")
                pos += 32
            stop = pos + (size + 15 & ~15)
            if stop + 16 > end:
                break
            plain = decrypt(data[pos:stop])
            pos = stop + 16
            self._deliver(plain[0], plain[1:size], now)
            size = -1
        self._size = size
        self._rest = data[pos:]

    def _read_handshake(self, data: bytes) -> int:
        if len(data) < PREFIX or len(data) < (stop := PREFIX + packet_length(data[:PREFIX])):
            return 0
        assert self._handshake is not None
        self._start_frames(self._handshake.receive(data[:stop]))
        return stop

    def _start_frames(self, secrets: Secrets) -> None:
        if isinstance(self._handshake, Recipient):
            self.out += self._handshake.ack
        self._handshake = None
        cipher: Any = Cipher(algorithms.AES(secrets.aes), modes.CTR(bytes(16))).decryptor()
        self._decrypt = cipher.update
        self._codec = FrameCodec(secrets)
        hello = Hello(5, "pyrelay-benchmark", (Capability("eth", ETH, 18),), 0, self._key.public_key)
        self.out += self._codec.encode(b"\x80", hello.encode())

    def _first(self, code: int, body: bytes, now: float) -> None:
        if code == messages.DISCONNECT:
            raise Ended(f"disconnected at Hello: {messages.decode_disconnect(body)}")
        assert code == _CODE_ZERO
        self._deliver = self._second
        if self._status is not None:
            self.send(STATUS, snappy.compress(self._status.encode(ETH)))

    def _second(self, code: int, body: bytes, now: float) -> None:
        if code != OFFSET + STATUS:
            self._base(code, body, now)
            return
        self.joined_at = now
        self._deliver = self._message
        if self._status is None:
            status = Status.decode(snappy.decompress(body), ETH)
            self.send(STATUS, snappy.compress(status.encode(ETH)))

    def _message(self, code: int, body: bytes, now: float) -> None:
        if code >= OFFSET:
            self.on_message(code - OFFSET, body, now)
        else:
            self._base(code, body, now)

    def _base(self, code: int, body: bytes, now: float) -> None:
        if code == messages.PING:
            self.out += self.frame(messages.PONG, _EMPTY)
        elif code == messages.PONG:
            self.on_pong(now)
        elif code == messages.DISCONNECT:
            reason = snappy.decompress(body) if len(body) > 2 else body
            raise Ended(f"disconnected: {messages.decode_disconnect(reason)}")
        else:
            raise Ended(f"unexpected message {code:#x}")
