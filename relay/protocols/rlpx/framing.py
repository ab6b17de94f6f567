"""RLPx frames: AES-256-CTR and the Keccak MACs, one object for both directions of a connection.

    frame = header (16) || header MAC (16) || data padded to 16 || frame MAC (16)

Spec: rlpx.md, "Framing".
"""

from __future__ import annotations

from hmac import compare_digest
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from relay.primitives.errors import ProtocolBreach
from relay.protocols.rlpx.handshake import Secrets

__all__ = ["HEADER", "MAC", "MAX_FRAME", "BadMac", "FrameCodec", "padded"]

MAX_FRAME: Final = 0xFFFFFF  # bytes of data: the size has 24 bits
HEADER: Final = 32  # bytes of a header with its MAC
MAC: Final = 16

_HEADER_TAIL: Final = b"\xc2\x80\x80" + bytes(
    10
)  # capability-id and context-id, always zero, and the padding
_PADDING: Final = tuple(bytes(-n % 16) for n in range(16))
_VIEW_FROM: Final = 2048  # bytes; above it a view is cheaper than a copy (measured)


def padded(size: int) -> int:
    """Return how many bytes a frame's data of size bytes takes on the wire, without its MAC."""
    return (size + 15) & ~15


class BadMac(ProtocolBreach):
    """A MAC is wrong: these bytes are not from the holder of the secrets."""


class FrameCodec:
    """Encrypts and decrypts the frames of one connection.

    Each call moves the cipher streams and the MACs on: frames go out in the order in which they were encoded,
    and header and data of received ones come in turn.

    Attributes:
        limit: largest data of a received frame that is tolerated; refused by the header alone.
    """

    __slots__ = (
        "_aes",
        "_decrypt",
        "_egress",
        "_egress_mac",
        "_encrypt",
        "_ingress",
        "_ingress_mac",
        "limit",
    )

    def __init__(self, secrets: Secrets) -> None:
        # The streams start at zero: the key is used for this connection only.
        stream = Cipher(algorithms.AES(secrets.aes), modes.CTR(bytes(16)))
        self._encrypt = stream.encryptor().update
        self._decrypt = stream.decryptor().update
        # The MAC is defined as single AES blocks; no data is encrypted by this one.
        self._aes = Cipher(algorithms.AES(secrets.mac), modes.ECB()).encryptor().update  # noqa: S305
        self._egress, self._ingress = secrets.egress, secrets.ingress
        # A frame's MAC is the digest of the state that the next header begins with: kept, not computed twice.
        self._egress_mac: bytes = self._egress.digest()[:MAC]
        self._ingress_mac: bytes = self._ingress.digest()[:MAC]
        self.limit = MAX_FRAME

    def encode(self, code: bytes, body: bytes) -> bytes:
        """Return the frame of a message.

        Args:
            code: the message code, RLP-encoded.
            body: the rest of the frame's data.

        Raises:
            ValueError: over 24 bits of size; ours to avoid.
        """
        size = len(code) + len(body)
        if size > MAX_FRAME:
            raise ValueError(f"a frame holds at most {MAX_FRAME} bytes, not {size}")
        plain = b"".join((size.to_bytes(3, "big"), _HEADER_TAIL, code, body, _PADDING[size & 15]))
        # Header and data are neighbours in the key stream: one call encrypts both.
        sealed = self._encrypt(plain)
        header = sealed[:16]
        data = sealed[16:] if size < _VIEW_FROM else memoryview(sealed)[16:]
        state, aes = self._egress, self._aes
        update, digest = state.update, state.digest
        update(_xor(aes(self._egress_mac), header))
        header_mac = digest()[:MAC]
        update(data)
        seed = digest()[:MAC]
        update(_xor(aes(seed), seed))
        self._egress_mac = frame_mac = digest()[:MAC]
        return b"".join((header, header_mac, data, frame_mac))

    def open_header(self, header: bytes) -> int:
        """Check and decrypt a header with its MAC; return the length of the frame's data.

        Raises:
            BadMac: it is not authentic; its size was not looked at.
            ProtocolBreach: it announces more than `limit`.
        """
        sealed = header[:16]
        state = self._ingress
        state.update(_xor(self._aes(self._ingress_mac), sealed))
        if not compare_digest(state.digest()[:MAC], header[16:]):
            raise BadMac("wrong MAC of a frame header")
        # The rest of the header means nothing since multiplexing left it; geth does not look at it either.
        size = int.from_bytes(self._decrypt(sealed)[:3], "big")
        if size > self.limit:
            raise ProtocolBreach(f"frame of {size} bytes where at most {self.limit} are allowed")
        return size

    def open_data(self, sealed: bytes, mac: bytes) -> bytes:
        """Check and decrypt the padded data of a frame; the padding is left on.

        Raises:
            BadMac: it is not authentic; nothing was decrypted.
        """
        state = self._ingress
        state.update(sealed)
        seed = state.digest()[:MAC]
        state.update(_xor(self._aes(seed), seed))
        self._ingress_mac = expected = state.digest()[:MAC]
        if not compare_digest(expected, mac):
            raise BadMac("wrong MAC of a frame")
        return self._decrypt(sealed)


def _xor(one: bytes, other: bytes) -> bytes:
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).to_bytes(MAC, "big")
