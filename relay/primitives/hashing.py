"""Keccak-256, the hash of Ethereum (not NIST's SHA3-256: the padding differs)."""

from __future__ import annotations

from sha3 import keccak_256 as Keccak256

__all__ = ["Keccak256", "keccak256"]


def keccak256(data: bytes) -> bytes:
    """Return the 32-byte Keccak-256 of data."""
    digest: bytes = Keccak256(data).digest()
    return digest
