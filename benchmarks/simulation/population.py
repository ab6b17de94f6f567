"""Nodes by number: how they are made, come and go."""

from __future__ import annotations

import random
from bisect import bisect_left, insort
from collections.abc import Callable
from hashlib import sha256

from benchmarks.simulation.internet import Internet
from benchmarks.simulation.network import Node, VirtualNetwork
from benchmarks.simulation.tor import Tor
from relay.primitives.enr import NodeRecord, build_record
from relay.primitives.forkid import ForkId
from relay.primitives.keys import NodeKey
from relay.primitives.onion import OnionKey
from relay.protocols.discv5 import ONION, UDP, ContactCache, Discv5, OnionNetwork, Options, UdpNetwork
from relay.protocols.discv5.crypto import Suite

__all__ = ["Alive", "Population"]

_FORK = ForkId(bytes.fromhex("9f3d2254"), 0)
_RECORDS = 65_536  # of all nodes together: none is ever verified twice


class Alive:
    """The ids of living nodes, as numbers in order."""

    def __init__(self) -> None:
        self._ids: list[int] = []
        self._nodes: dict[int, Node] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, node_id: bytes) -> bool:
        return int.from_bytes(node_id, "big") in self._nodes

    def add(self, node: Node) -> None:
        number = int.from_bytes(node.core.node_id, "big")
        self._nodes[number] = node
        insort(self._ids, number)

    def remove(self, node: Node) -> None:
        number = int.from_bytes(node.core.node_id, "big")
        del self._nodes[number]
        del self._ids[bisect_left(self._ids, number)]

    def pick(self, draw: random.Random) -> Node:
        return self._nodes[self._ids[draw.randrange(len(self._ids))]]

    def all(self) -> list[Node]:
        return [self._nodes[each] for each in self._ids]

    def at(self, own: bytes, distance: int) -> int:
        """Return how many nodes are at a logarithmic distance."""
        low = int.from_bytes(own, "big") ^ (1 << (distance - 1))
        low &= -1 << (distance - 1)
        return bisect_left(self._ids, low + (1 << (distance - 1))) - bisect_left(self._ids, low)

    def nearest(self, target: bytes, count: int) -> list[Node]:
        """Return the nodes nearest to a target; all ids that share a prefix are nearer than the rest."""
        aim = int.from_bytes(target, "big")
        low, high = 0, len(self._ids)
        for shift in range(255, -1, -1):
            first = aim >> shift << shift
            begin = bisect_left(self._ids, first, low, high)
            end = bisect_left(self._ids, first + (1 << shift), low, high)
            if end - begin < count:
                break
            low, high = begin, end
        return [self._nodes[each] for each in sorted(self._ids[low:high], key=aim.__xor__)[:count]]


class Population:
    """Makes nodes, and replaces some all the time.

    Args:
        kind: "onion" or "udp".
        suite: of all nodes.
        seed: of everything.
        options: of all nodes; None: the daemon's own.

    Attributes:
        links: what carries packets.
        network: clock and nodes.
        alive: the living.
        kind: the network class.
        contacts: records that were verified, of all nodes.
        made: nodes so far.
        gone: those that died.
        furnish: puts layers on a new node.
    """

    def __init__(
        self,
        kind: str,
        suite: Suite,
        seed: int,
        *,
        options: Options | None = None,
    ) -> None:
        self.onion = onion = kind == "onion"
        self.links: Tor | Internet = Tor() if onion else Internet()
        self.network = VirtualNetwork(seed, self.links)
        self.alive = Alive()
        self.made = 0
        self.gone = 0
        self.draw = random.Random(seed + 1)
        self.options = options or (ONION if onion else UDP)
        self.kind = OnionNetwork() if onion else UdpNetwork()
        self.contacts = ContactCache(self.kind.address_of, _RECORDS, self._verified)
        self.furnish: Callable[[Node, NodeKey], None] | None = None
        self._suite = suite
        self._records: dict[bytes, NodeRecord] = {}

    def _verified(self, raw: bytes) -> NodeRecord:
        """Every record was signed here, so no signature is checked; what else a record is, is."""
        known = self._records.get(raw)
        return NodeRecord.from_rlp(raw) if known is None else known

    def join(self) -> Node:
        """Add a node that knows one living node."""
        number = self.made
        self.made += 1
        key = NodeKey(sha256(b"node %d" % number).digest())
        record = self._record(key, number)
        self._records[record.raw] = record
        node = self._node(key, record, self.network.rand_for(number))
        if len(self.alive):
            node.core.add_bootnode(self.alive.pick(self.draw).record)
        if self.furnish is not None:
            self.furnish(node, key)
        self.network.add(node)
        self.alive.add(node)
        return node

    def ripe(self, draw: random.Random, age: float) -> Node | None:
        """Return a random node that has lived for so many seconds."""
        for _ in range(100):
            node = self.alive.pick(draw)
            if node.born + age <= self.network.now:
                return node
        return None

    def leave(self, node: Node) -> None:
        """Let a node die without a word."""
        self.gone += 1
        self.alive.remove(node)
        self.network.remove(node)

    def replace(self) -> None:
        """Let a random node die, and a new one come."""
        self.leave(self.alive.pick(self.draw))
        self.join()

    def grow(self, nodes: int, seconds: float) -> None:
        """Have nodes come evenly over a time."""
        begin = self.network.now
        for number in range(nodes):
            self.network.at(begin + seconds * number / nodes, self._join)

    def churn(self, share: float, seconds: float) -> None:
        """Replace a share of the nodes an hour, at random times, for some time."""
        begin = self.network.now
        rate = share * len(self.alive) / 3600
        when = self.draw.expovariate(rate) if rate else seconds
        while when < seconds:
            self.network.at(begin + when, self.replace)
            when += self.draw.expovariate(rate)

    def _join(self) -> None:
        self.join()

    def _record(self, key: NodeKey, number: int) -> NodeRecord:
        if self.onion:
            onion = OnionKey.from_seed(sha256(b"onion %d" % number).digest()).address
            return build_record(key, 1, onion3=onion, tcp=30303, fork_id=_FORK)
        return build_record(key, 1, ip=_ip(number), udp=30303, tcp=30303, fork_id=_FORK)

    def _node(self, key: NodeKey, record: NodeRecord, rand: Callable[[int], bytes]) -> Node:
        core = Discv5(
            key,
            lambda: node.record,
            self.kind,
            self.options,
            rand=rand,
            suite=self._suite,
            contacts=self.contacts,
        )
        node = Node(core, record, self.kind.address_of(record), rand)
        return node


def _ip(number: int) -> str:
    """One address for each number, two in a /24: so thinly is the public network spread."""
    return f"{20 + (number >> 15)}.{(number >> 7) & 255}.{(number >> 1) & 63}.{1 + (number & 1)}"
