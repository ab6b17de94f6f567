"""The node table: 17 buckets of 16 nodes that have answered, with replacements.

discv5's table holds nodes by their records; here a node may have none, or one that does not say where it is,
so this one holds proved endpoints. Only nodes that have answered a ping get in. Spec: discv4.md, Kademlia
Table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from heapq import nsmallest
from typing import Final

from relay.primitives.endpoint import Endpoint
from relay.primitives.keys import NodeId
from relay.protocols.discv4.contact import Contact
from relay.protocols.discv5.distance import ID_BITS, log_distance, xor_distance

__all__ = ["BUCKETS", "BUCKET_SIZE", "MAX_REPLACEMENTS", "Entry", "Table"]

BUCKETS: Final = 17  # go-ethereum nBuckets: nearer nodes than those of the last 16 distances hardly exist
BUCKET_SIZE: Final = 16  # discv4.md, k
MAX_REPLACEMENTS: Final = 10
_NEAREST: Final = ID_BITS - BUCKETS + 1  # everything at this distance or nearer shares the first bucket


@dataclass(slots=True, eq=False)
class Entry:
    """A node in a bucket or among its replacements.

    Attributes:
        contact: with the endpoint it answered from last.
        group: what its number is limited by; None: nothing.
        bucket: number of its bucket.
        heard: when it last answered, seconds of the clock.
        checks: answers in a row; goes down to a third by silence.
        live: it answered the last time it was asked, and is told to others.
        failures: FindNode requests in a row that it did not answer.
    """

    contact: Contact
    group: Hashable | None
    bucket: int
    heard: float
    checks: int = 1
    live: bool = True
    failures: int = 0


class _Bucket:
    __slots__ = ("entries", "groups", "replacements")

    def __init__(self) -> None:
        self.entries: dict[NodeId, Entry] = {}
        self.replacements: dict[NodeId, Entry] = {}  # the newest is the last one
        self.groups: Counter[Hashable] = Counter()


class Table:
    """The nodes that are told to others and asked by lookups; ourselves not among them."""

    def __init__(
        self,
        own_id: NodeId,
        group_of: Callable[[Endpoint], Hashable | None],
        *,
        bucket_limit: int,
        table_limit: int,
    ) -> None:
        """Make an empty one.

        Args:
            own_id: our node id.
            group_of: what limits nodes of this endpoint, such as their /24; None: nothing.
            bucket_limit: nodes of one group in a bucket and its replacements.
            table_limit: the same in the whole table.
        """
        self._own_id = own_id
        self._group_of = group_of
        self._limits = (bucket_limit, table_limit)
        self._buckets = [_Bucket() for _ in range(BUCKETS)]
        self._groups: Counter[Hashable] = Counter()
        self._entries: dict[NodeId, Entry] = {}

    @property
    def live_count(self) -> int:
        """How many of them answered when they were asked last."""
        return sum(entry.live for entry in self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def get(self, node: NodeId) -> Entry | None:
        """Return a node of the table; a replacement is none."""
        return self._entries.get(node)

    def heard(self, contact: Contact, now: float) -> bool:
        """Take a node that has just answered: a new one, or one that is known and confirmed.

        Returns:
            Whether it is in the table now.
        """
        entry = self._entries.get(contact.node_id)
        if entry is None:
            return self._add(contact, now)
        if self._move(entry, contact):
            entry.contact = _newest(entry.contact, contact)
        entry.heard = now
        entry.checks += 1
        entry.live = True
        return True

    def silent(self, node: NodeId) -> Contact | None:
        """Take note that a node did not answer a check; return it if it was removed for that."""
        entry = self._entries.get(node)
        if entry is None:
            return None
        entry.checks //= 3
        entry.live = entry.checks > 0
        if entry.checks:
            return None
        self.remove(node)
        return entry.contact

    def remove(self, node: NodeId) -> None:
        """Remove a node of the table; the newest replacement takes its place, still to be checked."""
        entry = self._entries.pop(node)
        bucket = self._buckets[entry.bucket]
        del bucket.entries[node]
        self._leave(bucket, entry.group)
        if bucket.replacements:
            key, replacement = bucket.replacements.popitem()
            replacement.live = False
            bucket.entries[key] = self._entries[key] = replacement

    def closest(self, target: bytes, count: int = BUCKET_SIZE, *, live: bool = False) -> list[Contact]:
        """Return the nodes nearest to an id, the nearest first; live: only those that are told to others."""
        items = (item for item in self._entries.items() if item[1].live or not live)
        found = nsmallest(count, items, key=lambda item: xor_distance(item[0], target))
        return [entry.contact for _, entry in found]

    def bucket_sizes(self) -> list[tuple[int, int]]:
        """Return how many nodes and replacements each bucket has, the nearest first."""
        return [(len(bucket.entries), len(bucket.replacements)) for bucket in self._buckets]

    def _add(self, contact: Contact, now: float) -> bool:
        node = contact.node_id
        if node == self._own_id:
            return False
        number = max(0, log_distance(self._own_id, node) - _NEAREST)
        bucket = self._buckets[number]
        self._drop_replacement(bucket, node)
        entry = Entry(contact, self._group_of(contact.endpoint), number, now)
        if not self._join(bucket, entry.group):
            return False
        if len(bucket.entries) < BUCKET_SIZE:
            bucket.entries[node] = self._entries[node] = entry
            return True
        bucket.replacements[node] = entry
        if len(bucket.replacements) > MAX_REPLACEMENTS:
            self._drop_replacement(bucket, next(iter(bucket.replacements)))
        return False

    def _move(self, entry: Entry, contact: Contact) -> bool:
        """Count an entry at the endpoint it answered from; False when too many are there already."""
        group = self._group_of(contact.endpoint)
        if group == entry.group:
            return True
        bucket = self._buckets[entry.bucket]
        if not self._join(bucket, group):
            return False
        self._leave(bucket, entry.group)
        entry.group = group
        return True

    def _drop_replacement(self, bucket: _Bucket, node: NodeId) -> None:
        entry = bucket.replacements.pop(node, None)
        if entry is not None:
            self._leave(bucket, entry.group)

    def _join(self, bucket: _Bucket, group: Hashable | None) -> bool:
        if group is None:
            return True
        in_bucket, in_table = self._limits
        if bucket.groups[group] >= in_bucket or self._groups[group] >= in_table:
            return False
        bucket.groups[group] += 1
        self._groups[group] += 1
        return True

    def _leave(self, bucket: _Bucket, group: Hashable | None) -> None:
        if group is None:
            return
        for counter in (bucket.groups, self._groups):
            counter[group] -= 1
            if not counter[group]:
                del counter[group]


def _newest(known: Contact, heard: Contact) -> Contact:
    """Take the endpoint of what was just heard, and the newer record of the two."""
    record = heard.record if heard.seq > known.seq else known.record
    return Contact(heard.public_key, heard.node_id, heard.endpoint, heard.tcp or known.tcp, record)
