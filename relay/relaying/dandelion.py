"""Dandelion++: where a transaction goes on its stem, and when it is told to all.

Before it is gossiped, a transaction passes from relay to relay along a stem. Each relay chooses two of the
relays that it dialed for an epoch; what comes from one peer takes the same of the two ways all the time, and
so does what our own users send. A relay is, for an epoch at a time, one that passes on, or one that fluffs:
gossips what reaches it. What our users send always begins with a stem. Who passes something on sets a timer
of its own: if nobody has gossiped the transaction by then, it does.

Only a relay that was dialed is sent a stem: whom we dial is our choice, who comes in is an attacker's.

Spec: Fanti et al. 2018, "Dandelion++: Lightweight Cryptocurrency Networking with Formal Anonymity
Guarantees"; BIP 156. Two stems as in the paper; the share of fluffing relays and the epoch as in Monero.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from relay.relaying.trickle import exponential

__all__ = ["StemOptions", "StemRoutes"]

Peer = TypeVar("Peer", bound=Hashable)


@dataclass(frozen=True, slots=True)
class StemOptions:
    """How stems are made.

    Attributes:
        own: whether transactions of our own users begin with a stem. Those of others are carried on anyway.
        fluffing: percent of the epochs in which what comes on a stem is gossiped.
        ways: relays that stems go to in an epoch.
        epoch: seconds that a choice holds at least; up to a tenth is added at random.
        embargo: mean of the seconds that a relay waits for gossip to bring a transaction that it passed on.
            The paper's bound for five hops of 0.3 s (onion to onion) and one in ten too early: 28 s.
        per_peer: transactions on their stem that one peer may have brought; more of it are gossiped at once.
        own_count: transactions of our own users on their stem; more are gossiped at once.
        bytes: largest transaction that takes a stem.
        message_count: transactions of one message.
        padding: random bytes added to a message at most; 0: none.
    """

    own: bool = False
    fluffing: int = 20
    ways: int = 2
    epoch: float = 600.0
    embargo: float = 30.0
    per_peer: int = 64
    own_count: int = 256
    bytes: int = 128 * 1024
    message_count: int = 16
    padding: int = 0


class StemRoutes(Generic[Peer]):
    """The ways of an epoch.

    Args:
        options: see there.
        rand: random bytes.
    """

    __slots__ = ("_ends", "_fluffs", "_options", "_own", "_rand", "_routes", "_ways")

    def __init__(self, options: StemOptions, rand: Callable[[int], bytes]) -> None:
        self._options = options
        self._rand = rand
        self._ends = float("-inf")
        self._fluffs = False
        self._ways: list[Peer] = []
        self._routes: dict[Peer, Peer] = {}
        self._own: Peer | None = None

    def carry(self, source: Peer, candidates: Sequence[Peer], now: float) -> Peer | None:
        """Return who is next for what a peer brought on its stem; None if it is to be gossiped here.

        Args:
            source: who brought it.
            candidates: relays that we dialed and that are connected.
            now: monotonic seconds.
        """
        self._refresh(candidates, now)
        if self._fluffs:
            return None
        way = self._routes.get(source)
        if way is None:
            others = [each for each in self._ways if each != source]
            if not others:
                return None
            way = self._routes[source] = others[self._draw(len(others))]
        return way

    def begin(self, candidates: Sequence[Peer], now: float) -> Peer | None:
        """Return who is first for what our own users send; None where there is nobody."""
        self._refresh(candidates, now)
        if self._own is None and self._ways:
            self._own = self._ways[self._draw(len(self._ways))]
        return self._own

    def forget(self, source: Peer) -> None:
        """Drop the way of a peer that left."""
        self._routes.pop(source, None)

    def embargo(self) -> float:
        """Draw how many seconds gossip has to bring back what was passed on."""
        return exponential(self._options.embargo, self._rand)

    def _refresh(self, candidates: Sequence[Peer], now: float) -> None:
        """Begin a new epoch if this one is over; put somebody in the place of who left."""
        options = self._options
        if now >= self._ends:
            self._ends = now + options.epoch * (1.0 + self._draw(1000) / 10_000)
            self._fluffs = self._draw(100) < options.fluffing
            self._ways, self._routes, self._own = [], {}, None
        self._ways = [each for each in self._ways if each in candidates]
        missing = min(options.ways, len(candidates)) - len(self._ways)
        if missing:
            spare = [each for each in candidates if each not in self._ways]
            self._ways += [spare.pop(self._draw(len(spare))) for _ in range(missing)]
        self._routes = {source: way for source, way in self._routes.items() if way in self._ways}
        if self._own not in self._ways:
            self._own = None

    def _draw(self, count: int) -> int:
        return int.from_bytes(self._rand(8), "big") % count
