"""txpool_*: the pool in geth's shapes. Without state nothing is ever known to be queued for a nonce gap.

A full pool takes half a second to show, so it is walked in slices, between which the event loop runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final, TypeVar

from relay.chain.transactions import Transaction
from relay.rpc.methods import Method
from relay.rpc.params import ADDRESS
from relay.rpc.transaction_json import checksum_address, inspect_line, transaction_json
from relay.rpc.views import PoolTable

__all__ = ["txpool_methods"]

SLICE: Final = 64  # transactions between two turns of the event loop: about a millisecond

_Shown = TypeVar("_Shown")


def txpool_methods(pool: PoolTable) -> tuple[Method, ...]:
    """Return the methods that show transactions, bound to a pool."""

    async def content() -> object:
        return {"pending": await _all(pool, transaction_json), "queued": {}}

    async def content_from(address: bytes) -> object:
        return {"pending": await _of_one(pool, address), "queued": {}}

    async def inspect() -> object:
        return {"pending": await _all(pool, inspect_line), "queued": {}}

    return (
        Method("txpool_content", content, is_async=True),
        Method("txpool_contentFrom", content_from, (ADDRESS,), is_async=True),
        Method("txpool_inspect", inspect, is_async=True),
    )


async def _all(pool: PoolTable, show: Callable[[Transaction], _Shown]) -> dict[str, dict[str, _Shown]]:
    found = {
        checksum_address(address): {str(tx.nonce): show(tx) for tx in txs}
        async for address, txs in _walk(pool)
    }
    return dict(sorted(found.items()))  # as Go writes a map


async def _of_one(pool: PoolTable, address: bytes) -> dict[str, object]:
    async for sender, txs in _walk(pool):
        if sender == address:
            return {str(tx.nonce): transaction_json(tx) for tx in txs}
    return {}


async def _walk(pool: PoolTable) -> AsyncIterator[tuple[bytes, list[Transaction]]]:
    done = 0
    for signer in pool.signers():
        address, txs = pool.sent_by(signer)
        if txs:
            yield address, txs
        done += len(txs) + 1
        if done >= SLICE:
            done = 0
            await asyncio.sleep(0)
