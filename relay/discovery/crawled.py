"""What a crawl has found: nodes, and what each has told or shown of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.enode import Enode
from relay.primitives.enr import NodeRecord
from relay.primitives.forkid import ForkId
from relay.primitives.keys import NodeId, PublicKey
from relay.primitives.node import Node

__all__ = ["Client", "CrawledNode", "Found", "NodeSet"]

MAX_NODES: Final = 100_000


@dataclass(frozen=True, slots=True)
class Found:
    """A node as one source knows it.

    Attributes:
        public_key: its identity.
        node_id: keccak256 of it.
        record: its signed word, where there is one.
        endpoint: where that source calls it; IP with UDP port, or onion with the port of its streams.
        tcp: port of RLPx at that host where no record tells; 0 for none.
        client: its Hello, where that is how it was called.
    """

    public_key: PublicKey
    node_id: NodeId
    record: NodeRecord | None
    endpoint: Endpoint | None
    tcp: int = 0
    client: Client | None = None


@dataclass(frozen=True, slots=True)
class Client:
    """What a Hello said.

    Attributes:
        name: what it calls itself: any text.
        capabilities: "name/version" of each.
    """

    name: str
    capabilities: tuple[str, ...]


@dataclass(slots=True)
class CrawledNode:
    """One node; times are unix seconds, 0 for never.

    Attributes:
        public_key: its identity.
        node_id: keccak256 of it.
        record: the newest that was heard.
        plain: where it is called, as long as there is no record.
        tcp: port of RLPx there.
        answered: sources that it answered: v4, v5, onion; dns: it was dialed.
        score: as in geth's node sets: one up with each answer, halved by each silence.
        first_response, last_response, last_check: of visits.
        client: its Hello, if it was asked for and given.
        hello: why there is none; empty where it was not asked for.
        addresses: its hosts by network, without ports; also those where nothing can be dialed.
        fork_id: the fork id of its record.
        is_consensus: whether its record is one of a consensus client, which runs no devp2p.
    """

    public_key: PublicKey
    node_id: NodeId
    record: NodeRecord | None = None
    plain: Endpoint | None = None
    tcp: int = 0
    answered: set[str] = field(default_factory=set)
    score: int = 0
    first_response: float = 0.0
    last_response: float = 0.0
    last_check: float = 0.0
    client: Client | None = None
    hello: str = ""
    addresses: dict[Network, str] = field(default_factory=dict)
    fork_id: ForkId | None = None
    is_consensus: bool = False

    def adopt(self, found: Found) -> None:
        """Take over what is newer than what is known. A record is read once: screens ask for it often."""
        record = found.record
        if record is not None and (self.record is None or record.seq > self.record.seq):
            hosts = {Network.IPV4: record.ip, Network.IPV6: record.ip6, Network.ONION: record.onion3}
            self.record = record
            self.addresses = {network: host for network, host in hosts.items() if host is not None}
            self.fork_id = record.fork_id
            self.is_consensus = "eth2" in record.pairs
        if self.plain is None and found.endpoint is not None:
            self.plain, self.tcp = found.endpoint, found.tcp
        if found.client is not None:
            self.client = found.client
        if not self.addresses and self.plain is not None:
            self.addresses = {self.plain.network: self.plain.host}

    @property
    def seq(self) -> int:
        """The number of its record, 0 without one."""
        return 0 if self.record is None else self.record.seq

    @property
    def node(self) -> Node:
        """What can be dialed."""
        node = Node(self.public_key, ()) if self.record is None else Node.from_record(self.record)
        if node.endpoints or self.plain is None or not self.tcp:
            return node
        endpoint = Endpoint(self.plain.network, self.plain.host, self.tcp)
        return Node(self.public_key, (endpoint,), self.record)

    @property
    def text(self) -> str:
        """Its record as text, or an enode URL."""
        if self.record is not None:
            return self.record.to_text()
        host, port = (None, 0) if self.plain is None else (self.plain.host, self.plain.port)
        return Enode(self.public_key, host, self.tcp, port).url


class NodeSet:
    """Nodes by id, bounded: once it is full, those that were given up make room, or new ones are not kept.

    Args:
        unix: the time of day.
        limit: nodes at most.

    Attributes:
        overflow: nodes that were not kept.
        on_first_answer: told of each node once, when it has answered for the first time.
    """

    def __init__(self, unix: Callable[[], float], limit: int = MAX_NODES) -> None:
        self._unix = unix
        self._limit = limit
        self._nodes: dict[NodeId, CrawledNode] = {}
        self._alive: dict[NodeId, CrawledNode] = {}
        self._given_up: dict[NodeId, None] = {}
        self.overflow = 0
        self.on_first_answer: Callable[[CrawledNode], None] = lambda node: None

    def __len__(self) -> int:
        return len(self._nodes)

    def get(self, node_id: NodeId) -> CrawledNode | None:
        """Return a node, if it is here."""
        return self._nodes.get(node_id)

    @property
    def alive(self) -> int:
        """How many have answered at least once."""
        return len(self._alive)

    def answered(self) -> Iterator[CrawledNode]:
        """Give those that have answered, in the order in which they first did."""
        return iter(self._alive.values())

    def hear(self, found: Found) -> bool:
        """Take what somebody said of a node; returns False if there is no room for it."""
        node = self._nodes.get(found.node_id)
        if node is None:
            if len(self._nodes) >= self._limit and not self._evict():
                self.overflow += 1
                return False
            node = self._nodes[found.node_id] = CrawledNode(found.public_key, found.node_id)
        node.adopt(found)
        return True

    def answer(self, node_id: NodeId, source: str) -> None:
        """Note that a node answered."""
        node = self._nodes.get(node_id)
        if node is None:
            return
        self._given_up.pop(node_id, None)
        node.last_check = node.last_response = self._unix()
        node.first_response = node.first_response or node.last_response
        node.score += 1
        node.answered.add(source)
        if node_id not in self._alive:
            self._alive[node_id] = node
            self.on_first_answer(node)

    def silence(self, node_id: NodeId) -> None:
        """Note that a node did not answer."""
        node = self._nodes.get(node_id)
        if node is not None:
            node.last_check = self._unix()
            node.score //= 2

    def give_up(self, node_id: NodeId) -> None:
        """Note that nobody will ask a node again that has never answered."""
        if node_id in self._nodes and node_id not in self._alive:
            self._given_up[node_id] = None

    def to_geth(self) -> dict[str, dict[str, object]]:
        """Return the nodes that have answered as geth's devp2p keeps them in nodes.json."""
        alive = sorted(self._alive.values(), key=lambda node: node.node_id)
        return {node.node_id.hex(): _geth_node(node) for node in alive if node.score > 0}

    def _evict(self) -> bool:
        """Made-up records cost nothing, so those that led nowhere must not keep others out."""
        if not self._given_up:
            return False
        oldest = next(iter(self._given_up))
        del self._given_up[oldest], self._nodes[oldest]
        return True


def _geth_node(node: CrawledNode) -> dict[str, object]:
    return {
        "seq": node.seq,
        "record": node.text,
        "score": node.score,
        "firstResponse": _time(node.first_response),
        "lastResponse": _time(node.last_response),
        "lastCheck": _time(node.last_check),
    }


def _time(unix: float) -> str:
    return datetime.fromtimestamp(int(unix), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
