"""One lookup: whom to ask next for the nodes nearest to a target. Spec: discv4.md, Recursive Lookup."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import nsmallest
from typing import Final

from relay.primitives.keys import NodeId
from relay.protocols.discv4.contact import Contact
from relay.protocols.discv5.distance import xor_distance

__all__ = ["Lookup"]

ALPHA: Final = 3  # requests at one time; discv4.md
RESULTS: Final = 16  # discv4.md, k
MAX_ASKED: Final = 64  # nodes: somebody with ground ids could lead us nearer for ever (our choice)
MAX_KNOWN: Final = 128  # candidates kept; the farthest go first (our choice)


class Lookup:
    """The state of one lookup.

    Attributes:
        number: what the driver knows it by.
        target: 64 bytes.
    """

    def __init__(self, number: int, target: bytes, target_id: NodeId, own_id: NodeId) -> None:
        self.number = number
        self.target = target
        self._target_id = target_id
        self._known: dict[NodeId, Contact] = {}
        self._seen: set[NodeId] = {own_id}  # known, or known and dropped
        self._asked: set[NodeId] = set()
        self._answered: set[NodeId] = set()
        self._in_flight = 0

    @property
    def done(self) -> bool:
        """Whether nobody is left to ask and nobody is being asked."""
        return self._in_flight == 0 and not self._next()

    @property
    def asked(self) -> int:
        """How many nodes have been asked."""
        return len(self._asked)

    @property
    def found(self) -> tuple[Contact, ...]:
        """The nearest nodes that have answered."""
        return tuple(contact for contact in self._nearest() if contact.node_id in self._answered)[:RESULTS]

    def add(self, contacts: Iterable[Contact]) -> None:
        """Take nodes that might be near."""
        for contact in contacts:
            if contact.node_id not in self._seen:
                self._seen.add(contact.node_id)
                self._known[contact.node_id] = contact
        if len(self._known) > MAX_KNOWN:
            for contact in self._nearest()[MAX_KNOWN:]:
                del self._known[contact.node_id]

    def take(self) -> list[Contact]:
        """Return the nodes to ask now; each is to be answered by `answered` or `failed`."""
        contacts = self._next()[: max(0, ALPHA - self._in_flight)]
        self._asked.update(contact.node_id for contact in contacts)
        self._in_flight += len(contacts)
        return contacts

    def answered(self, contact: Contact, told: Iterable[Contact]) -> None:
        """Take the answer of a node that was asked."""
        self._in_flight -= 1
        self._answered.add(contact.node_id)
        self.add(told)

    def failed(self, contact: Contact) -> None:
        """Note that a node that was asked did not answer: it is out."""
        self._in_flight -= 1
        self._known.pop(contact.node_id, None)

    def _nearest(self, count: int = MAX_KNOWN * 2) -> list[Contact]:
        return nsmallest(
            count, self._known.values(), key=lambda each: xor_distance(each.node_id, self._target_id)
        )

    def _next(self) -> list[Contact]:
        """Of the nearest nodes known, those not asked yet."""
        if len(self._asked) >= MAX_ASKED:
            return []
        return [contact for contact in self._nearest(RESULTS) if contact.node_id not in self._asked]
