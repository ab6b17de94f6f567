"""Every connection of this node: who is let in, who stays, and when the silent go.

Simultaneous dials. When two nodes dial each other at once, both connections may pass half of their handshakes
before either side knows of the second. Were each side to refuse the one it sees second, both would be gone.
So:

1. A connection is admitted when our Hello goes out on it. One that is refused never carries our Hello, so the
   other side cannot have joined it.
2. Precedence has the connection that the node with the lower public key dialed: both sides see it the same.
3. When one has joined, every other is refused (as geth does).
4. While one with precedence is admitted, another is refused.
5. While one without precedence is admitted, the one with precedence is admitted too. The former does not join
   until the fate of the latter is known: it is held after its Status. If the latter joins, the former is
   closed; if it fails, the former joins.

No order of events ends both: for (5) to close the one without precedence, the other side's Status must have
come on the one with precedence, so the other side had not joined the former, and will not, by (5) or (3).
Against geth, which knows only (3), the held connection is the one that survives where geth joined it first.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import structlog

from relay.peering.admission import HandshakeGate, InboundThrottle
from relay.peering.eviction import Eviction
from relay.peering.interfaces import CapabilityHandler, EthHandler, PeerObserver, SilentObserver, Timers
from relay.peering.options import PeeringOptions
from relay.peering.session import PeerSession, Phase, printable
from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.errors import AlreadyConnected, DecodeError, PeerError, SelfConnect, TooManyPeers
from relay.primitives.keys import NodeKey, PublicKey
from relay.protocols.devp2p.connection import DevP2PConnection
from relay.protocols.devp2p.messages import DisconnectReason, Hello
from relay.transports.listener import Label

__all__ = ["PeerSet", "PeerWatcher"]

_NO_HANDLERS: Final[Mapping[str, CapabilityHandler]] = {}
_log = structlog.get_logger("relay.peering")
_LABELS: Final = {Label.ONION: Network.ONION, Label.I2P: Network.I2P, Label.CLEARNET: Network.IPV4}


class PeerWatcher(Protocol):
    """Is told of changes that matter to dialing; called from transports' callbacks, must not raise."""

    def peer_joined(self, session: PeerSession) -> None:
        """Note a new peer."""

    def peer_left(self, session: PeerSession) -> None:
        """Note that a connection ended whose key was known, joined or not."""


