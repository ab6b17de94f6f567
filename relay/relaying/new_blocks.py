"""Looks into blocks that have become part of the chain: whose transactions they brought.

Peers are asked for whole bodies, as by everybody who follows the chain: that some of the transactions are our
own users' nobody learns. A block that nobody has in time is not asked for again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from relay.primitives.errors import DecodeError
from relay.relaying.inclusion import transaction_hashes

if TYPE_CHECKING:
    from relay.chain.headers import Header
    from relay.relaying.inclusion import Inclusions
    from relay.relaying.own import OwnTransactions

__all__ = ["NewBlocks"]

_AT_ONCE: Final = 8  # the newest of one step of the head: whoever catches up has nothing of the others
_REMEMBERED: Final = 256  # numbers; deeper than a reorganization that is followed


class BodySource(Protocol):
    """Fetches bodies (`relay.relaying.chain_data` implements it)."""

    def bodies(self, hashes: Sequence[bytes], done: Callable[[Mapping[bytes, bytes]], None]) -> None:
        """Get bodies, checked; done is called once, in a later turn, with those that were found by hash."""


class NewBlocks:
    """Follows the head for `Inclusions` and `OwnTransactions`.

    Args:
        source: fetches bodies.
        inclusions: credits peers for what a block brought.
        own: is told of transactions of our own users.
    """

    __slots__ = ("_hashes", "_inclusions", "_own", "_own_in", "_source")

    def __init__(self, source: BodySource, inclusions: Inclusions, own: OwnTransactions) -> None:
        self._source = source
        self._inclusions = inclusions
        self._own = own
        self._hashes: dict[int, bytes] = {}  # of the chain as it was told, in order of number
        self._own_in: dict[bytes, list[bytes]] = {}  # transactions of our own users by block

    def take(self, headers: Sequence[Header]) -> None:
        """Take blocks that have become part of the chain, in order; what stood in their way is out."""
        new = [header for header in headers if self._hashes.get(header.number) != header.hash]
        self._cut(new[0].number if new else headers[-1].number + 1)
        self._hashes.update((header.number, header.hash) for header in new)
        while len(self._hashes) > _REMEMBERED:
            self._own_in.pop(self._hashes.pop(next(iter(self._hashes))), None)
        wanted = new[-_AT_ONCE:]
        if wanted:
            hashes = [header.hash for header in wanted]
            self._source.bodies(hashes, lambda bodies: self._look(wanted, bodies))

    def _cut(self, number: int) -> None:
        """Forget the blocks from a number on, and that they had transactions of our own users."""
        while self._hashes and next(reversed(self._hashes)) >= number:
            _, block_hash = self._hashes.popitem()
            for tx_hash in self._own_in.pop(block_hash, ()):
                self._own.unmined(tx_hash)

    def _look(self, headers: Sequence[Header], bodies: Mapping[bytes, bytes]) -> None:
        for header in headers:
            body = bodies.get(header.hash)
            # The chain may have taken another way while the body was fetched.
            if body is None or self._hashes.get(header.number) != header.hash:
                continue
            try:
                hashes = transaction_hashes(body)
            except DecodeError:  # a type that we do not know: the body is what its header says all the same
                continue
            self._inclusions.block(hashes)
            found = [tx_hash for tx_hash in hashes if tx_hash in self._own]
            for tx_hash in found:
                self._own.mined(tx_hash, header.number, header.hash)
            if found:
                self._own_in[header.hash] = found
