"""Onion addresses of version 3, and the keys behind them.

The address is a pure function of the ed25519 key, so an identity exists before Tor runs.
Spec: rend-spec-v3.txt section 6 (encoding of onion addresses), appendix A.2 (secret key file).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable
from typing import Final, NewType

from relay.primitives.errors import DecodeError

__all__ = [
    "OnionAddress",
    "OnionKey",
    "is_onion",
    "onion_from_public",
    "parse_onion",
    "public_from_onion",
]

# libsodium is loaded inside of the functions that need it: a relay without onions never pays its memory.

OnionAddress = NewType("OnionAddress", str)
"""56 base32 characters in lower case, then ".onion"; checksum, version and point are known to be good."""

SUFFIX: Final = ".onion"
NAME_LENGTH: Final = 56  # base32 characters
VERSION: Final = 3
TOR_FILE_HEADER: Final = b"== ed25519v1-secret: type0 ==\x00\x00\x00"
TOR_FILE_LENGTH: Final = 96
_CHECKSUM_PREFIX: Final = b".onion checksum"


def is_onion(host: str) -> bool:
    """Tell whether a host belongs to Tor: such a name, well-formed or not, must never reach a resolver."""
    return host.rstrip(".").lower().endswith(SUFFIX)


def parse_onion(text: str) -> OnionAddress:
    """Check an address in any case, with its ".onion".

    Raises:
        DecodeError: not 56 base32 characters, wrong checksum or version, or its key is no point of the
            prime-order group (one that is not has several addresses for the same service).
    """
    # Before lowering: the Kelvin sign becomes a "k".
    if not text.isascii():
        raise DecodeError(f"onion address {_shown(text)} holds characters that are not base32")
    address = text.lower()
    name = address.removesuffix(SUFFIX)
    if name == address:
        raise DecodeError(f"onion address {_shown(text)} does not end with .onion")
    if len(name) != NAME_LENGTH:
        raise DecodeError(f"onion address {_shown(text)}: expected 56 base32 characters before .onion")
    try:
        raw = base64.b32decode(name, casefold=True)
    except binascii.Error:
        raise DecodeError(f"onion address {_shown(text)} holds characters that are not base32") from None
    public, checksum, version = raw[:32], raw[32:34], raw[34]
    if version != VERSION:
        raise DecodeError(f"onion address {_shown(text)} has version {version}, expected 3")
    if checksum != _checksum(public):
        raise DecodeError(f"onion address {_shown(text)} has a wrong checksum: mistyped?")
    if not _is_prime_order_point(public):
        raise DecodeError(f"onion address {_shown(text)}: its key is not a point of prime order")
    return OnionAddress(address)


def onion_from_public(public_key: bytes) -> OnionAddress:
    """Return the address of a 32-byte ed25519 public key.

    Raises:
        DecodeError: wrong length, or no point of prime order.
    """
    if len(public_key) != 32 or not _is_prime_order_point(public_key):
        raise DecodeError("not an ed25519 public key of prime order")
    return _address(public_key)


def public_from_onion(address: OnionAddress) -> bytes:
    """Return the 32-byte ed25519 public key inside of an address."""
    return base64.b32decode(address[:NAME_LENGTH], casefold=True)[:32]


class OnionKey:
    """The secret of an onion service: 64 bytes, clamped scalar and hash prefix. Never shown."""

    __slots__ = ("_expanded", "address", "public_key")

    def __init__(self, expanded: bytes) -> None:
        if len(expanded) != 64:
            raise DecodeError(f"an onion key has 64 bytes, not {len(expanded)}")
        # RFC 8032 5.1.5. A seed followed by its public key, the form of most libraries, is caught here.
        if expanded[0] & 7 or expanded[31] & 0xC0 != 0x40:
            raise DecodeError("an onion key begins with a clamped scalar; is this a seed and public key?")
        from nacl.bindings import crypto_scalarmult_ed25519_base_noclamp  # noqa: PLC0415

        self._expanded = bytes(expanded)
        self.public_key: bytes = crypto_scalarmult_ed25519_base_noclamp(self._expanded[:32])
        self.address: OnionAddress = _address(self.public_key)

    @classmethod
    def generate(cls, rand: Callable[[int], bytes]) -> OnionKey:
        """Make a key from 32 random bytes."""
        return cls.from_seed(rand(32))

    @classmethod
    def from_seed(cls, seed: bytes) -> OnionKey:
        """Expand a 32-byte ed25519 seed. Spec: RFC 8032 section 5.1.5.

        Raises:
            DecodeError: not 32 bytes.
        """
        if len(seed) != 32:
            raise DecodeError(f"an ed25519 seed has 32 bytes, not {len(seed)}")
        digest = bytearray(hashlib.sha512(seed).digest())
        digest[0] &= 248
        digest[31] = digest[31] & 63 | 64
        return cls(bytes(digest))

    @classmethod
    def from_tor_file(cls, content: bytes) -> OnionKey:
        """Read the content of tor's hs_ed25519_secret_key.

        Raises:
            DecodeError: not that format.
        """
        if len(content) != TOR_FILE_LENGTH or not content.startswith(TOR_FILE_HEADER):
            raise DecodeError(
                "not tor's hs_ed25519_secret_key: expected 96 bytes that begin with"
                f" '== ed25519v1-secret: type0 ==', found {len(content)} bytes"
            )
        return cls(content[len(TOR_FILE_HEADER) :])

    def to_tor_file(self) -> bytes:
        """Return the content of tor's hs_ed25519_secret_key; the caller keeps it 0600 in a 0700 folder."""
        return TOR_FILE_HEADER + self._expanded

    def add_onion_blob(self) -> str:
        """Return the key argument of ADD_ONION. Spec: control-spec, ADD_ONION."""
        return "ED25519-V3:" + base64.b64encode(self._expanded).decode()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OnionKey) and self._expanded == other._expanded

    def __hash__(self) -> int:
        return hash(self.public_key)

    def __repr__(self) -> str:
        # Not even the address: whoever logs a key object did not mean to publish where we are.
        return "OnionKey(...)"


def _address(public_key: bytes) -> OnionAddress:
    raw = public_key + _checksum(public_key) + bytes((VERSION,))
    return OnionAddress(base64.b32encode(raw).decode().lower() + SUFFIX)


def _checksum(public_key: bytes) -> bytes:
    return hashlib.sha3_256(_CHECKSUM_PREFIX + public_key + bytes((VERSION,))).digest()[:2]


def _is_prime_order_point(public_key: bytes) -> bool:
    from nacl.bindings import crypto_core_ed25519_is_valid_point  # noqa: PLC0415

    return bool(crypto_core_ed25519_is_valid_point(public_key))


def _shown(text: str) -> str:
    # Enough to find it in a list of peers, too little to flood a log or to tell whom we know.
    return repr(text[:8] + "..." if len(text) > 8 else text)
