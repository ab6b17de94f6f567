"""A node of the discovery network without a daemon, for commands: a key for the occasion, the mode's rules.

What it may reach follows from the same settings as the daemon's: in modes that hide the IP there is no UDP
socket, and onions are reached through Tor. It has no data folder, serves nothing and tells nobody an address.
"""

from __future__ import annotations

import asyncio
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from relay import __version__
from relay.app.entry import entry_nodes, is_near, list_links, onion_entries
from relay.app.networks import load_network, preset_names
from relay.app.occasion import passing_tasks
from relay.app.onions import OnionDiscovery
from relay.app.outward import WaysOut, proxy_address, socket_rules, ways_out
from relay.app.torside import BOOTSTRAPPED, make_launched
from relay.chain.forknames import ForkNames
from relay.chain.networks import ChainConfig
from relay.discovery.bootnodes import Bootnode
from relay.discovery.crawl_lists import LIST_CRAWL, ListSource, MakeLists, Others
from relay.discovery.crawl_sources import CoreSource, V4Source
from relay.discovery.crawled import Client, CrawledNode
from relay.discovery.crawler import CLEARNET_CRAWL, ONION_CRAWL, V4_CRAWL, CrawlOptions, Source
from relay.discovery.driver import CoreDriver
from relay.discovery.hello import HelloOptions, ask_hello
from relay.discovery.mix import dialable_in
from relay.discovery.udp import ClearnetDiscovery
from relay.primitives.enode import Enode
from relay.primitives.enr import NodeRecord, build_record
from relay.primitives.errors import UsageError
from relay.primitives.keys import NodeKey
from relay.primitives.node import Node
from relay.protocols.devp2p.messages import P2P_VERSION, Hello
from relay.protocols.discv5 import Contact
from relay.protocols.dnsdisc.entries import Link
from relay.protocols.dnsdisc.sync import SyncOptions
from relay.protocols.eth.versions import BY_VERSION
from relay.settings import Settings
from relay.tor.control import TorControl
from relay.tor.launched import LaunchedTor
from relay.tor.status import StatusBoard
from relay.transports.dialer import NodeDialer
from relay.transports.policy import Mode
from relay.transports.sockets import SocketFactory

__all__ = ["StandaloneNode", "known_forks", "standalone_discovery"]

UDP: Final = frozenset({"v4", "v5"})
ONION_NETWORK: Final = frozenset({"onion"})
LISTS: Final = frozenset({"dns"})
CRAWLABLE: Final = UDP | ONION_NETWORK | LISTS
LIST_RATE: Final = SyncOptions(rate=10.0, burst=10)  # questions a second: a person waits
CLIENT: Final = f"pyrelay/v{__version__}"  # as the daemon's: one constant in every mode
LOOK: Final = 0.5  # seconds between two looks how far Tor is
TOR_HELLOS: Final = 6  # at a time: the dialer's own pace is what counts


