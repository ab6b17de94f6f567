"""What can be answered at once, from what is held."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.chain.headers import Header
from relay.protocols.eth.limits import SOFT_RESPONSE
from relay.relaying.chain_data.canonical import parent_of

if TYPE_CHECKING:
    from relay.relaying.chain_data.cache import ChainCache
    from relay.relaying.chain_data.canonical import Canonical
    from relay.relaying.chain_data.demand import HeaderQuery, ItemQuery

__all__ = ["Stock"]


class Stock:
    """The cache, and the place of blocks in the chain."""

    __slots__ = ("_cache", "_canonical")

    def __init__(self, cache: ChainCache, canonical: Canonical) -> None:
        self._cache = cache
        self._canonical = canonical

    def headers(self, query: HeaderQuery) -> tuple[list[bytes], bool]:
        """Return the headers that are held from the first on, and whether these are all there can be."""
        if not query.amount:
            return [], True
        origin = query.origin
        if isinstance(origin, int):
            return self._by_number(query, origin)
        first = self._cache.headers.get(origin)
        if first is None:
            return [], False
        if query.amount == 1:
            return [first], True
        number = Header.decode(first).number
        if self._canonical.hash_at(number) == origin:
            return self._by_number(query, number)
        return self._ancestors(query, first, number) if query.reverse and not query.skip else ([first], False)

    def items(self, query: ItemQuery) -> tuple[list[bytes], bool]:
        """Return what is held of the blocks up to the first that is not, and whether that makes an answer."""
        get = self._cache.by_kind[query.kind].get
        found: list[bytes] = []
        size = 0
        for place, block_hash in enumerate(query.hashes):
            item = get(block_hash)
            if item is None:
                return found, False
            found.append(item)
            size += query.size_of(place, item)
            if size >= SOFT_RESPONSE:
                break
        return found, True

    def _by_number(self, query: HeaderQuery, origin: int) -> tuple[list[bytes], bool]:
        step, hash_at, get = query.step, self._canonical.hash_at, self._cache.headers.get
        end = origin + step * query.amount
        numbers = range(origin, max(end, -1) if step < 0 else end, step)
        hashes = self._canonical.run(numbers)
        run = None if hashes is None else self._cache.headers.get_all(hashes)
        if run is not None:
            return run, True
        found: list[bytes] = []
        for number in numbers:
            block_hash = hash_at(number)
            raw = None if block_hash is None else get(block_hash)
            if raw is None:
                return found, False
            found.append(raw)
        return found, True

    def _ancestors(self, query: HeaderQuery, first: bytes, number: int) -> tuple[list[bytes], bool]:
        found, get = [first], self._cache.headers.get
        while len(found) < min(query.amount, number + 1):
            raw = get(parent_of(found[-1]))
            if raw is None:
                return found, False
            found.append(raw)
        return found, True
