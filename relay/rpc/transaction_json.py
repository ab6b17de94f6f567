"""A transaction that is in no block yet, in geth's JSON shape (v1.17.8, internal/ethapi: RPCTransaction).

Names stand in geth's order, so that texts can be compared.
"""

from __future__ import annotations

from typing import Any, Final, cast

from relay.chain.transactions import ACCESS_LIST, BLOB, DYNAMIC_FEE, LEGACY, SET_CODE, Transaction
from relay.primitives import rlp
from relay.primitives.hashing import keccak256

__all__ = ["checksum_address", "inspect_line", "transaction_json"]

# Where the access list stands among the fields of each type. Specs: EIP-2930, 1559, 4844, 7702.
_ACCESS_LIST_AT: Final = {ACCESS_LIST: 7, DYNAMIC_FEE: 8, BLOB: 8, SET_CODE: 8}
_AUTHORIZATIONS_AT: Final = 9


def checksum_address(address: bytes) -> str:
    """Write an address with the checksum of EIP-55 in the case of its letters."""
    digits = address.hex()
    mask = keccak256(digits.encode()).hex()
    marked = zip(digits, mask, strict=False)
    return "0x" + "".join(digit.upper() if sign > "7" else digit for digit, sign in marked)


def transaction_json(tx: Transaction) -> dict[str, object]:
    """Return a transaction as eth_getTransactionByHash shows a pending one.

    Raises:
        InvalidTransaction: the signature is nobody's.
    """
    fields = _fields(tx)
    shown: dict[str, object] = {
        "blockHash": None,
        "blockNumber": None,
        "blockTimestamp": None,
        "from": _data(tx.sender),
        "gas": hex(tx.gas),
        "gasPrice": hex(tx.fee_cap),
    }
    if tx.type >= DYNAMIC_FEE:
        shown |= {"maxFeePerGas": hex(tx.fee_cap), "maxPriorityFeePerGas": hex(tx.tip_cap)}
    if tx.type == BLOB:
        shown["maxFeePerBlobGas"] = hex(tx.blob_fee_cap)
    shown |= {
        "hash": _data(tx.hash),
        "input": _data(tx.data),
        "nonce": hex(tx.nonce),
        "to": None if tx.to is None else _data(tx.to),
        "transactionIndex": None,
        "value": hex(tx.value),
        "type": hex(tx.type),
    }
    return shown | _by_type(tx, fields) | _signature(tx, fields)


def inspect_line(tx: Transaction) -> str:
    """Return the line of txpool_inspect."""
    to = "contract creation" if tx.to is None else checksum_address(tx.to)
    return f"{to}: {tx.value} wei + {tx.gas} gas × {tx.fee_cap} wei"


def _by_type(tx: Transaction, fields: list[Any]) -> dict[str, object]:
    if tx.type == LEGACY:
        return {"chainId": hex(tx.chain_id)} if tx.chain_id else {}
    shown: dict[str, object] = {
        "accessList": [
            {"address": _data(address), "storageKeys": [_data(key) for key in keys]}
            for address, keys in fields[_ACCESS_LIST_AT[tx.type]]
        ],
        "chainId": hex(tx.chain_id or 0),
    }
    if tx.blob_hashes:
        shown["blobVersionedHashes"] = [_data(each) for each in tx.blob_hashes]
    if tx.authorizations:
        shown["authorizationList"] = [_authorization(each) for each in fields[_AUTHORIZATIONS_AT]]
    return shown


def _authorization(fields: list[bytes]) -> dict[str, object]:
    chain_id, address, nonce, y_parity, r, s = fields
    return {
        "chainId": _number(chain_id),
        "address": _data(address),
        "nonce": _number(nonce),
        "yParity": _number(y_parity),
        "r": _number(r),
        "s": _number(s),
    }


def _signature(tx: Transaction, fields: list[Any]) -> dict[str, object]:
    v, r, s = map(_number, fields[-3:])
    shown: dict[str, object] = {"v": v, "r": r, "s": s}
    return shown if tx.type == LEGACY else shown | {"yParity": v}


def _fields(tx: Transaction) -> list[Any]:
    """Take the fields apart: the decoder keeps only what relaying looks at."""
    item = cast("list[Any]", rlp.decode(tx.raw[1:] if tx.type else tx.raw))
    return cast("list[Any]", item[0]) if tx.sidecar is not None else item


def _number(raw: bytes) -> str:
    return hex(int.from_bytes(raw, "big"))


def _data(raw: bytes) -> str:
    return "0x" + raw.hex()
