"""Signatures by the key of an onion service, which verify under its address.

Tor keeps the expanded form of an ed25519 key, which libraries that start from a seed can't sign with.
Spec: RFC 8032 section 5.1.6, from step 2 on.
"""

from __future__ import annotations

import hashlib
from typing import Final

from nacl import bindings
from nacl.exceptions import BadSignatureError

from relay.primitives.onion import OnionAddress, OnionKey, public_from_onion

__all__ = ["onion_sign", "onion_verify"]

_EXPANDED: Final = 64  # bytes at the end of tor's file: scalar and prefix


def onion_sign(key: OnionKey, message: bytes) -> bytes:
    """Return the 64 bytes of an ed25519 signature."""
    expanded = key.to_tor_file()[-_EXPANDED:]
    scalar, prefix = expanded[:32], expanded[32:]
    nonce = _scalar(prefix + message)
    point = bindings.crypto_scalarmult_ed25519_base_noclamp(nonce)
    challenge = _scalar(point + key.public_key + message)
    # The scalar of the file is clamped, not reduced; multiplying takes it modulo the group's order.
    product = bindings.crypto_core_ed25519_scalar_mul(challenge, scalar)
    return point + bindings.crypto_core_ed25519_scalar_add(nonce, product)


def onion_verify(onion: OnionAddress, message: bytes, signature: bytes) -> bool:
    """Tell whether the service behind an address signed a message."""
    try:
        bindings.crypto_sign_open(signature + message, public_from_onion(onion))
    except (BadSignatureError, ValueError):
        return False
    return True


def _scalar(data: bytes) -> bytes:
    return bindings.crypto_core_ed25519_scalar_reduce(hashlib.sha512(data).digest())
