"""Lookups under way, and the refreshes made of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from math import inf
from typing import Final

from relay.primitives.keys import NodeId
from relay.protocols.discv5.asking import Asker
from relay.protocols.discv5.contact import Contact
from relay.protocols.discv5.distance import lookup_distances
from relay.protocols.discv5.events import Failure, NodeSeen
from relay.protocols.discv5.lookup import RESULT_SIZE, Lookup
from relay.protocols.discv5.neighbours import Neighbours
from relay.protocols.discv5.options import Options
from relay.protocols.discv5.outbox import Outbox
from relay.protocols.discv5.requests import Call, Outcome

__all__ = ["Refresh", "Searches"]

_MAX_DOUBLINGS: Final = 12


class Searches:
    """Lookups under way."""

    __slots__ = (
        "_asker",
        "_bound",
        "_distances",
        "_neighbours",
        "_outbox",
        "_own_id",
        "_retries",
        "_running",
    )

    def __init__(
        self, own_id: NodeId, asker: Asker, neighbours: Neighbours, outbox: Outbox, options: Options
    ) -> None:
        self._own_id = own_id
        self._asker = asker
        self._neighbours = neighbours
        self._outbox = outbox
        self._bound = options.lookups
        self._retries = options.lookup_retries
        self._distances = options.lookup_distances
        self._running: dict[Lookup, Callable[[Lookup, float], None]] = {}

    def __len__(self) -> int:
        return len(self._running)

    def begin(
        self,
        target: NodeId,
        done: Callable[[Lookup, float], None],
        now: float,
        known: Sequence[Contact] = (),
    ) -> bool:
        """Start a lookup; returns False, without calling done, when too many are under way.

        known: nodes to begin with besides those of the table; whoever is new here has none in it.
        """
        if len(self._running) >= self._bound:
            return False
        start = {
            each.node_id: each for each in (*known, *self._neighbours.table.closest(target, RESULT_SIZE))
        }
        lookup = Lookup(target, self._own_id, list(start.values()), retries=self._retries)
        self._running[lookup] = done
        self._advance(lookup, now)
        return True

    def ask(self, contact: Contact, target: NodeId, now: float) -> None:
        """Ask one node of our own choice, however far it is, whom it knows near a target."""

        def done(call: Call, outcome: Outcome, now: float) -> None:
            for each in outcome if isinstance(outcome, tuple) else ():
                self._hear(each, call.contact.node_id, now)

        entry = self._neighbours.table.entries.get(contact.node_id)
        known = contact if entry is None else entry.contact
        if known.is_known:
            distances = lookup_distances(target, known.node_id, self._distances)
            self._asker.findnode(known, distances, done, now, None)

    def _hear(self, contact: Contact, teller: NodeId, now: float) -> None:
        self._outbox.emit(NodeSeen(contact, teller))
        self._neighbours.heard(contact, teller, now)

    def _advance(self, lookup: Lookup, now: float) -> None:
        while questions := lookup.next_questions():
            for contact, teller in questions:
                self._ask(lookup, contact, teller, now)
        if lookup.finished:
            self._running.pop(lookup)(lookup, now)

    def _ask(self, lookup: Lookup, contact: Contact, teller: Hashable, now: float) -> None:
        def done(call: Call, outcome: Outcome, now: float) -> None:
            self._answered(lookup, call.contact.node_id, outcome, now)

        if not self._neighbours.may_dial(contact, now):
            lookup.failed(contact.node_id)
            return
        distances = lookup_distances(lookup.target, contact.node_id, self._distances)
        if self._asker.findnode(contact, distances, done, now, teller) is not None:
            lookup.failed(contact.node_id)

    def _answered(self, lookup: Lookup, node: NodeId, outcome: Outcome, now: float) -> None:
        if isinstance(outcome, tuple):
            for contact in lookup.answered(node, outcome):
                self._hear(contact, node, now)
        else:
            lookup.failed(node, final=outcome is not Failure.TIMEOUT)
        self._advance(lookup, now)


class Refresh:
    """Fills the table by lookups: for ourselves and for random ids, from the bootnodes on.

    While the table has fewer than 16 nodes the time between two refreshes is short, and doubles with each
    that brought nothing new.
    """

    __slots__ = (
        "_began", "_bootnodes", "_doublings", "_grown", "_neighbours", "_options", "_own_id", "_rand",
        "_searches", "_seen", "_uniform", "_waiting", "_young", "_youth", "due",
    )  # fmt: skip

    def __init__(
        self,
        own_id: NodeId,
        neighbours: Neighbours,
        searches: Searches,
        options: Options,
        rand: Callable[[int], bytes],
        uniform: Callable[[], float],
    ) -> None:
        self._own_id = own_id
        self._neighbours = neighbours
        self._searches = searches
        self._options = options
        self._rand = rand
        self._uniform = uniform
        self._bootnodes: dict[NodeId, Contact] = {}
        self._waiting = 0
        self._doublings = 0
        self._seen = 0
        self._began = -inf
        self._grown = False
        self._young = False
        self._youth = options.young_interval
        self.due = -inf
        """When the next one begins; infinity while one is under way."""

    def add_bootnode(self, contact: Contact) -> None:
        """Begin with this node in each refresh."""
        self._bootnodes[contact.node_id] = contact
        self._neighbours.chosen.add(contact.node_id)
        if not self._waiting and not len(self._neighbours.table):
            self.due = -inf

    def poll(self, now: float) -> None:
        """Begin a refresh if one is due."""
        if self.due > now:
            return
        self.due = inf
        self._began = now
        # One that was brought forward is after those who know our neighbourhood; random walks come later.
        if self._grown and self._options.eager_below > 1:
            walks = 0
        else:
            walks = 0 if self._young else self._options.refresh_lookups
        self._grown = self._young = False
        targets = [self._own_id] + [NodeId(self._rand(32)) for _ in range(walks)]
        # One more than there are, so that none that ends at once ends the refresh.
        self._waiting = len(targets) + 1
        for contact in self._bootnodes.values():
            self._neighbours.heard(contact, None, now)
            if self._options.ask_bootnodes and len(self._neighbours.table) >= RESULT_SIZE:
                self._searches.ask(contact, self._own_id, now)
        for target in targets:
            if not self._searches.begin(target, self._one_done, now):
                self._waiting -= 1
        self._one_done(None, now)

    def grown(self, now: float) -> None:
        """A node entered a table that is nearly empty, so that a refresh makes sense soon."""
        self._grown = True
        if not self._waiting:
            self.due = min(self.due, self._soon(now))

    def _soon(self, now: float) -> float:
        return max(now, self._began + self._options.eager_interval)

    def _one_done(self, _lookup: Lookup | None, now: float) -> None:
        self._waiting -= 1
        if not self._waiting:
            self._neighbours.open = True
            pause = self._pause()
            eager = self._grown and self._options.eager_below > 1
            self.due = self._soon(now) if eager else now + pause

    def _pause(self) -> float:
        size = len(self._neighbours.table)
        self._doublings = 0 if size > self._seen else min(self._doublings + 1, _MAX_DOUBLINGS)
        self._seen = size
        usual = self._options.refresh_interval * (1 + self._uniform()) / 2
        if size >= RESULT_SIZE:
            return self._pause_of_youth(usual)
        return min(usual, self._options.starved_interval * 2.0**self._doublings * (0.5 + self._uniform()))

    def _pause_of_youth(self, usual: float) -> float:
        """Look for our neighbours sooner while we are new: they are too, or do not know us yet."""
        if not self._youth or (pause := self._youth * (1 + self._uniform()) / 2) >= usual:
            return usual
        self._young = True
        self._youth *= 2
        return pause
