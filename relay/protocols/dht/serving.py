"""Answers to GET_PROVIDERS and ADD_PROVIDER. Spec: docs/specs/provider-dht.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from heapq import nsmallest
from typing import Final

from relay.primitives.errors import DecodeError
from relay.primitives.keys import NodeId
from relay.protocols.dht.keys import Key
from relay.protocols.dht.messages import (
    ROOM,
    Added,
    AddProvider,
    GetProviders,
    Page,
    Status,
    decode_request,
    take_fitting,
)
from relay.protocols.dht.proofs import Proofs
from relay.protocols.dht.record import ProviderRecord, RecordCache, is_current
from relay.protocols.dht.store import Entry, Store
from relay.protocols.dht.tokens import Tokens
from relay.protocols.discv5 import Contact, TalkRequest
from relay.protocols.discv5.distance import ID_BITS, xor_distance
from relay.protocols.discv5.networks import Address, NetworkClass
from relay.protocols.discv5.table import BUCKETS, Table

__all__ = ["Serving", "is_storable", "nearer_than_us"]

_LOT: Final = 8  # bytes of a lot; a cursor is where a walk began and where it is
_CURSORS: Final = (_LOT, 2 * _LOT)
_SHARED: Final = ID_BITS - BUCKETS + 1  # nodes at this distance or nearer share a bucket
MAX_NODES: Final = 16  # in one page; discv5-wire.md has it for FINDNODE


class Serving:
    """Serves requests from the store and the table; keeps nothing between them but what is stored.

    Attributes:
        own: records of the keys that we provide ourselves, by key.
        counts: requests by what they were: "get", "add", or "bad request".
    """

    __slots__ = (
        "_network", "_own_id", "_proofs", "_rand", "_records", "_store", "_table", "_tokens", "_unix",
        "counts", "own",
    )  # fmt: skip

    def __init__(
        self,
        own_id: NodeId,
        table: Table,
        network: NetworkClass,
        store: Store,
        proofs: Proofs,
        records: RecordCache,
        tokens: Tokens,
        *,
        rand: Callable[[int], bytes],
        unix: Callable[[], float],
    ) -> None:
        self._own_id = own_id
        self._table = table
        self._network = network
        self._store = store
        self._proofs = proofs
        self._records = records
        self._tokens = tokens
        self._rand = rand
        self._unix = unix
        self.own: dict[Key, ProviderRecord] = {}
        self.counts: Counter[str] = Counter()

    def answer(self, request: TalkRequest, now: float) -> bytes:
        """Return the answer; nothing, as for an unknown protocol, to what can't be read."""
        try:
            message = decode_request(request.payload)
        except DecodeError:
            self.counts["bad request"] += 1
            return b""
        if isinstance(message, GetProviders):
            self.counts["get"] += 1
            return self._page(message, request.contact, now).encode()
        self.counts["add"] += 1
        return Added(self._add(message, request.contact, now)).encode()

    def _page(self, message: GetProviders, asker: Contact, now: float) -> Page:
        # A cursor that is none of ours begins anew: what we answer with has room for ours only.
        key, cursor = message.key, message.cursor if len(message.cursor) in _CURSORS else b""
        unix = self._unix()
        self._store.expire(unix)
        own = self.own.get(key)
        if own is not None and not is_current(own.hour, unix):
            own = None
        start, after = cursor[:_LOT] or self._rand(_LOT), cursor[_LOT:]
        records = [own.raw] if own is not None and not cursor and message.limit else []
        room = ROOM - sum(map(len, records))
        following = b""
        for entry in self._tellable(key, start, after, asker):
            raw = entry.record.raw
            if len(records) >= message.limit or len(raw) > room:
                following = start + after
                break
            records.append(raw)
            room -= len(raw)
            after = entry.lot
        total = self._store.count(key) + (own is not None)
        token = self._tokens.issue(asker.node_id, asker.address, key, now)
        return Page(token, total, following, tuple(records), tuple(self._nodes(key, asker, room)))

    def _tellable(self, key: Key, start: bytes, after: bytes, asker: Contact) -> Iterator[Entry]:
        for entry in self._store.walk(key, start, after):
            record = entry.record
            if record.node_id != asker.node_id and self._network.may_tell(
                record.enr, record.address, asker.address
            ):
                yield entry

    def _nodes(self, key: Key, asker: Contact, room: int) -> list[bytes]:
        tellable = (
            contact.record.raw
            for contact in nearer_than_us(self._table, self._own_id, key, MAX_NODES)
            if contact.node_id != asker.node_id
            and self._network.may_tell(contact.record, contact.address, asker.address)
        )
        return take_fitting(tellable, room, MAX_NODES)[0]

    def _add(self, message: AddProvider, asker: Contact, now: float) -> Status:
        node, unix = asker.node_id, self._unix()
        if not self._tokens.check(message.token, node, asker.address, message.key, now):
            return self._refused(Status.BAD_TOKEN)
        try:
            record = self._records.get(message.record, message.key)
        except DecodeError:
            return self._refused(Status.BAD_RECORD)
        if record.node_id != node:
            return self._refused(Status.BAD_RECORD)
        if not is_current(record.hour, unix):
            return self._refused(Status.BAD_EXPIRY)
        if not is_storable(record, self._network, asker.address):
            return self._refused(Status.BAD_ADDRESS)
        self._store.expire(unix)
        return self._keep(record, now)

    def _keep(self, record: ProviderRecord, now: float) -> Status:
        proved = self._proofs.since(record.node_id, record.address, now)
        status = self._store.add(record, proved)
        # Who was turned away for want of a proof may come again with one.
        if proved is None and status is not Status.TOO_MANY and self._store.is_contended(record.key):
            self._proofs.want(record, now)
        return status

    def _refused(self, status: Status) -> Status:
        self._store.statuses[status] += 1
        return status


def is_storable(record: ProviderRecord, network: NetworkClass, source: Address) -> bool:
    """Say whether a provider's address is one of this network that may be heard from `source` and told on."""
    address = record.address
    return (
        address is not None
        and network.may_hear(address, source)
        and network.may_tell(record.enr, address, source)
    )


def nearer_than_us(table: Table, own_id: NodeId, key: Key, count: int) -> list[Contact]:
    """Return live nodes nearer to a key than we are, the nearest first.

    They differ from us, at the highest bit where they do, as the key does. So they are in the buckets of the
    bits in which the key differs from us; and all of a bucket are nearer than all of the next lower one.
    """
    difference = xor_distance(own_id, key)
    found: list[Contact] = []
    for distance in range(difference.bit_length(), _SHARED, -1):
        if difference >> (distance - 1) & 1:
            live = table.live_at(distance)
            found += nsmallest(count - len(found), live, key=lambda each: xor_distance(each.node_id, key))
        if len(found) >= count:
            return found
    rest = (entry.contact for entry in table if entry.live and entry.distance <= _SHARED)
    nearer = [each for each in rest if xor_distance(each.node_id, key) < difference]
    return found + nsmallest(count - len(found), nearer, key=lambda each: xor_distance(each.node_id, key))
