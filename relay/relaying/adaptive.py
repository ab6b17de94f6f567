"""Bulk by clearnet for the onion identity: blocks that anybody would fetch, and nothing on request.

A request that a peer brings over Tor must never be seen to go out on clearnet: the peer may be on both
sides, and a block that nobody else asks for is as good as a name. So what the clearnet side fetches here
depends on its own chain and clock alone: each new block that it has confirmed, whole, whether or not anybody
on the onion side wants it. What the onion side is given are blocks that it has found to be of the chain by
itself, after a pause that is drawn for each. See docs/adr/0016-adaptive-transport.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from relay.relaying.chain_data.demand import Kind

if TYPE_CHECKING:
    from relay.relaying.chain_data.proxy import ChainProxy
    from relay.relaying.seams import Handle, Loop

__all__ = ["BulkLane", "LaneOptions"]

_UNIT: Final = 1 << 64


@dataclass(frozen=True, slots=True)
class LaneOptions:
    """Times and bounds.

    Attributes:
        pause: seconds between two looks at the head on the average.
        newest: blocks of one look at most, the newest ones: who catches up leaves the others out.
        mean: seconds on the average until what came is given to the other side.
        longest: the most.
        patience: seconds in which the other side may still come to hold a block for one of the chain.
        look: seconds between two looks whether it does.
    """

    pause: float = 2.0
    newest: int = 8
    mean: float = 2.0
    longest: float = 10.0
    patience: float = 60.0
    look: float = 5.0


class BulkLane:
    """From the clearnet identity's chain data to the onion identity's, from `begin` to `stop`.

    Args:
        source: fetches, and is told nothing of the other side.
        target: is given blocks, and never asked.
        loop: clock and timers.
        rand: random bytes.
        options: times and bounds.

    Attributes:
        given: items that the target was given.
        strange: items that it was not, since it did not hold their block for one of the chain.
    """

    def __init__(
        self,
        source: ChainProxy,
        target: ChainProxy,
        loop: Loop,
        rand: Callable[[int], bytes],
        options: LaneOptions | None = None,
    ) -> None:
        self._source, self._target = source, target
        self._loop, self._rand = loop, rand
        self._options = options or LaneOptions()
        self._fetched: dict[int, bytes] = {}  # the newest blocks that were asked for, by number
        self._timer: Handle | None = None
        self._stopped = False
        self.given = 0
        self.strange = 0

    def begin(self) -> None:
        """Fetch from now on."""
        self._timer = self._loop.call_later(self._exponential(self._options.pause), self._follow)

    def stop(self) -> None:
        """Fetch no more; what is under way goes nowhere."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    # -- the clearnet side, which knows nothing of the other -------------------------------------------

    def _follow(self) -> None:
        canonical = self._source.canonical
        numbers = range(max(1, canonical.head - self._options.newest + 1), canonical.head + 1)
        linked = {number: block_hash for number in numbers if (block_hash := canonical.linked(number))}
        new = {
            number: block_hash
            for number, block_hash in linked.items()
            if self._fetched.get(number) != block_hash
        }
        self._fetched = linked
        if new:
            self._fetch(new)
        self.begin()

    def _fetch(self, blocks: Mapping[int, bytes]) -> None:
        hashes: Sequence[bytes] = tuple(blocks.values())
        self._source.bodies(hashes, lambda found: self._came(blocks, Kind.BODIES, found))
        self._source.receipts(hashes, lambda found: self._came(blocks, Kind.RECEIPTS, found))

    # -- the onion side --------------------------------------------------------------------------------

    def _came(self, blocks: Mapping[int, bytes], kind: Kind, found: Mapping[bytes, bytes]) -> None:
        for number, block_hash in blocks.items():
            item = found.get(block_hash)
            if item is not None:
                self._give_later(number, block_hash, kind, item)

    def _give_later(self, number: int, block_hash: bytes, kind: Kind, item: bytes) -> None:
        wait = min(self._exponential(self._options.mean), self._options.longest)
        until = self._loop.time() + self._options.patience
        self._loop.call_later(wait, lambda: self._give(number, block_hash, kind, item, until))

    def _give(self, number: int, block_hash: bytes, kind: Kind, item: bytes, until: float) -> None:
        if self._stopped:
            return
        if self._target.canonical.linked(number) == block_hash:
            self.given += 1
            self._target.cache.by_kind[kind].put(block_hash, item)
        elif self._loop.time() >= until:
            self.strange += 1
        else:
            self._loop.call_later(
                self._options.look, lambda: self._give(number, block_hash, kind, item, until)
            )

    def _exponential(self, mean: float) -> float:
        return -mean * math.log((int.from_bytes(self._rand(8), "big") + 1) / _UNIT)
