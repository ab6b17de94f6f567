"""From a signature to the account that made it, in the fewest calls into libsecp256k1.

This is four fifths of the cost of a transaction, so what surrounds the one expensive call is kept
small: the binding's C functions are called directly, into buffers that are allocated once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from coincurve._libsecp256k1 import ffi, lib
from coincurve.context import GLOBAL_CONTEXT

from relay.primitives.hashing import Keccak256
from relay.primitives.keys import GROUP_ORDER, PublicKey

__all__ = ["Recover", "address_of", "make_recover", "recover"]

Recover: TypeAlias = Callable[[bytes, bytes, int], PublicKey | None]

_HALF_ORDER: Final = (GROUP_ORDER // 2).to_bytes(32, "big")


def make_recover() -> Recover:
    """Make a function that finds the signer of a digest.

    It works in buffers of its own, and the calls into the library let other threads run: a function
    made here serves one thread.

    Returns:
        recover(digest of 32 bytes, r || s of 64 bytes, y parity 0 or 1), which gives the public key, or
        None if r or s is zero or not below the group order, if s is in the upper half of it (EIP-2),
        or if no key could have made the signature.
    """
    parse: Any = lib.secp256k1_ecdsa_recoverable_signature_parse_compact
    solve: Any = lib.secp256k1_ecdsa_recover
    serialize: Any = lib.secp256k1_ec_pubkey_serialize
    uncompressed: int = lib.SECP256K1_EC_UNCOMPRESSED
    context: Any = GLOBAL_CONTEXT.ctx
    signature = ffi.new("secp256k1_ecdsa_recoverable_signature *")
    point = ffi.new("secp256k1_pubkey *")
    out = ffi.new("unsigned char[65]")
    length = ffi.new("size_t *", 65)
    view = ffi.buffer(out)

    def recover(digest: bytes, rs: bytes, y_parity: int) -> PublicKey | None:
        # The library refuses an r or s that is zero or too large; a high s it would take.
        if rs[32:] > _HALF_ORDER or not parse(context, signature, rs, y_parity):
            return None
        if not solve(context, point, signature, digest):
            return None
        serialize(context, out, length, point, uncompressed)
        return PublicKey(view[1:65])

    return recover


recover: Final[Recover] = make_recover()
"""The function of the thread that runs the event loop, which is where transactions are checked."""


def address_of(public_key: PublicKey) -> bytes:
    """Return the 20-byte address of an account's public key."""
    digest: bytes = Keccak256(public_key).digest()
    return digest[12:]
