"""Readers of the fields of a transaction: what each may look like on the wire, as go-ethereum decodes it.

Each reader is given where an item's payload begins and ends, and raises DecodeError when the item is
not what the field holds. Lists of items of one size are checked by strides, without a step an item:
an access list may hold thousands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from relay.primitives.errors import DecodeError
from relay.primitives.rlp import read_header

__all__ = [
    "Sidecar",
    "address",
    "authorizations",
    "byte_span",
    "hashes",
    "number",
    "optional_address",
    "read_sidecar",
    "storage_claims",
    "uint64",
    "uint256",
]

BLOB_BYTES: Final = 131072  # EIP-4844: 4096 field elements of 32 bytes

_ADDRESS_HEADER: Final = b"\x94"
_HASH_HEADER: Final = b"\xa0"
_PROOF_HEADER: Final = b"\xb0"  # a KZG commitment or proof: 48 bytes
_BLOB_HEADER: Final = b"\xba\x02\x00\x00"


def number(raw: bytes, is_list: bool, start: int, stop: int, limit: int | None = None) -> int:
    """Read a whole number without leading zeros, of at most limit bytes."""
    if is_list:
        raise DecodeError("expected a number, found a list")
    if start < stop and not raw[start]:
        raise DecodeError("number has leading zeros")
    if limit is not None and stop - start > limit:
        raise DecodeError(f"number has {stop - start} bytes, at most {limit} are allowed")
    return int.from_bytes(raw[start:stop], "big")


def uint64(raw: bytes, is_list: bool, start: int, stop: int) -> int:
    """Read a number of at most 64 bits."""
    return number(raw, is_list, start, stop, 8)


def uint256(raw: bytes, is_list: bool, start: int, stop: int) -> int:
    """Read a number of at most 256 bits."""
    return number(raw, is_list, start, stop, 32)


def byte_span(_raw: bytes, is_list: bool, start: int, stop: int) -> tuple[int, int]:
    """Return where a string of bytes lies."""
    if is_list:
        raise DecodeError("expected bytes, found a list")
    return start, stop


def address(raw: bytes, is_list: bool, start: int, stop: int) -> bytes:
    """Read the 20 bytes of an address."""
    if is_list or stop - start != 20:
        raise DecodeError(f"expected an address of 20 bytes, found {stop - start}")
    return raw[start:stop]


def optional_address(raw: bytes, is_list: bool, start: int, stop: int) -> bytes | None:
    """Read an address, or None from an empty string."""
    if start == stop and not is_list:
        return None
    return address(raw, is_list, start, stop)


def hashes(raw: bytes, is_list: bool, start: int, stop: int) -> tuple[bytes, ...]:
    """Read a list of 32-byte hashes."""
    _count_fixed(raw, is_list, start, stop, _HASH_HEADER, 32)
    return tuple(raw[pos : pos + 32] for pos in range(start + 1, stop, 33))


def storage_claims(raw: bytes, is_list: bool, start: int, stop: int) -> tuple[int, int]:
    """Walk an access list (EIP-2930); return how many addresses and how many storage keys it names."""
    if not is_list:
        raise DecodeError("expected an access list, found bytes")
    addresses = keys = 0
    while start < stop:
        is_tuple, inside, end = read_header(raw, start, stop)
        if not is_tuple or end - inside < 22 or raw[inside : inside + 1] != _ADDRESS_HEADER:
            raise DecodeError("access list entry does not begin with an address")
        is_keys, first, last = read_header(raw, inside + 21, end)
        if last != end:
            raise DecodeError("access list entry has other than two items")
        keys += _count_fixed(raw, is_keys, first, last, _HASH_HEADER, 32)
        addresses += 1
        start = end
    return addresses, keys


_AUTHORIZATION: Final = (
    ("chain id", uint256),
    ("address", address),
    ("nonce", uint64),
    ("y parity", lambda raw, is_list, start, stop: number(raw, is_list, start, stop, 1)),
    ("r", uint256),
    ("s", uint256),
)


def authorizations(raw: bytes, is_list: bool, start: int, stop: int) -> int:
    """Walk an authorization list (EIP-7702) and return its length.

    Its signatures are not checked: an invalid authorization is skipped by the chain, and does not make
    the transaction invalid.
    """
    if not is_list:
        raise DecodeError("expected an authorization list, found bytes")
    count = 0
    while start < stop:
        is_tuple, pos, end = read_header(raw, start, stop)
        if not is_tuple:
            raise DecodeError("authorization is not a list")
        for _name, read in _AUTHORIZATION:
            field_is_list, field_start, field_stop = read_header(raw, pos, end)
            read(raw, field_is_list, field_start, field_stop)
            pos = field_stop
        if pos != end:
            raise DecodeError("authorization has more than six items")
        count += 1
        start = end
    return count


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What travels with a blob transaction, outside of what is signed. Blobs and proofs stay in `raw`.

    Attributes:
        version: 0, one proof a blob (EIP-4844), or 1, 128 cell proofs a blob (EIP-7594).
        blobs: how many blobs; none in the form of eth/72 (EIP-8070).
        commitments: the 48-byte KZG commitments.
        proofs: how many 48-byte proofs.
        blobs_start: where in `raw` the list of blobs begins, each 4 header bytes and 131072 of its own.
        proofs_start: where in `raw` the list of proofs begins, each a header byte and 48 of its own.
    """

    version: int
    blobs: int
    commitments: tuple[bytes, ...]
    proofs: int
    blobs_start: int
    proofs_start: int


def read_sidecar(raw: bytes, pos: int, stop: int) -> Sidecar:
    """Read what follows the transaction: blobs, commitments, proofs, and before them perhaps the version 1.

    Spec: EIP-4844 and EIP-7594, "Networking".
    """
    is_list, start, end = read_header(raw, pos, stop)
    version = 0
    if not is_list:
        version = number(raw, is_list, start, end, 1)
        if version != 1:
            raise DecodeError(f"unsupported blob tx version {version}")
        is_list, start, end = read_header(raw, end, stop)
    blobs = _count_fixed(raw, is_list, start, end, _BLOB_HEADER, BLOB_BYTES)
    is_list, first, last = read_header(raw, end, stop)
    _count_fixed(raw, is_list, first, last, _PROOF_HEADER, 48)
    commitments = tuple(raw[at : at + 48] for at in range(first + 1, last, 49))
    is_list, proofs_start, end = read_header(raw, last, stop)
    proofs = _count_fixed(raw, is_list, proofs_start, end, _PROOF_HEADER, 48)
    if end != stop:
        raise DecodeError("more follows the proofs of a blob transaction")
    return Sidecar(version, blobs, commitments, proofs, start, proofs_start)


def _count_fixed(raw: bytes, is_list: bool, start: int, stop: int, header: bytes, size: int) -> int:
    """Return how many strings of one size fill a list, whose headers are thus all equal."""
    if not is_list:
        raise DecodeError("expected a list, found bytes")
    stride = len(header) + size
    count, rest = divmod(stop - start, stride)
    if rest or any(
        raw[start + at : stop : stride] != header[at : at + 1] * count for at in range(len(header))
    ):
        raise DecodeError(f"expected a list of strings of {size} bytes")
    return count
