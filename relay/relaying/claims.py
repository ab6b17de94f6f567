"""What peers say of their ranges: hints where the head may be, and whom to ask.

A number counts once peers of two groups come up to it, or a trusted one: so no single person can name one
that is out of reach, however many peers are his. Who named a block that nobody has is not listened to for a
while, so that naming a new one each second gains nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from relay.relaying.witnesses import group_of

if TYPE_CHECKING:
    from relay.relaying.roster import RelayPeer

__all__ = ["BlockRange", "Claims"]


@dataclass(frozen=True, slots=True)
class BlockRange:
    """Blocks from earliest to latest, and the hash of the latest."""

    earliest: int
    latest: int
    latest_hash: bytes


class Claims:
    """The latest word of each peer.

    Args:
        reach: blocks by which a peer may be ahead of what it told.
        quarantine: seconds before a peer that came in by itself is asked.
        rand: random bytes.
    """

    __slots__ = ("_by_peer", "_muted", "_quarantine", "_rand", "_reach")

    def __init__(self, reach: int, quarantine: float, rand: Callable[[int], bytes]) -> None:
        self._reach = reach
        self._quarantine = quarantine
        self._rand = rand
        self._by_peer: dict[RelayPeer, BlockRange | None] = {}  # None: it told none, as in eth/68
        self._muted: dict[RelayPeer, float] = {}  # until when, monotonic seconds

    def __len__(self) -> int:
        return len(self._by_peer)

    def join(self, peer: RelayPeer) -> None:
        """Take a peer that may tell nothing."""
        self._by_peer.setdefault(peer, None)

    def learn(self, peer: RelayPeer, claim: BlockRange) -> None:
        """Take what a peer says; its former word does not count any more."""
        self._by_peer[peer] = claim

    def leave(self, peer: RelayPeer) -> None:
        """Forget a peer."""
        self._by_peer.pop(peer, None)
        self._muted.pop(peer, None)

    def who_name(self, block_hash: bytes) -> list[RelayPeer]:
        """Return the peers whose word this block is now."""
        return [
            peer
            for peer, claim in self._by_peer.items()
            if claim is not None and claim.latest_hash == block_hash
        ]

    def mute(self, peers: Iterable[RelayPeer], until: float) -> None:
        """Do not listen to peers until some time."""
        for peer in peers:
            if peer in self._by_peer:
                self._muted[peer] = until

    def candidate(self, now: float) -> BlockRange | None:
        """Return the highest claim of a trusted peer, or the highest to which another group's comes up."""
        voices = [voice for voice in self._voices() if now >= self._muted.get(voice[0], 0.0)]
        voices.sort(key=lambda voice: -voice[1].latest)
        found = self._backed(voices)
        return None if found is None else found[1]

    def earliest(self, head: int) -> int | None:
        """Return the lowest earliest of a trusted peer, or the lowest to which another group's comes down.

        Args:
            head: who is far from having this number does not count: it holds no more than it tells.
        """
        voices = [voice for voice in self._voices() if voice[1].latest + self._reach >= head]
        voices.sort(key=lambda voice: voice[1].earliest)
        found = self._backed(voices)
        return None if found is None else found[1].earliest

    def witnesses(self, number: int | None, now: float, *, strangers: bool = False) -> list[RelayPeer]:
        """Return whom to ask, by lot: trusted peers, then one of each group, then others of these groups.

        Args:
            number: of a block that they have to be able to have; None: whatever they told.
            now: monotonic seconds.
            strangers: at last those, too, that count nothing.
        """
        trusted: list[RelayPeer] = []
        first: list[RelayPeer] = []
        rest: list[RelayPeer] = []
        groups: set[str] = set()
        for peer in self._shuffled(number, now):
            group = group_of(peer.session)
            if peer.session.trusted:
                trusted.append(peer)
            elif group is not None and group not in groups:
                first.append(peer)
                groups.add(group)
            elif group is not None or strangers:
                rest.append(peer)
        return trusted + first + rest

    def _voices(self) -> Iterator[tuple[RelayPeer, BlockRange]]:
        for peer, claim in self._by_peer.items():
            if claim is not None and (peer.session.trusted or group_of(peer.session) is not None):
                yield peer, claim

    def _backed(self, voices: list[tuple[RelayPeer, BlockRange]]) -> tuple[RelayPeer, BlockRange] | None:
        """Return the first that comes from a trusted peer, or after one of another group."""
        groups: set[str] = set()
        for peer, claim in voices:
            group = group_of(peer.session)
            if group is not None:
                groups.add(group)
            if peer.session.trusted or len(groups) > 1:
                return peer, claim
        return None

    def _shuffled(self, number: int | None, now: float) -> list[RelayPeer]:
        able = [peer for peer, claim in self._by_peer.items() if self._may_have(peer, claim, number, now)]
        for last in range(len(able) - 1, 0, -1):
            other = int.from_bytes(self._rand(4), "big") % (last + 1)
            able[last], able[other] = able[other], able[last]
        return able

    def _may_have(self, peer: RelayPeer, claim: BlockRange | None, number: int | None, now: float) -> bool:
        session = peer.session
        if session.inbound and not session.trusted and now - peer.joined_at < self._quarantine:
            return False
        return claim is None or number is None or claim.latest + self._reach >= number
