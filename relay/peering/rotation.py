"""New circuits for old: each connection that we made through Tor is made anew after a while, one at a time.

Who watches one circuit for long learns more of it than who watches many for a moment each, and who has found
out whose a circuit is keeps that knowledge until it ends. What it costs, and why it is off unless asked for:
docs/adr/0015-circuits.md.

A node takes one connection of each key, so the new one can't be made before the old one is left. The peer is
dialed at once, on credentials that were not used before; until it is back, or another has its place, no other
connection is touched. Peers that came in are not ours to dial.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from relay.peering.peers import PeerSet
from relay.peering.session import PeerSession
from relay.primitives.endpoint import Network
from relay.primitives.keys import PublicKey

__all__ = ["CircuitRotation", "Redialer", "RotationOptions", "jittered"]

_log = structlog.get_logger("relay.peering")
MAX_DOUBLINGS: Final = 5


class Redialer(Protocol):
    """The part of `DialScheduler` that is used here."""

    def renew(self, public_key: PublicKey) -> bool:
        """Part from a peer that was dialed and dial it anew at once."""
        ...


@dataclass(frozen=True, slots=True)
class RotationOptions:
    """How often.

    Attributes:
        every: seconds that a connection lasts on average.
        jitter: share by which each one lasts shorter or longer at random: an even beat would tell our
            connections from those of others, and peers that were dialed together would be left together.
        look: seconds between two looks whether one is due, or back.
    """

    every: float
    jitter: float = 0.5
    look: float = 1.0


class CircuitRotation:
    """Renews the connections of one set of peers.

    Args:
        peers: whose outbound connections through Tor are renewed.
        redialer: dials them.
        options: how often.
        now: monotonic seconds.
        rand: random bytes.
        sleep: waits that many seconds.

    Attributes:
        renewed: peers that were left and are back, or whose place another has taken.
        lost: peers that did not come back; after each the others are left alone for longer.
    """

    def __init__(
        self,
        peers: PeerSet,
        redialer: Redialer,
        *,
        options: RotationOptions,
        now: Callable[[], float],
        rand: Callable[[int], bytes],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._peers, self._redialer, self._options = peers, redialer, options
        self._now, self._rand, self._sleep = now, rand, sleep
        self._due: dict[PeerSession, float] = {}
        self._missed = 0
        self.renewed = 0
        self.lost = 0

    async def run(self) -> None:
        """Renew until cancelled."""
        while True:
            await self._sleep(self._options.look)
            oldest = self._first_due()
            if oldest is None or self._due[oldest] > self._now():
                continue
            if await self._renew(oldest):
                self._missed = 0
            else:
                self._missed += 1
                pause = self._options.every * 2 ** min(self._missed - 1, MAX_DOUBLINGS)
                await self._sleep(jittered(pause, self._options.jitter, self._rand))

    def _ours(self) -> list[PeerSession]:
        """Those that we dialed through Tor; over I2P a new connection takes the tunnels of the old one."""
        found = (each for each in self._peers.sessions() if each.via_tor and not each.inbound)
        return [each for each in found if each.label is not Network.I2P]

    def _first_due(self) -> PeerSession | None:
        """Give each connection that is new its time, and return the one whose time ends first."""
        ours = self._ours()
        self._due = {each: self._due.get(each) or self._end_of(each) for each in ours}
        return min(ours, key=lambda each: self._due[each]) if ours else None

    def _end_of(self, session: PeerSession) -> float:
        return session.joined_at + jittered(self._options.every, self._options.jitter, self._rand)

    async def _renew(self, session: PeerSession) -> bool:
        """Return whether there are as many peers as before again."""
        assert session.public_key is not None
        count, key = len(self._ours()), session.public_key
        if not self._redialer.renew(key):
            self._due[session] += self._options.every
            return True
        session.log.debug("connection is made anew", seconds=round(self._now() - session.joined_at))
        give_up = self._now() + self._options.every
        while not self._is_filled(session, count):
            if self._now() >= give_up:
                self.lost += 1
                _log.info("a peer did not come back to a new connection", peer=key.hex()[:16])
                return False
            await self._sleep(self._options.look)
        self.renewed += 1
        return True

    def _is_filled(self, left: PeerSession, count: int) -> bool:
        """Whether the peer is back, by our dial or its own, or there are as many peers as before."""
        assert left.public_key is not None
        back = self._peers.get(left.public_key)
        if back is not None:
            return back is not left
        return len(self._ours()) >= count


def jittered(seconds: float, share: float, rand: Callable[[int], bytes]) -> float:
    """Return a duration around this one: up to such a share of it shorter or longer."""
    random = int.from_bytes(rand(4), "big") / 2**32
    return seconds * (1 + share * (2 * random - 1))
