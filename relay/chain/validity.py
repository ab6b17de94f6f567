"""Which transactions are of any use, as far as that shows without the state of the chain.

The rules of each fork are one row of a table, each made from the row before it. The order of the checks
and the words of the errors are geth's: core/txpool/validation.go, core/state_transition.go
(IntrinsicGas, FloorDataGas), core/types/transaction_signing.go, as of go-ethereum 1.17.10 (1.17.8 is the
same). What needs the
state stays out: balance, nonce, block gas limit, base fee. KZG proofs are not verified either.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Final

from relay.chain.networks import ChainConfig
from relay.chain.transaction_errors import (
    SERVER_ERROR,
    ForbiddenTransaction,
    InvalidTransaction,
    TransactionUndecodable,
)
from relay.chain.transactions import BLOB, SET_CODE, Sidecar, Transaction, recover_sender

__all__ = [
    "AMSTERDAM",
    "CANCUN",
    "OSAKA",
    "PARIS",
    "PRAGUE",
    "SHANGHAI",
    "ForbiddenTransaction",
    "InvalidTransaction",
    "Rules",
    "TransactionUndecodable",
    "check",
    "check_broadcast",
    "check_pooled",
    "floor_gas",
    "intrinsic_gas",
    "rules_at",
]

_MAX_256: Final = (1 << 256) - 1
_MAX_64: Final = (1 << 64) - 1
_FIRST_FORK: Final = {1: "Berlin", 2: "London", 3: "Cancun", 4: "Prague"}
_CELL_PROOFS_PER_BLOB: Final = 128  # EIP-7594
_SIDECAR_VERSION: Final = 1  # since 1.17 geth's pool takes cell proofs only, whatever the fork
_VERSIONED_HASH: Final = b"\x01"  # EIP-4844, VERSIONED_HASH_VERSION_KZG
_PLAIN_GAS: Final = 21000  # a call without data costs this or, from Amsterdam on, at most this
_ETH72: Final = 72


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds from one fork to the next. Gas is in units of gas.

    Attributes:
        fork: name of the row.
        chain_id: of the network; the rows of the table have 0, `rules_at` fills it in.
        expires: unix second at which the next fork begins; None if none is planned.
        types: which transaction types are known.
        min_tip: wei a gas below which geth's pools take nothing (its default; policy, not consensus).
        max_gas: most gas one transaction may ask for (EIP-7825; EIP-8037 from Amsterdam on).
        max_init_code: bytes (EIP-3860); None is no limit.
        init_code_word_gas: for each 32 bytes of init code (EIP-3860).
        base_gas: of a call, and of the sender alone where `touch_gas` is set.
        create_gas: of a contract creation, in place of base_gas.
        touch_gas: for an account called that is not the sender (EIP-2780).
        transfer_gas: for value sent to it (EIP-2780).
        authorization_gas: for each authorization (EIP-7702; EIP-8037).
        address_gas: for each address of the access list (EIP-2930; with EIP-7981 its data as well).
        key_gas: for each storage key of the access list, likewise.
        floor_token_gas: calldata floor for each token (EIP-7623, EIP-7976); 0 is no floor.
        floor_zero_tokens: tokens of a zero byte; any other byte has 4.
        floor_address_tokens: tokens of an address of the access list (EIP-7981).
        floor_key_tokens: tokens of a storage key of the access list.
        max_upfront_gas: most that intrinsic gas or the floor may come to (EIP-8037); None is no limit.
        max_blobs: in one transaction (EIP-7594; before it the limit of geth's pool).
    """

    fork: str
    chain_id: int = 0
    expires: int | None = None
    types: frozenset[int] = frozenset((0, 1, 2))
    min_tip: int = 1
    max_gas: int = _MAX_64
    max_init_code: int | None = None
    init_code_word_gas: int = 0
    base_gas: int = 21000
    create_gas: int = 53000
    touch_gas: int = 0
    transfer_gas: int = 0
    authorization_gas: int = 0
    address_gas: int = 2400
    key_gas: int = 1900
    floor_token_gas: int = 0
    floor_zero_tokens: int = 1
    floor_address_tokens: int = 0
    floor_key_tokens: int = 0
    max_upfront_gas: int | None = None
    max_blobs: int = 0

    def evolve(self, fork: str, **changes: Any) -> Rules:  # noqa: ANN401  the fields above
        """Return the row of the next fork: this one with some changes."""
        return replace(self, fork=fork, **changes)


PARIS: Final = Rules("paris")
SHANGHAI: Final = PARIS.evolve("shanghai", max_init_code=49152, init_code_word_gas=2)
CANCUN: Final = SHANGHAI.evolve("cancun", types=frozenset((0, 1, 2, 3)), max_blobs=6)
PRAGUE: Final = CANCUN.evolve(
    "prague", types=frozenset((0, 1, 2, 3, 4)), authorization_gas=25000, floor_token_gas=10
)
OSAKA: Final = PRAGUE.evolve("osaka", max_gas=1 << 24)
AMSTERDAM: Final = OSAKA.evolve(
    "amsterdam",
    max_gas=(1 << 32) - 1,
    max_upfront_gas=1 << 24,
    max_init_code=131072,
    base_gas=12000,
    create_gas=24000,
    touch_gas=3000,
    transfer_gas=6000,
    authorization_gas=7816,
    address_gas=2900 + 20 * 16 * 4,
    key_gas=2000 + 32 * 16 * 4,
    floor_token_gas=16,
    floor_zero_tokens=4,
    floor_address_tokens=20 * 4,
    floor_key_tokens=32 * 4,
)