@dataclass(slots=True)
class StandaloneNode:
    """What is there between start and end.

    Attributes:
        key: made for the occasion.
        mode: of the settings.
        chain: of the settings.
        entry: nodes to enter by.
        udp: discv5 and discv4 on one port; None where the mode has no UDP, or neither was asked for.
        onion: discv5 over onion streams; None without Tor, or where it was not asked for.
        lists: makes what reads the lists in the DNS; None where there are none, or they were not asked for.
        tasks: where all of it lives.
        dialer: reaches peers as the mode allows.
        allow_private: addresses of private networks may be dialed, since the user's own nodes are there.
    """

    key: NodeKey
    mode: Mode
    chain: ChainConfig
    entry: tuple[Bootnode, ...]
    dialer: NodeDialer
    allow_private: bool
    tasks: asyncio.TaskGroup
    udp: ClearnetDiscovery | None = None
    onion: OnionDiscovery | None = None
    lists: MakeLists | None = None

    def crawl_sources(self) -> list[tuple[Source, CrawlOptions]]:
        """Return what can be crawled, and how fast it may be."""
        found: list[tuple[CoreSource | V4Source, CrawlOptions]] = []
        rand = secrets.token_bytes
        if self.udp is not None and self.udp.v5 is not None:
            v5 = CoreSource("v5", self.udp.v5, self._contacts(self.udp.v5), rand=rand)
            found.append((v5, CLEARNET_CRAWL))
        if self.udp is not None and self.udp.v4 is not None:
            found.append((V4Source(self.udp.v4), V4_CRAWL))
        if self.onion is not None:
            driver = self.onion.driver
            onion = CoreSource("onion", driver, self._contacts(driver), rand=rand, budgeted=True)
            found.append((onion, ONION_CRAWL))
        if self.lists is None:
            return [*found]
        source = ListSource(self.lists, self._others([each for each, _ in found]), tasks=self.tasks)
        return [*found, (source, LIST_CRAWL)]

    def _others(self, sources: Sequence[CoreSource | V4Source]) -> Others:
        refusal = dialable_in(self.mode, allow_private=self.allow_private)
        return Others(
            hand_on=lambda record: True in [source.offer(record) for source in sources],  # each is told
            dialable=lambda record: refusal(Node.from_record(record)) is None,
            ask=self.ask_hello,
        )

    def _contacts(self, driver: CoreDriver) -> list[Contact]:
        contacts = [driver.core.contact(each) for each in self.entry if isinstance(each, Node)]
        return [each for each in contacts if each.address is not None]

    @property
    def hello_options(self) -> HelloOptions:
        """How fast nodes may be asked for their names."""
        return HelloOptions(dials=TOR_HELLOS) if self.mode.hides_ip else HelloOptions()

    async def ask_hello(self, node: CrawledNode) -> Client:
        """Ask a node for its client's name; raises NoHello."""
        capabilities = tuple(version.capability for version in BY_VERSION.values())
        hello = Hello(P2P_VERSION, CLIENT, capabilities, 0, self.key.public_key)
        return await ask_hello(
            self.dialer, node, self.key, hello, rand=secrets.token_bytes, allow_private=self.allow_private
        )


@asynccontextmanager
async def standalone_discovery(
    settings: Settings,
    *,
    say: Callable[[str], None] = lambda words: None,
    dht: bool = False,
) -> AsyncIterator[StandaloneNode]:
    """Run discovery as the settings ask for it, until the block ends.

    Args:
        settings: the daemon's flags. Its port is left to a daemon: any free one is used.
        say: told what takes long, for a person.
        dht: whether the onion side has the provider DHT on top.

    Raises:
        UsageError: there is nothing to look with, or nobody to begin with.
        LocalError: no socket, or Tor does not start.
    """
    with ExitStack() as stack:
        if settings.tor_launch:  # in a folder for the occasion: the data folder's Tor may be running
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="pyrelay-"))
            settings = replace(settings, datadir=Path(folder))
        maker = _Maker(settings, say, dht=dht)
        async with passing_tasks() as tasks:
            try:
                yield await maker.start(tasks)
            finally:
                maker.stop()


def known_forks(settings: Settings) -> ForkNames:
    """Return the names of the forks of the network that was asked for, and of all that are shipped."""
    return ForkNames([load_network(settings.network), *(load_network(name) for name in preset_names())])


