"""The keys that providers are found under. Spec: docs/specs/provider-dht.md, "Keys"."""

from __future__ import annotations

import re
from typing import Final, NewType

from relay.primitives.errors import DecodeError
from relay.primitives.hashing import keccak256

__all__ = ["KEY_SIZE", "Key", "parse_key", "to_key"]

Key = NewType("Key", bytes)
"""32 bytes, in the space of node ids: the nodes nearest to it know its providers."""

KEY_SIZE: Final = 32  # bytes
MAX_TEXT: Final = 4096  # bytes of UTF-8; what is longer is a file and not the name of one (our choice)
_RAW: Final = re.compile(r"0[xX]([0-9a-fA-F]{64})")


def parse_key(text: str) -> Key:
    """Read a key: 0x and 64 hex digits are the key itself, anything else is hashed, Keccak-256 of its UTF-8.

    Raises:
        DecodeError: empty, over 4096 bytes, or without a form in UTF-8.
    """
    match = _RAW.fullmatch(text)
    if match is not None:
        return Key(bytes.fromhex(match[1]))
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise DecodeError("a key in text is UTF-8") from None
    if not 0 < len(data) <= MAX_TEXT:
        raise DecodeError(f"a key in text has 1 to {MAX_TEXT} bytes, not {len(data)}")
    return Key(keccak256(data))


def to_key(data: bytes) -> Key:
    """Check that bytes are a key.

    Raises:
        DecodeError: not 32 bytes.
    """
    if len(data) != KEY_SIZE:
        raise DecodeError(f"a key has {KEY_SIZE} bytes, not {len(data)}")
    return Key(bytes(data))
