"""Discovery as the daemon runs it: which sources its mode has, and how each feeds the mix."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Final

import structlog

from relay.app.datadir import DataDir
from relay.app.discovery_counts import count_core, count_v4
from relay.app.entry import entry_nodes, i2p_entries, list_links, onion_entries
from relay.app.onions import OnionDiscovery
from relay.app.outward import WaysOut
from relay.app.record import OwnRecord
from relay.app.sources import Sources
from relay.chain.networks import ChainConfig
from relay.discovery.driver import CoreDriver, NoAnswer
from relay.discovery.memory import NodeMemory
from relay.discovery.nat import External, make_nat
from relay.discovery.onion_stream import End
from relay.discovery.rendezvous import Rendezvous
from relay.discovery.udp import ClearnetDiscovery
from relay.discovery.v4 import V4Driver
from relay.discovery.walker import ONION_PACE, UDP_PACE, Pace, Walker
from relay.observe.snapshot import DiscoveryCounts, FeedCounts
from relay.peering.session import PeerSession
from relay.primitives.address import TcpAddress
from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.keys import NodeId, NodeKey, PublicKey
from relay.primitives.node import Node
from relay.protocols.dht import ProviderRecord, RendezvousKeys, rendezvous_keys
from relay.protocols.discv4 import events as v4_events
from relay.protocols.discv5 import Contact, Event, NodeVerified
from relay.settings import Settings
from relay.transports.sockets import SocketFactory

__all__ = ["Discovery"]

log = structlog.get_logger("relay.app")

SAVE_SECONDS: Final = 5.0  # what was learned since is what kill -9 costs; nothing new writes nothing
SEQS: Final = "dns_lists.json"
UNWANTED: Final = frozenset({End.MALFORMED, End.UNPROVED, End.SLOW, End.FULL})
ENOUGH_ONIONS: Final = 16  # nodes in the onion table; with fewer, peers that we dialed lead into the network
UDP_NETWORKS: Final = (Network.IPV4, Network.IPV6)


class Discovery:
    """All sources of peers of one daemon, from `begin` on.

    Args:
        settings: the flags.
        chain: ours.
        key: the node key.
        record: our own.
        sources: mix and database.
        data: for what outlives a restart.

    Attributes:
        udp: discv5 and discv4, where the mode has them.
        onion: discv5 over onion streams, likewise.
        i2p: discv5 over I2P streams, likewise.
        walkers: by feed.
    """

    def __init__(
        self,
        settings: Settings,
        chain: ChainConfig,
        key: NodeKey,
        record: OwnRecord,
        sources: Sources,
        data: DataDir,
    ) -> None:
        self._settings, self._chain, self._key, self._record = settings, chain, key, record
        self._sources, self._data = sources, data
        self._names = settings.sources
        self._entry = entry_nodes(settings, chain)
        self._memories: list[NodeMemory] = []
        self._closing: list[Callable[[], None]] = []
        self.udp: ClearnetDiscovery | None = None
        self.onion: OnionDiscovery | None = None
        self.i2p: OnionDiscovery | None = None
        self.walkers: dict[str, Walker] = {}

    def make_onion(self, ways: WaysOut, tasks: asyncio.TaskGroup) -> OnionDiscovery | None:
        """Make the onion side, for the listener to hand its streams to; `begin` starts it."""
        if "onion" in self._names and ways.socks is not None:
            self.onion = OnionDiscovery(
                self._key,
                lambda: self._record.onion_record,
                ways,
                onion_entries(self._entry),
                tasks=tasks,
                dht="dht" in self._names,
            )
        return self.onion

    def make_i2p(self, ways: WaysOut, tasks: asyncio.TaskGroup) -> OnionDiscovery | None:
        """Make the I2P side, likewise."""
        if "i2p" in self._names and ways.i2p is not None:
            self.i2p = OnionDiscovery(
                self._key,
                lambda: self._record.onion_record,
                ways,
                i2p_entries(self._entry),
                tasks=tasks,
                dht=False,
                over=Network.I2P,
            )
        return self.i2p

    async def begin(
        self, sockets: SocketFactory, ways: WaysOut, tasks: asyncio.TaskGroup, tcp_port: int | None
    ) -> None:
        """Start all sources.

        Args:
            sockets: for UDP and the system's resolvers, where the mode has them.
            ways: out through Tor.
            tasks: where everything lives.
            tcp_port: of the clearnet listener, whose UDP port is the same.

        Raises:
            LocalError: the UDP port is taken.
        """
        self._warn_of_useless_bootnodes()
        if self._names & {"v4", "v5"}:
            assert tcp_port is not None
            await self._begin_udp(sockets, tcp_port, tasks)
        # Without a service of our own nothing comes in, but others can be asked.
        onion = self.onion or self.make_onion(ways, tasks)
        if onion is not None:
            self._begin_onion(onion, tasks)
        if self.i2p is not None:
            self._begin_streams("i2p", self.i2p, Network.I2P, tasks)
        if "dns" in self._names:
            self._begin_dns(sockets, ways, tasks)
        tasks.create_task(self._save_now_and_then(), name="node database")

    def _warn_of_useless_bootnodes(self) -> None:
        """Say so when the user's bootnodes are all of networks that no source here enters."""
        if not self._settings.bootnodes or not self._names:
            return
        fitting = {"onion"} & self._names if onion_entries(self._entry) else set()
        fitting |= {"i2p"} & self._names if i2p_entries(self._entry) else set()
        if any(not isinstance(each, Node) or each.ips for each in self._entry):
            fitting |= {"v4", "v5"} & self._names
        if not fitting:
            log.warning(
                "no source of nodes can enter by these bootnodes", sources=",".join(sorted(self._names))
            )

    def joined(self, session: PeerSession) -> None:
        """Let a peer that we dialed lead into its hidden network, while few nodes of that are known."""
        endpoint = session.endpoint
        if session.inbound or session.public_key is None or endpoint is None:
            return
        over = {Network.ONION: self.onion, Network.I2P: self.i2p}.get(endpoint.network)
        if over is not None and len(over.driver.core.table) < ENOUGH_ONIONS:
            over.driver.add_node(Node(session.public_key, (endpoint,)))

    def known_key(self, node: NodeId) -> PublicKey | None:
        """Find the public key of a node id of the onion network."""
        entry = None if self.onion is None else self.onion.driver.core.table.entries.get(node)
        if entry is not None:
            return entry.contact.record.public_key
        record = self._sources.database.get(node, Network.ONION)
        return None if record is None else record.public_key

    def record_changed(self) -> None:
        """Write to the DHT anew what our record says."""
        if self.onion is not None and self.onion.dht is not None:
            self.onion.dht.renew(asyncio.get_running_loop().time())
            self.onion.driver.flush()

    def stop(self) -> None:
        """End everything, and save what was learned."""
        if self.udp is not None:
            self.udp.stop()
        for over in (self.onion, self.i2p):
            if over is not None:
                over.stop()
        for close in self._closing:
            close()
        for memory in self._memories:
            memory.save()

    # -- UDP -------------------------------------------------------------------------------------------

    async def _begin_udp(self, sockets: SocketFactory, tcp_port: int, tasks: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        self.udp = udp = ClearnetDiscovery(
            self._key,
            lambda: self._record.record,
            clock=loop,
            unix=time.time,
            rand=secrets.token_bytes,
            v4="v4" in self._names,
            v5="v5" in self._names,
            bootnodes=self._entry,
        )
        udp.on_endpoint = self._told_endpoint
        await udp.start(sockets, self._settings.listen_address, tcp_port)
        self._record.listens_udp(udp.port)
        bound = TcpAddress(self._settings.listen_address, udp.port)
        if not bound.is_wildcard:
            self._record.seen_at(Endpoint.parse(bound.host, bound.port).network, bound.host)
        if udp.v5 is not None:
            self._feed_from("v5", udp.v5, UDP_PACE, tasks)
        if udp.v4 is not None:
            self._feed_from_v4(udp.v4, tasks)
        for seed in self._memories[0].seeds(UDP_NETWORKS):
            udp.add_node(seed)
        nat = make_nat(self._settings.nat, sockets, tcp=tcp_port, udp=udp.port, rand=secrets.token_bytes)
        tasks.create_task(nat.run(self._mapped), name="nat")

    def _told_endpoint(self, endpoint: Endpoint) -> None:
        if self._settings.nat.ip is None:
            log.info("others agree on our endpoint", network=str(endpoint.network), port=endpoint.port)
            self._record.seen_at(endpoint.network, endpoint.host)

    def _mapped(self, external: External | None) -> None:
        if external is None:
            for network in UDP_NETWORKS:
                self._record.seen_at(network, None)
        else:
            self._record.listens(external.tcp)
            self._record.listens_udp(external.udp)
            self._record.seen_at(Endpoint.parse(external.ip, external.udp).network, external.ip)

    def _feed_from_v4(self, driver: V4Driver, tasks: asyncio.TaskGroup) -> None:
        feed, memory = self._sources.mix.feed("v4"), self._memory("v4")

        def heard(event: v4_events.Event) -> None:
            match event:
                case v4_events.RecordReceived(contact) | v4_events.Proved(contact) if (
                    contact.record is not None
                ):
                    memory.proved(contact.record, contact.endpoint.network)
                    feed.offer(Node.from_record(contact.record), "answered")
                case v4_events.Left(contact):
                    memory.failed(contact.node_id)

        driver.listen(heard)
        tasks.create_task(self._walk_v4(driver), name="walk v4")

    async def _walk_v4(self, driver: V4Driver) -> None:
        """Look random ids up while candidates are wanted; the core asks whom it meets for their records."""
        while True:
            await asyncio.sleep(UDP_PACE.shortest)
            if self._sources.wanted("v4"):
                with suppress(NoAnswer):
                    await driver.lookup()

    # -- discv5 on either network ----------------------------------------------------------------------

    def _feed_from(self, name: str, driver: CoreDriver, pace: Pace, tasks: asyncio.TaskGroup) -> None:
        feed, memory = self._sources.mix.feed(name), self._memory(name)

        def heard(event: Event) -> None:
            memory.take(event)
            if isinstance(event, NodeVerified):
                feed.offer(Node.from_record(event.contact.record), "answered")

        def met(contact: Contact) -> bool:
            return feed.offer(Node.from_record(contact.record), "met on a walk")

        driver.listen(heard)
        walker = self.walkers[name] = Walker(
            driver.lookup,
            met,
            hungry=lambda: self._sources.wanted(name),
            rand=secrets.token_bytes,
            sleep=asyncio.sleep,
            pace=pace,
        )
        tasks.create_task(walker.run(), name=f"walk {name}")

    def _begin_onion(self, onion: OnionDiscovery, tasks: asyncio.TaskGroup) -> None:
        self._begin_streams("onion", onion, Network.ONION, tasks)
        if onion.providers is not None:
            rendezvous = Rendezvous(
                onion.providers,
                self._rendezvous_keys,
                lambda provider: self._found_provider(onion, provider),
                hungry=lambda: self._sources.wanted("dht"),
                rand=secrets.token_bytes,
                unix=time.time,
                sleep=asyncio.sleep,
            )
            tasks.create_task(rendezvous.run(), name="rendezvous")

    def _begin_streams(
        self, name: str, over: OnionDiscovery, network: Network, tasks: asyncio.TaskGroup
    ) -> None:
        self._feed_from(name, over.driver, ONION_PACE, tasks)
        for seed in self._memories[-1].seeds((network,)):
            over.driver.add_node(seed)
        tasks.create_task(over.run(), name=f"{name} discovery")

    def _rendezvous_keys(self, unix: float) -> RendezvousKeys:
        return rendezvous_keys(self._chain.genesis_hash, self._chain.chain_id, unix, self._key.node_id)

    def _found_provider(self, onion: OnionDiscovery, provider: ProviderRecord) -> bool:
        onion.driver.add_node(provider.enr)
        return self._sources.mix.feed("dht").offer(Node.from_record(provider.enr), "provides our chain")

    # -- DNS -------------------------------------------------------------------------------------------

    def _begin_dns(self, sockets: SocketFactory, ways: WaysOut, tasks: asyncio.TaskGroup) -> None:
        links = list_links(self._settings, self._chain)
        if not links:
            log.info("no lists in the dns", network=self._chain.name)
            return
        # Imported when asked for: dnspython is 3 MB, which a relay without lists need not hold.
        from relay.discovery.dns.lists import DnsLists  # noqa: PLC0415
        from relay.discovery.dns.resolvers import make_resolver  # noqa: PLC0415

        feed = self._sources.mix.feed("dns")
        servers = self._settings.dns_resolver or ()
        resolver = make_resolver(self._settings.mode, sockets, ways.lists, servers, rand=secrets.token_bytes)
        self._closing.append(resolver.close)
        lists = DnsLists(
            links,
            resolver,
            lambda record, domain: feed.offer(Node.from_record(record), domain),
            hungry=lambda: self._sources.wanted("dns"),
            clock=asyncio.get_running_loop(),
            rand=secrets.token_bytes,
            seqs=_seqs(self._data.load_state(SEQS)),
            save=lambda seqs: self._data.save_state(SEQS, dict(seqs)),
        )
        tasks.create_task(lists.run(), name="dns lists")

    # -- memory ----------------------------------------------------------------------------------------

    def _memory(self, name: str) -> NodeMemory:
        memory = NodeMemory(self._sources.database, name, time.time)
        self._memories.append(memory)
        return memory

    # -- what is told ----------------------------------------------------------------------------------

    def counts(self) -> dict[str, DiscoveryCounts]:
        """What each protocol has and has done, by feed."""
        found = {}
        if self.udp is not None and self.udp.v5 is not None:
            found["v5"] = count_core(self.udp.v5, self.walkers["v5"])
        if self.udp is not None and self.udp.v4 is not None:
            found["v4"] = count_v4(self.udp.v4, self.udp.stats.refused)
        for name, over in self._over_streams():
            streams = over.streams.stats
            counts = count_core(over.driver, self.walkers[name])
            found[name] = replace(counts, streams=streams.dialed + streams.accepted)
        return found

    def feeds(self) -> dict[str, FeedCounts]:
        """What the feeds of the mix hold and have refused."""
        feeds = self._sources.mix.feeds
        return {each.name: FeedCounts(len(each), each.taken, dict(each.refused)) for each in feeds}

    def dropped(self) -> dict[str, dict[str, int]]:
        """What went wrong below the protocols, by way and reason."""
        found = {}
        if self.udp is not None:
            found["udp"] = dict(self.udp.stats.dropped + self.udp.lost)
        for name, over in self._over_streams():
            streams = over.streams.stats
            ended = {why.value: count for why, count in streams.ended.items() if why in UNWANTED}
            unsent = {why.value: count for why, count in streams.dropped.items()}
            found[name] = ended | unsent | {"dial_failed": streams.dials_failed}
        return found

    def _over_streams(self) -> Iterator[tuple[str, OnionDiscovery]]:
        for name, over in (("onion", self.onion), ("i2p", self.i2p)):
            if over is not None and name in self.walkers:
                yield name, over

    def dht(self) -> dict[str, int]:
        """What the provider DHT keeps and does."""
        layer = None if self.onion is None else self.onion.dht
        if layer is None:
            return {}
        return {
            "records": len(layer.store),
            "keys": layer.store.keys,
            "providing": layer.providing,
            "finding": layer.finding,
            "bad_answers": layer.bad,
        }

    async def _save_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(SAVE_SECONDS)
            for memory in self._memories:
                memory.save()


def _seqs(state: object) -> dict[str, int]:
    """Sequence numbers of lists from an earlier run; a file that holds something else counts as none."""
    if not isinstance(state, dict):
        return {}
    return {url: seq for url, seq in state.items() if type(seq) is int and 0 <= seq < 1 << 63}
