"""Packets over a stream: who opens it sends a preface, then each packet follows its length.

    stream = preface || frame || frame || ...      (the other direction has no preface)
    frame  = size || packet                        size: 2 bytes, big-endian, 63 to 1280

Spec: docs/specs/discv5-over-onion.md, "Streams".
"""

from __future__ import annotations

from typing import Final

from relay.primitives.errors import DecodeError
from relay.protocols.discv5.packet import MAX_PACKET, MIN_PACKET

__all__ = ["PREFACE", "BadFrame", "BadPreface", "PacketReader", "encode_frame"]

PREFACE: Final = b"discv5"
"""Its first byte is 0x64; an RLPx connection begins with a size of at most 2048, so with at most 0x08."""

_SIZE: Final = 2  # bytes


class BadPreface(DecodeError):
    """The stream is not one of discv5."""


class BadFrame(DecodeError):
    """The size of a frame is none that a packet can have."""


class PacketReader:
    """Cuts a stream into packets, however its bytes arrive. After an error it is of no more use.

    Args:
        preface: whether the stream begins with one: it does in the direction of who dialed.
    """

    __slots__ = ("_buffer", "_preface")

    def __init__(self, *, preface: bool) -> None:
        self._buffer = bytearray()
        self._preface = preface

    def __len__(self) -> int:
        return len(self._buffer)

    def receive(self, data: bytes | memoryview) -> None:
        """Take bytes; they are kept until `next_packet` has given them out."""
        self._buffer += data

    def next_packet(self) -> bytes | None:
        """Return the next packet; None until more bytes come.

        Raises:
            BadPreface: at the first byte that is another one.
            BadFrame: as soon as the size is there.
        """
        buffer = self._buffer
        if self._preface and not self._take_preface():
            return None
        if len(buffer) < _SIZE:
            return None
        size = (buffer[0] << 8) | buffer[1]
        if not MIN_PACKET <= size <= MAX_PACKET:
            raise BadFrame(f"a packet has {MIN_PACKET} to {MAX_PACKET} bytes, not {size}")
        end = _SIZE + size
        if len(buffer) < end:
            return None
        packet = bytes(memoryview(buffer)[_SIZE:end])
        # Cheap at the front: CPython moves the start of a bytearray, not its content.
        del buffer[:end]
        return packet

    def _take_preface(self) -> bool:
        found = self._buffer[: len(PREFACE)]
        if not PREFACE.startswith(found):
            raise BadPreface(f"a stream of discv5 begins with {PREFACE!r}")
        if len(found) < len(PREFACE):
            return False
        del self._buffer[: len(PREFACE)]
        self._preface = False
        return True


def encode_frame(packet: bytes) -> bytes:
    """Put the size before a packet.

    Raises:
        BadFrame: no packet has that size.
    """
    size = len(packet)
    if not MIN_PACKET <= size <= MAX_PACKET:
        raise BadFrame(f"a packet has {MIN_PACKET} to {MAX_PACKET} bytes, not {size}")
    return size.to_bytes(_SIZE, "big") + packet
