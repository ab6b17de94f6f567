"""Which providers answer on the address of their record.

A record does not prove its address, and a circuit is dear. So providers are proved by what happens anyway:
the table's own checks, and handshakes on calls of ours. Only where keys fill up are they called for it,
rarely, and within the core's budget of calls to one host.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from math import inf
from typing import Final

from relay.primitives.keys import NodeId
from relay.protocols.dht.asking import Asking, Outcome
from relay.protocols.dht.options import DhtOptions
from relay.protocols.dht.record import ProviderRecord
from relay.protocols.dht.store import Store
from relay.protocols.discv5 import Contact, Discv5, Failure
from relay.protocols.discv5.networks import Address

__all__ = ["Proofs"]

_KEPT: Final = 1024  # proofs that are remembered beside the store; the oldest go first


class Proofs:
    """Remembers proofs, hands them to the store, and makes some.

    Attributes:
        due: when the next call is due; infinity without one.
        calls: calls that were made.
    """

    __slots__ = ("_asking", "_core", "_options", "_proved", "_store", "_waiting", "calls", "due")

    def __init__(self, core: Discv5, asking: Asking, store: Store, options: DhtOptions) -> None:
        self._core = core
        self._asking = asking
        self._store = store
        self._options = options
        self._proved: OrderedDict[tuple[NodeId, Address], float] = OrderedDict()
        self._waiting: dict[NodeId, ProviderRecord] = {}
        self.due = inf
        self.calls = 0

    def since(self, node: NodeId, address: Address, now: float) -> float | None:
        """Return since when a node is known to answer on an address; None: it is not."""
        since = self._proved.get((node, address))
        if since is None:
            entry = self._core.table.entries.get(node)
            if entry is not None and entry.live and entry.contact.address == address:
                since = self._note(node, address, now)
        return since

    def proved(self, contact: Contact, now: float) -> None:
        """Learn that a node answered us on an address that we called."""
        if contact.address is not None:
            self._note(contact.node_id, contact.address, now)
            self._store.prove(contact.node_id, contact.address, now)

    def doubted(self, node: NodeId) -> None:
        """Learn that a node does not answer any more."""
        for place in [each for each in self._proved if each[0] == node]:
            del self._proved[place]
        self._store.doubt(node)

    def want(self, record: ProviderRecord, now: float) -> None:
        """Have a provider called when its turn comes; when too many wait, it is not."""
        if len(self._waiting) < self._options.probes:
            self._waiting[record.node_id] = record
            self.due = min(self.due, now + self._options.probe_interval)

    def poll(self, now: float) -> None:
        """Make the call that is due."""
        if self.due > now:
            return
        while self._waiting:
            record = self._waiting.pop(next(iter(self._waiting)))
            contact = self._core.contact(record.enr)
            if (record.node_id, record.address) not in self._proved and self._core.may_dial(contact, now):
                self.due = now + self._options.probe_interval
                self.calls += 1
                self._asking.ping(contact, partial(self._called, contact), now)
                return
        self.due = inf

    def _called(self, contact: Contact, outcome: Outcome, now: float) -> None:
        if not isinstance(outcome, Failure):
            self.proved(contact, now)

    def _note(self, node: NodeId, address: Address, now: float) -> float:
        place = (node, address)
        if place not in self._proved and len(self._proved) >= _KEPT:
            self._proved.popitem(last=False)
        return self._proved.setdefault(place, now)
