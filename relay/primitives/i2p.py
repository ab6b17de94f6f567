"""I2P addresses: the hash of a destination, its name in base32, and destinations as SAM spells them.

An address is a hash of 32 bytes. The destination itself, 391 bytes or more, is what I2P connects to; a router
finds it by the hash. There is no port: see docs/adr/0010-i2p-by-sam.md.
Spec: geti2p.net, "Naming and Addressbook" (base32 names), "Common structures" (Destination, certificates).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import Final, NewType

from relay.primitives.errors import DecodeError

__all__ = [
    "I2P_PORT",
    "MAX_DESTINATION",
    "MIN_DESTINATION",
    "I2PAddress",
    "I2PKey",
    "hash_from_i2p",
    "i2p_from_destination",
    "i2p_from_hash",
    "is_i2p",
    "parse_i2p",
]

I2PAddress = NewType("I2PAddress", str)
"""52 base32 characters in lower case, then ".b32.i2p"; their last four bits are zero."""

I2P_PORT: Final = 0
"""The port of every I2P address: SAM 3.1 can name none, and streams without one go to port 0."""
HASH_SIZE: Final = 32
NAME_LENGTH: Final = 52  # base32 characters of 32 bytes, without padding
SUFFIX: Final = ".b32.i2p"
MIN_DESTINATION: Final = 387  # bytes: public key 256, signing key and padding 128, an empty certificate 3
MAX_DESTINATION: Final = 3072  # bytes; those of ed25519 have 391, the largest planned kind 2,991
_MAX_SECRET: Final = 1 << 13  # bytes of a destination and its private keys; those of ed25519 have 679
_LEAST_SECRETS: Final = 52  # bytes: X25519 has 32, the shortest signing key 20
_BASE64: Final = re.compile(r"[A-Za-z0-9~-]*={0,2}")
_TO_STANDARD: Final = str.maketrans("-~", "+/")
_FROM_STANDARD: Final = str.maketrans("+/", "-~")


def is_i2p(host: str) -> bool:
    """Tell whether a host belongs to I2P: such a name, well-formed or not, must never reach a resolver."""
    return host.rstrip(".").lower().endswith(".i2p")


def parse_i2p(text: str) -> I2PAddress:
    """Check an address in any case, with its ".b32.i2p".

    Raises:
        DecodeError: a name of an address book, the longer address of an encrypted service, or not the base32
            of 32 bytes.
    """
    # Before lowering: the Kelvin sign becomes a "k".
    if not text.isascii():
        raise DecodeError(f"I2P address {_shown(text)} holds characters that are not base32")
    address = text.lower()
    name = address.removesuffix(SUFFIX)
    if name == address:
        raise DecodeError(
            f"I2P address {_shown(text)} does not end with .b32.i2p; names of address books are not looked up"
        )
    if len(name) != NAME_LENGTH:
        raise DecodeError(f"I2P address {_shown(text)}: expected 52 base32 characters before .b32.i2p")
    try:
        found = base64.b32decode(name + "====", casefold=True)
    except binascii.Error:
        raise DecodeError(f"I2P address {_shown(text)} holds characters that are not base32") from None
    if _address(found) != address:  # else one destination would have sixteen names
        raise DecodeError(f"I2P address {_shown(text)}: its last character is not one of a hash: mistyped?")
    return I2PAddress(address)


def i2p_from_hash(digest: bytes) -> I2PAddress:
    """Return the address of a destination's hash.

    Raises:
        DecodeError: not 32 bytes.
    """
    if len(digest) != HASH_SIZE:
        raise DecodeError(f"the hash of an I2P destination has 32 bytes, not {len(digest)}")
    return _address(digest)


def hash_from_i2p(address: I2PAddress) -> bytes:
    """Return the 32 bytes inside of an address."""
    return base64.b32decode(address[:NAME_LENGTH] + "====", casefold=True)


def i2p_from_destination(text: str) -> I2PAddress:
    """Return the address of a destination in I2P's base64.

    Raises:
        DecodeError: not base64, or not as long as the destination says that it is.
    """
    raw = _decoded(text, MAX_DESTINATION)
    if _public_length(raw) != len(raw):
        raise DecodeError(f"a destination of {len(raw)} bytes, whose certificate tells of another length")
    return _address(hashlib.sha256(raw).digest())


class I2PKey:
    """A destination and its private keys, as routers keep them in a file (eepPriv.dat). Never shown.

    Attributes:
        address: of the destination.
    """

    __slots__ = ("_raw", "address")

    def __init__(self, raw: bytes) -> None:
        public = _public_length(raw)
        if not public + _LEAST_SECRETS <= len(raw) <= _MAX_SECRET:
            raise DecodeError(f"{len(raw)} bytes are no I2P destination with its private keys")
        self._raw = bytes(raw)
        self.address: I2PAddress = _address(hashlib.sha256(self._raw[:public]).digest())

    @classmethod
    def from_text(cls, text: str) -> I2PKey:
        """Read what a SAM bridge says.

        Raises:
            DecodeError: not that.
        """
        return cls(_decoded(text, _MAX_SECRET))

    def to_text(self) -> str:
        """Return the form that SAM takes."""
        return _encoded(self._raw)

    def to_file(self) -> bytes:
        """Return the content of a key file; the caller keeps it 0600 in a 0700 folder."""
        return self._raw

    def __eq__(self, other: object) -> bool:
        return isinstance(other, I2PKey) and self._raw == other._raw

    def __hash__(self) -> int:
        return hash(self.address)

    def __repr__(self) -> str:
        # Not even the address: whoever logs a key object did not mean to publish where we are.
        return "I2PKey(...)"


def _public_length(raw: bytes) -> int:
    """Return how long the destination at the beginning is: its certificate says so."""
    if len(raw) < MIN_DESTINATION:
        raise DecodeError(f"an I2P destination has at least {MIN_DESTINATION} bytes, found {len(raw)}")
    length = MIN_DESTINATION + int.from_bytes(raw[MIN_DESTINATION - 2 : MIN_DESTINATION], "big")
    if length > MAX_DESTINATION:
        raise DecodeError(f"an I2P destination of {length} bytes: at most {MAX_DESTINATION} are taken")
    return length


def _decoded(text: str, most: int) -> bytes:
    if len(text) > (most + 2) // 3 * 4:
        raise DecodeError(f"{len(text)} characters of base64, where at most {most} bytes are taken")
    if not _BASE64.fullmatch(text):
        raise DecodeError("a destination is written in I2P's base64: letters, digits, - and ~")
    try:
        raw = base64.b64decode(text.translate(_TO_STANDARD))
    except binascii.Error:
        raise DecodeError("a destination in base64 that is cut off") from None
    if _encoded(raw) != text:
        raise DecodeError("a destination in base64 whose last character holds bits of nothing")
    return raw


def _encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode().translate(_FROM_STANDARD)


def _address(digest: bytes) -> I2PAddress:
    return I2PAddress(base64.b32encode(digest).decode().lower().rstrip("=") + SUFFIX)


def _shown(text: str) -> str:
    return repr(text[:8] + "..." if len(text) > 8 else text)
