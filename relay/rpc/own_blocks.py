"""Finds the blocks that hold transactions of our own users: an upstream is asked for blocks, never for them.

Blocks are walked from the head towards the oldest submission, each looked at once, for all transactions that
wait. The receipt is taken out of all receipts of the block. So the upstream learns that somebody takes an
interest in new blocks, as everybody does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from relay.primitives.errors import DecodeError
from relay.rpc.errors import server_error
from relay.rpc.forwarding import Upstream
from relay.rpc.params import hex_data, hex_quantity
from relay.rpc.views import OwnView

__all__ = ["OwnBlocks"]

BLOCKS_AT_ONCE: Final = 64  # of one search; the rest is looked at by the next ones
ALWAYS: Final = 12  # blocks that are looked at however old they say they are: a chain's clock may be wrong
MOST_SEEN: Final = 1024
MOST_GAPS: Final = 8
CLOCK_SKEW: Final = 120.0  # seconds by which a block's timestamp may be before the submission by our clock


@dataclass(frozen=True, slots=True)
class _Block:
    hash: bytes
    parent: bytes
    number: int
    timestamp: int
    transactions: list[bytes]


class OwnBlocks:
    """Looks for transactions of our own users.

    Args:
        upstream: has the blocks.
        own: what to look for; told of what was found.
        unix: Unix seconds.
    """

    def __init__(
        self,
        upstream: Upstream,
        own: OwnView,
        *,
        unix: Callable[[], float],
    ) -> None:
        self._upstream, self._own, self._unix = upstream, own, unix
        self._one_at_a_time = asyncio.Lock()
        self._looks = 0
        self._seen: dict[bytes, None] = {}
        self._gaps: deque[bytes] = deque(maxlen=MOST_GAPS)  # parents where a walk ended too early

    async def receipt(self, tx_hash: bytes) -> object:
        """Return the receipt of a transaction; None while it is in no block.

        Raises:
            RpcError: the upstream fails.
        """
        return await self._entry(tx_hash, "transactionHash", self._receipts)

    async def transaction(self, tx_hash: bytes) -> object:
        """Return a transaction as its block has it; None while none has.

        Raises:
            RpcError: the upstream fails.
        """
        return await self._entry(tx_hash, "hash", self._transactions)

    async def _entry(self, tx_hash: bytes, name: str, entries: Any) -> object:  # noqa: ANN401 - a method below
        await self._refresh()
        for _ in range(2):
            progress = self._own.progress(tx_hash)
            if progress is None or progress.block is None:
                return None
            wanted = "0x" + tx_hash.hex()
            for entry in await entries(hex(progress.block[0])):
                if isinstance(entry, dict) and str(entry.get(name)).lower() == wanted:
                    return entry
            # The chain has taken another way: that number is another block's now.
            self._own.unmined(tx_hash)
            self._seen.clear()
            await self._refresh()
        return None

    async def _receipts(self, number: str) -> list[object]:
        return _list(await self._upstream.call("eth_getBlockReceipts", [number]), "eth_getBlockReceipts")

    async def _transactions(self, number: str) -> list[object]:
        block = await self._upstream.call("eth_getBlockByNumber", [number, True])
        found = block.get("transactions") if isinstance(block, dict) else None
        return _list(found, "eth_getBlockByNumber")

    async def _refresh(self) -> None:
        """Look at the blocks that came since the last time; calls that wait meanwhile share one look."""
        seen = self._looks
        async with self._one_at_a_time:
            age = self._own.oldest_wait()
            if age is None or self._looks > seen:
                return  # nothing to look for, or somebody began to look after this call had come
            self._looks += 1
            oldest = self._unix() - age - CLOCK_SKEW
            left = await self._walk(["latest", False], "eth_getBlockByNumber", oldest, BLOCKS_AT_ONCE)
            for _ in range(len(self._gaps)):
                if left > 0:
                    start = ["0x" + self._gaps.popleft().hex(), False]
                    left = await self._walk(start, "eth_getBlockByHash", oldest, left)

    async def _walk(self, at: list[object], method: str, oldest: float, budget: int) -> int:
        """Look at a block and those before it until one that was seen; returns the rest of the budget."""
        least = budget - ALWAYS
        while True:
            answer = await self._upstream.call(method, at)
            if answer is None:
                return budget
            block = _block(answer)
            if block.hash in self._seen:
                return budget
            self._look_at(block)
            budget -= 1
            if block.number == 0 or (block.timestamp < oldest and budget <= least):
                return budget
            if budget <= 0:
                self._gaps.append(block.parent)
                return 0
            method, at = "eth_getBlockByHash", ["0x" + block.parent.hex(), False]

    def _look_at(self, block: _Block) -> None:
        self._seen[block.hash] = None
        while len(self._seen) > MOST_SEEN:
            del self._seen[next(iter(self._seen))]
        for tx_hash in block.transactions:
            if tx_hash in self._own:
                self._own.mined(tx_hash, block.number, block.hash)


def _list(value: object, method: str) -> list[object]:
    """Check an upstream's answer; null is a block that it has no more."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise server_error(f"the upstream's answer to {method} has another shape")
    return value


def _block(value: object) -> _Block:
    try:
        if not isinstance(value, dict):
            raise DecodeError("not an object")
        return _Block(
            hash=_hash(value.get("hash")),
            parent=_hash(value.get("parentHash")),
            number=hex_quantity(str(value.get("number"))),
            timestamp=hex_quantity(str(value.get("timestamp"))),
            transactions=[_hash(each) for each in _list(value.get("transactions"), "eth_getBlockByNumber")],
        )
    except DecodeError as error:
        raise server_error(f"the upstream's block has another shape: {error}") from None


def _hash(value: object) -> bytes:
    data = hex_data(value) if isinstance(value, str) else b""
    if len(data) != 32:
        raise DecodeError("a hash has not 32 bytes")
    return data
