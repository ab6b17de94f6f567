"""The range of blocks that our Status and updates name: learned from peers, never invented.

The highest latest block counts that a trusted peer names, or two peers alike that we dialed; without one it
is genesis. Peers that came in have no say: identities are free, so two of them may be one.
Updates go out every 32 blocks, as geth's do, and not soon after Status: a peer has just been told then.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from relay.protocols.eth.messages import BlockRangeUpdate

if TYPE_CHECKING:
    from relay.relaying.options import RelayOptions
    from relay.relaying.roster import RelayPeer

__all__ = ["BlockRange", "RangeKeeper"]

_Head: TypeAlias = tuple[int, bytes]

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

    __slots__ = ("_claims", "_options", "_sure", "_witnesses", "current")

    def __init__(self, genesis_hash: bytes, options: RelayOptions) -> None:
        self._options = options
        self._claims: dict[RelayPeer, tuple[_Head, bool]] = {}
        self._witnesses: dict[_Head, dict[RelayPeer, int]] = {}  # who names a head, with its earliest block
        self._sure: dict[_Head, int] = {}  # heads that count, with the highest earliest of their witnesses
        self.current = BlockRange(0, 0, genesis_hash)

    def learn(self, peer: RelayPeer, claim: BlockRange, trusted: bool) -> None:
        """Take what a peer says of its range; its former word does not count any more."""
        self._forget(peer)
        head = (claim.latest, claim.latest_hash)
        self._claims[peer] = (head, trusted)
        witnesses = self._witnesses.setdefault(head, {})
        witnesses[peer] = claim.earliest
        if head in self._sure:
            self._sure[head] = max(self._sure[head], claim.earliest)
        elif trusted or len(witnesses) > 1:
            self._sure[head] = max(witnesses.values())
        self._conclude()

    def left(self, peer: RelayPeer) -> None:
        """Forget a peer's word; what was concluded stays until others say otherwise."""
        self._forget(peer)
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

    def _forget(self, peer: RelayPeer) -> None:
        head, _ = self._claims.pop(peer, (None, False))
        if head is None:
            return
        witnesses = self._witnesses[head]
        earliest = witnesses.pop(peer)
        if not witnesses:
            del self._witnesses[head]
        if head not in self._sure:
            return
        if len(witnesses) < 2 and not any(self._claims[each][1] for each in witnesses):
            del self._sure[head]
        elif earliest == self._sure[head]:
            self._sure[head] = max(witnesses.values())

    def _conclude(self) -> None:
        if self._sure:
            best = max(self._sure)
            self.current = BlockRange(self._sure[best], *best)
