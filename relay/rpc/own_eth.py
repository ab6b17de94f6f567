"""eth_* methods that this relay answers from its own pool and peers, and those where it has to have a say.

An upstream is asked for the rest of the answer, but never by the hash of a transaction of our own users.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from relay.chain.transactions import Transaction
from relay.primitives.errors import DecodeError
from relay.rpc.errors import RpcError, server_error
from relay.rpc.forwarding import Forwarding, needs_upstream, plain
from relay.rpc.methods import Method
from relay.rpc.own_blocks import OwnBlocks
from relay.rpc.params import ADDRESS, ANY, HASH, hex_quantity, optional, quantity
from relay.rpc.transaction_json import transaction_json
from relay.rpc.views import HeadView, OwnView, PoolTable

__all__ = ["EthParts", "eth_methods", "relay_methods"]

_PENDING: Final = "pending"


@dataclass(frozen=True, slots=True)
class EthParts:
    """What eth_* stands on.

    Attributes:
        head, pool, own: the relay.
        forwarding: the way upstream.
        blocks: looks for transactions of our own users in an upstream's blocks; None without an upstream.
    """

    head: HeadView
    pool: PoolTable
    own: OwnView
    forwarding: Forwarding
    blocks: OwnBlocks | None = None


def eth_methods(parts: EthParts) -> tuple[Method, ...]:
    """Return the methods of eth_ about transactions, and those that an upstream answers better."""
    eth = _Eth(parts)
    return (
        Method("eth_accounts", list),
        Method("eth_blockNumber", eth.block_number, is_async=True),
        Method("eth_getRawTransactionByHash", eth.raw_transaction, (HASH,), is_async=True),
        Method("eth_getTransactionByHash", eth.transaction, (HASH,), is_async=True),
        Method("eth_getTransactionCount", eth.count, (ADDRESS, optional(ANY)), is_async=True),
        Method("eth_getTransactionReceipt", eth.receipt, (HASH,), is_async=True),
        Method("eth_pendingTransactions", eth.pending),
        Method("eth_syncing", eth.syncing, is_async=True),
    )


def relay_methods(own: OwnView) -> tuple[Method, ...]:
    """Return relay_*, our own namespace."""

    def track(tx_hash: bytes) -> object:
        found = own.progress(tx_hash)
        if found is None:
            raise server_error("no transaction that was submitted here, or one that is forgotten")
        block = found.block
        return {
            "sent": found.sent,
            "announced": found.announced,
            "fetched_by": found.fetched_by,
            "listening": found.listening,
            "first_echo_seconds": found.first_echo_seconds,
            "age_seconds": found.age_seconds,
            "held": found.held,
            "private": found.private,
            "block": None if block is None else {"number": quantity(block[0]), "hash": _hex(block[1])},
        }

    return (Method("relay_trackTransaction", track, (HASH,)),)


class _Eth:
    def __init__(self, parts: EthParts) -> None:
        self._parts = parts
        self._own, self._pool, self._forwarding = parts.own, parts.pool, parts.forwarding

    async def block_number(self) -> object:
        if self._forwarding.possible:
            return await self._forwarding.call("eth_blockNumber", [])
        return quantity(self._parts.head.latest_block)

    async def syncing(self) -> object:
        if self._forwarding.possible:
            return await self._forwarding.call("eth_syncing", [])
        return False

    def pending(self) -> object:
        """Those of our own users that wait; geth has those of accounts that it manages here."""
        held = (self._pool.transaction(tx_hash) for tx_hash in self._own.waiting())
        return [transaction_json(tx) for tx in held if tx is not None]

    async def transaction(self, tx_hash: bytes) -> object:
        if tx_hash in self._own:
            try:
                mined = await self._parts.blocks.transaction(tx_hash) if self._parts.blocks else None
            except RpcError:
                if self._pool.transaction(tx_hash) is None:
                    raise
                mined = None  # no upstream that works: what we hold we can still show
            return mined or _shown(self._pool.transaction(tx_hash))
        # The pool does not see what is mined, so whoever has the chain speaks first.
        return await self._elsewhere("eth_getTransactionByHash", tx_hash, transaction_json)

    async def raw_transaction(self, tx_hash: bytes) -> object:
        if tx_hash in self._own:
            held, known = self._pool.transaction(tx_hash), self._own.progress(tx_hash)
            # One on its private way is not spoken of; of another it is told why nobody is asked.
            if held is None and (known is None or known.private is None):
                self._forwarding.check("eth_getRawTransactionByHash", [_hex(tx_hash)])
            return "0x" if held is None else _hex(held.raw)
        return await self._elsewhere("eth_getRawTransactionByHash", tx_hash, lambda tx: _hex(tx.raw))

    async def _elsewhere(self, method: str, tx_hash: bytes, show: Callable[[Transaction], object]) -> object:
        """Answer for a transaction that is not our users': the upstream, or else the pool."""
        held = self._pool.transaction(tx_hash)
        if held is None:
            return await self._forwarded(method, tx_hash)
        try:
            found = await self._forwarded(method, tx_hash)
        except RpcError:
            found = None  # no upstream, or a broken one: what we have ourselves we can still tell
        return show(held) if plain(found) in (None, "0x") else found

    async def receipt(self, tx_hash: bytes) -> object:
        if tx_hash in self._own:
            return await self._parts.blocks.receipt(tx_hash) if self._parts.blocks else None
        if not self._forwarding.possible and self._pool.transaction(tx_hash) is not None:
            return None
        return await self._forwarded("eth_getTransactionReceipt", tx_hash)

    async def count(self, address: bytes, block: object) -> object:
        nonces = self._own.nonces(address) if block == _PENDING else None
        asked = "latest" if nonces is not None else block
        params: list[object] = [_hex(address)] if asked is None else [_hex(address), asked]
        answer = await self._ask("eth_getTransactionCount", params)
        return answer if nonces is None else quantity(_next_nonce(answer, nonces))

    async def _forwarded(self, method: str, tx_hash: bytes) -> object:
        return await self._ask(method, [_hex(tx_hash)])

    async def _ask(self, method: str, params: list[object]) -> object:
        if not self._forwarding.possible:
            raise needs_upstream(method)
        return await self._forwarding.call(method, params)


def _next_nonce(answer: object, nonces: frozenset[int]) -> int:
    """Return the first nonce that is neither spent nor waiting (geth: GetPoolNonce)."""
    try:
        nonce = hex_quantity(str(plain(answer)))
    except DecodeError:
        raise server_error("the upstream's nonce is no quantity") from None
    while nonce in nonces:
        nonce += 1
    return nonce


def _shown(tx: Transaction | None) -> object:
    return None if tx is None else transaction_json(tx)


def _hex(data: bytes) -> str:
    return "0x" + data.hex()
