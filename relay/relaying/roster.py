"""The connected peers, each with one bit of the masks that say who knows which transaction.

A bit is given to another peer only after it was cleared in all transactions held: until the sweep has gone
round, the bit of a peer that left is retired. The sweep runs in slices between turns of the event loop.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final

from relay.relaying.pace import Allowance, PaceOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from relay.relaying.fetcher import Announcement, FetchRequest
    from relay.relaying.intake import Parcel
    from relay.relaying.pool import PooledTx, TxPool
    from relay.relaying.seams import Loop, Session

__all__ = ["RelayPeer", "Roster"]

_SWEEP_STRIDE: Final = 8192  # transactions cleared per turn: under a millisecond (our choice)
_EXPANSIONS: Final = 1024  # masks remembered with their peers, then forgotten all at once (our choice)


class RelayPeer:
    """What relaying keeps per peer.

    Attributes:
        session: how to reach it.
        bit: its bit in `PooledTx.known`, a power of two.
        version: eth version.
        joined_at: monotonic seconds.
        gone: it left; work of it that is still queued is void.
        parcels: messages with transactions that wait for intake; parcel_bytes is their size.
        paused: its socket is not read until the backlog is worked off.
        held: its socket is not read until it has not brought too many for its rate.
        included: of its transactions, how many a block brings, on the moving average; see `inclusion`.
        allowance: transactions that it may bring.
        refusals: how many more of its transactions may be ruled bad before it is sent away.
        outbox: announcements that wait until its socket has room, or until their turn.
        announced: what it announced and nobody delivered yet: hash to `size << 8 | type` as it told them.
        ready: of that, what may be fetched from it, in order; may hold what was delivered meanwhile.
        request: the request under way to it, also an expired one until it answers.
        told_latest: the latest block that it heard from us.
    """

    __slots__ = (
        "allowance",
        "announced",
        "bit",
        "gone",
        "held",
        "included",
        "joined_at",
        "outbox",
        "parcel_bytes",
        "parcels",
        "paused",
        "ready",
        "refusals",
        "request",
        "session",
        "told_latest",
        "version",
    )

    def __init__(self, session: Session, bit: int, joined_at: float, pace: PaceOptions) -> None:
        self.session = session
        self.bit = bit
        assert session.eth is not None
        self.version = session.eth.version
        self.joined_at = joined_at
        self.gone = False
        self.parcels: deque[Parcel] = deque()
        self.parcel_bytes = 0
        self.paused = False
        self.held = False
        self.included = 0.0
        self.allowance = Allowance(pace.peer_rate, pace.peer_burst, joined_at)
        self.refusals = Allowance(pace.refused_rate, pace.refused_burst, joined_at)
        self.outbox: deque[PooledTx] = deque()
        self.announced: dict[bytes, int] = {}
        self.ready: deque[Announcement] = deque()
        self.request: FetchRequest | None = None
        self.told_latest = 0


class Roster:
    """Peers by session and by bit.

    Attributes:
        connected: bits of all peers.
        generation: changes whenever a peer joins or leaves.
    """

    __slots__ = (
        "_by_bit",
        "_by_session",
        "_expanded",
        "_free",
        "_loop",
        "_next",
        "_pace",
        "_pool",
        "_retired",
        "_sweep",
        "_sweeping",
        "connected",
        "generation",
    )

    def __init__(self, pool: TxPool, loop: Loop, pace: PaceOptions | None = None) -> None:
        self._pool = pool
        self._pace = pace or PaceOptions()
        self._loop = loop
        self._by_session: dict[Session, RelayPeer] = {}
        self._by_bit: dict[int, RelayPeer] = {}
        self._expanded: dict[int, tuple[RelayPeer, ...]] = {}
        self._free: list[int] = []
        self._next = 1
        self._retired = 0
        self._sweeping = 0
        self._sweep: Iterator[PooledTx] | None = None
        self.connected = 0
        self.generation = 0

    def __len__(self) -> int:
        return len(self._by_session)

    def __iter__(self) -> Iterator[RelayPeer]:
        return iter(self._by_session.values())

    def get(self, session: Session) -> RelayPeer | None:
        """Return what is kept for a session, None after it left."""
        return self._by_session.get(session)

    def join(self, session: Session) -> RelayPeer:
        """Give a session a bit."""
        if self._free:
            bit = self._free.pop()
        else:
            bit = self._next
            self._next <<= 1
        peer = RelayPeer(session, bit, self._loop.time(), self._pace)
        self._by_session[session] = peer
        self._by_bit[bit] = peer
        self._changed(self.connected | bit)
        return peer

    def leave(self, session: Session) -> RelayPeer | None:
        """Retire a session's bit; returns what was kept for it."""
        peer = self._by_session.pop(session, None)
        if peer is None:
            return None
        peer.gone = True
        del self._by_bit[peer.bit]
        self._changed(self.connected & ~peer.bit)
        self._retired |= peer.bit
        if self._sweep is None:
            self._start_sweep()
        return peer

    def expand(self, mask: int) -> tuple[RelayPeer, ...]:
        """Return the peers of a mask of connected bits."""
        peers = self._expanded.get(mask)
        if peers is None:
            if len(self._expanded) >= _EXPANSIONS:
                self._expanded.clear()
            peers = self._expanded[mask] = tuple(self._walk(mask))
        return peers

    def _walk(self, mask: int) -> Iterator[RelayPeer]:
        while mask:
            low = mask & -mask
            yield self._by_bit[low]
            mask ^= low

    def _changed(self, connected: int) -> None:
        self.connected = connected
        self.generation += 1
        self._expanded.clear()

    def _start_sweep(self) -> None:
        # A copy of the references: the pool may change between slices. What joins it later cannot hold these
        # bits.
        self._sweeping, self._retired = self._retired, 0
        self._sweep = iter(list(self._pool.by_hash.values()))
        self._loop.call_soon(self._sweep_slice)

    def _sweep_slice(self) -> None:
        keep = ~self._sweeping
        assert self._sweep is not None
        done = 0
        for tx in islice(self._sweep, _SWEEP_STRIDE):
            tx.known &= keep
            tx.source &= keep
            done += 1
        if done == _SWEEP_STRIDE:
            self._loop.call_soon(self._sweep_slice)
            return
        self._release()
        self._sweep = None
        if self._retired:
            self._start_sweep()

    def _release(self) -> None:
        mask = self._sweeping
        while mask:
            low = mask & -mask
            self._free.append(low)
            mask ^= low
        self._free.sort(reverse=True)  # small bits first: they keep the masks short
