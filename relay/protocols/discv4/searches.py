"""The lookups under way: asks for them, judges what comes back, and tells when one is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from relay.primitives.errors import DecodeError
from relay.primitives.hashing import keccak256
from relay.primitives.keys import NodeId
from relay.protocols.discv4.claims import claimed_neighbor
from relay.protocols.discv4.contact import Contact
from relay.protocols.discv4.events import Event, Left, LookupDone, Refusal, Refused
from relay.protocols.discv4.lookup import Lookup
from relay.protocols.discv4.packets import Neighbors
from relay.protocols.discv4.requests import Answer, Request, Requests
from relay.protocols.discv4.table import BUCKET_SIZE, Entry, Table
from relay.protocols.discv5.networks import UdpNetwork

__all__ = ["Searches"]

MAX_FIND_FAILURES: Final = 5  # FindNode requests in a row without an answer; go-ethereum maxFindnodeFailures


class Searches:
    """Any number of lookups up to a bound, each by its number."""

    def __init__(
        self,
        own_id: NodeId,
        requests: Requests,
        table: Table,
        network: UdpNetwork,
        *,
        max_lookups: int,
        emit: Callable[[Event], None],
    ) -> None:
        """Make it with nothing to look for.

        Args:
            own_id: our node id.
            requests: asks.
            table: where lookups begin.
            network: rules for addresses.
            max_lookups: at one time.
            emit: takes events.
        """
        self._own_id = own_id
        self._requests = requests
        self._table = table
        self._network = network
        self._max_lookups = max_lookups
        self._emit = emit
        self._lookups: dict[int, Lookup] = {}
        self._last = 0

    def begin(
        self, target: bytes, bootnodes: Iterable[Contact], now: float, *, own: bool = False
    ) -> int | None:
        """Begin a lookup.

        Args:
            target: 64 bytes.
            bootnodes: where to begin while the table is empty.
            now: seconds.
            own: it is for the table's sake; its event has the number 0.

        Returns:
            Its number; None when too many are under way.
        """
        if len(self._lookups) >= self._max_lookups:
            return None
        self._last += 1
        target_id = NodeId(keccak256(target))
        lookup = Lookup(0 if own else self._last, target, target_id, self._own_id)
        lookup.add(self._table.closest(target_id) or bootnodes)
        self._lookups[self._last] = lookup
        self._advance(self._last, lookup, now)
        return self._last

    def advance(self, now: float) -> None:
        """Ask whom the answers have led to."""
        for number, lookup in tuple(self._lookups.items()):
            self._advance(number, lookup, now)

    def _advance(self, number: int, lookup: Lookup, now: float) -> None:
        for contact in lookup.take():
            self._find(lookup, contact, now)
        if lookup.done:
            del self._lookups[number]
            self._emit(LookupDone(lookup.number, lookup.target, lookup.found, lookup.asked))

    def _find(self, lookup: Lookup, contact: Contact, now: float) -> None:
        def done(answers: list[Answer]) -> None:
            self._found(lookup, contact, answers)

        self._requests.ask(Request(contact, lookup.target, done), now)

    def _found(self, lookup: Lookup, contact: Contact, answers: list[Answer]) -> None:
        entry = self._table.get(contact.node_id)
        if answers:
            lookup.answered(contact, self._believed(contact, answers))
        else:
            lookup.failed(contact)
        if entry is not None:
            self._judge(entry, answered=bool(answers))

    def _judge(self, entry: Entry, *, answered: bool) -> None:
        # A node may answer pings and nothing else; it is of no use.
        entry.failures = 0 if answered else entry.failures + 1
        if entry.failures >= MAX_FIND_FAILURES:
            self._table.remove(entry.contact.node_id)
            self._emit(Left(entry.contact))

    def _believed(self, teller: Contact, answers: list[Answer]) -> list[Contact]:
        contacts = []
        told = [node for answer in answers if isinstance(answer, Neighbors) for node in answer.nodes]
        for neighbor in told[:BUCKET_SIZE]:
            try:
                contact = claimed_neighbor(neighbor, teller.endpoint, self._network)
            except DecodeError as error:
                self._emit(Refused(Refusal.BAD_NEIGHBOR, teller.endpoint, str(error)))
                continue
            known = self._table.get(contact.node_id)
            contacts.append(known.contact if known is not None else contact)
        return contacts
