"""secp256k1: node keys, public keys, node ids, signatures, key agreement.

Public keys are 64 bytes x || y, as on the wire of RLPx and in enode URLs. The functions call
libsecp256k1 through coincurve's binding without its key objects, which would be made and thrown
away for each packet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NewType

from coincurve._libsecp256k1 import ffi, lib
from coincurve.context import GLOBAL_CONTEXT

from relay.primitives.errors import DecodeError
from relay.primitives.hashing import keccak256

__all__ = [
    "GROUP_ORDER",
    "NodeId",
    "NodeKey",
    "PublicKey",
    "compress",
    "decompress",
    "node_id",
    "parse_public_key",
    "recover",
    "verify",
]

PublicKey = NewType("PublicKey", bytes)
"""64 bytes: x || y of a point known to be on the curve."""

NodeId = NewType("NodeId", bytes)
"""32 bytes: keccak256 of the public key. Spec: enr.md, "v4" identity scheme."""

GROUP_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

_UNCOMPRESSED: Final = lib.SECP256K1_EC_UNCOMPRESSED
_CONTEXT: Final = GLOBAL_CONTEXT.ctx


class NodeKey:
    """A node's private key. Its representation never shows the secret."""

    __slots__ = ("_secret", "node_id", "public_key")

    def __init__(self, secret: bytes) -> None:
        if len(secret) != 32:
            raise DecodeError(f"a node key has 32 bytes, not {len(secret)}")
        point = ffi.new("secp256k1_pubkey *")
        # The call refuses zero and anything from the group order up.
        if not lib.secp256k1_ec_pubkey_create(_CONTEXT, point, secret):
            raise DecodeError("a node key is a number between 1 and the order of secp256k1")
        self._secret = bytes(secret)
        self.public_key: PublicKey = _serialize(point)
        self.node_id: NodeId = node_id(self.public_key)

    @classmethod
    def generate(cls, rand: Callable[[int], bytes]) -> NodeKey:
        """Make a key from 32 random bytes; draws again in the practically impossible case of a bad one."""
        while not 0 < int.from_bytes(secret := rand(32), "big") < GROUP_ORDER:
            continue
        return cls(secret)

    @property
    def secret(self) -> bytes:
        """The 32 secret bytes, for the key file only."""
        return self._secret

    def ecdh(self, public_key: PublicKey) -> bytes:
        """Return the 32-byte x coordinate of the shared point. Spec: rlpx.md, ECIES."""
        return self._agree(public_key)[1:]

    def ecdh_compressed(self, public_key: PublicKey) -> bytes:
        """Return the shared point compressed, 33 bytes. Spec: discv5-theory.md, ecdh()."""
        return self._agree(public_key)

    def sign_recoverable(self, digest: bytes) -> bytes:
        """Sign a 32-byte digest: r || s || recovery id (0 to 3), 65 bytes, low s, RFC 6979 nonce."""
        _require_digest(digest)
        signature = ffi.new("secp256k1_ecdsa_recoverable_signature *")
        lib.secp256k1_ecdsa_sign_recoverable(_CONTEXT, signature, digest, self._secret, ffi.NULL, ffi.NULL)
        out = ffi.new("unsigned char[64]")
        recovery_id = ffi.new("int *")
        lib.secp256k1_ecdsa_recoverable_signature_serialize_compact(_CONTEXT, out, recovery_id, signature)
        return bytes(ffi.buffer(out)) + bytes((recovery_id[0],))

    def sign(self, digest: bytes) -> bytes:
        """Sign a 32-byte digest: r || s, 64 bytes."""
        return self.sign_recoverable(digest)[:64]

    def _agree(self, public_key: PublicKey) -> bytes:
        point = _parse(b"\x04" + public_key)
        out = ffi.new("unsigned char[33]")
        lib.secp256k1_ecdh(_CONTEXT, out, point, self._secret, _compressed_point, ffi.NULL)
        return bytes(ffi.buffer(out))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NodeKey) and self.public_key == other.public_key

    def __hash__(self) -> int:
        return hash(self.public_key)

    def __repr__(self) -> str:
        return f"NodeKey(public_key={self.public_key.hex()[:16]}...)"


