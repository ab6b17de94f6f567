"""Answers that never change, within a budget of bytes: the chain's own numbers, and what is finalized.

A block is final when its number is at most that of the upstream's "finalized" block, which is asked for only
while somebody asks for blocks. What has a tag (latest, safe, pending...) for a block is never kept, nor null.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Final

from relay.rpc.upstream.texts import Answer

__all__ = ["FINAL_SECONDS", "Cache", "cache_key"]

FINAL_SECONDS: Final = 12.0  # a slot; finality moves every 32 of them
OVERHEAD: Final = 256  # bytes of an entry besides its texts
LARGEST: Final = 8  # an entry takes at most the budget's eighth
_QUANTITY: Final = re.compile(r"0x(?:0|[1-9a-fA-F][0-9a-fA-F]{0,15})")
_HASH: Final = re.compile(r"0x[0-9a-fA-F]{64}")
_CONSTANT: Final = frozenset({"eth_chainId", "net_version"})
_BY_BLOCK_HASH: Final = frozenset(
    {
        "eth_getBlockByHash",
        "eth_getBlockReceipts",
        "eth_getTransactionByBlockHashAndIndex",
        "eth_getUncleByBlockHashAndIndex",
    }
)
_BY_NUMBER: Final = frozenset(
    {
        "eth_getBlockByNumber",
        "eth_getBlockReceipts",
        "eth_getTransactionByBlockNumberAndIndex",
        "eth_getUncleByBlockNumberAndIndex",
    }
)
_BY_TRANSACTION: Final = frozenset({"eth_getTransactionByHash", "eth_getTransactionReceipt"})


def cache_key(method: str, params: object) -> str | None:
    """Return one key for all ways to ask the same; None for what may change, or is asked in an odd way.

    Args:
        method: its name.
        params: decoded.
    """
    if method in _CONSTANT:
        return method if not params else None
    if not isinstance(params, list) or not params or not isinstance(params[0], str):
        return None
    first = params[0]
    is_hash = _HASH.fullmatch(first) and method in _BY_BLOCK_HASH | _BY_TRANSACTION
    is_number = _QUANTITY.fullmatch(first) and method in _BY_NUMBER
    if not (is_hash or is_number) or not all(isinstance(each, bool | str) for each in params):
        return None
    return f"{method}{json.dumps([each.lower() if isinstance(each, str) else each for each in params])}"


class Cache:
    """Kept answers; the one that was used least lately goes first.

    Args:
        budget: bytes, keys included; 0 keeps nothing.
        clock: monotonic seconds.
        counters: of hits and the like.

    Attributes:
        bytes: that are kept.
        final: number of the finalized block, -1 while none is known.
    """

    def __init__(self, budget: int, clock: Callable[[], float], counters: Counter[str]) -> None:
        self.bytes = 0
        self.final = -1
        self._budget = budget
        self._clock = clock
        self._counters = counters
        self._asked = float("-inf")
        self._kept: OrderedDict[str, str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: str) -> str | None:
        """Return a kept answer."""
        text = self._kept.get(key)
        self._counters["cache miss" if text is None else "cache hit"] += 1
        if text is not None:
            self._kept.move_to_end(key)
        return text

    def offer(self, key: str, answer: Answer) -> bool:
        """Keep an answer that is final; tells whether to ask for the finalized block, to know it later."""
        if answer.value is None or not self._budget:
            return False
        if key in _CONSTANT:
            self._keep(key, answer.text)
            return False
        number = _block_number(answer.value)
        if number is None:
            return False
        if number <= self.final:
            self._keep(key, answer.text)
            return False
        return self._clock() >= self._asked + FINAL_SECONDS

    def asking(self) -> None:
        """Note that the finalized block is being asked for: not again before FINAL_SECONDS."""
        self._asked = self._clock()

    def finalized(self, block: object) -> None:
        """Take the finalized block."""
        number = _block_number(block)
        if number is not None:
            self.final = max(self.final, number)

    def _keep(self, key: str, text: str) -> None:
        size = _size(key, text)
        if size > self._budget // LARGEST:
            return
        if (old := self._kept.pop(key, None)) is not None:
            self.bytes -= _size(key, old)
        self._kept[key] = text
        self.bytes += size
        while self.bytes > self._budget:
            gone, told = self._kept.popitem(last=False)
            self.bytes -= _size(gone, told)
            self._counters["cache eviction"] += 1


def _size(key: str, text: str) -> int:
    return sys.getsizeof(key) + sys.getsizeof(text) + OVERHEAD


def _block_number(value: object) -> int | None:
    """Return the number of the block that a block, transaction, receipt or list of receipts is of."""
    if isinstance(value, list):
        value = value[0] if value else None
    if not isinstance(value, dict):
        return None
    number = value.get("blockNumber", value.get("number"))
    if isinstance(number, str) and _QUANTITY.fullmatch(number):
        return int(number, 16)
    return None
