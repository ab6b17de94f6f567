"""The node table: buckets by distance, with replacements and limits. Spec: discv5-theory.md, "Node Table"."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from heapq import nsmallest
from typing import Final

from relay.primitives.keys import NodeId
from relay.protocols.discv5.contact import Contact
from relay.protocols.discv5.distance import ID_BITS, log_distance, xor_distance
from relay.protocols.discv5.networks import ITSELF, NetworkClass

__all__ = ["BUCKETS", "BUCKET_SIZE", "MAX_REPLACEMENTS", "Entry", "Limits", "Table"]

BUCKETS: Final = 17  # go-ethereum nBuckets: nearer nodes than those of the last 16 distances hardly exist
BUCKET_SIZE: Final = 16
MAX_REPLACEMENTS: Final = 10
_NEVER: Final = float("-inf")  # one object for all
_NEAREST: Final = ID_BITS - BUCKETS + 1  # everything at this distance or nearer shares the first bucket


@dataclass(frozen=True, slots=True)
class Limits:
    """How many nodes of one group a bucket with its replacements may hold, and the table.

    Those that came by themselves are a group in the bucket alone: the far buckets would use up any share of
    the table, and its neighbours could not take in who is new.
    """

    bucket: int
    table: int


class Entry:
    """A node in a bucket or among its replacements.

    Attributes:
        contact: record and address.
        group: what its number is limited by; None: nothing.
        distance: from us.
        checks: answers in a row; goes down to a third by silence.
        live: it has answered on its address.
        heard: when it last answered, seconds of the clock.
        slow: on the slow list of revalidation.
        beside: the next entry whose record names the same host; the table's own.
    """

    __slots__ = ("beside", "checks", "contact", "distance", "group", "heard", "live", "slow")

    def __init__(self, contact: Contact, group: Hashable | None, distance: int) -> None:
        self.contact = contact
        self.group = group
        self.distance = distance
        self.checks = 0
        self.live = False
        self.heard = _NEVER
        self.slow = False
        self.beside: Entry | None = None


class _Bucket:
    __slots__ = ("entries", "groups", "replacements")

    def __init__(self) -> None:
        self.entries: dict[NodeId, Entry] = {}
        self.replacements: dict[NodeId, Entry] = {}  # the newest is the last one
        self.groups: Counter[Hashable] = Counter()


class Table:
    """Up to 17 times 16 nodes and their replacements, none of them ourselves."""

    __slots__ = ("_buckets", "_groups", "_hosts", "_limits", "_network", "_own_id", "_pick", "entries")

    def __init__(
        self, own_id: NodeId, network: NetworkClass, limits: Limits, pick: Callable[[int], int]
    ) -> None:
        self._own_id = own_id
        self._network = network
        self._limits = limits
        self._pick = pick
        self._buckets = [_Bucket() for _ in range(BUCKETS)]
        self._groups: Counter[Hashable] = Counter()
        self._hosts: dict[Hashable, Entry] = {}
        self.entries: dict[NodeId, Entry] = {}
        """Nodes in buckets, replacements not among them."""

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries.values())

    def has_room(self, node: NodeId) -> bool:
        """Whether the bucket of a node has a free place."""
        return len(self._bucket(log_distance(self._own_id, node)).entries) < BUCKET_SIZE

    def accepts(self, contact: Contact, teller: Hashable) -> bool:
        """Whether `add` would find a place for a node: in its bucket, and within the share of its group."""
        bucket = self._bucket(log_distance(self._own_id, contact.node_id))
        if len(bucket.entries) >= BUCKET_SIZE or contact.address is None:
            return False
        group = self._network.group_of(contact.address, teller)
        return contact.node_id in bucket.replacements or self._has_share(bucket, group)

    def add(self, contact: Contact, teller: Hashable, *, replaceable: bool = True) -> Entry | None:
        """Add a node that is not in the table.

        Args:
            contact: with an address.
            teller: see `NetworkClass.group_of`.
            replaceable: with a full bucket, keep it as a replacement.

        Returns:
            The new entry; None: no place for it, or a replacement, or known, or ourselves.
        """
        node = contact.node_id
        if node == self._own_id or node in self.entries or contact.address is None:
            return None
        distance = log_distance(self._own_id, node)
        bucket = self._bucket(distance)
        entry = Entry(contact, self._network.group_of(contact.address, teller), distance)
        if len(bucket.entries) >= BUCKET_SIZE:
            if replaceable:
                self._add_replacement(bucket, entry)
            return None
        self._drop_replacement(bucket, node)
        if not self._join(bucket, entry.group):
            return None
        bucket.entries[node] = self.entries[node] = entry
        self._settle(entry)
        return entry

    def update(self, entry: Entry, contact: Contact, *, by_itself: bool) -> bool:
        """Take over a new record of a node in the table.

        Args:
            entry: the node.
            contact: its new record; one without an address never replaces one that has it.
            by_itself: it came from the node itself, so any other record counts, even with a lower number.

        Returns:
            Whether its address changed, so that it must answer again to be live.
        """
        newer = contact.record.seq > entry.contact.record.seq
        if contact.address is None or not (newer or (by_itself and contact.record != entry.contact.record)):
            return False
        if contact.address == entry.contact.address:
            entry.contact = contact
            return False
        bucket = self._bucket(entry.distance)
        # Where groups are tellers it stays in its own: who came by itself must not get out of it by moving.
        group = self._network.group_of(contact.address, entry.group)
        if group != entry.group and not self._join(bucket, group):
            return False
        if group != entry.group:
            self._leave(bucket, entry.group)
        self._unsettle(entry)
        entry.group, entry.contact, entry.live = group, contact, False
        self._settle(entry)
        return True

    def remove(self, node: NodeId, *, promote: bool = True) -> tuple[Entry | None, Contact | None]:
        """Take a node out.

        Args:
            node: which.
            promote: put a random replacement in its place.

        Returns:
            The entry that took its place; or, with promote off, the contact that could and is no longer kept.
        """
        entry = self.entries.pop(node, None)
        if entry is None:
            return None, None
        bucket = self._bucket(entry.distance)
        del bucket.entries[node]
        self._unsettle(entry)
        self._leave(bucket, entry.group)
        if not bucket.replacements:
            return None, None
        chosen = list(bucket.replacements)[self._pick(len(bucket.replacements))]
        following = bucket.replacements.pop(chosen)
        if not promote:
            self._leave(bucket, following.group)
            return None, following.contact
        bucket.entries[chosen] = self.entries[chosen] = following
        self._settle(following)
        return following, None

    def closest(self, target: bytes, count: int) -> list[Contact]:
        """Return the nodes nearest to a target, the nearest first."""
        found = nsmallest(count, self.entries.items(), key=lambda item: xor_distance(item[0], target))
        return [entry.contact for _, entry in found]

    def live_at(self, distance: int) -> list[Contact]:
        """Return the nodes that have answered, at exactly this distance."""
        if not 0 < distance <= ID_BITS:
            return []
        entries = self._bucket(distance).entries.values()
        return [entry.contact for entry in entries if entry.live and entry.distance == distance]

    def at_host(self, host: Hashable) -> tuple[Entry, ...]:
        """Return the entries whose records name a host."""
        return tuple(_chain(self._hosts.get(host)))

    def bucket_sizes(self) -> list[tuple[int, int]]:
        """Return the numbers of nodes and of replacements, nearest bucket first."""
        return [(len(each.entries), len(each.replacements)) for each in self._buckets]

    def bucket_of(self, entry: Entry) -> int:
        """Return how many nodes share the bucket of an entry."""
        return len(self._bucket(entry.distance).entries)

    def _bucket(self, distance: int) -> _Bucket:
        return self._buckets[max(0, distance - _NEAREST)]

    def _add_replacement(self, bucket: _Bucket, entry: Entry) -> None:
        node = entry.contact.node_id
        if node in bucket.replacements or not self._join(bucket, entry.group):
            return
        bucket.replacements[node] = entry
        if len(bucket.replacements) > MAX_REPLACEMENTS:
            self._drop_replacement(bucket, next(iter(bucket.replacements)))

    def _drop_replacement(self, bucket: _Bucket, node: NodeId) -> None:
        entry = bucket.replacements.pop(node, None)
        if entry is not None:
            self._leave(bucket, entry.group)

    def _settle(self, entry: Entry) -> None:
        host = self._network.host_of(entry.contact.address)
        entry.beside = self._hosts.get(host)
        self._hosts[host] = entry

    def _unsettle(self, entry: Entry) -> None:
        host = self._network.host_of(entry.contact.address)
        others = [each for each in _chain(self._hosts.pop(host)) if each is not entry]
        entry.beside = None
        for each in reversed(others):
            each.beside = self._hosts.get(host)
            self._hosts[host] = each

    def _has_share(self, bucket: _Bucket, group: Hashable | None) -> bool:
        return group is None or (
            bucket.groups[group] < self._limits.bucket
            and (group == ITSELF or self._groups[group] < self._limits.table)
        )

    def _join(self, bucket: _Bucket, group: Hashable | None) -> bool:
        if group is None:
            return True
        if not self._has_share(bucket, group):
            return False
        self._groups[group] += 1
        bucket.groups[group] += 1
        return True

    def _leave(self, bucket: _Bucket, group: Hashable | None) -> None:
        if group is None:
            return
        for counter in (self._groups, bucket.groups):
            counter[group] -= 1
            if not counter[group]:
                del counter[group]


def _chain(entry: Entry | None) -> Iterator[Entry]:
    while entry is not None:
        yield entry
        entry = entry.beside
