"""Who can be asked: what each peer said that it holds, what it owes, and how it has done so far.

Only peers that hold data first-hand are asked, so that no question goes round in circles: peers that our user
or we chose, and others once they have served something or followed the head for a while. Other relays are
asked last, and by a capability of their own.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final

from relay.protocols.pyrelay.messages import ETH_FORM
from relay.protocols.pyrelay.messages import NAME as RELAY
from relay.relaying.chain_data.demand import Kind, Query
from relay.relaying.chain_data.wire import FIRST_VERSION

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from relay.relaying.blockrange import BlockRange
    from relay.relaying.chain_data.canonical import Canonical
    from relay.relaying.chain_data.fetch import Ask
    from relay.relaying.chain_data.options import ProxyOptions
    from relay.relaying.roster import RelayPeer

__all__ = ["Choice", "Upstream", "Upstreams", "Want"]

_SMOOTHING: Final = 0.2  # weight of the newest answer in the mean of how long they take


class Choice(Enum):
    """Why nobody was chosen."""

    BUSY = "all who could be asked have enough to do"
    NOBODY = "nobody can be asked"


@dataclass(frozen=True, slots=True)
class Want:
    """What a question needs of who is asked.

    Attributes:
        kind: of data.
        number: of the block, None where only its hash is known.
        tried: who was asked already.
        requesters: who wants to know: they are never asked.
        hops: how often the question has gone from relay to relay.
        trusted_first: whether the word of a trusted peer is worth more here.
        among: the only ones to be asked, in this order; they need not have proved themselves.
    """

    kind: Kind
    number: int | None
    tried: Collection[Upstream] = ()
    requesters: Collection[RelayPeer] = ()
    hops: int = 0
    trusted_first: bool = False
    among: Collection[RelayPeer] | None = field(default=None)


class Upstream:
    """A peer as a source.

    Attributes:
        peer: whose it is.
        version: eth version in whose form it is asked.
        relay: whether it is a relay like us, without a chain.
        range: what it said it holds; None as long as it said nothing, as in eth/68.
        moved: whether its range went up since it joined.
        joined_at: monotonic seconds.
        asks: questions that it has not answered, by id, late ones included.
        under_way: of those, the ones that are not late.
        served: good answers.
        asked: questions, by kind: counted together, of two peers one would get all headers and the other
            all bodies, since who wants a body mostly wants its header before.
        seconds: how long its answers take, about.
    """

    __slots__ = (
        "_forgiven",
        "_owes_until",
        "asked",
        "asks",
        "joined_at",
        "moved",
        "peer",
        "range",
        "relay",
        "seconds",
        "served",
        "under_way",
        "version",
    )

    def __init__(self, peer: RelayPeer, now: float) -> None:
        self.peer = peer
        self.relay = peer.session.speaks(RELAY)
        self.version = ETH_FORM if self.relay else peer.version
        self.range: BlockRange | None = None
        self.moved = False
        self.joined_at = now
        self.asks: dict[int, Ask] = {}
        self.under_way = 0
        self.served = 0
        self.asked: Counter[Kind] = Counter()
        self.seconds = 0.0
        self._owes_until = 0.0  # when it may be asked again although it owes an answer; 0: it owes none
        self._forgiven = 0

    @property
    def trusted(self) -> bool:
        """Whether our user trusts it."""
        return self.peer.session.trusted

    def learn(self, told: BlockRange) -> None:
        """Take what it says that it holds."""
        if self.range is not None and told.latest > self.range.latest:
            self.moved = True
        self.range = told

    def covers(self, kind: Kind, number: int | None, ahead: int) -> bool:
        """Tell whether it may hold a block's data: it told its range some blocks ago."""
        told = self.range
        if told is None:
            return True
        if number is None:
            return told.latest > 0 or self.trusted or self.served > 0
        # Headers are held from genesis on, whatever the range; spec: caps/eth.md, BlockRangeUpdate.
        earliest = 0 if kind is Kind.HEADERS else told.earliest
        return earliest <= number <= told.latest + ahead

    def asks_for(self, query: Query) -> bool:
        """Tell whether it is being asked this very thing."""
        return any(ask.query == query for ask in self.asks.values())

    def may_be_asked(self, now: float, options: ProxyOptions) -> bool:
        """Tell whether it owes us nothing, or we have waited long enough."""
        if not self._owes_until:
            return True
        return now >= self._owes_until and self._forgiven < options.forgiven and len(self.asks) < options.owed

    def was_late(self, now: float, options: ProxyOptions) -> None:
        """Note that a question was not answered in time."""
        self.under_way -= 1
        if now >= self._owes_until:
            self._forgiven += self._owes_until > 0.0
            self._owes_until = now + options.forgiveness * 2**self._forgiven

    def has_answered(self, seconds: float, *, late: bool) -> None:
        """Note an answer, which clears what it owes."""
        self._owes_until = 0.0
        self._forgiven = 0
        self.under_way -= not late
        self.seconds += (seconds - self.seconds) * (_SMOOTHING if self.served else 1.0)


