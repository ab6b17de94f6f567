"""A relay's set of peers and its dial scheduler, with a world around them instead of a network.

Sessions join without the cryptography of their handshakes: who may stay does not depend on it.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from relay.discovery.mix import CandidateMix, MixOptions
from relay.peering.acquaintance import Acquaintances
from relay.peering.anchors import Anchors, choose_anchors
from relay.peering.eviction import Merit
from relay.peering.options import DialOptions, EvictionOptions, PeeringOptions
from relay.peering.peers import PeerSet
from relay.peering.scheduler import DialScheduler
from relay.peering.session import PeerSession
from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.errors import ConnectFailed, PeerError
from relay.primitives.forkid import ForkId
from relay.primitives.keys import NodeKey, PublicKey
from relay.primitives.node import Node
from relay.protocols.devp2p.messages import DisconnectReason, Hello
from relay.protocols.eth.messages import Status
from relay.protocols.eth.versions import BY_VERSION
from relay.transports.dialer import Dialed
from relay.transports.listener import Label
from relay.transports.policy import DialPlan, Mode, plan_dial

SAVE = 300.0  # seconds, as the daemon's
OFFER = 60.0
VERSION = BY_VERSION[69]


@dataclass(frozen=True)
class Defence:
    """What of the relay's defences is in force.

    Attributes:
        eviction: of inbound peers.
        shares: no source of nodes owns more than half of the dialed peers.
        anchors: are kept over restarts.
    """

    eviction: EvictionOptions
    shares: bool
    anchors: bool


NONE = Defence(EvictionOptions(enabled=False), shares=False, anchors=False)
LIKE_CORE = Defence(EvictionOptions(grace=0.0, exile=0.0), shares=False, anchors=False)
NO_ANCHORS = Defence(EvictionOptions(), shares=True, anchors=False)
ALL = Defence(EvictionOptions(), shares=True, anchors=True)


def key_of(kind: str, number: int) -> PublicKey:
    """Make up a public key: nothing here asks whether it is a point."""
    return PublicKey(hashlib.shake_128(f"{kind} {number}".encode()).digest(64))


def node_of(key: PublicKey) -> Node:
    return Node(key, (Endpoint(Network.ONION, key.hex()[:56] + ".onion", 30303),))


class Memory:
    """What outlives restarts."""

    def __init__(self) -> None:
        self.acquaintances = Acquaintances()
        self.anchors: list[Node] = []
        self.dialed: dict[PublicKey, None] = {}
        """Peers that were dialed with success, the latest last: peers.json of the daemon."""


class Handler:
    """The eth capability of nobody."""

    def status(self, version: int) -> Status:
        return Status(version, 1, bytes(32), ForkId(b"fork", 0))

    def check_status(self, session: PeerSession, status: Status) -> None:
        pass

    def joined(self, session: PeerSession) -> None:
        pass

    def left(self, session: PeerSession, reason: int) -> None:
        pass

    def message(self, session: PeerSession, code: int, payload: bytes) -> None:
        pass


class Wire(asyncio.Transport):
    """A connection that carries nothing but its end."""

    def __init__(self, session: PeerSession, gone: Callable[[], None]) -> None:
        super().__init__()
        self._session = session
        self._gone = gone
        self._closing = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_soon(self._lose)

    abort = close

    def _lose(self) -> None:
        self._session.connection_lost(None)
        self._gone()


class Relay:
    """The relay that is attacked, for one run between two restarts."""

    def __init__(self, world: World, memory: Memory, defence: Defence) -> None:
        loop = asyncio.get_running_loop()
        self.world, self.memory, self.defence = world, memory, defence
        rand = world.draw.randbytes
        key = NodeKey(b"\x01" * 32)
        self.peers = PeerSet(
            key,
            Hello(5, "relay", (VERSION.capability,), 0, key.public_key),
            Handler(),
            options=PeeringOptions(eviction=defence.eviction),
            timers=loop,
            now=loop.time,
            rand=rand,
            on_bug=world.bug,
        )
        options = DialOptions(others_wait=120.0 if defence.shares else 0.0)
        kind = DialScheduler if defence.shares else _UnsharedScheduler
        self.scheduler = kind(self.peers, self, options=options, now=loop.time, rand=rand)
        self.mix = CandidateMix(
            (),
            own_key=key.public_key,
            now=loop.time,
            options=MixOptions(recent=60.0),
            wake=self.scheduler.wake,
        )
        self.scheduler.add_source(self.mix)
        if defence.anchors:
            self.scheduler.anchors = Anchors(memory.anchors, self.scheduler.is_connected, loop.time)
        self.peers.eviction.reputation = self

    async def run(self, seconds: float, watch: Callable[[Relay], None] = lambda _: None) -> None:
        """Live for some time, then be gone without a word."""
        async with asyncio.TaskGroup() as tasks:
            under_way = [
                tasks.create_task(each) for each in (self.scheduler.run(), self._offer(), self._save(watch))
            ]
            await asyncio.sleep(seconds)
            for task in under_way:
                task.cancel()
        self._keep()
        await self.peers.close(0.0)
        await asyncio.sleep(1.0)

    async def _offer(self) -> None:
        while True:
            if self.peers.dialed >= self.peers.options.max_dialed:  # as `Sources.wanted`
                await asyncio.sleep(OFFER)
                continue
            feed = self.mix.feed("database")
            for key in self.memory.dialed:
                feed.offer(node_of(key), "peer of before")
            for name, count in (("onion", 16), ("dht", 8)):
                for key in self.world.named(count):
                    self.mix.feed(name).offer(node_of(key), "named")
            await asyncio.sleep(OFFER)

    async def _save(self, watch: Callable[[Relay], None]) -> None:
        while True:
            watch(self)
            await asyncio.sleep(SAVE)
            self._keep()

    def _keep(self) -> None:
        now, sessions = self.peers.now(), self.peers.sessions()
        self.memory.acquaintances.note(sessions, self.merits(), now, self.world.unix)
        for each in sessions:
            if not each.inbound and each.public_key is not None:
                self.memory.dialed.pop(each.public_key, None)
                self.memory.dialed[each.public_key] = None
        self.memory.anchors = choose_anchors(sessions, now, self.first_seen, self.memory.anchors)

    # -- a Reputation ----------------------------------------------------------------------------------

    def merits(self) -> Mapping[PublicKey, Merit]:
        now = self.peers.now()
        return {
            each.public_key: self.world.merit(each.public_key, now - each.joined_at)
            for each in self.peers.sessions()
            if each.public_key is not None
        }

    def first_seen(self, public_key: PublicKey) -> float | None:
        return self.memory.acquaintances.first_seen(public_key)

    def introducer(self, public_key: PublicKey) -> str | None:
        """The worst case: the attacker's nodes are in our tables, as all others are."""
        return "onion"

    def wanted(self, public_key: PublicKey) -> bool:
        return False

    # -- connections -----------------------------------------------------------------------------------

    def connect(self, key: PublicKey, gone: Callable[[], None]) -> PeerSession | None:
        """Let somebody come in; None when it is turned away. `gone` is called when it ends otherwise."""
        session = self.peers.inbound_factory(Label.ONION)()
        session.connection_made(Wire(session, lambda: gone() if session.slot >= 0 else None))
        session.public_key = key
        return session if self._join(session) else None

    def _join(self, session: PeerSession) -> bool:
        if session.closing:
            return False
        session.eth = VERSION
        session.hello = self.peers.hello
        try:
            self.peers.admit(session)
            self.peers.join(session)
        except PeerError as error:
            session.disconnect(error.reason, str(error))
        return session.slot >= 0

    def plan(self, node: Node, *, allow_private: bool = False) -> DialPlan:
        return plan_dial(Mode.ONLY_ONION, node, allow_private=allow_private)

    async def dial_node(self, plan: DialPlan, protocol_factory: Callable[[], Any]) -> Dialed[Any]:
        await asyncio.sleep(self.world.draw.uniform(2.0, 15.0))  # circuits to an onion service
        if not self.world.answers(plan.public_key):
            raise ConnectFailed("no answer")
        session: PeerSession = protocol_factory()
        wire = Wire(session, lambda: None)
        session._transport = wire  # connection_made would begin the handshake
        session.connected_at = self.peers.now()
        self.peers._live.add(session)
        session.dialed_by(plan.targets[0].endpoint, Network.ONION, True)
        if self._join(session):
            self.world.dialed(plan.public_key, session)
        return Dialed(plan.targets[0].way, plan.targets[0].endpoint, wire, session)


