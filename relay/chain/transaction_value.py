"""A decoded transaction, and who signed it.

What is signed is never encoded again: the signing payload of a typed transaction is its type, a list
header and a slice of the very bytes that arrived. Specs: EIP-2718, 155, 2930, 1559, 4844, 7702.
"""

from __future__ import annotations

from typing import Final

from relay.chain.transaction_errors import SERVER_ERROR, InvalidTransaction
from relay.chain.transaction_fields import Sidecar
from relay.chain.transaction_sender import address_of, recover
from relay.primitives.hashing import Keccak256
from relay.primitives.keys import GROUP_ORDER, PublicKey
from relay.primitives.rlp import encode_int, list_header

__all__ = ["ACCESS_LIST", "BLOB", "DYNAMIC_FEE", "LEGACY", "SET_CODE", "Transaction", "recover_sender"]

LEGACY: Final = 0
ACCESS_LIST: Final = 1  # EIP-2930
DYNAMIC_FEE: Final = 2  # EIP-1559
BLOB: Final = 3  # EIP-4844
SET_CODE: Final = 4  # EIP-7702

NO_PARITY: Final = 2  # what a v that no signature can have is read as


def _prefixes(kind: int) -> tuple[bytes, ...]:
    return tuple(bytes((kind,)) + list_header(length) for length in range(256))


# What precedes the signed fields in the signing payload of a typed transaction, by type and their length.
_TYPED_PREFIXES: Final = tuple(_prefixes(kind) for kind in range(SET_CODE + 1))


class Transaction:
    """One decoded transaction. Not to be changed, but for its sender, which is found when asked for.

    Attributes:
        type: 0 to 4.
        hash: 32 bytes, without the sidecar of a blob transaction.
        raw: canonical bytes (EIP-2718), with the sidecar where it came with one.
        size: length of raw; what an announcement up to eth/71 says.
        chain_id: None for a legacy transaction without one (before EIP-155).
        nonce: below 2^64, as is `gas`.
        tip_cap, fee_cap: wei a gas; both the gas price for types 0 and 1. Not bounded for types 0 to 2.
        to: 20 bytes, or None to create a contract.
        value: wei. Not bounded for types 0 to 2.
        data_span: where the call data lies in raw.
        access_list: how many addresses and storage keys it names.
        authorizations: how many there are (type 4).
        blob_fee_cap, blob_hashes, sidecar: of type 3.
        y_parity: of the signature; not always 0 or 1.
        signature: r || s, 64 bytes.
        signed_span: where the signed fields lie in raw.
    """

    __slots__ = (
        "_sender",
        "_signer",
        "access_list",
        "authorizations",
        "blob_fee_cap",
        "blob_hashes",
        "chain_id",
        "data_span",
        "fee_cap",
        "gas",
        "hash",
        "nonce",
        "raw",
        "sidecar",
        "signature",
        "signed_span",
        "size",
        "tip_cap",
        "to",
        "type",
        "value",
        "y_parity",
    )

    type: int
    hash: bytes
    raw: bytes
    size: int
    chain_id: int | None
    nonce: int
    tip_cap: int
    fee_cap: int
    gas: int
    to: bytes | None
    value: int
    data_span: tuple[int, int]
    access_list: tuple[int, int]
    authorizations: int
    blob_fee_cap: int
    blob_hashes: tuple[bytes, ...]
    sidecar: Sidecar | None
    y_parity: int
    signature: bytes
    signed_span: tuple[int, int]
    _signer: PublicKey | None
    _sender: bytes | None

    @property
    def data(self) -> bytes:
        """The call data or init code."""
        start, stop = self.data_span
        return self.raw[start:stop]

    @property
    def signer(self) -> PublicKey:
        """The public key of the sender, cheaper than its address and as good a key of a table.

        Raises:
            InvalidTransaction: the signature is nobody's.
        """
        return self._signer or recover_sender(self)

    @property
    def sender(self) -> bytes:
        """The 20-byte address of the sender.

        Raises:
            InvalidTransaction: the signature is nobody's.
        """
        if self._sender is None:
            self._sender = address_of(self.signer)
        return self._sender

    def signing_hash(self) -> bytes:
        """Return the 32-byte digest that the sender signed."""
        start, stop = self.signed_span
        signed = self.raw[start:stop]
        kind = self.type
        if kind:
            length = stop - start
            prefix = _TYPED_PREFIXES[kind][length] if length < 256 else bytes((kind,)) + list_header(length)
            payload = prefix + signed
        else:
            if self.chain_id is not None:
                signed += encode_int(self.chain_id) + b"\x80\x80"  # EIP-155
            payload = list_header(len(signed)) + signed
        digest: bytes = Keccak256(payload).digest()
        return digest

    def __repr__(self) -> str:
        return f"Transaction(type={self.type}, hash={self.hash.hex()}, nonce={self.nonce}, size={self.size})"


def recover_sender(tx: Transaction) -> PublicKey:
    """Find the public key of the sender from the signature, and keep it in the transaction.

    Raises:
        InvalidTransaction: the signature is nobody's.
    """
    signer = tx._signer
    if signer is None and tx.y_parity < NO_PARITY:
        signer = recover(tx.signing_hash(), tx.signature, tx.y_parity)
    if signer is None:
        raise InvalidTransaction(SERVER_ERROR, f"invalid sender: {_bad_signature(tx)}", "invalid_sender")
    tx._signer = signer
    return signer


def _bad_signature(tx: Transaction) -> str:
    """Say what geth says of a signature that is nobody's."""
    r, s = (int.from_bytes(half, "big") for half in (tx.signature[:32], tx.signature[32:]))
    if tx.y_parity < NO_PARITY and 0 < r < GROUP_ORDER and 0 < s <= GROUP_ORDER // 2:
        return "recovery failed"
    return "invalid transaction v, r, s values"


def set_parity(tx: Transaction, v: int) -> None:
    """Read v: the y parity, or for legacy 27 or 28 plus it, or 35 plus twice the chain id plus it."""
    if tx.type:
        tx.y_parity = v
    elif v > 28 or 1 < v < 27:
        # Below 35 geth lets the subtraction wrap at 64 bits. No chain has such an id, so the number shows
        # in the error only.
        tx.chain_id = (v - 35) % (1 << 64) >> 1 if v < 1 << 64 else (v - 35) >> 1
        tx.y_parity = (v - 35) & 1
    else:
        tx.y_parity = v - 27 if v >= 27 else NO_PARITY
