"""Discovery on the open internet: discv5 and discv4 on one UDP port.

Every datagram passes the gate (see `buckets`), then goes to the protocol that it is of: a discv4 packet
begins with its own hash. Each core has a table of its own, since they know nodes by different things, but
they help each other: a node that proved itself to one is told to the other where that has room.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

import structlog

from relay.discovery.bootnodes import Bootnode, resolved, udp_endpoint, v4_contact
from relay.discovery.buckets import Gate, GateOptions
from relay.discovery.driver import Clock, CoreDriver, Layer
from relay.discovery.v4 import V4Driver
from relay.discovery.votes import OwnEndpoint
from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.enr import NodeRecord
from relay.primitives.keys import NodeKey
from relay.primitives.node import Node
from relay.protocols.discv4 import events as v4_events
from relay.protocols.discv4.core import Discv4
from relay.protocols.discv4.options import Options as V4Options
from relay.protocols.discv4.packets import MAX_PACKET, is_discv4
from relay.protocols.discv5 import (
    UDP,
    Address,
    Contact,
    Discv5,
    EndpointVote,
    Event,
    NodeVerified,
    Options,
    Refused,
    SessionEstablished,
    UdpNetwork,
)
from relay.transports.sockets import SocketFactory
from relay.transports.udp import DatagramPort

__all__ = ["ClearnetDiscovery", "ClearnetOptions", "ClearnetStats"]

_log = structlog.get_logger("relay.discovery")

V4_ENOUGH: Final = 32  # nodes; with fewer, discv4's table asks for those that discv5 has verified
BOTH_FAMILIES: Final = (Network.IPV4, Network.IPV6)


@dataclass(frozen=True, slots=True)
class ClearnetOptions:
    """Bounds and time-outs of the two cores, and of what gets to them."""

    v5: Options = UDP
    v4: V4Options = field(default_factory=V4Options)
    gate: GateOptions = field(default_factory=GateOptions)


class ClearnetStats:
    """Counts since the start.

    Attributes:
        packets_in: datagrams that arrived, dropped ones included.
        bytes_in: of them.
        packets_out: datagrams that the system took.
        bytes_out: of them.
        refused: what the cores did not take, by protocol ("v4", "v5") and reason.
        dropped: datagrams that were not looked into, by the bound they were over.
    """

    __slots__ = ("bytes_in", "bytes_out", "dropped", "packets_in", "packets_out", "refused")

    def __init__(self) -> None:
        self.packets_in = self.bytes_in = 0
        self.packets_out = self.bytes_out = 0
        self.refused: Counter[tuple[str, str]] = Counter()
        self.dropped: Counter[str] = Counter()


class ClearnetDiscovery:
    """One UDP port that serves discv5, discv4 or both.

    Args:
        key: our identity.
        own_record: gives the record to show now.
        clock: the event loop.
        unix: the time of day.
        rand: random bytes.
        v4: serve discv4.
        v5: serve discv5.
        bootnodes: by whom we enter.
        options: tuning.
        layers: makes what stands on the discv5 core.

    Attributes:
        v5: the driver of discv5, from `start` on, if it is served.
        v4: the driver of discv4, from `start` on, if it is served.
        on_endpoint: told of our UDP endpoint when enough others agree on it, and when that changes.
        stats: counts.
    """

    def __init__(
        self,
        key: NodeKey,
        own_record: Callable[[], NodeRecord],
        *,
        clock: Clock,
        unix: Callable[[], float],
        rand: Callable[[int], bytes],
        v4: bool,
        v5: bool,
        bootnodes: Sequence[Bootnode] = (),
        options: ClearnetOptions | None = None,
        layers: Callable[[Discv5], Sequence[Layer]] = lambda _core: (),
    ) -> None:
        assert v4 or v5, "a port that serves nothing"
        self._key, self._own_record = key, own_record
        self._clock, self._unix, self._rand = clock, unix, rand
        self._serves_v4, self._serves_v5 = v4, v5
        self._bootnodes = tuple(each for each in bootnodes if each.public_key != key.public_key)
        self._options = options or ClearnetOptions()
        self._layers = layers
        self._gate = Gate(self._options.gate)
        self._network = UdpNetwork()
        self._transmit: Callable[[bytes, Endpoint], bool] = _nowhere
        self._datagrams: DatagramPort | None = None
        self._begin: asyncio.TimerHandle | None = None
        self._own_endpoint = OwnEndpoint(self._network, self._agreed)
        self.v5: CoreDriver | None = None
        self.v4: V4Driver | None = None
        self.on_endpoint: Callable[[Endpoint], None] = _ignored
        self.stats = ClearnetStats()

    # -- life ------------------------------------------------------------------------------------------

    async def start(self, sockets: SocketFactory, host: str, port: int) -> None:
        """Bind the port and begin. Whoever listens to the drivers at once on return misses nothing.

        Args:
            sockets: makes the socket.
            host: IP literal; `::` for both families.
            port: 0 for a free one; see `port`.

        Raises:
            DialRefused: the mode has no UDP.
            LocalError: the port can't be had.
        """
        with ExitStack() as guard:
            sock = sockets.bind_udp(host, port)
            guard.callback(sock.close)
            nodes = await resolved(self._bootnodes, sockets)
            guard.pop_all()
        self._datagrams = DatagramPort(sock, self.receive, largest=MAX_PACKET)
        self.attach(self._datagrams.send, self._datagrams.families, nodes)
        _log.info("discovery listens", address=f"{host}:{self.port}", v4=self._serves_v4, v5=self._serves_v5)

    def attach(
        self,
        transmit: Callable[[bytes, Endpoint], bool],
        families: tuple[Network, ...] = BOTH_FAMILIES,
        bootnodes: Sequence[Node] = (),
    ) -> None:
        """Begin on any way to send datagrams; what comes is handed to `receive`.

        Args:
            transmit: sends; returns whether the datagram went out.
            families: that can be reached, the preferred one first.
            bootnodes: with their UDP endpoints.
        """
        self._transmit = transmit
        self._network = UdpNetwork(families)
        entries = [(node, udp_endpoint(node, self._network)) for node in bootnodes]
        nodes = [(node, endpoint) for node, endpoint in entries if endpoint is not None]
        if len(nodes) < len(entries):
            _log.info("bootnodes without an address for udp", count=len(entries) - len(nodes))
        if self._serves_v5:
            self.v5 = self._made_v5([node for node, _ in nodes])
        if self._serves_v4:
            self.v4 = self._made_v4(nodes)
        # Not at once: the owner listens to the drivers first.
        self._begin = self._clock.call_at(self._clock.time(), self._start_drivers)

    def stop(self) -> None:
        """Give the port back and end the drivers; requests under way are cancelled."""
        if self._begin is not None:
            self._begin.cancel()
        for driver in (self.v5, self.v4):
            if driver is not None:
                driver.stop()
        self._transmit = _nowhere
        if self._datagrams is not None:
            self._datagrams.close()

    # -- use -------------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """The UDP port, once started."""
        assert self._datagrams is not None, "not started"
        return self._datagrams.port

    @property
    def lost(self) -> Counter[str]:
        """Datagrams that could not be sent, or came from an address nobody can use, by reason."""
        return Counter() if self._datagrams is None else self._datagrams.lost

    def add_node(self, record: NodeRecord) -> None:
        """Tell of a node known from elsewhere, such as a node database."""
        endpoint = self._network.address_of(record)
        if not isinstance(endpoint, Endpoint) or record.public_key == self._key.public_key:
            return
        if self.v5 is not None:
            self.v5.add_node(record)
        if self.v4 is not None:
            self.v4.core.ping(v4_contact(Node.from_record(record), endpoint), self._clock.time())
            self.v4.flush()

    def receive(self, data: bytes, source: Endpoint) -> bool:
        """Take a datagram; returns False when it was dropped unread."""
        began = self._clock.time()
        stats = self.stats
        stats.packets_in += 1
        stats.bytes_in += len(data)
        lan = self._network.group_of(source, None) is None
        over = self._gate.admit(source.host, began, lan=lan)
        if over is not None:
            stats.dropped[over] += 1
            return False
        v5, v4 = self.v5, self.v4
        if v4 is not None and (v5 is None or is_discv4(data)):
            v4.receive(data, source)
        elif v5 is not None:
            v5.receive(data, source)
        self._gate.spent(self._clock.time() - began)
        return True

    # -- making ----------------------------------------------------------------------------------------

    def _made_v5(self, bootnodes: Sequence[Node]) -> CoreDriver:
        core = Discv5(self._key, self._own_record, self._network, self._options.v5, rand=self._rand)
        for node in bootnodes:
            core.add_bootnode(node)
        driver = CoreDriver(core, self._send, clock=self._clock, layers=self._layers(core))
        driver.listen(self._heard_v5)
        return driver

    def _made_v4(self, bootnodes: Sequence[tuple[Node, Endpoint]]) -> V4Driver:
        core = Discv4(
            self._key,
            self._own_record(),
            rand=self._rand,
            unix=self._unix,
            bootnodes=[v4_contact(node, endpoint) for node, endpoint in bootnodes],
            options=self._options.v4,
            network=self._network,
        )
        driver = V4Driver(core, self._own_record, self._send, clock=self._clock)
        driver.listen(self._heard_v4)
        return driver

    def _start_drivers(self) -> None:
        for driver in (self.v5, self.v4):
            if driver is not None:
                driver.start()

    # -- between the cores -----------------------------------------------------------------------------

    def _send(self, data: bytes, to: Address) -> None:
        assert isinstance(to, Endpoint)
        if self._transmit(data, to):
            self.stats.packets_out += 1
            self.stats.bytes_out += len(data)

    def _heard_v5(self, event: Event) -> None:
        match event:
            case Refused(reason):
                self.stats.refused["v5", reason] += 1
            case EndpointVote(Endpoint() as voter, ip, port):
                self._own_endpoint.add(voter, ip, port, self._clock.time())
            case SessionEstablished(Contact(_, Endpoint() as address)):
                self._gate.prove(address.host)
            case NodeVerified(Contact(record, Endpoint() as address)):
                self._offer_to_v4(record, address)

    def _heard_v4(self, event: v4_events.Event) -> None:
        match event:
            case v4_events.Refused(reason):
                self.stats.refused["v4", reason] += 1
            case v4_events.EndpointStated(voter, stated):
                ip, port = self._network.seen_as(stated)
                self._own_endpoint.add(voter, ip, port, self._clock.time())
            case v4_events.Proved(contact):
                self._gate.prove(contact.endpoint.host)
            case v4_events.RecordReceived(contact, record):
                self._offer_to_v5(record, contact.endpoint)

    def _offer_to_v5(self, record: NodeRecord, proved: Endpoint) -> None:
        """Let discv5 try a node of discv4 whose record names the address that it answered on."""
        v5 = self.v5
        if v5 is None or self._network.address_of(record) != proved:
            return
        table = v5.core.table
        if record.node_id not in table.entries and table.has_room(record.node_id):
            v5.add_node(record)

    def _offer_to_v4(self, record: NodeRecord, proved: Endpoint) -> None:
        """Let discv4 try an execution node of discv5, while it knows few; others hardly speak it."""
        v4 = self.v4
        if v4 is None or len(v4.core.table) >= V4_ENOUGH or v4.core.table.get(record.node_id) is not None:
            return
        if "eth" in record.pairs:
            v4.core.ping(v4_contact(Node.from_record(record), proved), self._clock.time())
            v4.flush()

    def _agreed(self, endpoint: Endpoint) -> None:
        self.on_endpoint(endpoint)


def _nowhere(_data: bytes, _to: Endpoint) -> bool:
    return False


def _ignored(_endpoint: Endpoint) -> None:
    """Nobody wants to know."""