class PeerSet:
    """All connections, and the rules of admission.

    Attributes:
        hello: what we say of ourselves; may be replaced at any time.
        trusted: keys that no limit holds back.
        watcher: the dial scheduler, once there is one.
        eviction: who gives way to a newcomer when no place is free.
    """

    def __init__(
        self,
        key: NodeKey,
        hello: Hello,
        eth: EthHandler,
        *,
        options: PeeringOptions,
        timers: Timers,
        now: Callable[[], float],
        rand: Callable[[int], bytes],
        on_bug: Callable[[Exception], None],
        observer: PeerObserver | None = None,
        handlers: Mapping[str, CapabilityHandler] = _NO_HANDLERS,
    ) -> None:
        """Make an empty set.

        Args:
            key: our identity.
            hello: with the capabilities we offer.
            eth: handler of the capability every peer must share.
            options: limits and deadlines.
            timers: the event loop.
            now: monotonic seconds.
            rand: random bytes.
            on_bug: takes exceptions that are no peer's fault.
            observer: counts.
            handlers: further capabilities by name; those in hello must be here.
        """
        self._key = key
        self._rand = rand
        self.hello = hello
        self.eth: Final = eth
        self.options: Final = options
        self.timers: Final = timers
        self.now: Final = now
        self.on_bug: Final = on_bug
        self.observer: Final[PeerObserver] = observer or SilentObserver()
        self.handlers: Final = handlers
        self.trusted: set[PublicKey] = set()
        self.watcher: PeerWatcher | None = None
        self.gate: Final = HandshakeGate(options, timers, now)
        self.eviction: Final = Eviction(options.eviction, options.max_inbound, rand)
        self._throttle = InboundThrottle(options.inbound_throttle)
        self._live: set[PeerSession] = set()
        self._admitted: dict[PublicKey, list[PeerSession]] = {}
        self._joined: dict[PublicKey, PeerSession] = {}
        self._inbound = 0
        self._free_slots: list[int] = []
        self._top_slot = 0
        self._corked: list[PeerSession] = []
        self._past_in = self._past_out = 0
        self._sweeping: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Event | None = None
        self._closed = False

    # -- what others ask -------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._joined)

    @property
    def public_key(self) -> PublicKey:
        """Our own identity."""
        return self._key.public_key

    @property
    def inbound(self) -> int:
        """How many joined peers came in."""
        return self._inbound

    @property
    def dialed(self) -> int:
        """How many joined peers were dialed."""
        return len(self._joined) - self._inbound

    @property
    def labels(self) -> Mapping[Network, int]:
        """How many joined peers there are by network class; counted now."""
        counts = dict.fromkeys(Network, 0)
        for session in self._joined.values():
            counts[session.label] += 1
        return counts

    @property
    def connections(self) -> int:
        """Every connection: waiting, in a handshake, joined, closing."""
        return len(self._live)

    @property
    def ingress(self) -> int:
        """Bytes received since the start."""
        return self._past_in + sum(session.bytes_in for session in self._live)

    @property
    def egress(self) -> int:
        """Bytes sent since the start."""
        return self._past_out + sum(session.bytes_out for session in self._live)

    def sessions(self) -> tuple[PeerSession, ...]:
        """The joined peers, oldest first; a copy, so that peers may leave meanwhile."""
        return tuple(self._joined.values())

    def get(self, public_key: PublicKey) -> PeerSession | None:
        """The joined peer of this key."""
        return self._joined.get(public_key)

    def knows(self, public_key: PublicKey) -> bool:
        """Whether this node is a peer, or its handshake is under way: no need to dial it."""
        return public_key in self._joined or public_key in self._admitted

    # -- coming and going ------------------------------------------------------------------------------

    def inbound_factory(self, listener: Label) -> Callable[[], PeerSession]:
        """Make the protocol factory of a listener.

        Args:
            listener: ONION for the one that Tor delivers to and I2P for the router's, whose peers have no
                address. Peers of the other are of the network their address belongs to; the throttle holds.
        """
        label = _LABELS[listener]

        def accept() -> PeerSession:
            return PeerSession(self, inbound=True, label=label, via_tor=listener is not Label.CLEARNET)

        return accept

    def has_room(self) -> bool:
        """Whether a listener should hand over another connection at all."""
        return not self._closed and self.gate.has_room()

    def outbound(self, public_key: PublicKey, *, via_tor: bool, static: bool) -> PeerSession:
        """Make the protocol of a dial; `dialed_by` is to be called on it when the way is known."""
        label = Network.ONION if via_tor else Network.IPV4
        return PeerSession(
            self, inbound=False, label=label, via_tor=via_tor, public_key=public_key, static=static
        )

    def disconnect(self, public_key: PublicKey, reason: int = DisconnectReason.REQUESTED) -> bool:
        """Disconnect a node in whatever phase it is; False when there was nothing to disconnect."""
        found = [*self._admitted.get(public_key, ())]
        if public_key in self._joined:
            found.append(self._joined[public_key])
        for session in found:
            session.disconnect(reason)
        return bool(found)

    def trust(self, public_key: PublicKey) -> None:
        """Let a node in whatever the limits; spec: geth's admin_addTrustedPeer."""
        self.trusted.add(public_key)
        if session := self._joined.get(public_key):
            session.trusted = True

    def distrust(self, public_key: PublicKey) -> None:
        """Hold the limits against a node again; it stays if it is connected, as with geth."""
        self.trusted.discard(public_key)
        if session := self._joined.get(public_key):
            session.trusted = False

    def start(self) -> None:
        """Begin to look at deadlines."""
        self._sweeping = self.timers.call_later(self.options.sweep_interval, self._sweep_again)

    async def close(self, deadline: float) -> None:
        """Say goodbye to everybody, take nobody in any more, and return when all are gone.

        Args:
            deadline: seconds after which the rest is cut.
        """
        self._closed = True
        if self._sweeping is not None:
            self._sweeping.cancel()
        self._emptied = asyncio.Event()
        for session in tuple(self._live):
            session.disconnect(DisconnectReason.CLIENT_QUITTING)
        try:
            async with asyncio.timeout(deadline):
                if self._live:
                    await self._emptied.wait()
        except TimeoutError:
            for session in tuple(self._live):
                if session.transport is not None:
                    session.transport.abort()

    def sweep(self) -> None:
        """Look at every connection's deadlines once."""
        now = self.now()
        for session in tuple(self._live):
            session.check(now)

    def _sweep_again(self) -> None:
        self.guard(self.sweep)
        self.start()

    # -- for sessions ----------------------------------------------------------------------------------

    def guard(self, callback: Callable[..., None], *args: PeerSession) -> None:
        """Run a callback of ours; a fault in it is reported instead of being lost in the event loop."""
        try:
            callback(*args)
        except Exception as error:  # noqa: BLE001 - the edge to the event loop, which would only log it
            self.on_bug(error)

    def connected(self, session: PeerSession) -> None:
        """Take a new connection: the dialing side begins, the other waits."""
        self._live.add(session)
        if self._closed:
            session.abort("we are stopping")
        elif session.inbound:
            self._accept(session)
        else:
            self._start(session)

    def _start(self, session: PeerSession) -> None:
        assert session.public_key is not None
        try:
            connection = DevP2PConnection.initiator(self._key, session.public_key, self.hello, self._rand)
        except DecodeError:
            session.abort("no key")
            return
        session.start(connection)

    def _accept(self, session: PeerSession) -> None:
        if session.label is Network.IPV4:
            self._place(session)
        self.observer.accepted(session.label)
        if session.endpoint is not None and not self._throttle.admits(session.endpoint, self.now()):
            session.abort("throttled")
        elif not self.gate.enter(session):
            session.abort("no place to wait")

    def _place(self, session: PeerSession) -> None:
        """Note where a peer of the clearnet listener comes from."""
        assert session.transport is not None
        name = session.transport.get_extra_info("peername")
        if isinstance(name, tuple) and len(name) >= 2:
            session.endpoint = Endpoint.parse(str(name[0]).partition("%")[0], int(name[1]))
            session.label = session.endpoint.network

    def recipient(self) -> DevP2PConnection:
        """Make the accepting side of a handshake."""
        return DevP2PConnection.recipient(self._key, self.hello, self._rand)

    def admit(self, session: PeerSession) -> None:
        """Decide on a peer whose key has just become known, before our Hello goes out.

        Raises:
            PeerError: what to tell it.
        """
        key = session.public_key
        assert key is not None
        session.trusted = key in self.trusted
        self.check_room(session)
        for other in self._rivals(session):
            if other.inbound == session.inbound or self._precedes(other):
                raise AlreadyConnected("another connection with this node is being made")
        self._admitted.setdefault(key, []).append(session)

    def check_room(self, session: PeerSession) -> None:
        """Check what may have changed since the last phase; spec: geth's postHandshakeChecks.

        Raises:
            SelfConnect, AlreadyConnected, TooManyPeers: it may not stay.
        """
        key = session.public_key
        assert key is not None
        if key == self._key.public_key:
            raise SelfConnect("the other end is this node")
        if key in self._joined:
            raise AlreadyConnected("this node is connected already")
        full = None if session.trusted else self._what_is_full(session)
        if full and not (
            session.inbound and self.eviction.may_ask(session, self._joined.values(), self.now())
        ):
            raise TooManyPeers(full)

    def _what_is_full(self, session: PeerSession) -> str | None:
        """Tell why there is no place left for a peer; None if there is one."""
        if len(self._joined) >= self.options.max_peers:
            return f"{len(self._joined)} peers are connected"
        if session.inbound and self._inbound >= self.options.max_inbound:
            return f"{self._inbound} peers came in"
        return None

    def _make_room(self, session: PeerSession) -> None:
        """Send another away if that is what it takes; spec: Bitcoin Core's AttemptToEvictConnection.

        Raises:
            TooManyPeers: nobody gives way.
        """
        full = None if session.trusted else self._what_is_full(session)
        if full is None:
            return
        victim = self.eviction.victim(self._joined.values(), self.now())
        if victim is None:
            raise TooManyPeers(full)
        self.eviction.happened(session, victim, self.now())
        victim.disconnect(DisconnectReason.TOO_MANY_PEERS, "gave its place to a newcomer")

    def join(self, session: PeerSession) -> None:
        """Make a session that passed every check a peer, or hold it; see the rules of this module.

        Raises:
            PeerError: it may not stay after all.
        """
        self.check_room(session)
        rivals = self._rivals(session)
        if any(self._precedes(other) for other in rivals):
            session.hold()
            return
        self._make_room(session)
        for other in rivals:
            other.disconnect(DisconnectReason.ALREADY_CONNECTED, "the connection with precedence joined")
        self._seat(session)

    def _seat(self, session: PeerSession) -> None:
        assert session.public_key is not None
        self._forget_admitted(session)
        self.gate.leave(session)
        self._joined[session.public_key] = session
        self._inbound += session.inbound
        session.join(self._take_slot(), self.eth)
        self._tell_joined(session)
        self.eth.joined(session)
        session.deliver_stash()

    def _tell_joined(self, session: PeerSession) -> None:
        self.observer.handshake_seconds(session.joined_at - session.connected_at, session.inbound)
        self.observer.joined(session)
        if session.outcome is not None and not session.outcome.done():
            session.outcome.set_result(None)
        if self.watcher is not None:
            self.watcher.peer_joined(session)
        assert session.hello is not None
        assert session.eth is not None
        session.log.info(
            "peer joined",
            client=printable(session.hello.client),
            eth=session.eth.version,
            static=session.static,
            **({"why": session.why} if session.why else {}),
            peers=len(self._joined),
        )

    def departed(self, session: PeerSession) -> None:
        """Clear up after a session that ended; called in a callback of its own."""
        self.guard(self._depart, session)

    def _depart(self, session: PeerSession) -> None:
        departure = session.departure
        assert departure is not None
        self.gate.leave(session)
        if session.slot >= 0:
            self._unseat(session)
        else:
            self._forget_admitted(session)
            self.observer.refused(session.inbound, departure)
            session.log.debug(
                "connection ended", why=departure.category, detail=departure.text, by_peer=departure.by_remote
            )
        if session.outcome is not None and not session.outcome.done():
            session.outcome.set_result(departure)
        if session.public_key is not None and self.watcher is not None:
            self.watcher.peer_left(session)
        self._release_held(session)

    def _unseat(self, session: PeerSession) -> None:
        departure, key = session.departure, session.public_key
        assert departure is not None
        assert key is not None
        del self._joined[key]
        self._inbound -= session.inbound
        self.eth.left(session, departure.reason)
        heapq.heappush(self._free_slots, session.slot)
        self.observer.left(session, departure)
        session.log.info(
            "peer left",
            why=departure.category,
            detail=departure.text,
            by_peer=departure.by_remote,
            seconds=round(self.now() - session.joined_at, 1),
            peers=len(self._joined),
        )

    def disconnected(self, session: PeerSession) -> None:
        """Forget a connection whose transport is gone."""
        if session in self._live:
            self._live.discard(session)
            self._past_in += session.bytes_in
            self._past_out += session.bytes_out
        if self._emptied is not None and not self._live:
            self._emptied.set()

    def cork(self, session: PeerSession) -> None:
        """Have a session flushed in the next iteration: what one iteration sends leaves in one write."""
        if not self._corked:
            self.timers.call_soon(self._flush)
        self._corked.append(session)

    def _flush(self) -> None:
        corked, self._corked = self._corked, []
        for session in corked:
            session.flush()

    # -- inside ----------------------------------------------------------------------------------------

    def _rivals(self, session: PeerSession) -> list[PeerSession]:
        assert session.public_key is not None
        found = self._admitted.get(session.public_key, ())
        return [each for each in found if each is not session and not each.closing]

    def _precedes(self, session: PeerSession) -> bool:
        """Whether the node with the lower key dialed it."""
        assert session.public_key is not None
        return (self._key.public_key < session.public_key) != session.inbound

    def _forget_admitted(self, session: PeerSession) -> None:
        key = session.public_key
        found = self._admitted.get(key) if key is not None else None
        if key is not None and found and session in found:
            found.remove(session)
            if not found:
                del self._admitted[key]

    def _release_held(self, gone: PeerSession) -> None:
        if gone.public_key is None:
            return
        for session in tuple(self._admitted.get(gone.public_key, ())):
            if session.phase is Phase.HELD:
                try:
                    self.join(session)
                except PeerError as error:
                    session.disconnect(error.reason, str(error))

    def _take_slot(self) -> int:
        if self._free_slots:
            return heapq.heappop(self._free_slots)
        self._top_slot += 1
        return self._top_slot - 1