_ROWS: Final = (SHANGHAI, CANCUN, PRAGUE, OSAKA, AMSTERDAM)


def rules_at(config: ChainConfig, now_unix: float) -> Rules:
    """Return the rules of a network at a time. They hold until `expires`: ask again then, not each time."""
    begun = {name for name, at in config.time_forks if at <= now_unix}
    rules = PARIS
    for row in _ROWS:
        if row.fork in begun:
            rules = row
    expires = min((at for _, at in config.time_forks if at > now_unix), default=None)
    return replace(rules, chain_id=config.chain_id, expires=expires)


def check(tx: Transaction, rules: Rules, *, local: bool = False) -> None:
    """Check everything that can be checked without state; finds the sender on the way.

    The size was checked when the transaction was decoded.

    Args:
        tx: a decoded transaction; a blob transaction with its sidecar.
        rules: what holds now.
        local: it comes from our own RPC, which takes none without a chain id.

    Raises:
        InvalidTransaction: in geth's words.
    """
    if local and tx.chain_id is None:
        raise _invalid("only replay-protected (EIP-155) transactions allowed over RPC", "unprotected")
    kind = tx.type
    if kind not in rules.types:
        name = _FIRST_FORK[kind]
        raise _invalid(
            f"transaction type not supported: type {kind} rejected, pool not yet in {name}", "type"
        )
    to = tx.to
    if to is None:
        _check_init_code(tx, rules)
    gas = tx.gas
    if gas > rules.max_gas:
        raise _invalid(f"transaction gas limit too high (cap: {rules.max_gas}, tx: {gas})", "gas_limit")
    tip_cap = tx.tip_cap
    if tx.fee_cap > _MAX_256 or tip_cap > tx.fee_cap:
        raise _bad_fees(tx)
    if tx.chain_id != rules.chain_id and tx.chain_id is not None:
        raise _invalid(
            f"invalid sender: invalid chain id for signer: have {tx.chain_id} want {rules.chain_id}",
            "chain_id",
        )
    recover_sender(tx)
    if tx.nonce == _MAX_64:
        raise _invalid("nonce has max value", "nonce")
    if tx.value > _MAX_256:
        raise _invalid("insufficient funds for gas * price + value", "value")
    start, stop = tx.data_span
    # Most transfers, without the arithmetic: nothing to pay for but the call.
    if start != stop or to is None or gas < _PLAIN_GAS or kind > 2 or tx.access_list[0]:
        _check_gas(tx, rules)
    if tip_cap < rules.min_tip:
        raise _invalid(
            f"transaction gas price below minimum: gas tip cap {tip_cap}, minimum needed {rules.min_tip}",
            "underpriced",
        )
    if kind == BLOB:
        _check_blobs(tx, rules)
    elif kind == SET_CODE and not tx.authorizations:
        raise _invalid("set code tx must have at least one authorization tuple", "authorizations")


def intrinsic_gas(tx: Transaction, rules: Rules) -> int:
    """Return the gas that a transaction costs before its first instruction runs."""
    start, stop = tx.data_span
    size = stop - start
    addresses, keys = tx.access_list
    gas = _base_gas(tx, rules, rules.create_gas)
    gas += 16 * size - 12 * tx.raw.count(0, start, stop)  # EIP-2028: 16 a byte, 4 a zero
    gas += tx.authorizations * rules.authorization_gas
    gas += addresses * rules.address_gas + keys * rules.key_gas
    if tx.to is None:
        gas += (size + 31) // 32 * rules.init_code_word_gas
    return gas


def floor_gas(tx: Transaction, rules: Rules) -> int:
    """Return the least gas a transaction with so much data costs, whatever it runs. Spec: EIP-7623, 7976."""
    if not rules.floor_token_gas:
        return 0
    start, stop = tx.data_span
    addresses, keys = tx.access_list
    tokens = 4 * (stop - start) - (4 - rules.floor_zero_tokens) * tx.raw.count(0, start, stop)
    tokens += addresses * rules.floor_address_tokens + keys * rules.floor_key_tokens
    # Before EIP-2780 the floor of a creation stands on the base of a call.
    create_gas = rules.create_gas if rules.touch_gas else rules.base_gas
    return _base_gas(tx, rules, create_gas) + tokens * rules.floor_token_gas


def check_broadcast(tx: Transaction) -> None:
    """Check that a Transactions message may carry it.

    Raises:
        ForbiddenTransaction: blob transactions are announced only. Spec: EIP-4844, "Networking".
    """
    if tx.type == BLOB:
        raise ForbiddenTransaction("disallowed broadcast blob transaction")


