"""Builds signed transactions of every type, right or wrong in any field, without the code under test."""

import base64
import zlib
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from relay.primitives.hashing import keccak256
from relay.primitives.keys import NodeKey
from relay.primitives.rlp import encode

KEY = NodeKey(b"\x11" * 32)
TO = bytes(range(20))
KEYS_OF_LIST = [[b"\xaa" * 20, [b"\x01" * 32, b"\x02" * 32]], [b"\xbb" * 20, []]]
AUTHORIZATION = [1, b"\xcc" * 20, 7, 1, 2**255, 2**254]
COMMITMENT = b"\xc0" + bytes(47)
BLOB_HASH = b"\x01" + sha256(COMMITMENT).digest()[1:]

NAMES: dict[int, tuple[str, ...]] = {
    0: ("nonce", "price", "gas", "to", "value", "data"),
    1: ("chain_id", "nonce", "price", "gas", "to", "value", "data", "access_list"),
    2: ("chain_id", "nonce", "tip", "fee", "gas", "to", "value", "data", "access_list"),
}
NAMES[3] = (*NAMES[2], "blob_fee", "blob_hashes")
NAMES[4] = (*NAMES[2], "authorizations")

DEFAULTS: dict[str, Any] = {
    "chain_id": 1,
    "nonce": 1234,
    "price": 30 * 10**9,
    "tip": 15 * 10**8,
    "fee": 30 * 10**9,
    "gas": 100_000,
    "to": TO,
    "value": 10**17,
    "data": b"",
    "access_list": [],
    "blob_fee": 10**9,
    "blob_hashes": [BLOB_HASH],
    "authorizations": [AUTHORIZATION],
}


def signed_fields(kind: int, *, protect: int | None = 1, key: NodeKey = KEY, **changes: Any) -> list[Any]:
    """Return the fields of a transaction with its signature; protect is the chain id of a legacy one."""
    values = DEFAULTS | changes
    fields = [values[name] for name in NAMES[kind]]
    tail = [protect, 0, 0] if kind == 0 and protect is not None else []
    signature = key.sign_recoverable(keccak256((bytes((kind,)) if kind else b"") + encode(fields + tail)))
    parity = signature[64]
    if kind == 0:
        parity += 27 if protect is None else 35 + 2 * protect
    numbers = [int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")]
    return [*fields, parity, *numbers]


def envelope(kind: int, fields: Sequence[Any]) -> bytes:
    return (bytes((kind,)) if kind else b"") + encode(fields)


def build(kind: int, **changes: Any) -> bytes:
    """Return the canonical bytes of a signed transaction (without a sidecar)."""
    return envelope(kind, signed_fields(kind, **changes))


def pooled(
    *, version: int | None = 1, blobs: int = 0, count: int = 1, proofs: int | None = None, **changes: Any
) -> bytes:
    """Return a blob transaction of count commitments with its sidecar; version None is the older form."""
    commitments = [bytes((0xC0 + n,)) + bytes(47) for n in range(count)]
    hashes = [b"\x01" + sha256(commitment).digest()[1:] for commitment in commitments]
    fields = signed_fields(3, **({"blob_hashes": hashes} | changes))
    proofs = count * (1 if version is None else 128) if proofs is None else proofs
    sidecar = [[bytes(131072)] * blobs, commitments, [b"\xc0" + bytes(47)] * proofs]
    return envelope(3, [fields, *([] if version is None else [version]), *sidecar])


def raw_of(case: dict[str, Any]) -> bytes:
    """Return the bytes of a case of tests/vectors/transactions."""
    return bytes.fromhex(case["raw"]) if "raw" in case else zlib.decompress(base64.b64decode(case["zlib"]))


def name_of(case: dict[str, Any]) -> str:
    return str(case["name"])