class _Maker:
    """Builds the parts in order, and ends them."""

    def __init__(self, settings: Settings, say: Callable[[str], None], *, dht: bool) -> None:
        self._settings, self._say, self._dht = settings, say, dht
        self._launched: LaunchedTor | None = make_launched(settings, lambda: self._sockets)
        self._sockets = SocketFactory(socket_rules(settings, self._launched))
        self._node: StandaloneNode | None = None
        self._closing: list[Callable[[], None]] = []

    async def start(self, tasks: asyncio.TaskGroup) -> StandaloneNode:
        settings = self._settings
        chain = load_network(settings.network)
        links = list_links(settings, chain)
        names = settings.sources & (CRAWLABLE if links else CRAWLABLE - LISTS)
        if not names:
            raise UsageError(
                f"--discovery {','.join(sorted(settings.sources)) or 'off'} leaves nothing to look with:"
                " one of v4, v5, onion is needed, or dns and a list"
            )
        entry = _entry(settings, chain, names)
        ways = ways_out(settings.mode, self._sockets, proxy_address(settings, self._launched), tuple)
        self._node = node = StandaloneNode(
            key=NodeKey.generate(secrets.token_bytes),
            mode=settings.mode,
            chain=chain,
            entry=entry,
            dialer=ways.nodes,
            allow_private=is_near(settings),
            tasks=tasks,
        )
        if self._launched is not None:
            await self._start_tor(self._launched, tasks)
        if names & UDP:
            node.udp = await self._start_udp(node, names)
        if "onion" in names and ways.socks is not None:
            node.onion = self._start_onion(node, ways, tasks)
        if names & LISTS:
            node.lists = self._lists(links, ways)
        return node

    def stop(self) -> None:
        """End what has begun; sockets are closed when this returns."""
        node = self._node
        if node is not None and node.udp is not None:
            node.udp.stop()
        if node is not None and node.onion is not None:
            node.onion.stop()
        for close in self._closing:
            close()

    def _lists(self, links: Sequence[Link], ways: WaysOut) -> MakeLists:
        # Imported when asked for: dnspython is 3 MB.
        from relay.discovery.dns.lists import DnsLists  # noqa: PLC0415
        from relay.discovery.dns.resolvers import make_resolver  # noqa: PLC0415

        settings, rand = self._settings, secrets.token_bytes
        servers = settings.dns_resolver or ()
        resolver = make_resolver(settings.mode, self._sockets, ways.lists, servers, rand=rand)
        self._closing.append(resolver.close)
        clock = asyncio.get_running_loop()
        return lambda take: DnsLists(
            links, resolver, take, hungry=lambda: True, clock=clock, rand=rand, options=LIST_RATE
        )

    async def _start_tor(self, launched: LaunchedTor, tasks: asyncio.TaskGroup) -> None:
        await launched.prepare()
        started = asyncio.Event()
        tasks.create_task(launched.run(started.set))
        await started.wait()
        self._say("waiting for Tor to connect")
        board = StatusBoard()
        async with TorControl.connect(launched.open_control) as control:
            while board.status.bootstrap_percent < BOOTSTRAPPED:
                await asyncio.sleep(LOOK)
                board.take_bootstrap(await control.get_info("status/bootstrap-phase"))

    async def _start_udp(self, node: StandaloneNode, names: frozenset[str]) -> ClearnetDiscovery:
        record = _blank_record(node.key)
        udp = ClearnetDiscovery(
            node.key,
            lambda: record,
            clock=asyncio.get_running_loop(),
            unix=time.time,
            rand=secrets.token_bytes,
            v4="v4" in names,
            v5="v5" in names,
            bootnodes=node.entry,
        )
        await udp.start(self._sockets, self._settings.listen_address, 0)
        return udp

    def _start_onion(self, node: StandaloneNode, ways: WaysOut, tasks: asyncio.TaskGroup) -> OnionDiscovery:
        record = _blank_record(node.key)
        onion = OnionDiscovery(
            node.key, lambda: record, ways, onion_entries(node.entry), tasks=tasks, dht=self._dht
        )
        tasks.create_task(onion.run())
        return onion


def _blank_record(key: NodeKey) -> NodeRecord:
    """A record that names no address: nobody shall keep a node in mind that is gone in a minute."""
    return build_record(key, 1)


def _entry(settings: Settings, chain: ChainConfig, names: frozenset[str]) -> tuple[Bootnode, ...]:
    """Take the nodes that the chosen networks can reach.

    Raises:
        UsageError: there is none, and no list; or none of those that the user gave.
    """
    found = tuple(node for node in entry_nodes(settings, chain) if _networks(node) & names)
    if not found and (settings.bootnodes or not names & LISTS):
        which = " or ".join(sorted(names - LISTS)) or "dns"
        raise UsageError(
            f"nobody to begin with: no bootnode of {chain.name} can be reached by {which};"
            " give --bootnodes ENODE_OR_ENR"
        )
    return found


def _networks(node: Bootnode) -> frozenset[str]:
    if isinstance(node, Enode):
        return UDP if node.host is not None and node.udp else frozenset()
    record = node.record
    has_ip = record is not None and (record.ip is not None or record.ip6 is not None)
    return (UDP if has_ip or node.ips else frozenset()) | (ONION_NETWORK if node.onion else frozenset())