def check_pooled(tx: Transaction, eth_version: int) -> None:
    """Check that a PooledTransactions message of an eth version may carry it in this form.

    Raises:
        ForbiddenTransaction: a blob transaction whose sidecar is missing or another's.
    """
    if tx.type != BLOB:
        return
    if tx.sidecar is None:
        raise ForbiddenTransaction("received sidecar-less blob transaction")
    mismatch = _commitment_mismatch(tx, tx.sidecar)
    if mismatch:
        raise ForbiddenTransaction(mismatch)
    if eth_version >= _ETH72:
        if tx.sidecar.blobs:
            raise ForbiddenTransaction("received blob transaction with blob payload on eth72")
    elif tx.sidecar.blobs != len(tx.blob_hashes):
        raise ForbiddenTransaction("incorrect number of blobs (len(blobs) != len(vhashes))")


def _invalid(message: str, why: str) -> InvalidTransaction:
    return InvalidTransaction(SERVER_ERROR, message, why)


def _check_init_code(tx: Transaction, rules: Rules) -> None:
    start, stop = tx.data_span
    limit = rules.max_init_code
    if limit is not None and stop - start > limit:
        raise _invalid(f"max initcode size exceeded: code size {stop - start} limit {limit}", "init_code")


def _bad_fees(tx: Transaction) -> InvalidTransaction:
    if tx.fee_cap > _MAX_256:
        return _invalid("max fee per gas higher than 2^256-1", "fees")
    if tx.tip_cap > _MAX_256:
        return _invalid("max priority fee per gas higher than 2^256-1", "fees")
    return _invalid("max priority fee per gas higher than max fee per gas", "fees")


def _base_gas(tx: Transaction, rules: Rules, create_gas: int) -> int:
    if tx.to is None:
        return create_gas
    if not rules.touch_gas or tx.to == tx.sender:
        return rules.base_gas
    return rules.base_gas + rules.touch_gas + (rules.transfer_gas if tx.value else 0)


def _check_gas(tx: Transaction, rules: Rules) -> None:
    gas = tx.gas
    needed = intrinsic_gas(tx, rules)
    if gas < needed:
        raise _invalid(f"intrinsic gas too low: gas {gas}, minimum needed {needed}", "gas")
    floor = floor_gas(tx, rules)
    too_low = "insufficient gas for floor data gas cost"
    if gas < floor:
        raise _invalid(f"{too_low}: gas {gas}, minimum needed {floor}", "gas")
    if rules.max_upfront_gas is not None and max(needed, floor) > rules.max_upfront_gas:
        raise _invalid(f"{too_low}: intrinsic cost {needed}, floor: {floor}", "gas")


def _check_blobs(tx: Transaction, rules: Rules) -> None:
    if not tx.blob_fee_cap:
        raise _invalid("transaction gas price below minimum: blob fee cap 0, minimum needed 1", "underpriced")
    sidecar = tx.sidecar
    if sidecar is None:
        raise _invalid("missing sidecar in blob transaction", "blobs")
    mismatch = _commitment_mismatch(tx, sidecar)
    if mismatch:
        raise _invalid(mismatch, "blobs")
    count = len(tx.blob_hashes)
    if not count:
        raise _invalid("blobless blob transaction", "blobs")
    if count > rules.max_blobs:
        raise _invalid(
            f"transaction blob limit exceeded: blob count {count}, limit {rules.max_blobs}", "blobs"
        )
    _check_sidecar(sidecar)


def _check_sidecar(sidecar: Sidecar) -> None:
    wrong = "Wrong sidecar format:"
    if sidecar.version != _SIDECAR_VERSION:
        got = sidecar.version
        raise _invalid(f"{wrong} unexpected sidecar version, want: {_SIDECAR_VERSION}, got: {got}", "sidecar")
    count = len(sidecar.commitments)
    expected = count * _CELL_PROOFS_PER_BLOB
    if sidecar.proofs != expected:
        text = f"{wrong} invalid number of {sidecar.proofs} blob proofs expected {expected}"
        raise _invalid(text, "sidecar")
    # None at all is the form of eth/72 (EIP-8070), whose cells are fetched by themselves.
    if sidecar.blobs and sidecar.blobs != count:
        raise _invalid(f"invalid number of {sidecar.blobs} blobs compared to {count} commitments", "blobs")


def _commitment_mismatch(tx: Transaction, sidecar: Sidecar) -> str | None:
    """Say how the commitments fail to be those that the transaction signs, or return None."""
    hashes, commitments = tx.blob_hashes, sidecar.commitments
    if len(commitments) != len(hashes):
        return f"invalid number of {len(commitments)} blob commitments compared to {len(hashes)} blob hashes"
    for index, commitment in enumerate(commitments):
        computed = _VERSIONED_HASH + sha256(commitment).digest()[1:]
        if computed != hashes[index]:
            return (
                f"blob {index}: computed hash 0x{computed.hex()}"
                f" mismatches transaction one 0x{hashes[index].hex()}"
            )
    return None
