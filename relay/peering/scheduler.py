"""Whom to dial, and when: static nodes for ever, candidates while there is room.

One coroutine starts the dials; each dial is a task until its peer has joined or failed. What is known of a
node outlives its dials: when the next one may start, how often it failed, and its plan, so that a retry never
widens the ways that were allowed at first.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

import structlog

from relay.peering.anchors import Anchors
from relay.peering.interfaces import CandidateSource, PeerObserver, SilentObserver
from relay.peering.options import DialOptions
from relay.peering.peers import PeerSet
from relay.peering.session import Departure, PeerSession
from relay.primitives.endpoint import Network
from relay.primitives.errors import Retry, TransportError
from relay.primitives.keys import PublicKey
from relay.primitives.node import Node
from relay.protocols.devp2p.messages import DisconnectReason
from relay.transports.dialer import Dialed
from relay.transports.policy import DialPlan, Way

__all__ = ["DialScheduler", "PeerDialer"]

P = TypeVar("P", bound=asyncio.BaseProtocol)
_MIN_PAUSE: Final = 0.01  # seconds; timers may fire early by less
_ANCHOR: Final = "anchor"
_LEAST_SHARED: Final = 4  # dialed peers; fewer are not shared out among sources
_MAX_ASIDE: Final = 64  # candidates that wait until their source has a place; the oldest go first
_FREE: Final = frozenset({Network.ONION, Network.I2P})  # addresses that cost nothing, so tell no host
_MAX_TAKES: Final = 4  # looks at a source per round: candidates may all be known already
_log = structlog.get_logger("relay.peering")

_LONG: Final = frozenset(
    {
        DisconnectReason.TOO_MANY_PEERS,
        DisconnectReason.PROTOCOL_BREACH,
        DisconnectReason.SUBPROTOCOL_ERROR,
        DisconnectReason.TIMEOUT,
    }
)
_HOPELESS: Final = frozenset(
    {
        DisconnectReason.USELESS_PEER,
        DisconnectReason.INCOMPATIBLE_VERSION,
        DisconnectReason.INVALID_IDENTITY,
        DisconnectReason.UNEXPECTED_IDENTITY,
    }
)


class PeerDialer(Protocol):
    """The part of `NodeDialer` that is used here."""

    def plan(self, node: Node, *, allow_private: bool = False) -> DialPlan:
        """Fix the ways to a node."""

    async def dial_node(self, plan: DialPlan, protocol_factory: Callable[[], P]) -> Dialed[P]:
        """Connect, or raise TransportError."""
        ...


@dataclass(slots=True, eq=False)
class _Target:
    """What is known of a node that is or was dialed."""

    node: Node
    plan: DialPlan
    static: bool
    origins: set[str] = field(default_factory=set)
    not_before: float = 0.0
    failures: int = 0
    parked: bool = False
    why: str = "first dial"
    introducer: str = ""
    task: asyncio.Task[None] | None = None


class DialScheduler:
    """Starts dials; told of changes by synchronous calls.

    Attributes:
        parked: static nodes that are not dialed any more before the set of nodes changes.
        anchors: peers of the run before, dialed first; None where there is no memory of one.
    """

    def __init__(
        self,
        peers: PeerSet,
        dialer: PeerDialer,
        *,
        options: DialOptions,
        now: Callable[[], float],
        rand: Callable[[int], bytes],
        observer: PeerObserver | None = None,
        sources: Sequence[CandidateSource] = (),
        elsewhere: Callable[[PublicKey], bool] = lambda _: False,
    ) -> None:
        """Make a scheduler and have it told of the peers' changes; `run` does the work.

        Args:
            peers: where connections go.
            dialer: makes them.
            options: delays and limits.
            now: monotonic seconds.
            rand: random bytes, for jitter.
            observer: counts.
            sources: of candidates, asked in turn.
            elsewhere: tells of a node that another identity of this process has, or is about to have.
        """
        self._peers = peers
        self._dialer = dialer
        self._options = options
        self._now = now
        self._rand = rand
        self._observer: PeerObserver = observer or SilentObserver()
        self._sources = list(sources)
        self._elsewhere = elsewhere
        self._static: dict[PublicKey, _Target] = {}
        self._candidates: dict[PublicKey, _Target] = {}
        self._trusted_by_file: set[PublicKey] = set()
        self._dialing = 0
        self._dialing_candidates = 0
        self._dialing_of: Counter[str] = Counter()
        self._begun = now()
        self.anchors: Anchors | None = None
        self._aside: deque[tuple[Node, str | None]] = deque(maxlen=_MAX_ASIDE)
        self._returning: dict[PublicKey, bool] = {}
        self._wake = asyncio.Event()
        peers.watcher = self

    # -- what others ask and tell ----------------------------------------------------------------------

    @property
    def dialing(self) -> int:
        """Dials and their handshakes under way."""
        return self._dialing

    @property
    def static_loaded(self) -> int:
        """How many static nodes there are."""
        return len(self._static)

    @property
    def static_nodes(self) -> tuple[Node, ...]:
        """The static nodes, with the addresses to use."""
        return tuple(target.node for target in self._static.values())

    @property
    def static_connected(self) -> int:
        """How many of them are peers, whoever dialed."""
        return sum(self._peers.get(key) is not None for key in self._static)

    @property
    def parked(self) -> int:
        """How many of them are not dialed any more."""
        return sum(target.parked for target in self._static.values())

    def wake(self) -> None:
        """Look again now: a source has candidates."""
        self._wake.set()

    def add_static(self, node: Node, origin: str = "admin") -> bool:
        """Keep this node connected; known addresses are replaced.

        Args:
            node: with the addresses to use.
            origin: who wants it; it stays until each origin has removed it.

        Returns:
            Whether it is new, or its addresses are.
        """
        known = self._static.get(node.public_key)
        fresh = known is None or known.node.endpoints != node.endpoints
        if known is None:
            known = _Target(node, self._dialer.plan(node, allow_private=True), static=True)
            self._static[node.public_key] = known
        elif fresh:
            known.node, known.plan = node, known.plan.renewed(node)
        known.origins.add(origin)
        if fresh or known.parked:
            known.parked, known.failures, known.not_before = False, 0, 0.0
        self._wake.set()
        return fresh

    def remove_static(self, public_key: PublicKey, origin: str = "admin") -> bool:
        """Keep this node connected no more; with its last origin it is disconnected, as geth does.

        Returns:
            Whether it was a static node of this origin.
        """
        target = self._static.get(public_key)
        if target is None or origin not in target.origins:
            return False
        target.origins.discard(origin)
        if not target.origins:
            del self._static[public_key]
            if target.task is not None:
                target.task.cancel()
            self._peers.disconnect(public_key)
        return True

    def remove_peer(self, public_key: PublicKey) -> bool:
        """Remove a static node whoever wanted it, and disconnect it even if it was none: admin_removePeer."""
        target = self._static.get(public_key)
        for origin in tuple(target.origins) if target else ():
            self.remove_static(public_key, origin)
        return self._peers.disconnect(public_key) or target is not None

    def replace_static(self, nodes: Iterable[Node], origin: str = "file") -> None:
        """Make these the static nodes of an origin; those that are gone from it are removed."""
        wanted = {node.public_key: node for node in nodes}
        for key, target in tuple(self._static.items()):
            if origin in target.origins and key not in wanted:
                self.remove_static(key, origin)
        for node in wanted.values():
            self.add_static(node, origin)

    def replace_trusted(self, nodes: Iterable[Node]) -> None:
        """Make these the trusted nodes of the file; those trusted by others stay trusted."""
        wanted = {node.public_key for node in nodes}
        for key in self._trusted_by_file - wanted:
            self._peers.distrust(key)
        for key in wanted:
            self._peers.trust(key)
        self._trusted_by_file = wanted

    def add_source(self, source: CandidateSource) -> None:
        """Take candidates from this source as well."""
        self._sources.append(source)
        self._wake.set()

    def network_back(self) -> None:
        """Forget failures that the network was to blame for: Tor or the host was away, and is back.

        Everybody who was away with it comes back now, too. So nodes are dialed one after the other, in an
        order of our own.
        """
        now, stagger = self._now(), self._options.stagger
        for targets, most in ((self._static, len(self._static)), (self._candidates, _MAX_ASIDE)):
            shuffled = sorted(targets.values(), key=lambda _: self._rand(4))
            for place, target in enumerate(shuffled):
                target.failures = 0
                if target.not_before > now:
                    target.not_before = now + place % most * stagger
        self._wake.set()

    def renew(self, public_key: PublicKey) -> bool:
        """Part from a peer that was dialed and dial it anew soon; its place is kept until that has ended.

        Returns:
            Whether it is such a peer.
        """
        session, target = self._peers.get(public_key), self._find(public_key)
        if session is None or session.inbound or target is None or target.task is not None:
            return False
        self._returning[public_key] = False
        session.disconnect(DisconnectReason.REQUESTED, "it is dialed anew")
        return True

    def is_connected(self, public_key: PublicKey) -> bool:
        """Whether this node is a peer."""
        return self._peers.get(public_key) is not None

    def is_static(self, public_key: PublicKey) -> bool:
        """Whether the user wants this node connected."""
        return public_key in self._static

    def is_dialing(self, public_key: PublicKey) -> bool:
        """Whether a dial of this node is under way, or about to be in place of a connection that was left."""
        target = self._find(public_key)
        return public_key in self._returning or (target is not None and target.task is not None)

    def peer_joined(self, session: PeerSession) -> None:
        """See PeerWatcher."""
        if session.static and session.public_key not in self._static:
            session.disconnect()  # removed while its handshake was under way
        self._wake.set()

    def peer_left(self, session: PeerSession) -> None:
        """See PeerWatcher."""
        target = self._find(session.public_key)
        if target is not None and session.slot >= 0 and session.departure is not None:
            if self._now() - session.joined_at >= self._options.settled:
                target.failures = 0
                target.why = f"it left: {session.departure.category}"
            elif not session.inbound and session.public_key not in self._returning:
                self._count(target, session.departure)
        if session.public_key in self._returning and session.slot >= 0:
            self._returning[session.public_key] = True
            if target is not None:
                target.why = "a new connection in place of an old one"
                target.not_before = self._now() + self._options.until_return
        self._wake.set()

    # -- the work --------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Dial until cancelled; that cancels the dials, too."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._wake.clear()
                self._start_returning(tasks)
                self._start_static(tasks)
                self._start_candidates(tasks)
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._pause()):
                        await self._wake.wait()

    def _pause(self) -> float | None:
        """Seconds until a static node is due. Those due now wait for a place, and its release wakes us."""
        now = self._now()
        returning = [each for each in map(self._find, self._returning) if each is not None]
        due = [
            target.not_before - now
            for target in (*self._static.values(), *returning)
            if target.not_before > now and not target.parked and target.task is None
        ]
        if self._sources:
            due.append(self._options.idle)
        return max(_MIN_PAUSE, min(due)) if due else None

    def _start_returning(self, tasks: asyncio.TaskGroup) -> None:
        """Dial those anew that have left for it; one that has come by itself meanwhile need not be dialed."""
        for key in [key for key, has_left in self._returning.items() if has_left]:
            target = self._find(key)
            if target is None or (target.task is None and self._peers.knows(key)):
                del self._returning[key]
            elif target.task is None and target.not_before <= self._now():
                self._start(tasks, target)

    def _start_static(self, tasks: asyncio.TaskGroup) -> None:
        now = self._now()
        for key, target in self._static.items():
            if self._dialing >= self._options.max_pending:
                return
            if target.parked or target.task is not None or target.not_before > now:
                continue
            if not self._is_new(key) or not self._room_for(key):
                continue
            self._start(tasks, target)

    def _is_new(self, key: PublicKey) -> bool:
        """Whether a node is neither a peer, nor about to be one, nor we ourselves."""
        return not (self._peers.knows(key) or key == self._peers.public_key or self._elsewhere(key))

    def _room_for(self, key: PublicKey) -> bool:
        return key in self._peers.trusted or len(self._peers) < self._peers.options.max_peers

    def _start_candidates(self, tasks: asyncio.TaskGroup) -> None:
        self._start_anchors(tasks)
        full: set[str] = set()
        if self._free_for_candidates() > 0:
            again, self._aside = self._aside, deque(maxlen=_MAX_ASIDE)
            for node, why in again:
                self._start_candidate(tasks, node, why, full)
        for _ in range(_MAX_TAKES):
            free = self._free_for_candidates()
            taken = (
                [(source, node) for source in self._sources for node in source.take(free)] if free > 0 else []
            )
            for source, node in taken:
                self._start_candidate(tasks, node, source.why(node.public_key), full)
            if not taken:
                return

    def _start_anchors(self, tasks: asyncio.TaskGroup) -> None:
        room = self._peers.options.max_peers - len(self._peers)
        for node in self.anchors.take(room) if self.anchors is not None else ():
            target = self._candidate(node)
            if target is not None and self._dialing < self._options.max_pending:
                target.why = target.introducer = _ANCHOR
                self._start(tasks, target)

    def _start_candidate(self, tasks: asyncio.TaskGroup, node: Node, why: str | None, full: set[str]) -> None:
        """Dial a candidate, or put it aside: `full` are the sources that have enough, as far as looked."""
        introducer = (why or "").partition(":")[0]
        if introducer not in full and self._holds_enough(introducer):
            full.add(introducer)
        if introducer in full or self._free_for_candidates() <= 0:
            self._aside.append((node, why))
            return
        target = self._candidate(node)
        if target is not None:
            target.why = why or target.why
            target.introducer = introducer
            self._start(tasks, target)

    def _holds_enough(self, introducer: str) -> bool:
        """Whether a source has its share of the places: half, where others have brought peers, or may yet.

        Who poisons one source of nodes shall not own every place. Where there is no other, it must do.
        """
        most = self._peers.options.max_dialed
        if most < _LEAST_SHARED:
            return False
        held = self._dialing_of + Counter(self._introducers())
        others = any(name not in {introducer, _ANCHOR} for name in held)
        if not others and self._now() - self._begun >= self._options.others_wait:
            return False
        return held[introducer] >= (most + 1) // 2

    def _introducers(self) -> Iterator[str]:
        """Give the source of each dialed candidate that has joined."""
        for session in self._peers.sessions():
            target = None if session.inbound else self._find(session.public_key)
            if target is not None and target.task is None and not target.static:
                yield target.introducer

    def _free_for_candidates(self) -> int:
        # As geth's freeDialSlots: twice the free places, since most candidates do not answer. Not so while
        # places are held for anchors, which would be taken then.
        options = self._peers.options
        held = self.anchors.held if self.anchors is not None else 0
        places = min(options.max_dialed - self._peers.dialed, options.max_peers - len(self._peers)) - held
        places -= sum(self._returning.values())
        dials = places if held else places * 2
        return min(dials - self._dialing_candidates, self._options.max_pending - self._dialing)

    def _candidate(self, node: Node) -> _Target | None:
        """Return what is known of a candidate; None when it is not to be dialed now."""
        key = node.public_key
        if key in self._static or not self._is_new(key):
            return None
        target = self._candidates.get(key)
        if target is None:
            plan = self._dialer.plan(node, allow_private=self._options.allow_private)
            target = _Target(node, plan, static=False)
            self._remember(target)
        elif target.task is not None or target.not_before > self._now():
            return None
        else:
            target.node, target.plan = node, target.plan.renewed(node)
        return target if target.plan.targets else None

    def _remember(self, target: _Target) -> None:
        if len(self._candidates) >= self._options.max_history:
            oldest = next(iter(self._candidates))
            del self._candidates[oldest]  # a dial of it under way goes on
        self._candidates[target.node.public_key] = target

    def _find(self, key: PublicKey | None) -> _Target | None:
        if key is None:
            return None
        return self._static.get(key) or self._candidates.get(key)

    # -- one dial --------------------------------------------------------------------------------------

    def _start(self, tasks: asyncio.TaskGroup, target: _Target) -> None:
        target.not_before = self._now() + self._history(target.plan)
        self._dialing += 1
        self._dialing_candidates += self._is_candidate(target)
        self._dialing_of[target.introducer] += not target.static
        target.task = tasks.create_task(self._dial(target), name="dial")

    def _is_candidate(self, target: _Target) -> bool:
        """Whether its dial is one for a free place: a place of its own is kept for who returns."""
        return not target.static and target.node.public_key not in self._returning

    def _history(self, plan: DialPlan) -> float:
        exempt = all(each.endpoint.network in _FREE or each.endpoint.is_private for each in plan.targets)
        return self._options.history_exempt if exempt else self._options.history

    async def _dial(self, target: _Target) -> None:
        log = _log.bind(peer=target.node.public_key.hex()[:16], static=target.static)
        log.debug("dialing", why=target.why, attempt=target.failures + 1)
        outcome: asyncio.Future[Departure | None] = asyncio.get_running_loop().create_future()
        sessions: list[PeerSession] = []

        def connected() -> PeerSession:
            session = self._peers.outbound(target.node.public_key, via_tor=True, static=target.static)
            session.outcome = outcome
            session.why = target.why
            sessions.append(session)
            return session

        try:
            await self._connect(target, connected)
            departure = await outcome
            if departure is not None:
                log.debug("handshake failed", why=departure.category, detail=departure.text)
                self._count(target, departure)
        except TransportError as error:
            self._observer.dialed(_first_way(target.plan), type(error).__name__)
            self._count_way(target, error)
            log.debug("dial failed", error=str(error), parked=target.parked)
        finally:
            if sessions and not outcome.done():
                sessions[0].abort("dial cancelled")
            target.task = None
            self._dialing -= 1
            self._dialing_candidates -= self._is_candidate(target)
            self._returning.pop(target.node.public_key, None)
            self._dialing_of[target.introducer] -= not target.static
            self._wake.set()

    async def _connect(self, target: _Target, factory: Callable[[], PeerSession]) -> None:
        dialed = await self._dialer.dial_node(target.plan, factory)
        via_tor = dialed.way is not Way.DIRECT
        dialed.protocol.dialed_by(dialed.endpoint, dialed.endpoint.network, via_tor)
        self._observer.dialed(dialed.way.value, None)

    def _count_way(self, target: _Target, error: TransportError) -> None:
        target.why = f"the way failed: {type(error).__name__}"
        if error.retry is Retry.NEVER:
            self._park(target, str(error))
            return
        options = self._options
        self._delay(target, options.short_backoff if error.retry is Retry.SHORT else options.long_backoff)

    def _count(self, target: _Target, departure: Departure) -> None:
        options, reason = self._options, departure.reason
        target.why = f"{'they said' if departure.by_remote else 'we found'}: {departure.category}"
        if reason == DisconnectReason.SELF_CONNECT:
            self._park(target, "it is this node itself")
        elif reason in _HOPELESS:
            self._delay(target, options.hopeless_backoff)
        else:
            self._delay(target, options.long_backoff if reason in _LONG else options.short_backoff)

    def _park(self, target: _Target, why: str) -> None:
        target.parked = target.static
        target.not_before = self._now() + self._options.max_backoff
        if target.static:
            peer = target.node.public_key.hex()[:16]
            _log.warning("static node is not dialed until the nodes change", peer=peer, why=why)

    def _delay(self, target: _Target, base: float) -> None:
        delay = min(base * 2 ** min(target.failures, 16), self._options.max_backoff)
        share = int.from_bytes(self._rand(2), "big") / 0xFFFF
        target.failures += 1
        target.not_before = max(target.not_before, self._now() + delay * (1 + self._options.jitter * share))


def _first_way(plan: DialPlan) -> str:
    return plan.ways[0].value if plan.ways else "none"
