"""Transactions of every type: from their bytes, to their bytes.

Canonical bytes are those of EIP-2718, which are hashed; in a message of eth a typed transaction stands as a
string that holds them. Two ways of decoding lead to one result: transaction_fast for the common forms,
transaction_table for all.
"""

from __future__ import annotations

from relay.chain.transaction_errors import ForbiddenTransaction, InvalidTransaction, TransactionUndecodable
from relay.chain.transaction_fast import decode_dynamic_fee, decode_legacy
from relay.chain.transaction_fields import Sidecar
from relay.chain.transaction_table import MAX_BLOB_SIZE, MAX_SIZE, blob_body, decode_by_table
from relay.chain.transaction_value import (
    ACCESS_LIST,
    BLOB,
    DYNAMIC_FEE,
    LEGACY,
    SET_CODE,
    Transaction,
    recover_sender,
)
from relay.primitives.errors import DecodeError
from relay.primitives.hashing import Keccak256
from relay.primitives.rlp import read_header, string_header

__all__ = [
    "ACCESS_LIST",
    "BLOB",
    "DYNAMIC_FEE",
    "LEGACY",
    "MAX_BLOB_SIZE",
    "MAX_SIZE",
    "SET_CODE",
    "ForbiddenTransaction",
    "InvalidTransaction",
    "Sidecar",
    "Transaction",
    "TransactionUndecodable",
    "canonical",
    "decode",
    "recover_sender",
    "transaction_hash",
    "wire",
]


def canonical(item: bytes) -> bytes:
    """Return the canonical bytes of a transaction as it stands in a message.

    There a legacy transaction is a list and any other a string. Spec: eth.md, "Transaction Encoding".

    Raises:
        TransactionUndecodable: it is neither, or bytes follow it.
    """
    size = len(item)
    if size > 58 and item[0] == 0xB8 and item[1] == size - 2 and item[2] < 0x80:
        return item[2:]  # most of them, without the calls below
    if item[:1] >= b"\xc0":
        return item  # decode() checks that the list ends with the bytes
    try:
        _, start, stop = read_header(item, 0, size)
    except DecodeError as error:
        raise TransactionUndecodable(str(error)) from error
    if stop != size:
        raise TransactionUndecodable("bytes follow the transaction")
    if stop - start < 2:
        raise TransactionUndecodable("typed transaction too short")
    if item[start] > 0x7F:
        # A legacy transaction in a string is another encoding of the same thing.
        raise TransactionUndecodable("transaction type not supported")
    return item[start:stop]


def wire(raw: bytes) -> bytes:
    """Return canonical bytes as they stand in a message: the reverse of canonical()."""
    return raw if raw[0] > 0x7F else string_header(len(raw)) + raw


def transaction_hash(raw: bytes) -> bytes:
    """Return the hash of canonical bytes, without decoding more than it takes.

    Raises:
        TransactionUndecodable: a blob transaction whose sidecar cannot be told apart.
    """
    if raw[:1] == b"\x03":
        start, stop, wrapped = blob_body(raw)
        if wrapped:
            raw = b"\x03" + raw[start:stop]
    digest: bytes = Keccak256(raw).digest()
    return digest


def decode(raw: bytes, tx_hash: bytes | None = None) -> Transaction:
    """Decode the canonical bytes of one transaction.

    The signature is not checked here but by `validity.check`, or when the sender is asked for.

    Args:
        raw: canonical bytes; a blob transaction with or without its sidecar.
        tx_hash: its hash, where the caller has computed it.

    Raises:
        TransactionUndecodable: it is no transaction, or not canonical.
        InvalidTransaction: larger than any pool takes; nothing else was looked at.
    """
    kind = raw[:1]
    tx = None
    if kind == b"\x02":
        tx = decode_dynamic_fee(raw)
    elif kind > b"\xf7":
        tx = decode_legacy(raw)
    if tx is None:
        tx = decode_by_table(raw)
    if tx_hash is None:
        tx_hash = transaction_hash(raw) if tx.sidecar else Keccak256(raw).digest()
    tx.hash = tx_hash
    return tx
