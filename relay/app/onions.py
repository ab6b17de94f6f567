"""Discovery over onion streams, put together: core, streams, driver, and the provider DHT on top."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable
from typing import Final

from relay.app.outward import WaysOut
from relay.discovery.driver import CoreDriver
from relay.discovery.onion_dial import OnionDial, onion_dial
from relay.discovery.providers import ProviderClient
from relay.discovery.streams import OnionStreams
from relay.discovery.walker import Pace
from relay.primitives.endpoint import Network
from relay.primitives.enr import NodeRecord
from relay.primitives.keys import NodeKey
from relay.primitives.node import Node
from relay.protocols.dht import DhtOptions, Providers
from relay.protocols.discv5 import ONION, Contact, Discv5, I2PNetwork, OnionNetwork, Options
from relay.protocols.discv5.messages import Kind
from relay.transports.socks_dialer import Purpose

__all__ = ["STREAM_FIRST", "OnionDiscovery"]

STREAM_FIRST: Final = range(0x64, 0x65)
"""The first byte of a stream that comes in: "d" of the preface."""
RETRY: Final = Pace(5.0, 120.0)
_GROWTH: Final = 1.5


class OnionDiscovery:
    """One node of the onion network; it is begun by `run`.

    Args:
        key: the node key.
        own_record: what is shown on the onion network.
        ways: out through Tor.
        entry: onions to enter by.
        tasks: where dials live.
        dht: whether the provider DHT is served and used.
        over: the network; with I2P all that is said of onions holds for I2P addresses.
        options: of the core.
        dht_options: of the DHT.

    Attributes:
        driver: of the core.
        streams: its transport; incoming ones are made by `streams.protocol`.
        dht: the layer, if there is one.
        providers: asks it.
    """

    def __init__(
        self,
        key: NodeKey,
        own_record: Callable[[], NodeRecord],
        ways: WaysOut,
        entry: Iterable[Node],
        *,
        tasks: asyncio.TaskGroup,
        dht: bool,
        over: Network = Network.ONION,
        options: Options = ONION,
        dht_options: DhtOptions | None = None,
    ) -> None:
        loop, rand = asyncio.get_running_loop(), secrets.token_bytes
        network = I2PNetwork() if over is Network.I2P else OnionNetwork()
        core = Discv5(key, own_record, network, options, rand=rand)
        self._entry, self._over = tuple(entry), over
        for node in self._entry:
            core.add_bootnode(node)
        self.streams = OnionStreams(_dial(ways, over), tasks=tasks, clock=loop)
        if over is Network.ONION and ways.socks is not None:
            ways.socks.isolation.on_renewed(self.streams.leave)
        self.dht: Providers | None = None
        if dht:
            self.dht = Providers(core, key, own_record, network, dht_options, rand=rand, unix=time.time)
        layers = () if self.dht is None else (self.dht,)
        self.driver = CoreDriver(core, self.streams.send, clock=loop, layers=layers)
        self.streams.attach(self.driver)
        self.providers = None if self.dht is None else ProviderClient(self.driver, self.dht, clock=loop)

    async def run(self) -> None:
        """Start, and call entry nodes again that do not answer yet, until cancelled.

        The table may fill without them; but who is entered by nobody else stays apart from all others.
        """
        self.driver.start()
        pause = RETRY.shortest
        while True:
            await asyncio.sleep(pause)
            silent = [each for each in self._entry if each.node_id not in self.driver.core.table.entries]
            for node in silent:
                self.enter_by(node)
            pause = min(pause * _GROWTH, RETRY.longest)

    @property
    def talk_answers(self) -> int:
        """Answers to requests of the DHT so far: whether anybody has answered a search is seen by it."""
        return self.driver.core.traffic.received[Kind.TALKRESP]

    def enter_by(self, node: Node) -> None:
        """Call a node of the user's choice now, whatever came of the last call."""
        self.pardon(node)
        self.driver.add_node(node)

    def chosen(self, nodes: Iterable[Node]) -> list[Contact]:
        """Return nodes of the user's choice as contacts, which may be called at once."""
        found = list(nodes)
        for node in found:
            self.pardon(node)
        return [self.driver.core.contact(node) for node in found]

    def pardon(self, node: Node) -> None:
        """Let its onion be dialed at once."""
        found = node.i2p if self._over is Network.I2P else node.onion
        if found is not None:
            self.streams.pardon(found)

    def stop(self) -> None:
        """End driver and streams; their sockets are closed when this returns."""
        self.driver.stop()
        self.streams.close()


def _dial(ways: WaysOut, over: Network) -> OnionDial:
    loop = asyncio.get_running_loop()
    if over is Network.I2P:
        assert ways.i2p is not None
        assert ways.i2p_pacer is not None
        return onion_dial(ways.i2p, ways.i2p_pacer, loop, over)
    assert ways.socks is not None
    return onion_dial(ways.socks.for_purpose(Purpose.DISCOVERY), ways.onion_pacer, loop)
