"""Nodes by number: how they are made, come and go."""

from __future__ import annotations

import random
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable
from hashlib import sha256
from math import inf

from benchmarks.simulation.internet import Internet
from benchmarks.simulation.network import Node, VirtualNetwork
from benchmarks.simulation.tor import Tor
from relay.primitives.enr import NodeRecord, build_record
from relay.primitives.forkid import ForkId
from relay.primitives.keys import NodeKey
from relay.primitives.onion import OnionKey
from relay.protocols.discv5 import (
    ONION,
    UDP,
    Contact,
    ContactCache,
    Discv5,
    OnionNetwork,
    Options,
    UdpNetwork,
)
from relay.protocols.discv5.crypto import Suite
from relay.protocols.discv5.networks import ITSELF
from relay.protocols.discv5.table import BUCKET_SIZE

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
        node = self.make()
        if len(self.alive):
            node.core.add_bootnode(self.alive.pick(self.draw).record)
        self._add(node)
        return node

    def _add(self, node: Node) -> None:
        self.network.add(node)
        self.alive.add(node)

    def settle(self, nodes: int, dead: float) -> None:
        """Begin with a network that stands: each node knows others as after hours, part of them dead.

        See `settled` for what a table then holds.
        """
        made = [self.make() for _ in range(int(nodes / (1 - dead)))]
        made_by_id = sorted(made, key=_number)
        ids = [_number(each) for each in made_by_id]
        contacts = [self.contacts.of(each.record) for each in made_by_id]
        for node in made:
            settled(node, ids, contacts, self.network.now, self.draw)
        for node in made:
            self._add(node)
        for _ in range(len(made) - nodes):
            self.leave(self.alive.pick(self.draw))
        # They came long ago.
        for node in self.alive.all():
            node.born = -inf

    def make(self) -> Node:
        """Make a node that is not in the network yet."""
        number = self.made
        self.made += 1
        key = NodeKey(sha256(b"node %d" % number).digest())
        record = self._record(key, number)
        self._records[record.raw] = record
        node = self._node(key, record, self.network.rand_for(number))
        if self.furnish is not None:
            self.furnish(node, key)
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
        # The address that all contacts of the node have: dictionaries then compare no strings.
        node = Node(core, record, self.contacts.of(record).address, rand)
        return node


KNOWN = 0.87  # part of the nodes with a place in a table that are there: `tables.fill` after an hour
BY_ITSELF = 0.25  # part of the entries that came by themselves, as far as their share reaches


def settled(node: Node, ids: list[int], contacts: list[Contact], now: float, draw: random.Random) -> None:
    """Fill a table as it is after hours: each bucket by chance, all proved, heard from in the quiet time."""
    core = node.core
    own = int.from_bytes(core.node_id, "big")
    neighbours, refresh = core._neighbours, core._refresh
    options = neighbours._options
    for distance in range(256, 0, -1):
        low = (own ^ (1 << (distance - 1))) & (-1 << (distance - 1))
        begin = bisect_left(ids, low)
        there = range(begin, bisect_left(ids, low + (1 << (distance - 1)), begin))
        for place in _some(there, draw):
            contact = contacts[place]
            if draw.random() >= KNOWN:
                continue
            by_itself = draw.random() < BY_ITSELF and core.table.accepts(contact, ITSELF)
            entry = core.table.add(contact, ITSELF if by_itself else contact.node_id)
            if entry is not None:
                entry.live = entry.slow = True
                entry.checks = 1
                entry.heard = now - draw.random() * options.quiet
                neighbours._revalidation.add(entry, now)
    neighbours.open = True
    refresh._seen = len(core.table)
    refresh._youth = inf
    refresh.due = now + draw.random() * options.refresh_interval * 0.75


def _some(there: range, draw: random.Random) -> Iterable[int]:
    """Return as many places as a bucket has, by chance: sooner than `random.sample` does."""
    if len(there) <= BUCKET_SIZE:
        return there
    chosen: dict[int, None] = {}
    while len(chosen) < BUCKET_SIZE:
        chosen[there[int(draw.random() * len(there))]] = None
    return chosen


def _number(node: Node) -> int:
    return int.from_bytes(node.core.node_id, "big")


def _ip(number: int) -> str:
    """One address for each number, two in a /24: so thinly is the public network spread."""
    return f"{20 + (number >> 15)}.{(number >> 7) & 255}.{(number >> 1) & 63}.{1 + (number & 1)}"
