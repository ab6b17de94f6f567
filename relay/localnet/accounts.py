"""Test accounts, and transfers signed by them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Final

from relay.primitives import rlp
from relay.primitives.hashing import keccak256
from relay.primitives.keys import NodeKey

__all__ = ["Account", "Transfers", "make_accounts", "sign_transfer"]

ACCOUNTS: Final = 600
"""Times the 64 transactions that a pool holds of one sender it is more than a pool holds in all, so that the
limit per sender is never met, however long it runs: nothing is ever mined here."""

DYNAMIC_FEE: Final = 0x02  # EIP-1559, EIP-2718 type
TRANSFER_GAS: Final = 21_000
GWEI: Final = 10**9


@dataclass(slots=True)
class Account:
    """A key with its address (20 bytes) and the nonce of its next transaction."""

    key: NodeKey
    address: bytes
    nonce: int = 0


def make_accounts(count: int, rand: Callable[[int], bytes]) -> list[Account]:
    """Make accounts from random keys."""
    keys = [NodeKey.generate(rand) for _ in range(count)]
    return [Account(key, key.node_id[12:]) for key in keys]


def sign_transfer(
    key: NodeKey,
    *,
    chain_id: int,
    nonce: int,
    to: bytes,
    value: int,
    tip_cap: int = GWEI,
    fee_cap: int = 30 * GWEI,
    gas: int = TRANSFER_GAS,
) -> bytes:
    """Return the canonical bytes of a signed EIP-1559 transfer.

    Args:
        key: of the sender.
        chain_id: the only chain it is valid on.
        nonce: of the sender.
        to: 20 bytes.
        value: wei.
        tip_cap: wei a gas.
        fee_cap: wei a gas.
        gas: limit.
    """
    fields: list[rlp.Encodable] = [chain_id, nonce, tip_cap, fee_cap, gas, to, value, b"", []]
    kind = bytes((DYNAMIC_FEE,))
    signature = key.sign_recoverable(keccak256(kind + rlp.encode(fields)))
    r, s, parity = signature[:32], signature[32:64], signature[64]
    return kind + rlp.encode([*fields, parity, int.from_bytes(r, "big"), int.from_bytes(s, "big")])


class Transfers:
    """Signed transfers without end: each account in turn pays the one after it a wei.

    Args:
        accounts: two at least.
        chain_id: of the throwaway chain.
    """

    def __init__(self, accounts: list[Account], chain_id: int) -> None:
        assert len(accounts) > 1
        self._pairs: Iterator[tuple[Account, Account]] = cycle(
            zip(accounts, accounts[1:] + accounts[:1], strict=True)
        )
        self._chain_id = chain_id

    def next(self) -> tuple[bytes, bytes]:
        """Return a new transaction's hash and canonical bytes."""
        payer, payee = next(self._pairs)
        raw = sign_transfer(payer.key, chain_id=self._chain_id, nonce=payer.nonce, to=payee.address, value=1)
        payer.nonce += 1
        return keccak256(raw), raw