@ffi.callback("int(unsigned char *, unsigned char *, unsigned char *, void *)")  # type: ignore[untyped-decorator,unused-ignore]
def _compressed_point(out: Any, x: Any, y: Any, _data: Any) -> int:  # noqa: ANN401
    # The library hashes the shared point by a function of the caller's choice. This "hash" keeps the point,
    # so the multiplication stays the constant-time one (pubkey_tweak_mul, the other way, is not).
    out[0] = 2 | (y[31] & 1)
    ffi.memmove(out + 1, x, 32)
    return 1


def parse_public_key(data: bytes) -> PublicKey:
    """Check that 64 bytes are a point of the curve.

    Raises:
        DecodeError: wrong length, or no point: half of all random values are none.
    """
    if len(data) != 64:
        raise DecodeError(f"a public key has 64 bytes, not {len(data)}")
    _parse(b"\x04" + data)
    return PublicKey(bytes(data))


def node_id(public_key: PublicKey) -> NodeId:
    """Return the node id of a public key."""
    return NodeId(keccak256(public_key))


def compress(public_key: PublicKey) -> bytes:
    """Return the 33-byte form: 02 or 03, then x."""
    return bytes((2 | (public_key[63] & 1),)) + public_key[:32]


def decompress(data: bytes) -> PublicKey:
    """Return the public key of its 33-byte form.

    Raises:
        DecodeError: wrong length or prefix, or x belongs to no point.
    """
    if len(data) != 33:
        raise DecodeError(f"a compressed public key has 33 bytes, not {len(data)}")
    return _serialize(_parse(data))


def recover(digest: bytes, signature: bytes) -> PublicKey:
    """Return the key that made a 65-byte recoverable signature of a 32-byte digest.

    Raises:
        DecodeError: no key could have made it.
    """
    _require_digest(digest)
    if len(signature) != 65 or signature[64] > 3:
        raise DecodeError("a recoverable signature has 64 bytes and a recovery id from 0 to 3")
    parsed = ffi.new("secp256k1_ecdsa_recoverable_signature *")
    point = ffi.new("secp256k1_pubkey *")
    if not lib.secp256k1_ecdsa_recoverable_signature_parse_compact(
        _CONTEXT, parsed, signature, signature[64]
    ) or not lib.secp256k1_ecdsa_recover(_CONTEXT, point, parsed, digest):
        raise DecodeError("no public key belongs to this signature")
    return _serialize(point)


def verify(digest: bytes, signature: bytes, public_key: PublicKey) -> bool:
    """Tell whether 64 bytes r || s are a signature of digest by public_key; a high s is refused."""
    parsed = ffi.new("secp256k1_ecdsa_signature *")
    if len(digest) != 32 or len(signature) != 64:
        return False
    if not lib.secp256k1_ecdsa_signature_parse_compact(_CONTEXT, parsed, signature):
        return False
    return bool(lib.secp256k1_ecdsa_verify(_CONTEXT, parsed, digest, _parse(b"\x04" + public_key)))


def _require_digest(digest: bytes) -> None:
    if len(digest) != 32:
        raise DecodeError(f"a digest to sign or recover has 32 bytes, not {len(digest)}")


def _parse(data: bytes) -> Any:  # noqa: ANN401  a cdata pointer has no static type
    point = ffi.new("secp256k1_pubkey *")
    # The library also takes "hybrid" prefixes 06 and 07; Ethereum's formats do not have them.
    if data[0] > 4 or not lib.secp256k1_ec_pubkey_parse(_CONTEXT, point, data, len(data)):
        raise DecodeError(f"public key {data[1:9].hex()}... is not a point of secp256k1")
    return point


def _serialize(point: Any) -> PublicKey:  # noqa: ANN401
    out = ffi.new("unsigned char[65]")
    length = ffi.new("size_t *", 65)
    lib.secp256k1_ec_pubkey_serialize(_CONTEXT, out, length, point, _UNCOMPRESSED)
    return PublicKey(bytes(ffi.buffer(out)[1:65]))
