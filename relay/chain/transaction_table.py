"""The complete way to decode a transaction: by a table of the fields of each type.

Accepted is what go-ethereum's decoder accepts, byte for byte (core/types/transaction.go and tx_*.go, as of
1.17.10, which bounds chain id, v, r and s of every type by 256 bits; 1.17.8 takes larger ones, only to find
them invalid).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from relay.chain import transaction_fields as fields
from relay.chain.transaction_errors import SERVER_ERROR, InvalidTransaction, TransactionUndecodable
from relay.chain.transaction_value import BLOB, DYNAMIC_FEE, LEGACY, Transaction, set_parity
from relay.primitives.errors import DecodeError
from relay.primitives.rlp import read_header

__all__ = ["MAX_BLOB_SIZE", "MAX_SIZE", "blob_body", "decode_by_table"]

MAX_SIZE: Final = 128 * 1024  # bytes; geth's core/txpool/legacypool, txMaxSize
MAX_BLOB_SIZE: Final = 1024 * 1024  # bytes with its sidecar; geth's core/txpool/blobpool, txMaxSize

_Reader: TypeAlias = Callable[[bytes, bool, int, int], Any]
_Layout: TypeAlias = tuple[tuple[str, _Reader], ...]

_CALL: Final[_Layout] = (
    ("gas", fields.uint64),
    ("to", fields.optional_address),
    ("value", fields.number),
    ("data_span", fields.byte_span),
)
_PRICE: Final[_Layout] = (("nonce", fields.uint64), ("fee_cap", fields.number))
_FEES: Final[_Layout] = (("nonce", fields.uint64), ("tip_cap", fields.number), ("fee_cap", fields.number))
_CHAIN: Final[_Layout] = (("chain_id", fields.uint256),)
_ACCESS: Final[_Layout] = (("access_list", fields.storage_claims),)
# The later types bound every number by 256 bits and cannot create a contract.
_BOUNDED: Final[_Layout] = (
    ("chain_id", fields.uint256),
    ("nonce", fields.uint64),
    ("tip_cap", fields.uint256),
    ("fee_cap", fields.uint256),
    ("gas", fields.uint64),
    ("to", fields.address),
    ("value", fields.uint256),
    ("data_span", fields.byte_span),
    ("access_list", fields.storage_claims),
)
_BLOBS: Final[_Layout] = (("blob_fee_cap", fields.uint256), ("blob_hashes", fields.hashes))

# The signed fields of each type, in the order of the wire. What follows are v, r and s.
_LAYOUTS: Final[tuple[_Layout, ...]] = (
    _PRICE + _CALL,
    _CHAIN + _PRICE + _CALL + _ACCESS,
    _CHAIN + _FEES + _CALL + _ACCESS,
    _BOUNDED + _BLOBS,
    (*_BOUNDED, ("authorizations", fields.authorizations)),
)


def decode_by_table(raw: bytes) -> Transaction:
    """Decode canonical bytes of any type; all but the hash is set.

    Raises:
        TransactionUndecodable: it is no transaction, or not canonical.
        InvalidTransaction: it is too large to be looked at.
    """
    tx = _blank(raw)
    try:
        start, stop = _open(tx)
        pos = start
        for name, read in _LAYOUTS[tx.type]:
            is_list, begin, end = read_header(raw, pos, stop)
            setattr(tx, name, read(raw, is_list, begin, end))
            pos = end
        tx.signed_span = (start, pos)
        _read_signature(tx, pos, stop)
    except TransactionUndecodable:
        raise
    except DecodeError as error:
        raise TransactionUndecodable(str(error)) from error
    if tx.type < DYNAMIC_FEE:
        tx.tip_cap = tx.fee_cap
    return tx


def _blank(raw: bytes) -> Transaction:
    tx = Transaction.__new__(Transaction)
    tx.raw = raw
    tx.size = len(raw)
    tx.chain_id = tx._signer = tx._sender = tx.sidecar = None
    tx.access_list = (0, 0)
    tx.authorizations = tx.blob_fee_cap = 0
    tx.blob_hashes = ()
    return tx


def _open(tx: Transaction) -> tuple[int, int]:
    """Set the type, and return where the list of fields begins and ends."""
    raw = tx.raw
    if raw[:1] > b"\x7f":
        tx.type = LEGACY
        _refuse_oversized(tx, MAX_SIZE)
        return _whole_list(raw, 0)
    if len(raw) < 2:
        raise TransactionUndecodable("typed transaction too short")
    tx.type = raw[0]
    if not LEGACY < tx.type < len(_LAYOUTS):
        raise TransactionUndecodable("transaction type not supported")
    if tx.type != BLOB:
        _refuse_oversized(tx, MAX_SIZE)
        return _whole_list(raw, 1)
    _refuse_oversized(tx, MAX_BLOB_SIZE)
    start, stop, wrapped = blob_body(raw)
    if wrapped:
        tx.sidecar = fields.read_sidecar(raw, stop, len(raw))
    return _list_at(raw, start, stop)


def _refuse_oversized(tx: Transaction, limit: int) -> None:
    # Before anything else, so that the work one transaction can cause is bounded.
    if tx.size > limit:
        raise InvalidTransaction(
            SERVER_ERROR, f"oversized data: transaction size {tx.size}, limit {limit}", "oversized"
        )


def _whole_list(raw: bytes, pos: int) -> tuple[int, int]:
    start, stop = _list_at(raw, pos, len(raw))
    if stop != len(raw):
        raise TransactionUndecodable("bytes follow the transaction")
    return start, stop


def _list_at(raw: bytes, pos: int, end: int) -> tuple[int, int]:
    is_list, start, stop = read_header(raw, pos, end)
    if not is_list:
        raise TransactionUndecodable("expected a list, found bytes")
    return start, stop


def blob_body(raw: bytes) -> tuple[int, int, bool]:
    """Return where the list of a blob transaction begins and ends, and whether a sidecar follows it.

    Raises:
        TransactionUndecodable: there is no such list.
    """
    try:
        start, stop = _whole_list(raw, 1)
        # The chain id is a number: a list in its place is the transaction, in a list with its sidecar.
        is_list, _, end = read_header(raw, start, stop)
    except TransactionUndecodable:
        raise
    except DecodeError as error:
        raise TransactionUndecodable(str(error)) from error
    return (start, end, True) if is_list else (1, len(raw), False)


def _read_signature(tx: Transaction, pos: int, stop: int) -> None:
    raw = tx.raw
    numbers = []
    for _ in range(3):
        is_list, begin, end = read_header(raw, pos, stop)
        numbers.append(fields.uint256(raw, is_list, begin, end))
        pos = end
    if pos != stop:
        raise TransactionUndecodable("a transaction has more items than its type")
    v, r, s = numbers
    set_parity(tx, v)
    tx.signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
