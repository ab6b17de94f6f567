"""The messages of the base protocol "p2p": Hello, Disconnect, Ping, Pong.

Spec: rlpx.md, '"p2p" Capability'.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from relay.primitives import rlp
from relay.primitives.errors import DecodeError
from relay.primitives.keys import PublicKey
from relay.protocols.devp2p.capabilities import Capability

__all__ = [
    "DISCONNECT",
    "EMPTY",
    "HELLO",
    "MAX_HELLO",
    "P2P_VERSION",
    "PING",
    "PONG",
    "SNAPPY_VERSION",
    "DisconnectReason",
    "Hello",
    "decode_disconnect",
    "describe_reason",
    "encode_disconnect",
]

HELLO: Final = 0x00
DISCONNECT: Final = 0x01
PING: Final = 0x02
PONG: Final = 0x03

P2P_VERSION: Final = 5
SNAPPY_VERSION: Final = 5  # the first version that compresses
MAX_HELLO: Final = 2048  # bytes; geth: baseProtocolMaxMsgSize
EMPTY: Final = b"\xc0"  # payload of Ping and Pong


class DisconnectReason(IntEnum):
    """Why a connection ends. Spec: rlpx.md, "Disconnect (0x01)"."""

    REQUESTED = 0x00
    NETWORK_ERROR = 0x01
    PROTOCOL_BREACH = 0x02
    USELESS_PEER = 0x03
    TOO_MANY_PEERS = 0x04
    ALREADY_CONNECTED = 0x05
    INCOMPATIBLE_VERSION = 0x06
    INVALID_IDENTITY = 0x07
    CLIENT_QUITTING = 0x08
    UNEXPECTED_IDENTITY = 0x09
    SELF_CONNECT = 0x0A
    TIMEOUT = 0x0B
    SUBPROTOCOL_ERROR = 0x10
    INVALID = 0xFF
    """Not on the wire: what a Disconnect stands for whose reason cannot be read. Geth: DiscInvalid."""


def describe_reason(reason: int) -> str:
    """Return a reason in words, also one that the specification does not name."""
    try:
        return DisconnectReason(reason).name.lower().replace("_", " ")
    except ValueError:
        return f"unknown reason {reason}"


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message of both sides.

    Attributes:
        version: of the base protocol; below 5 messages are not compressed.
        client: the software's name; of a peer it is any text.
        capabilities: ours with their lengths, in any order.
        listen_port: to be ignored, says the specification.
        public_key: 64 bytes, the same as in the RLPx handshake.
    """

    version: int
    client: str
    capabilities: tuple[Capability, ...]
    listen_port: int
    public_key: PublicKey

    def encode(self) -> bytes:
        """Return the payload."""
        capabilities = [(each.name, each.version) for each in sorted(self.capabilities)]
        return rlp.encode((self.version, self.client, capabilities, self.listen_port, self.public_key))

    @classmethod
    def decode(cls, payload: bytes) -> Hello:
        """Read a payload; further list items and bytes after the list are for later versions.

        The key's 64 bytes are not yet known to be a point: compare them with the handshake's key.

        Raises:
            DecodeError: a field is missing or not what it should be.
        """
        is_list, start, end = rlp.read_header(payload, 0, len(payload))
        items = rlp.list_items(payload, start, end)
        if not is_list or len(items) < 5:
            raise DecodeError("Hello is a list of five fields")
        version, client, capabilities, port, key = (rlp.decode(payload[a:b]) for a, b in items[:5])
        return cls(
            rlp.to_int(version, 8),
            _text(client),
            tuple(_capability(each) for each in rlp.expect_list(capabilities)),
            rlp.to_int(port, 8),
            PublicKey(rlp.expect_bytes(key)),
        )


def encode_disconnect(reason: int) -> bytes:
    """Return the payload of a Disconnect."""
    return rlp.encode((reason,))


def decode_disconnect(payload: bytes) -> int:
    """Read the reason; clients send `[reason]`, a bare number, or nothing.

    It never fails, since the connection ends anyway: what cannot be read is DisconnectReason.INVALID.
    """
    if payload in (b"", b"\xc0", b"\x80"):
        return DisconnectReason.REQUESTED
    try:
        is_list, start, end = rlp.read_header(payload, 0, len(payload))
        if is_list:
            is_list, start, end = rlp.read_header(payload, start, end)
    except DecodeError:
        return DisconnectReason.INVALID
    if is_list or end - start > 1:
        return DisconnectReason.INVALID
    return int.from_bytes(payload[start:end], "big")


def _capability(item: rlp.RLPItem) -> Capability:
    name, version = rlp.expect_list(item, 2)
    return Capability(_text(name), rlp.to_int(version, 8))


def _text(item: rlp.RLPItem) -> str:
    # Any bytes are allowed here; those that are no UTF-8 stay visible instead of ending the connection.
    return rlp.expect_bytes(item).decode("utf-8", "backslashreplace")
