"""ECIES as RLPx uses it: secp256k1, AES-128-CTR, HMAC-SHA-256.

A sealed packet is `R (65 bytes) || iv (16) || ciphertext || tag (32)`. Spec: rlpx.md, "ECIES Encryption".
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from hashlib import sha256
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from relay.primitives.errors import DecodeError
from relay.primitives.keys import NodeKey, PublicKey

__all__ = ["OVERHEAD", "decrypt", "encrypt"]

_POINT: Final = 65  # bytes of an uncompressed point with its prefix 04
_IV: Final = 16
_TAG: Final = 32

OVERHEAD: Final = _POINT + _IV + _TAG
"""Bytes that sealing adds."""


def encrypt(to: PublicKey, plaintext: bytes, authenticated: bytes, rand: Callable[[int], bytes]) -> bytes:
    """Seal plaintext for the holder of a key.

    Args:
        to: the receiver's static public key.
        plaintext: what only the receiver may read.
        authenticated: bytes that go into the tag and are not part of the result (RLPx: the size prefix).
        rand: randomness for the one-time key and the initialization vector.
    """
    once = NodeKey.generate(rand)
    cipher_key, mac_key = _derive(once.ecdh(to))
    iv = rand(_IV)
    sealed = iv + _aes(cipher_key, iv, plaintext)
    return b"\x04" + once.public_key + sealed + _tag(mac_key, sealed, authenticated)


def decrypt(key: NodeKey, packet: bytes, authenticated: bytes) -> bytes:
    """Open a packet that was sealed for key.

    Raises:
        DecodeError: too short, no point of the curve, or not sealed for this key.
    """
    if len(packet) <= OVERHEAD:
        raise DecodeError(f"an ECIES packet has more than {OVERHEAD} bytes, not {len(packet)}")
    if packet[0] != 4:
        raise DecodeError("an ECIES packet begins with an uncompressed point")
    cipher_key, mac_key = _derive(key.ecdh(PublicKey(packet[1:_POINT])))
    sealed = packet[_POINT:-_TAG]
    if not hmac.compare_digest(_tag(mac_key, sealed, authenticated), packet[-_TAG:]):
        raise DecodeError("the tag of an ECIES packet is wrong: not sealed for this key")
    return _aes(cipher_key, sealed[:_IV], sealed[_IV:])


def _derive(shared: bytes) -> tuple[bytes, bytes]:
    # NIST SP 800-56 concatenation KDF: 32 bytes are its first round alone.
    material = sha256(b"\x00\x00\x00\x01" + shared).digest()
    return material[:16], sha256(material[16:]).digest()


def _aes(key: bytes, iv: bytes, data: bytes) -> bytes:
    return Cipher(algorithms.AES(key), modes.CTR(iv)).encryptor().update(data)


def _tag(mac_key: bytes, sealed: bytes, authenticated: bytes) -> bytes:
    return hmac.digest(mac_key, sealed + authenticated, "sha256")
