"""Blob transactions in their forms on the wire, and the cells that a blob is spread over.

Up to eth/71 a blob transaction travels whole: `[tx, 1, blobs, commitments, proofs]`. In eth/72 its list of
blobs is empty, here called lean, and cells are asked for by themselves (GetCells). A blob has 128 cells of
2048 bytes; the first 64 are the blob itself, the others its extension, and any 64 are enough to get all.
Masks of cells are kept as numbers: bit i is cell i. Specs: EIP-4844, EIP-7594, EIP-8070.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from relay.chain.transaction_fields import BLOB_BYTES, Sidecar
from relay.chain.transactions import BLOB, Transaction, TransactionUndecodable, canonical, decode
from relay.primitives import rlp
from relay.primitives.errors import DecodeError

__all__ = [
    "ALL_CELLS",
    "BLOB_BYTES",
    "CELLS",
    "CELL_BYTES",
    "DATA_CELLS",
    "ENOUGH",
    "blob_sizes",
    "blobs_of",
    "blobs_of_wire",
    "by_blob",
    "cell_indices",
    "lean_form",
    "mask_bytes",
    "mask_number",
    "proofs_of",
    "whole_form",
]

CELLS: Final = 128  # of a blob with its extension (EIP-7594, CELLS_PER_EXT_BLOB)
ENOUGH: Final = 64  # cells from which all others follow
CELL_BYTES: Final = 2048
ALL_CELLS: Final = (1 << CELLS) - 1
DATA_CELLS: Final = (1 << ENOUGH) - 1  # those that are the blob itself

_BLOB_HEADER: Final = rlp.string_header(BLOB_BYTES)
_BLOB_ITEM: Final = len(_BLOB_HEADER) + BLOB_BYTES
_EMPTY_LIST: Final = b"\xc0"
_PROOF_ITEM: Final = 49
_KIND: Final = bytes((BLOB,))


# -- masks -------------------------------------------------------------------------------------------------


def mask_number(mask: bytes) -> int:
    """Read a mask of 16 bytes: cell i is bit i % 8 of byte i / 8. Spec: EIP-8070, `cell_mask`."""
    return int.from_bytes(mask, "little")


def mask_bytes(mask: int) -> bytes:
    """Write a mask."""
    return mask.to_bytes(CELLS // 8, "little")


def cell_indices(mask: int) -> list[int]:
    """Return the cells of a mask, ascending."""
    return [index for index in range(CELLS) if mask >> index & 1]


def by_blob(cells: Sequence[bytes], count: int) -> list[bytes]:
    """Bring cells of count blobs from the order of the wire (by index, then blob) to blob by blob.

    Raises:
        DecodeError: they do not make up count blobs.
    """
    if count < 1 or not cells or len(cells) % count:
        raise DecodeError(f"{len(cells)} cells do not make up {count} blobs")
    return [cell for blob in range(count) for cell in cells[blob::count]]


# -- forms -------------------------------------------------------------------------------------------------


def blobs_of(tx: Transaction) -> list[bytes]:
    """Return the blobs of a transaction that came whole, 131072 bytes each."""
    sidecar = _sidecar(tx)
    first = sidecar.blobs_start + len(_BLOB_HEADER)
    return [
        tx.raw[at : at + BLOB_BYTES] for at in range(first, first + sidecar.blobs * _BLOB_ITEM, _BLOB_ITEM)
    ]


def proofs_of(tx: Transaction) -> bytes:
    """Return the proofs of a sidecar, 48 bytes each, one after the other."""
    sidecar = _sidecar(tx)
    first = sidecar.proofs_start + 1
    end = first + sidecar.proofs * _PROOF_ITEM
    return b"".join([tx.raw[at : at + 48] for at in range(first, end, _PROOF_ITEM)])


def lean_form(tx: Transaction) -> bytes:
    """Return the canonical bytes without blobs, as eth/72 has them."""
    sidecar = _sidecar(tx)
    if not sidecar.blobs:
        return tx.raw
    before, after = _around_blobs(tx)
    return _wrapped((before, _EMPTY_LIST, after))


def whole_form(lean: Transaction, blobs: Sequence[bytes]) -> bytes:
    """Return the canonical bytes with blobs, as eth/71 and older have them.

    Args:
        lean: decoded from its lean form.
        blobs: of 131072 bytes, in their order.
    """
    before, after = _around_blobs(lean)
    header = rlp.list_header(len(blobs) * _BLOB_ITEM)
    parts = [before, header]
    for blob in blobs:
        parts += (_BLOB_HEADER, blob)
    return _wrapped((*parts, after))


def blobs_of_wire(item: bytes, blobs: Sequence[bytes]) -> bytes:
    """Return `whole_form` as a wire item, from the lean wire item.

    Raises:
        TransactionUndecodable: it is no lean blob transaction.
    """
    lean = decode(canonical(item))
    if lean.sidecar is None or lean.sidecar.blobs:
        raise TransactionUndecodable("not a blob transaction in the form of eth/72")
    whole = whole_form(lean, blobs)
    return rlp.string_header(len(whole)) + whole


def blob_sizes(tx: Transaction) -> tuple[int, int]:
    """Return the sizes of the canonical bytes, whole and lean, whichever form this one has.

    Up to eth/71 the first is announced, in eth/72 the second.
    """
    sidecar = _sidecar(tx)
    before, after = _around_blobs(tx)
    rest = len(before) + len(after)
    blobs = len(sidecar.commitments) * _BLOB_ITEM
    whole = rest + len(rlp.list_header(blobs)) + blobs
    lean = rest + len(_EMPTY_LIST)
    return 1 + len(rlp.list_header(whole)) + whole, 1 + len(rlp.list_header(lean)) + lean


def _sidecar(tx: Transaction) -> Sidecar:
    assert tx.sidecar is not None, "only blob transactions with a sidecar come here"
    return tx.sidecar


def _around_blobs(tx: Transaction) -> tuple[bytes, bytes]:
    """Return what is in the outer list before the list of blobs, and what follows it."""
    sidecar, raw = _sidecar(tx), tx.raw
    payload = sidecar.blobs * _BLOB_ITEM
    _, start, _ = rlp.read_header(raw, 1, len(raw))
    before = raw[start : sidecar.blobs_start - len(rlp.list_header(payload))]
    return before, raw[sidecar.blobs_start + payload :]


def _wrapped(parts: Sequence[bytes]) -> bytes:
    return b"".join((_KIND, rlp.list_header(sum(map(len, parts))), *parts))
