"""Packets: masking, static header, the three kinds. Spec: discv5-wire.md, "Packet Encoding".

`packet = masking-iv || masked(static-header || authdata) || message`. IV and header, unmasked, are the
associated data of the message; those of a WHOAREYOU are the challenge data.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final, NamedTuple

from relay.primitives.errors import DecodeError
from relay.protocols.discv5.crypto import Mask

__all__ = [
    "MAX_PACKET", "MIN_PACKET", "Flag", "HandshakeAuth", "Packet", "Reason", "Refusal", "handshake_header",
    "message_header", "parse", "parse_handshake", "protect", "whoareyou_header",
]  # fmt: skip

MAX_PACKET: Final = 1280  # bytes
MIN_PACKET: Final = 63  # bytes; a WHOAREYOU
IV: Final = 16
HEADER_END: Final = IV + 23
ID: Final = 32
TAG: Final = 16
MESSAGE_OVERHEAD: Final = HEADER_END + ID + TAG
"""Bytes of an ordinary packet beyond the plaintext."""

_MIN_MESSAGE: Final = 48  # bytes after the static header; go-ethereum minMessageSize
_WHOAREYOU_AUTH: Final = 24
_SIGNATURE: Final = 64
_EPHEMERAL: Final = 33
_HANDSHAKE_HEAD: Final = ID + 2
_HANDSHAKE_FIXED: Final = _HANDSHAKE_HEAD + _SIGNATURE + _EPHEMERAL
_PROTOCOL: Final = b"discv5"
_START: Final = _PROTOCOL + b"\x00\x01"


class Flag(IntEnum):
    """Kind of packet."""

    MESSAGE = 0
    WHOAREYOU = 1
    HANDSHAKE = 2


class Reason(StrEnum):
    """Why something from the network was refused; the label of a counter."""

    NOT_DISCV5 = "not_discv5"
    """Perhaps a packet of another protocol on the same port."""
    OVERSIZE = "oversize"
    HEADER = "header"
    SELF = "self"
    WHOAREYOU = "whoareyou"
    """Answers no request of ours, or a second one for the same request."""
    HANDSHAKE = "handshake"
    """No challenge of ours is open, or it does not prove the identity."""
    RECORD = "record"
    DISTANCE = "distance"
    """A record in NODES at another distance than asked for, or twice."""
    ADDRESS = "address"
    """A record in NODES whose address is of no use, forbidden or ours."""
    MESSAGE = "message"
    UNSOLICITED = "unsolicited"
    """A response that belongs to no request."""
    OVERFLOW = "overflow"
    """A queue of ours is full."""


class Refusal(DecodeError):
    """A packet that is not taken, and why."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Packet(NamedTuple):
    """An unmasked packet. A tuple, since one is made for each that comes.

    Attributes:
        flag: its kind; other values than `Flag` have been refused.
        nonce: 12 bytes.
        auth: authdata.
        header: IV, static header and authdata, unmasked.
        message: ciphertext.
    """

    flag: int
    nonce: bytes
    auth: bytes
    header: bytes
    message: bytes


@dataclass(frozen=True, slots=True)
class HandshakeAuth:
    """The authdata of a handshake; record is empty where none was sent."""

    source: bytes
    signature: bytes
    ephemeral: bytes
    record: bytes


def parse(data: bytes, mask: Mask) -> Packet:
    """Unmask a packet for us.

    Raises:
        Refusal: sizes, protocol id, version or kind are wrong.
    """
    size = len(data)
    if size < MIN_PACKET:
        raise Refusal(Reason.NOT_DISCV5, f"a packet has at least {MIN_PACKET} bytes, not {size}")
    if size > MAX_PACKET:
        raise Refusal(Reason.OVERSIZE, f"a packet has at most {MAX_PACKET} bytes, not {size}")
    iv = data[:IV]
    # 55 bytes are all of an ordinary packet's header: one call for the common case.
    header = mask.apply(iv, data[IV : HEADER_END + ID])
    if header[:6] != _PROTOCOL:
        raise Refusal(Reason.NOT_DISCV5, "the protocol id is not discv5")
    flag = header[8]
    end = HEADER_END + ((header[21] << 8) | header[22])
    _check(header, flag, end, size)
    if end > HEADER_END + ID:
        header = mask.apply(iv, data[IV:end])
    elif end < HEADER_END + ID:
        header = header[: end - IV]
    return Packet(flag, header[9:21], header[23:], iv + header, data[end:])


def _check(header: bytes, flag: int, end: int, size: int) -> None:
    if not (header[6] or header[7]):
        raise Refusal(Reason.HEADER, "version 0 of discv5 does not exist")
    if flag != Flag.WHOAREYOU and size - HEADER_END < _MIN_MESSAGE:
        raise Refusal(Reason.NOT_DISCV5, "too short for a packet with a message")
    if end > size:
        raise Refusal(Reason.HEADER, "the header reaches beyond the packet")
    auth = end - HEADER_END
    if flag == Flag.MESSAGE:
        fits = auth == ID
    elif flag == Flag.WHOAREYOU:
        fits = auth == _WHOAREYOU_AUTH and end == size
    else:
        fits = flag == Flag.HANDSHAKE and auth >= _HANDSHAKE_FIXED
    if not fits:
        raise Refusal(Reason.HEADER, f"kind {flag} of packet with {auth} bytes of authdata")


def parse_handshake(auth: bytes) -> HandshakeAuth:
    """Split the authdata of a handshake.

    Raises:
        Refusal: sizes of another identity scheme than v4.
    """
    if auth[ID] != _SIGNATURE or auth[ID + 1] != _EPHEMERAL:
        raise Refusal(Reason.HANDSHAKE, "sizes of signature and key are not those of identity scheme v4")
    key = _HANDSHAKE_HEAD + _SIGNATURE
    return HandshakeAuth(
        auth[:ID], auth[_HANDSHAKE_HEAD:key], auth[key:_HANDSHAKE_FIXED], auth[_HANDSHAKE_FIXED:]
    )


def message_header(iv: bytes, nonce: bytes, source: bytes) -> bytes:
    """Return IV and header of an ordinary packet."""
    return b"%b%b\x00%b\x00\x20%b" % (iv, _START, nonce, source)


def whoareyou_header(iv: bytes, nonce: bytes, id_nonce: bytes, enr_seq: int) -> bytes:
    """Return IV and header of a WHOAREYOU, which is the challenge data.

    Args:
        iv: 16 random bytes.
        nonce: of the packet that could not be read.
        id_nonce: 16 random bytes.
        enr_seq: sequence number of the record that we have; 0 for none.
    """
    return b"%b%b\x01%b\x00\x18%b%b" % (iv, _START, nonce, id_nonce, enr_seq.to_bytes(8, "big"))


def handshake_header(iv: bytes, nonce: bytes, auth: HandshakeAuth) -> bytes:
    """Return IV and header of a handshake packet."""
    authdata = b"%b\x40\x21%b%b%b" % (auth.source, auth.signature, auth.ephemeral, auth.record)
    return b"%b%b\x02%b%b%b" % (iv, _START, nonce, len(authdata).to_bytes(2, "big"), authdata)


def protect(header: bytes, mask: Mask, message: bytes = b"") -> bytes:
    """Mask a header and append the ciphertext: the packet to send."""
    iv = header[:IV]
    return iv + mask.apply(iv, header[IV:]) + message


def split_whoareyou(auth: bytes) -> tuple[bytes, int]:
    """Return the id nonce and the sequence number of a WHOAREYOU."""
    return auth[:16], int.from_bytes(auth[16:], "big")
