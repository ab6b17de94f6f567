"""What moves nodes into the table, out of it and between its lists: hearsay, proofs, silence."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from math import inf
from typing import Final

from relay.primitives.keys import NodeId
from relay.protocols.discv5.asking import Asker
from relay.protocols.discv5.candidates import Candidates, DialBudget
from relay.protocols.discv5.contact import Contact, ContactCache
from relay.protocols.discv5.events import Failure, NodeDropped, NodeSeen, NodeVerified, Ponged, Refused
from relay.protocols.discv5.messages import Kind
from relay.protocols.discv5.networks import ITSELF, Address, NetworkClass
from relay.protocols.discv5.options import Options
from relay.protocols.discv5.outbox import Outbox
from relay.protocols.discv5.packet import Reason
from relay.protocols.discv5.requests import Call, Outcome
from relay.protocols.discv5.revalidation import Revalidation
from relay.protocols.discv5.session import Sessions
from relay.protocols.discv5.table import Entry, Table

__all__ = ["Neighbours"]

_DROP_FACTOR: Final = 3  # what silence leaves of an entry's checks; go-ethereum table_reval.go


class Neighbours:
    """The table and those who wait to enter it."""

    __slots__ = (
        "_asker", "_budget", "_candidate_due", "_candidates", "_contacts", "_network", "_options", "_outbox",
        "_proofs", "_revalidation", "_sessions", "chosen", "grown", "open", "table",
    )  # fmt: skip

    def __init__(
        self,
        table: Table,
        asker: Asker,
        sessions: Sessions,
        contacts: ContactCache,
        outbox: Outbox,
        network: NetworkClass,
        options: Options,
        uniform: Callable[[], float],
    ) -> None:
        self.table = table
        self._asker = asker
        self._sessions = sessions
        self._contacts = contacts
        self._outbox = outbox
        self._network = network
        self._options = options
        self._revalidation = Revalidation(
            options.fast_interval, options.slow_interval, options.quiet, uniform
        )
        self._candidates = Candidates(options.candidates, options.candidates_per_teller)
        self._candidate_due = inf
        self._proofs = 0
        self._budget = DialBudget(options.dials_per_host, options.dial_window)
        self.open = False
        """Whether nodes that came by themselves are let in: not before the first refresh has ended."""
        self.chosen: set[NodeId] = set()
        """Our own choice: bootnodes. They may be called as often as it takes."""
        self.grown: Callable[[float], None] = _nothing
        """Told when a node entered a table of at most `eager_below` nodes."""

    @property
    def next_deadline(self) -> float:
        """When the next ping is due; infinity without one."""
        ping, candidate = self._revalidation.next_deadline, self._candidate_due
        return ping if ping < candidate else candidate

    def poll(self, now: float) -> None:
        """Send the pings that are due."""
        for entry in self._revalidation.due(now):
            if self._asker.ping(entry.contact, self._revalidated, now) is not None:
                self._revalidation.settled(entry.contact.node_id)
        if self._candidate_due <= now:
            self._prove_next(now)

    def heard(self, contact: Contact, teller: Hashable, now: float) -> None:
        """Take note of a node that somebody told us of; teller as in `NetworkClass.group_of`."""
        if self._asker.is_ours(contact):
            return
        entry = self.table.entries.get(contact.node_id)
        if entry is not None:
            self._update(entry, contact, now, by_itself=False)
        elif contact.is_known and not self._options.prove_before_entry:
            self._enter(contact, teller, now)
        elif self.table.accepts(contact, teller):
            # Circuits are dear: who would find no place, by the share of its teller, is not dialed.
            self._queue(contact, teller, now)

    def introduced(self, contact: Contact, now: float) -> None:
        """Take note of a node that made a handshake with us, by its record's own address."""
        known = self._contacts.of(contact.record)
        if known.address is not None and not self._network.may_hear(known.address, contact.address):
            # Nobody on the internet lives in our LAN or on this machine: we would be made to call there.
            self._outbox.emit(Refused(Reason.ADDRESS, contact.address))
            return
        entry = self.table.entries.get(known.node_id)
        if entry is not None:
            self._update(entry, known, now, by_itself=True)
        elif self.open:
            self.heard(known, ITSELF, now)
        self._outbox.emit(NodeSeen(known, known.node_id))

    def may_dial(self, contact: Contact, now: float) -> bool:
        """Count a first call to an address against the budget of its host; calls to proved ones are free."""
        node, address = contact.node_id, contact.address
        entry = self.table.entries.get(node)
        if (entry is not None and entry.live and entry.contact.address == address) or (
            (node, address) in self._sessions
        ):
            return True
        host = self._network.host_of(address)
        return not self._is_taken(host, node) and self._budget.take(host, now)

    def _is_taken(self, host: Hashable, node: NodeId) -> bool:
        """Whether another node has proved to live at a host: then a record that names it is a lie, or old."""
        return self._options.prove_before_entry and any(
            entry.live and entry.contact.node_id != node for entry in self.table.at_host(host)
        )

    def ended(self, call: Call, outcome: Outcome, now: float) -> None:
        """Learn from the end of any request whether a node is there."""
        if not isinstance(outcome, Failure):
            self._answered(call, outcome, now)
        elif outcome in (Failure.TIMEOUT, Failure.UNREACHABLE, Failure.LOST):
            self._silent(call, outcome, now)

    def _answered(self, call: Call, outcome: Outcome, now: float) -> None:
        contact = call.contact
        entry = self.table.entries.get(contact.node_id)
        proved = self._proved(call, outcome)
        if proved is not None:
            entry = self._admit(proved, call.teller, now) if entry is None else self._moved(entry, proved)
        if entry is None or entry.contact.address != contact.address:
            return
        entry.heard = now
        entry.checks += 1
        self._revalidation.move(entry, now, slow=True)
        if not entry.live:
            entry.live = True
            self._outbox.emit(NodeVerified(entry.contact))
        if isinstance(outcome, Ponged) and outcome.enr_seq > entry.contact.record.seq:
            self._asker.findnode(entry.contact, (0,), self._renewed, now)

    def _proved(self, call: Call, outcome: Outcome) -> Contact | None:
        """Return the record of who answered, if it answered where that record says it is."""
        if call.contact.is_known:
            known = self._contacts.of(call.contact.record)
        else:
            told = [each for each in outcome if isinstance(each, Contact)] if type(outcome) is tuple else []
            own = [each for each in told if each.node_id == call.contact.node_id]
            if not own:
                return None
            known = own[0]
        # What came in on a stream has answered on that stream, not on the address of its record.
        return known if known.address is not None and known.address == call.contact.address else None

    def _admit(self, proved: Contact, teller: Hashable, now: float) -> Entry | None:
        waiting = self._candidates.pop(proved.node_id)
        if self._options.prove_before_entry:
            self._drop_at(proved.address, now)
        return self._enter(proved, teller if waiting is None else waiting[1], now)

    def _drop_at(self, address: Address, now: float) -> None:
        """Let go of other nodes at a host that has just answered as a new one: it can be only one of them."""
        for entry in self.table.at_host(self._network.host_of(address)):
            self._drop(entry, now)

    def _moved(self, entry: Entry, proved: Contact) -> Entry:
        if proved.address != entry.contact.address and proved.record.seq > entry.contact.record.seq:
            self.table.update(entry, proved, by_itself=True)
        return entry

    def _silent(self, call: Call, failure: Failure, now: float) -> None:
        entry = self.table.entries.get(call.contact.node_id)
        if entry is None or entry.contact.address != call.contact.address:
            return
        if call.kind is not Kind.PING or failure is Failure.LOST:
            # One lost answer is no proof of death: a ping soon decides.
            self._revalidation.move(entry, now, slow=False)
            return
        entry.checks //= _DROP_FACTOR
        if entry.checks:
            self._revalidation.move(entry, now, slow=False)
        else:
            self._drop(entry, now)

    def _drop(self, entry: Entry, now: float) -> None:
        node = entry.contact.node_id
        self._revalidation.remove(entry)
        following, unproved = self.table.remove(node, promote=not self._options.prove_before_entry)
        if following is not None:
            self._revalidation.add(following, now)
        if unproved is not None:
            self._queue(unproved, ITSELF, now)
        self._outbox.emit(NodeDropped(node))

    def _enter(self, contact: Contact, teller: Hashable, now: float) -> Entry | None:
        entry = self.table.add(contact, teller)
        if entry is not None:
            self._revalidation.add(entry, now)
            if len(self.table) <= self._options.eager_below:
                self.grown(now)
        return entry

    def _update(self, entry: Entry, contact: Contact, now: float, *, by_itself: bool) -> None:
        before = entry.contact
        if self._options.prove_before_entry and contact.address != before.address:
            # A record does not prove its address: the old one holds until the new one has answered.
            if contact.address is not None and contact.record.seq > before.record.seq:
                self._queue(contact, contact.node_id, now)
            return
        if self.table.update(entry, contact, by_itself=by_itself):
            self._revalidation.move(entry, now, slow=False)
        elif entry.contact is not before and entry.live:
            self._outbox.emit(NodeVerified(entry.contact))

    def _renewed(self, call: Call, outcome: Outcome, now: float) -> None:
        entry = self.table.entries.get(call.contact.node_id)
        if entry is not None and isinstance(outcome, tuple) and outcome:
            self._update(entry, outcome[0], now, by_itself=False)

    def _revalidated(self, call: Call, _outcome: Outcome, _now: float) -> None:
        self._revalidation.settled(call.contact.node_id)

    def _queue(self, contact: Contact, teller: Hashable, now: float) -> None:
        if self._candidates.add(contact, teller) and self._candidate_due == inf:
            self._candidate_due = now

    def _prove_next(self, now: float) -> None:
        if self._proofs >= self._options.proofs:
            self._candidate_due = inf
            return
        self._candidate_due = now + self._options.candidate_interval
        while (waiting := self._candidates.take()) is not None:
            contact, teller = waiting
            if self._is_wanted(contact, teller) and (
                contact.node_id in self.chosen or self.may_dial(contact, now)
            ):
                self._prove(contact, teller, now)
                return
        self._candidate_due = inf

    def _is_wanted(self, contact: Contact, teller: Hashable) -> bool:
        entry = self.table.entries.get(contact.node_id)
        if entry is None:
            return self.table.accepts(contact, teller)
        return contact.address != entry.contact.address and contact.record.seq > entry.contact.record.seq

    def _prove(self, contact: Contact, teller: Hashable, now: float) -> None:
        if contact.is_known:
            failure = self._asker.ping(contact, self._proof_ended, now, teller)
        else:
            failure = self._asker.findnode(contact, (0,), self._introduced_itself, now, teller)
        self._proofs += failure is None

    def _proof_ended(self, _call: Call, _outcome: Outcome, now: float) -> None:
        """Go on, where that waited for one to end; `ended` has learned all there is."""
        self._proofs -= 1
        if self._candidate_due == inf and len(self._candidates):
            self._candidate_due = now

    def _introduced_itself(self, call: Call, outcome: Outcome, now: float) -> None:
        """Take the record of a node that was called by its key alone; it may name another address."""
        self._proof_ended(call, outcome, now)
        if isinstance(outcome, tuple) and outcome:
            self.heard(outcome[0], outcome[0].node_id, now)


def _nothing(_now: float) -> None:
    """Take no notice."""
