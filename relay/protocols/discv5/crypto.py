"""Cryptography of discv5: header masks, message ciphers, the handshake. Spec: discv5-theory.md, "Sessions".

`Suite` is the seam behind which a simulation swaps what is slow; everything else of a node stays the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Protocol

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from relay.primitives.errors import DecodeError
from relay.primitives.keys import NodeKey, PublicKey, compress, decompress, node_id, verify

__all__ = ["REAL", "Aead", "Initiation", "Keys", "Mask", "RealSuite", "Suite", "id_digest"]

_AGREEMENT: Final = b"discovery v5 key agreement"
_PROOF: Final = b"discovery v5 identity proof"


class Aead(Protocol):
    """A cipher of messages in one direction: AES-128-GCM."""

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes, /) -> bytes:
        """Seal data; 16 bytes longer."""

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes, /) -> bytes:
        """Open data; raises cryptography's InvalidTag."""


class Mask(Protocol):
    """The mask of headers to one node, which is its own inverse: AES-128-CTR."""

    def apply(self, iv: bytes, data: bytes) -> bytes:
        """Mask or unmask what follows the IV."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Session keys: 16 bytes each, named by who writes with them."""

    initiator: bytes
    recipient: bytes


@dataclass(frozen=True, slots=True)
class Initiation:
    """What the initiator of a handshake sends and keeps.

    Attributes:
        signature: 64 bytes.
        ephemeral: public key, 33 bytes.
        keys: of the new session.
    """

    signature: bytes
    ephemeral: bytes
    keys: Keys


class Suite(Protocol):
    """All slow or random parts of the protocol."""

    def mask(self, destination: bytes) -> Mask:
        """Make the mask of packets to a node id."""

    def aead(self, key: bytes) -> Aead:
        """Make a message cipher of a 16-byte key."""

    def initiate(
        self, key: NodeKey, to: PublicKey, challenge: bytes, rand: Callable[[int], bytes]
    ) -> Initiation:
        """Answer a challenge of the holder of `to`."""

    def accept(
        self, key: NodeKey, peer: PublicKey, challenge: bytes, ephemeral: bytes, signature: bytes
    ) -> Keys:
        """Check the answer to our challenge; DecodeError: it is not by `peer`, or no point."""


class HeaderMask:
    """AES-128-CTR with one cipher context for all packets: making one costs seven times its use."""

    __slots__ = ("_cipher",)

    def __init__(self, destination: bytes) -> None:
        self._cipher = Cipher(algorithms.AES(destination[:16]), modes.CTR(bytes(16))).encryptor()

    def apply(self, iv: bytes, data: bytes) -> bytes:
        """Mask or unmask what follows the IV."""
        self._cipher.reset_nonce(iv)
        return self._cipher.update(data)


class RealSuite:
    """The cryptography of the specification."""

    __slots__ = ()

    def mask(self, destination: bytes) -> Mask:
        """Make the mask of packets to a node id."""
        return HeaderMask(destination)

    def aead(self, key: bytes) -> Aead:
        """Make a message cipher of a 16-byte key."""
        return AESGCM(key)

    def initiate(
        self, key: NodeKey, to: PublicKey, challenge: bytes, rand: Callable[[int], bytes]
    ) -> Initiation:
        """Answer a challenge of the holder of `to`."""
        once = NodeKey.generate(rand)
        ephemeral = compress(once.public_key)
        destination = node_id(to)
        signature = key.sign(id_digest(challenge, ephemeral, destination))
        keys = derive(once.ecdh_compressed(to), key.node_id, destination, challenge)
        return Initiation(signature, ephemeral, keys)

    def accept(
        self, key: NodeKey, peer: PublicKey, challenge: bytes, ephemeral: bytes, signature: bytes
    ) -> Keys:
        """Check the answer to our challenge; DecodeError: it is not by `peer`, or no point."""
        point = decompress(ephemeral)
        if not verify(id_digest(challenge, ephemeral, key.node_id), signature, peer):
            raise DecodeError("the identity proof of a handshake does not fit")
        return derive(key.ecdh_compressed(point), node_id(peer), key.node_id, challenge)


REAL: Final = RealSuite()


def id_digest(challenge: bytes, ephemeral: bytes, destination: bytes) -> bytes:
    """Return the 32 bytes that the initiator signs."""
    return sha256(_PROOF + challenge + ephemeral + destination).digest()


def derive(secret: bytes, initiator: bytes, recipient: bytes, challenge: bytes) -> Keys:
    """Derive the session keys of the shared point and both node ids."""
    info = _AGREEMENT + initiator + recipient
    material = HKDF(SHA256(), 32, salt=challenge, info=info).derive(secret)
    return Keys(material[:16], material[16:])
