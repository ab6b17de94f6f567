"""Trees of node records for tests, and a DNS in a dictionary."""

import hashlib
from random import Random

from relay.primitives.enr import NodeRecord, build_record
from relay.primitives.keys import NodeKey
from relay.protocols.dnsdisc.entries import Link
from relay.protocols.dnsdisc.sync import SyncOptions, TreeSync
from relay.protocols.dnsdisc.tree import Tree, make_tree

SIGNER = NodeKey(b"\x11" * 32)


def tree_key(number: int) -> NodeKey:
    return NodeKey(hashlib.sha256(b"tree node %d" % number).digest())


def tree_record(number: int, seq: int | None = None) -> NodeRecord:
    return build_record(
        tree_key(number),
        number + 1 if seq is None else seq,
        ip=f"203.0.{number // 250}.{number % 250 + 1}",
        tcp=30303,
        udp=30303 + number,
    )


def tree_records(count: int) -> list[NodeRecord]:
    return [tree_record(number) for number in range(count)]


def signed_tree(
    domain: str, records=(), links=(), seq: int = 1, signer: NodeKey = SIGNER
) -> tuple[Tree, Link]:
    return make_tree(records, links, seq).sign(signer, domain)


class Zone:
    """Answers a TreeSync from a dictionary, under a virtual clock."""

    def __init__(self, *trees: tuple[Tree, Link]) -> None:
        self.texts: dict[str, list[str]] = {}
        self.asked: list[tuple[float, str]] = []
        self.now = 0.0
        for tree, link in trees:
            self.publish(tree, link)

    def publish(self, tree: Tree, link: Link) -> None:
        self.texts |= {name: [text] for name, text in tree.texts(link.domain).items()}

    def sync(self, *links: Link, seed: int = 1, **options) -> TreeSync:
        return TreeSync(links, Random(seed).randbytes, SyncOptions(**options))

    def run(self, sync: TreeSync, seconds: float) -> list:
        """Let it ask and answer at once until that time is over, or it waits for longer."""
        events, until = [], self.now + seconds
        while True:
            events += sync.poll(self.now)
            for query in sync.queries(self.now):
                self.asked.append((self.now, query.name))
                events += sync.receive(query.name, self.texts.get(query.name), self.now)
            due = sync.next_deadline(self.now)
            if due is None or due > until:
                self.now = until
                return events
            self.now = max(due, self.now + 1e-6)
