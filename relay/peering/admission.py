"""The door: who may knock how often, and whose handshake is computed when.

An RLPx handshake costs the better part of a millisecond of elliptic curves, and anybody can ask for one. So
connections that come in wait until their first packet is complete, and then get turns in slices that are
short enough for the traffic of joined peers. Whoever dawdles over that packet holds a place in the waiting
room, but never a turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from relay.peering.interfaces import Timers
from relay.peering.options import PeeringOptions
from relay.primitives.endpoint import Endpoint

if TYPE_CHECKING:
    from relay.peering.session import PeerSession

__all__ = ["HandshakeGate", "InboundThrottle"]

MAX_THROTTLED: Final = 65536  # addresses remembered for 30 s; the oldest is forgotten first


class InboundThrottle:
    """Refuses an internet address that connected a moment ago; spec: geth's p2p/server.go, checkInboundConn.

    Loopback and local networks are exempt. Peers of the onion listener must not be asked about: they all come
    from the address of our own Tor.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: dict[str, float] = {}

    def admits(self, endpoint: Endpoint, now: float) -> bool:
        """Tell whether this address may connect now, and note that it did."""
        if endpoint.is_private:
            return True
        self._expire(now)
        if endpoint.host in self._until:
            return False
        self._until[endpoint.host] = now + self._seconds
        return True

    def _expire(self, now: float) -> None:
        # Entries stand in the order of their ends, since all last equally long.
        while self._until:
            oldest = next(iter(self._until))
            if self._until[oldest] > now and len(self._until) < MAX_THROTTLED:
                return
            del self._until[oldest]


class HandshakeGate:
    """The waiting room of inbound connections, and the queue for a turn at the handshake.

    Three stages, each bounded: waiting (the first packet is incomplete), ready (complete, waits for its
    turn), active (the turn was had; until it joins or ends). When the waiting room is full the one that waits
    longest gives way if it has been slow; else the newcomer is turned away.
    """

    def __init__(self, options: PeeringOptions, timers: Timers, now: Callable[[], float]) -> None:
        self._options = options
        self._timers = timers
        self._now = now
        self._waiting: dict[PeerSession, float] = {}
        self._ready: deque[PeerSession] = deque()
        self._active: set[PeerSession] = set()
        self._scheduled = False
        self.turned_away = 0
        self.gave_way = 0

    @property
    def waiting(self) -> int:
        """Connections without a turn so far."""
        return len(self._waiting) + len(self._ready)

    @property
    def active(self) -> int:
        """Connections that had their turn and have not joined yet."""
        return len(self._active)

    def has_room(self) -> bool:
        """Whether `enter` would let another one in."""
        return self.waiting < self._options.max_waiting or self._slowest() is not None

    def enter(self, session: PeerSession) -> bool:
        """Let a new connection wait; False when there is no place for it."""
        if self.waiting >= self._options.max_waiting:
            slowest = self._slowest()
            if slowest is None:
                self.turned_away += 1
                return False
            self.gave_way += 1
            del self._waiting[slowest]
            slowest.abort("gave way to a newcomer")
        self._waiting[session] = self._now()
        return True

    def _slowest(self) -> PeerSession | None:
        """Return the one that waits longest, if that is long enough to give way."""
        oldest = next(iter(self._waiting), None)
        if oldest is None or self._now() - self._waiting[oldest] < self._options.patience:
            return None
        return oldest

    def packet_complete(self, session: PeerSession) -> None:
        """Queue a waiting connection for its turn."""
        if self._waiting.pop(session, None) is not None:
            self._ready.append(session)
            self._schedule()

    def leave(self, session: PeerSession) -> None:
        """Forget a connection that joined or ended, in whatever stage it is."""
        if session in self._active:
            self._active.discard(session)
            self._schedule()
        elif self._waiting.pop(session, None) is None and session in self._ready:
            self._ready.remove(session)

    def _schedule(self) -> None:
        if self._ready and not self._scheduled and len(self._active) < self._options.max_pending:
            self._scheduled = True
            self._timers.call_soon(self._run)

    def _run(self) -> None:
        self._scheduled = False
        end = self._now() + self._options.slice_seconds
        for _ in range(self._options.turns_per_slice):
            if not self._ready or len(self._active) >= self._options.max_pending or self._now() >= end:
                break
            session = self._ready.popleft()
            self._active.add(session)
            session.take_turn()
        self._schedule()
