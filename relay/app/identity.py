"""One node as a network sees it: key, record, peers, pool, block range, discovery, listeners.

A process has one of them, or two that share none of this: see `relay.app.pair`.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from relay import __version__
from relay.app.anchor import PAUSE, follow_beacon
from relay.app.blobs import relay_options
from relay.app.capabilities import capability_handlers, make_hello
from relay.app.circuits import renew_credentials, rotate_peers
from relay.app.datadir import DataDir
from relay.app.discovering import Discovery
from relay.app.entry import is_near
from relay.app.i2pside import I2PSide
from relay.app.key_use import note_key_use
from relay.app.networks import current_fork_id
from relay.app.observer import PeerCounts
from relay.app.onion_gate import onion_gate
from relay.app.outward import WaysOut
from relay.app.peer_memory import remember_peers
from relay.app.pool_news import PoolNews
from relay.app.record import OwnRecord
from relay.app.sources import Sources
from relay.app.startup import naming
from relay.chain.networks import ChainConfig
from relay.peering.options import DialOptions, PeeringOptions
from relay.peering.peers import PeerSet
from relay.peering.scheduler import DialScheduler
from relay.peering.session import PeerSession
from relay.primitives.address import Address, TcpAddress
from relay.primitives.i2p import I2PAddress
from relay.primitives.keys import NodeKey, PublicKey
from relay.primitives.node import Node
from relay.primitives.onion import OnionAddress
from relay.relaying.blobs.process import KzgProcess
from relay.relaying.handler import EthRelay
from relay.settings import Settings
from relay.settings.identities import Side
from relay.transports.first_byte import Gate
from relay.transports.listener import Label, serve
from relay.transports.sockets import SocketFactory

__all__ = ["CLIENT", "Identity", "Process"]

log = structlog.get_logger("relay.app")

CLIENT: Final = f"pyrelay/v{__version__}"
"""The name that peers see: one constant in every mode, without system, build or Python version."""
GOODBYE_SECONDS: Final = 2.0
ONION_SOCKET_MODE: Final = 0o666
"""Tor delivers as another user: the folder says who may connect; a port on 127.0.0.1 takes anybody, too."""


@dataclass(frozen=True, slots=True)
class Process:
    """What the identities of one process share: nothing that a peer sees.

    Attributes:
        chain: the network.
        sockets: makes all sockets.
        verifier: of blobs; None where none are relayed.
        on_bug: takes exceptions that are no peer's fault.
    """

    chain: ChainConfig
    sockets: SocketFactory
    verifier: KzgProcess | None
    on_bug: Callable[[Exception], None]


class Identity:
    """A node.

    Args:
        settings: its own (`relay.settings.identities`).
        process: what it shares.
        key: of it and of nobody else.
        data: where its state is kept; its own as well.
        ways: out of this host, that it may use.
        side: which of two it is; None for the only one.
        is_mine: says why a node is not for this identity; None where it is.

    Attributes:
        twin: the other identity, where there are two.
        listeners: where its peers come in, by label.
        onion: its onion address and port while it is published.
        i2p: its I2P address while it can be reached.
        news: of its pool.
    """

    def __init__(
        self,
        settings: Settings,
        process: Process,
        key: NodeKey,
        data: DataDir,
        ways: WaysOut,
        *,
        side: Side | None = None,
        is_mine: Callable[[Node], str | None] | None = None,
    ) -> None:
        note_key_use(settings, data, key.public_key)
        loop = asyncio.get_running_loop()
        chain = process.chain
        self.settings, self.key, self.data, self.ways, self.side = settings, key, data, ways, side
        self._process = process
        self._gate: Gate | None = None
        self._i2p_gate: Gate | None = None
        self._tcp_port: int | None = None
        self.twin: Identity | None = None
        self.listeners: dict[str, Address] = {}
        self.onion: tuple[str, int] | None = None
        self.i2p: I2PAddress | None = None
        self.counts = PeerCounts(loop.time, self._joined)
        self.eth = EthRelay(
            chain, relay_options(settings), loop, time.time, secrets.token_bytes, process.verifier
        )
        self.news = PoolNews(self.eth.pool)
        self.peers = self._make_peers()
        self.scheduler = self._make_scheduler()
        self.sources = Sources(settings, chain, self.peers, data, self.scheduler.wake, is_mine)
        self.scheduler.add_source(self.sources.mix)
        remember_peers(settings, data, self.peers, self.scheduler, self.sources, self.eth)
        self.record = OwnRecord(key, data, fork_id=lambda: current_fork_id(chain))
        self.discovery = Discovery(settings, chain, key, self.record, self.sources, data)

    def _joined(self, session: PeerSession) -> None:
        self.discovery.joined(session)

    def _make_peers(self) -> PeerSet:
        loop, settings = asyncio.get_running_loop(), self.settings
        return PeerSet(
            self.key,
            make_hello(CLIENT, self.key, settings.eth_versions),
            self.eth,
            options=PeeringOptions(
                max_peers=settings.maxpeers, dial_ratio=settings.dial_ratio, max_pending=settings.maxpendpeers
            ),
            timers=loop,
            now=loop.time,
            rand=secrets.token_bytes,
            on_bug=self._process.on_bug,
            observer=self.counts,
            handlers=capability_handlers(self.eth),
        )

    def _make_scheduler(self) -> DialScheduler:
        settings = self.settings
        return DialScheduler(
            self.peers,
            self.ways.nodes,
            options=DialOptions(max_pending=settings.maxpendpeers, allow_private=is_near(settings)),
            now=asyncio.get_running_loop().time,
            rand=secrets.token_bytes,
            observer=self.counts,
            elsewhere=self._is_the_twin_s,
        )

    def _is_the_twin_s(self, public_key: PublicKey) -> bool:
        return self.twin is not None and self.twin.holds(public_key)

    def holds(self, public_key: PublicKey) -> bool:
        """Tell whether a node is this identity's: a peer or about to be one, named by the user, or itself."""
        scheduler = self.scheduler
        return (
            self.peers.knows(public_key)
            or scheduler.is_static(public_key)
            or scheduler.is_dialing(public_key)
            or public_key == self.key.public_key
        )

    # -- life ------------------------------------------------------------------------------------------

    @property
    def labels(self) -> frozenset[Label]:
        """The listeners that its settings ask for."""
        clearnet = () if self.settings.mode.hides_ip else (Label.CLEARNET,)
        onion = (Label.ONION,) if self.settings.wants_onion_service else ()
        return frozenset((*clearnet, *onion))

    def listen(self, tasks: asyncio.TaskGroup) -> None:
        """Take connections.

        Raises:
            LocalError: an address is taken; the text names the flag.
        """
        self.peers.start()
        self.eth.start(self._phase())
        settings = self.settings
        if Label.CLEARNET in self.labels:
            with naming("--port"):
                place = TcpAddress(settings.listen_address, settings.port)
                address = self._open(tasks, Label.CLEARNET, place)
            assert isinstance(address, TcpAddress)
            self._tcp_port = address.port
            self.record.listens(address.port)
        if Label.ONION in self.labels:
            with naming("--onion-listen"):
                self._open(tasks, Label.ONION, settings.onion_listener)

    def _phase(self) -> float:
        """Draw when in a second the rounds of housekeeping are: two identities must not share that."""
        if self.side is None:
            return 0.0
        return self.eth.options.tick * int.from_bytes(secrets.token_bytes(6), "big") / (1 << 48)

    def _open(self, tasks: asyncio.TaskGroup, label: Label, address: Address) -> Address:
        factory, has_room = self._inbound(label, tasks)
        listener = serve(
            tasks, self._process.sockets, address, factory, label, has_room=has_room, mode=ONION_SOCKET_MODE
        )
        self.listeners[label] = listener.address
        log.info("listening", listener=str(label), address=str(listener.address))
        return listener.address

    def _inbound(
        self, label: Label, tasks: asyncio.TaskGroup
    ) -> tuple[Callable[[], asyncio.BaseProtocol], Callable[[], bool]]:
        """Who takes connections: peers, and on the onion's port discovery as well."""
        peers = self.peers.inbound_factory(label), self.peers.has_room
        if label is not Label.ONION:
            return peers
        onion = self.discovery.make_onion(self.ways, tasks)
        self._gate = gate = onion_gate(
            peers,
            None if onion is None else onion.streams,
            shows_circuits=self.settings.shows_circuits,
            waiting=self.peers.options.max_waiting,
        )
        return peers if gate is None else (gate.protocol, gate.has_room)

    async def discover(self, tasks: asyncio.TaskGroup) -> None:
        """Begin to look for peers.

        Raises:
            LocalError: the UDP port is taken.
        """
        await self.discovery.begin(self._process.sockets, self.ways, tasks, self._tcp_port)

    def begin(self, tasks: asyncio.TaskGroup) -> None:
        """Dial."""
        tasks.create_task(self.scheduler.run())
        tasks.create_task(self.sources.run())
        tasks.create_task(rotate_peers(self.settings, self.ways, self.peers, self.scheduler))
        tasks.create_task(renew_credentials(self.settings, self.ways))

    def follow(self, whole: Settings, ways: WaysOut, tasks: asyncio.TaskGroup) -> None:
        """Follow a consensus node, where the whole relay's settings name one; each at its own pace."""
        share = int.from_bytes(secrets.token_bytes(2), "big") / 0xFFFF
        ranges, pause = self.eth.ranges, PAUSE * (1.0 + share / 2)
        tasks.create_task(follow_beacon(whole, self._process.sockets, ways, ranges, pause))

    def save(self) -> None:
        """Remember peers, and sign the record anew if a fork has passed."""
        self.sources.save()
        self.record.refresh()

    def stop(self) -> None:
        """End what needs no time."""
        self.sources.save()
        self.discovery.stop()
        for gate in (self._gate, self._i2p_gate):
            if gate is not None:
                gate.close()

    async def goodbye(self) -> None:
        """Say goodbye to the peers."""
        await self.peers.close(GOODBYE_SECONDS)

    # -- the onion service -----------------------------------------------------------------------------

    def onion_up(self, address: OnionAddress) -> None:
        """Peers can reach it by its onion address."""
        port = self.settings.onion_port
        self.onion = (address, port)
        if not self.settings.is_private:
            self.record.publish(address, port)
        self.discovery.record_changed()
        self.scheduler.network_back()
        log.info("onion service up", onion=address, port=port)

    def onion_down(self) -> None:
        """They no longer can."""
        self.onion = None
        self.record.withdraw()
        self.discovery.record_changed()

    # -- I2P -------------------------------------------------------------------------------------------

    def serve_i2p(self, side: I2PSide, tasks: asyncio.TaskGroup) -> None:
        """Take peers and discovery that come in over I2P, whenever the router has us."""
        peers = self.peers.inbound_factory(Label.I2P), self.peers.has_room
        over = self.discovery.make_i2p(self.ways, tasks)
        self._i2p_gate = gate = onion_gate(
            peers,
            None if over is None else over.streams,
            shows_circuits=False,
            waiting=self.peers.options.max_waiting,
        )
        factory, has_room = peers if gate is None else (gate.protocol, gate.has_room)
        tasks.create_task(side.run(factory, has_room, on_up=self._i2p_up, on_down=self._i2p_down), name="i2p")

    def _i2p_up(self, address: I2PAddress) -> None:
        self.i2p = address
        self.record.publish_i2p(address)
        self.discovery.record_changed()
        self.scheduler.network_back()

    def _i2p_down(self) -> None:
        self.i2p = None
        self.record.publish_i2p(None)
        self.discovery.record_changed()
