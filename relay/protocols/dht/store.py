"""The records that we keep for others, bounded for each key, each provider, each host, and in total.

Node ids and onions cost nothing, so no bound on ids keeps a key from being filled by one party. What costs is
to answer: a provider is proved when it answered on the address of its record, called by us. Where room is
short:

- of the proved under a key, the half that was proved first stays (age);
- all others draw lots: the proved before the unproved, and then by a MAC of key and node id under a secret of
  ours, which nobody can grind for. Renewing changes neither age nor lot.

So a flood of signatures wins some of the places that the proved leave. A flood of live onions wins half of
them only where it was there before the honest ones; for the other half it draws lots, at each holder anew.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from hashlib import blake2b
from math import inf
from typing import Final

from relay.primitives.keys import NodeId
from relay.protocols.dht.keys import Key
from relay.protocols.dht.messages import Status
from relay.protocols.dht.options import DhtOptions
from relay.protocols.dht.record import HOUR, ProviderRecord
from relay.protocols.discv5.networks import Address, NetworkClass

__all__ = ["Entry", "Store"]

_LOT: Final = 8  # bytes
_Place = tuple[bytes, Key, NodeId]


class Entry:
    """A record and its standing.

    Attributes:
        record: the newest one of this provider under this key.
        host: what may be behind its address.
        group: what its number under one key is limited by; None: nothing.
        lot: drawn once; the lowest win.
        proved: seconds of the clock since when it is known to answer; None: it is not.
    """

    __slots__ = ("group", "host", "lot", "proved", "record")

    def __init__(self, record: ProviderRecord, host: Hashable, group: Hashable | None, lot: bytes) -> None:
        self.record = record
        self.host = host
        self.group = group
        self.lot = lot
        self.proved: float | None = None


class _Shelf:
    """The entries of one key, and their order on pages."""

    __slots__ = ("entries", "order")

    def __init__(self) -> None:
        self.entries: dict[NodeId, Entry] = {}
        self.order: list[tuple[bytes, NodeId]] = []

    def put(self, entry: Entry) -> None:
        self.entries[entry.record.node_id] = entry
        insort(self.order, (entry.lot, entry.record.node_id))

    def take(self, node: NodeId) -> Entry:
        entry = self.entries.pop(node)
        del self.order[bisect_left(self.order, (entry.lot, node))]
        return entry


class Store:
    """See the module.

    Args:
        network: whose hosts and groups are limited.
        options: the bounds.
        rand: random bytes, for the secret.

    Attributes:
        statuses: what became of records that were brought, by status.
        evicted: records that yielded to others.
        expired: records whose time was over.
    """

    def __init__(self, network: NetworkClass, options: DhtOptions, rand: Callable[[int], bytes]) -> None:
        self.statuses: Counter[Status] = Counter()
        self.evicted = 0
        self.expired = 0
        self._network = network
        self._options = options
        self._secret = rand(32)
        self._shelves: dict[Key, _Shelf] = {}
        self._keys_of: dict[NodeId, set[Key]] = {}
        self._hosts: Counter[Hashable] = Counter()
        self._unproved: list[_Place] = []
        self._hours: dict[int, set[tuple[Key, NodeId]]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def keys(self) -> int:
        """How many keys have providers."""
        return len(self._shelves)

    def add(self, record: ProviderRecord, proved: float | None) -> Status:
        """Keep a verified and current record, if its standing is good enough.

        Args:
            record: with an address on this network.
            proved: since when its provider is known to answer on that address, seconds of the clock; None: it
                is not.
        """
        status = self._add(record, proved)
        self.statuses[status] += 1
        return status

    def prove(self, node: NodeId, address: Address, now: float) -> None:
        """Learn that a provider answered on this address, called by us."""
        for key in self._keys_of.get(node, ()):
            entry = self._shelves[key].entries[node]
            if entry.proved is None and entry.record.address == address:
                self._set_proved(entry, now)

    def doubt(self, node: NodeId) -> None:
        """Learn that a provider did not answer."""
        for key in self._keys_of.get(node, ()):
            entry = self._shelves[key].entries[node]
            if entry.proved is not None:
                self._set_proved(entry, None)

    def is_contended(self, key: Key) -> bool:
        """Tell whether a key, or the store, is over half full, so that standing will matter."""
        return self.count(key) > self._options.per_key // 2 or self._size > self._options.total // 2

    def get(self, key: Key, node: NodeId) -> Entry | None:
        """Return the entry of a provider."""
        shelf = self._shelves.get(key)
        return None if shelf is None else shelf.entries.get(node)

    def count(self, key: Key) -> int:
        """Return how many providers of a key are known."""
        shelf = self._shelves.get(key)
        return 0 if shelf is None else len(shelf.entries)

    def walk(self, key: Key, start: bytes, after: bytes = b"") -> Iterator[Entry]:
        """Go once round the providers of a key, in the order of their lots.

        Args:
            key: whose.
            start: the lot to begin at: a random one makes a sample of the first few.
            after: lot of the last entry that was seen in a walk from the same start.
        """
        shelf = self._shelves.get(key)
        if shelf is None:
            return
        order = shelf.order
        begin = bisect_left(order, (start, b""))
        places = [*range(begin, len(order)), *range(begin)]
        if after:
            skipped = bisect_left(order, (after + b"\0", b""))
            passed = skipped - begin if after >= start else skipped + len(order) - begin
            places = places[max(passed, 0) :]
        for place in places:
            yield shelf.entries[order[place][1]]

    def expire(self, unix: float) -> None:
        """Drop what is over; the hours are few, so this is cheap to call often."""
        for hour in [each for each in self._hours if each * HOUR <= unix]:
            for key, node in list(self._hours[hour]):
                self._remove(key, node)
                self.expired += 1

    def _add(self, record: ProviderRecord, proved: float | None) -> Status:
        known = self.get(record.key, record.node_id)
        if known is not None:
            if record.hour < known.record.hour:
                return Status.STORED
            if record.address == known.record.address:
                self._renew(known, record)
                if known.proved is None:
                    self._set_proved(known, proved)
                return Status.STORED
            # Another address is another claim: it has to find its place anew.
            self._remove(record.key, record.node_id)
        entry = self._entry(record)
        if not self._has_share(entry, proved=proved is not None):
            return Status.TOO_MANY
        self._put(entry, proved)
        return self._make_room(entry)

    def _entry(self, record: ProviderRecord) -> Entry:
        address, node = record.address, record.node_id
        lot = blake2b(record.key + node, digest_size=_LOT, key=self._secret).digest()
        return Entry(record, self._network.host_of(address), self._network.group_of(address, node), lot)

    def _has_share(self, entry: Entry, *, proved: bool) -> bool:
        """Say whether provider, host and group have room; who is proved ousts who claims the same host."""
        record, most = entry.record, self._options.per_provider
        if len(self._keys_of.get(record.node_id, ())) >= most or self._hosts[entry.host] >= most:
            return False
        shelf = self._shelves.get(record.key)
        if shelf is None:
            return True
        others = shelf.entries.values()
        same = next((each for each in others if each.host == entry.host), None)
        if same is not None:
            if same.proved is not None or not proved:
                return False
            self._remove(record.key, same.record.node_id)
            self.evicted += 1
        if entry.group is None:
            return True
        return sum(each.group == entry.group for each in others) < self._options.per_group

    def _make_room(self, entry: Entry) -> Status:
        """Let the weakest record go if there are too many; that may be the new one."""
        record = entry.record
        entries = self._shelves[record.key].entries
        if len(entries) > self._options.per_key:
            weakest = _weakest(list(entries.values()))
        elif self._size > self._options.total:
            weakest = self._weakest_of_all(entry)
        else:
            return Status.STORED
        self._remove(weakest.record.key, weakest.record.node_id)
        if weakest is entry:
            return Status.FULL
        self.evicted += 1
        return Status.STORED

    def _weakest_of_all(self, entry: Entry) -> Entry:
        """Choose over all keys: by lot among the unproved; where there are none, the new one."""
        if not self._unproved:
            return entry
        _, key, node = self._unproved[-1]
        return self._shelves[key].entries[node]

    def _put(self, entry: Entry, proved: float | None) -> None:
        record = entry.record
        self._shelves.setdefault(record.key, _Shelf()).put(entry)
        self._keys_of.setdefault(record.node_id, set()).add(record.key)
        self._hosts[entry.host] += 1
        self._hours.setdefault(record.hour, set()).add((record.key, record.node_id))
        self._size += 1
        entry.proved = proved
        if proved is None:
            insort(self._unproved, (entry.lot, record.key, record.node_id))

    def _remove(self, key: Key, node: NodeId) -> None:
        shelf = self._shelves[key]
        entry = shelf.take(node)
        if not shelf.entries:
            del self._shelves[key]
        self._keys_of[node].remove(key)
        if not self._keys_of[node]:
            del self._keys_of[node]
        self._hosts[entry.host] -= 1
        if not self._hosts[entry.host]:
            del self._hosts[entry.host]
        self._forget_hour(entry.record)
        self._size -= 1
        if entry.proved is None:
            del self._unproved[bisect_left(self._unproved, (entry.lot, key, node))]

    def _renew(self, entry: Entry, record: ProviderRecord) -> None:
        self._forget_hour(entry.record)
        self._hours.setdefault(record.hour, set()).add((record.key, record.node_id))
        entry.record = record

    def _forget_hour(self, record: ProviderRecord) -> None:
        ending = self._hours[record.hour]
        ending.remove((record.key, record.node_id))
        if not ending:
            del self._hours[record.hour]

    def _set_proved(self, entry: Entry, since: float | None) -> None:
        place = (entry.lot, entry.record.key, entry.record.node_id)
        if entry.proved is None:
            del self._unproved[bisect_left(self._unproved, place)]
        if since is None:
            insort(self._unproved, place)
        entry.proved = since


def _weakest(entries: list[Entry]) -> Entry:
    by_age = sorted(entries, key=lambda each: inf if each.proved is None else each.proved)
    # The first half keeps its place, as far as it is proved.
    half = len(entries) // 2
    losers = [each for place, each in enumerate(by_age) if place >= half or each.proved is None]
    return max(losers, key=lambda each: (each.proved is None, each.lot))
