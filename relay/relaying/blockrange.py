"""The range of blocks that our Status and updates name: learned from peers, never invented.

The highest latest block counts that a trusted peer names, or two peers alike; without one it is genesis.
Updates go out every 32 blocks, as geth's do, and not soon after Status: a peer has just been told then.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from relay.protocols.eth.messages import BlockRangeUpdate

if TYPE_CHECKING:
    from relay.relaying.options import RelayOptions
    from relay.relaying.roster import RelayPeer

__all__ = ["BlockRange", "RangeKeeper"]

_FIRST_VERSION: Final = 69  # of eth, with BlockRangeUpdate


@dataclass(frozen=True, slots=True)
class BlockRange:
    """Blocks from earliest to latest, and the hash of the latest."""

    earliest: int
    latest: int
    latest_hash: bytes


class RangeKeeper:
    """What peers say of their ranges, and what follows for ours.

    Attributes:
        current: what we name.
    """

    __slots__ = ("_claims", "_options", "current")

    def __init__(self, genesis_hash: bytes, options: RelayOptions) -> None:
        self._options = options
        self._claims: dict[RelayPeer, tuple[BlockRange, bool]] = {}
        self.current = BlockRange(0, 0, genesis_hash)

    def learn(self, peer: RelayPeer, claim: BlockRange, trusted: bool) -> None:
        """Take what a peer says of its range; its former word does not count any more."""
        self._claims[peer] = (claim, trusted)
        self._conclude()

    def left(self, peer: RelayPeer) -> None:
        """Forget a peer's word; what was concluded stays until others say otherwise."""
        if self._claims.pop(peer, None) is not None:
            self._conclude()

    def tell(self, peers: Iterable[RelayPeer], now: float) -> int:
        """Send updates to whom they are due; returns to how many."""
        latest = self.current.latest
        told = 0
        for peer in peers:
            news = latest - peer.told_latest
            due = news < 0 or news >= self._options.range_step
            if due and peer.version >= _FIRST_VERSION and now - peer.joined_at >= self._options.range_quiet:
                peer.told_latest = latest
                update = BlockRangeUpdate(self.current.earliest, latest, self.current.latest_hash)
                peer.session.send(BlockRangeUpdate.CODE, update.encode(peer.version))
                told += 1
        return told

    def _conclude(self) -> None:
        witnesses: dict[tuple[int, bytes], list[int]] = {}
        sure: set[tuple[int, bytes]] = set()
        for claim, trusted in self._claims.values():
            head = (claim.latest, claim.latest_hash)
            earliest = witnesses.setdefault(head, [])
            earliest.append(claim.earliest)
            if trusted or len(earliest) > 1:
                sure.add(head)
        if sure:
            best = max(sure)
            self.current = BlockRange(max(witnesses[best]), *best)
