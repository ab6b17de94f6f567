"""The cryptography of discv5 left out, for simulations of thousands of nodes.

Sizes and random draws are those of the real suite, so every packet, message and event stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256, sha512

from cryptography.exceptions import InvalidTag

from relay.primitives.errors import DecodeError
from relay.primitives.keys import NodeKey, PublicKey
from relay.protocols.discv5.crypto import REAL, Initiation, Keys, Suite

__all__ = ["SUITES", "NullSuite"]


class NullAead:
    """Marks data with the key in place of a tag."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes, /) -> bytes:
        return data + self._key

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes, /) -> bytes:
        if data[-16:] != self._key:
            raise InvalidTag
        return data[:-16]


class NullMask:
    __slots__ = ()

    def apply(self, iv: bytes, data: bytes) -> bytes:
        return data


class NullSuite:
    """Encrypts nothing; takes as many random bytes as the real one."""

    __slots__ = ("_mask",)

    def __init__(self) -> None:
        self._mask = NullMask()

    def mask(self, destination: bytes) -> NullMask:
        return self._mask

    def aead(self, key: bytes) -> NullAead:
        return NullAead(key)

    def initiate(
        self, key: NodeKey, to: PublicKey, challenge: bytes, rand: Callable[[int], bytes]
    ) -> Initiation:
        ephemeral = b"\x02" + rand(32)
        proof = sha512(challenge + ephemeral + key.public_key).digest()
        return Initiation(proof, ephemeral, self._keys(challenge, ephemeral))

    def accept(
        self, key: NodeKey, peer: PublicKey, challenge: bytes, ephemeral: bytes, signature: bytes
    ) -> Keys:
        if signature != sha512(challenge + ephemeral + peer).digest():
            raise DecodeError("wrong proof")
        return self._keys(challenge, ephemeral)

    def _keys(self, challenge: bytes, ephemeral: bytes) -> Keys:
        material = sha256(challenge + ephemeral).digest()
        return Keys(material[:16], material[16:])


SUITES: dict[str, Suite] = {"real": REAL, "null": NullSuite()}
