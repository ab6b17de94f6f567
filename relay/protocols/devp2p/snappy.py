"""Snappy in its block format, as devp2p compresses messages (EIP-706)."""

from __future__ import annotations

from typing import Final

import cramjam

from relay.primitives.errors import DecodeError

__all__ = ["MAX_MESSAGE", "compress", "declared_length", "decompress"]

MAX_MESSAGE: Final = 0xFFFFFF  # bytes of a decompressed message; rlpx.md, "Message Encoding"

_MAX_VARINT: Final = 5  # bytes: the format's lengths have 32 bits

_compress = cramjam.snappy.compress_raw
_decompress = cramjam.snappy.decompress_raw


def compress(data: bytes) -> bytes:
    """Return data compressed."""
    return bytes(_compress(data))


def decompress(data: bytes, limit: int = MAX_MESSAGE) -> bytes:
    """Return data decompressed.

    Raises:
        DecodeError: it declares more than limit bytes (nothing is decoded then), or is not snappy.
    """
    length = data[0] if data and data[0] < 0x80 else declared_length(data)
    if length > limit:
        raise DecodeError(f"compressed message of {length} bytes where at most {limit} are allowed")
    try:
        return bytes(_decompress(data))
    except cramjam.DecompressionError as error:
        raise DecodeError(f"not snappy: {error}") from None


def declared_length(data: bytes) -> int:
    """Read the length that snappy data declares for its decompressed form.

    Raises:
        DecodeError: there is none, or it is over 32 bits.
    """
    length = 0
    for shift, byte in enumerate(data[:_MAX_VARINT]):
        length |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            if length > 0xFFFFFFFF:
                break
            return length
    raise DecodeError("snappy data without a length")