class Upstreams:
    """All connected peers as sources."""

    __slots__ = ("_by_peer", "_canonical", "_options")

    def __init__(self, canonical: Canonical, options: ProxyOptions) -> None:
        self._by_peer: dict[RelayPeer, Upstream] = {}
        self._canonical = canonical
        self._options = options

    def __len__(self) -> int:
        return len(self._by_peer)

    def __iter__(self) -> Iterator[Upstream]:
        return iter(self._by_peer.values())

    def get(self, peer: RelayPeer) -> Upstream | None:
        """Return what is kept for a peer."""
        return self._by_peer.get(peer)

    def join(self, peer: RelayPeer, now: float) -> Upstream:
        """Take a peer."""
        upstream = self._by_peer[peer] = Upstream(peer, now)
        return upstream

    def leave(self, peer: RelayPeer) -> Upstream | None:
        """Forget a peer; returns what was kept for it."""
        return self._by_peer.pop(peer, None)

    def choose(self, want: Want, now: float) -> Upstream | Choice:
        """Choose who is asked next: those with a chain first, of them who has least to do."""
        if want.among is not None:
            return self._choose_among(want, want.among, now)
        found: Upstream | None = None
        best: tuple[bool, bool, int, int] | None = None
        busy = False
        limit = self._options.per_upstream
        for upstream in self._by_peer.values():
            if not self._suits(upstream, want, now):
                continue
            if upstream.under_way >= limit:
                busy = busy or not upstream.relay
                continue
            rank = (
                upstream.relay,
                want.trusted_first and not upstream.trusted,
                upstream.under_way,
                upstream.asked[want.kind],
            )
            if best is None or rank < best:
                found, best = upstream, rank
        if found is None or (found.relay and busy):
            return Choice.BUSY if busy else Choice.NOBODY
        return found

    def _choose_among(self, want: Want, among: Collection[RelayPeer], now: float) -> Upstream | Choice:
        busy = False
        for peer in among:
            upstream = self._by_peer.get(peer)
            if upstream is None or upstream in want.tried or upstream.relay:
                continue
            if not upstream.may_be_asked(now, self._options):
                continue
            if upstream.under_way < self._options.per_upstream:
                return upstream
            busy = True
        return Choice.BUSY if busy else Choice.NOBODY

    def _suits(self, upstream: Upstream, want: Want, now: float) -> bool:
        options = self._options
        if upstream in want.tried or upstream.peer in want.requesters:
            return False
        if upstream.version < FIRST_VERSION[want.kind] or not upstream.may_be_asked(now, options):
            return False
        if upstream.relay:
            return want.hops < options.hops
        return self.is_first_hand(upstream, now) and upstream.covers(want.kind, want.number, options.ahead)

    def is_first_hand(self, upstream: Upstream, now: float) -> bool:
        """Tell whether a peer has a chain, as far as we can know, and may be asked for it."""
        if upstream.relay:
            return False
        session = upstream.peer.session
        if session.trusted or upstream.served or not session.inbound:
            return True
        # Who came in by himself may be a tester that knows no requests, or a relay that only echoes heads.
        if now - upstream.joined_at < self._options.quarantine:
            return False
        told = upstream.range
        return upstream.moved or (
            told is not None and told.latest > 0 and self._canonical.linked(told.latest) == told.latest_hash
        )