class _UnsharedScheduler(DialScheduler):
    """As it was before sources had shares."""

    def _holds_enough(self, introducer: str) -> bool:
        return False


@dataclass(frozen=True)
class Attack:
    """Who attacks, and how.

    Attributes:
        identities: of the attacker, for each honest node.
        every: seconds between two tries of one identity to come in.
        merit: "none", "junk" (transactions that no block takes) or "works" (as good a relay as any).
    """

    identities: int = 10
    every: float = 600.0
    merit: str = "none"


class World:
    """Honest nodes that come and go, and an attacker who never tires.

    Args:
        seed: of everything.
        honest: nodes.
        up, down: mean seconds of an honest node's stay and absence.
        quiet: share of honest nodes that bring no transactions.
    """

    def __init__(
        self,
        seed: int,
        honest: int = 100,
        up: float = 8 * 3600.0,
        down: float = 2 * 3600.0,
        quiet: float = 0.2,
    ) -> None:
        self.draw = random.Random(seed)
        self.honest = [key_of("honest", number) for number in range(honest)]
        self.attack: Attack | None = None
        self.relay: Relay | None = None
        self._up, self._down = up, down
        self._is_up = {key: self.draw.random() < up / (up + down) for key in self.honest}
        self._sessions: dict[PublicKey, PeerSession] = {}
        self._included = {
            key: 0.0 if self.draw.random() < quiet else self.draw.lognormvariate(-1.0, 1.0)
            for key in self.honest
        }
        self._attackers: list[PublicKey] = []
        self._bugs: list[Exception] = []

    @property
    def unix(self) -> float:
        return 1_800_000_000.0 + asyncio.get_running_loop().time()

    def bug(self, error: Exception) -> None:
        raise error

    def begin(self, attack: Attack) -> None:
        self.attack = attack
        count = attack.identities * len(self.honest)
        self._attackers = [key_of("attacker", number) for number in range(count)]

    def is_honest(self, key: PublicKey | None) -> bool:
        return key in self._is_up

    def named(self, count: int) -> list[PublicKey]:
        """Nodes as a poisoned source names them: each as likely as any other, alive or not."""
        return self.draw.sample(self.honest + self._attackers, count)

    def answers(self, key: PublicKey) -> bool:
        """Honest nodes are away now and then, and mostly full; the attacker's have room for us."""
        return self._is_up[key] and self.draw.random() < 0.4 if key in self._is_up else True

    def dialed(self, key: PublicKey, session: PeerSession) -> None:
        if key in self._is_up:
            self._sessions[key] = session

    def merit(self, key: PublicKey, stayed: float) -> Merit:
        """What a peer has shown after a time: a minute for the first transactions to be mined."""
        if stayed < 60.0:
            return Merit()
        if key in self._included:
            included = self._included[key]
            return Merit(included, round(included * 20))
        assert self.attack is not None
        if self.attack.merit == "works":
            return Merit(0.4, 8)
        return Merit(0.0, 200) if self.attack.merit == "junk" else Merit()

    async def live(self, tries_every: float = 1800.0) -> None:
        """Let everybody do what they do, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for key in self.honest:
                tasks.create_task(self._come_and_go(key))
                tasks.create_task(self._knock(key, tries_every))
            tasks.create_task(self._flood())

    async def _come_and_go(self, key: PublicKey) -> None:
        while True:
            await asyncio.sleep(self.draw.expovariate(1 / (self._up if self._is_up[key] else self._down)))
            self._is_up[key] = not self._is_up[key]
            session = self._sessions.pop(key, None)
            if session is not None:
                session.disconnect(DisconnectReason.CLIENT_QUITTING)

    async def _knock(self, key: PublicKey, every: float) -> None:
        while True:
            await asyncio.sleep(self.draw.expovariate(1 / every))
            if self._is_up[key] and key not in self._sessions:
                self._enter(key)

    async def _flood(self) -> None:
        while True:
            if self.attack is None or self.relay is None:
                await asyncio.sleep(60.0)
                continue
            rate = len(self._attackers) / self.attack.every
            await asyncio.sleep(self.draw.expovariate(rate))
            key = self.draw.choice(self._attackers)
            if self.relay is not None and self.relay.peers.get(key) is None:
                self._enter(key)

    def _enter(self, key: PublicKey) -> None:
        if self.relay is None or self.relay.peers.knows(key):
            return
        session = self.relay.connect(key, lambda: self._lose(key))
        if session is not None and key in self._is_up:
            self._sessions[key] = session

    def _lose(self, key: PublicKey) -> None:
        self._sessions.pop(key, None)
