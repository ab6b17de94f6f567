"""One search for the providers of a key: a walk towards the key that asks each node for them.

A pure walk: it says whom to ask and is told the answers. What can be checked in an answer is not believed:
records are by their signatures, nodes by being nearer to the key than who names them, so that a walk always
goes down and no two liars send it in circles.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from relay.primitives.errors import DecodeError
from relay.primitives.keys import NodeId
from relay.protocols.dht.events import Ended
from relay.protocols.dht.keys import Key
from relay.protocols.dht.messages import GetProviders, Page
from relay.protocols.dht.options import DhtOptions
from relay.protocols.dht.record import ProviderRecord, RecordCache, is_current
from relay.protocols.dht.serving import is_storable
from relay.protocols.discv5 import Contact, ContactCache
from relay.protocols.discv5.distance import xor_distance
from relay.protocols.discv5.lookup import Lookup
from relay.protocols.discv5.networks import Address, NetworkClass

__all__ = ["Question", "Rules", "Search"]

_NODES_READ: Final = 16  # of one answer


@dataclass(frozen=True, slots=True)
class Question:
    """A request to be made.

    Attributes:
        contact: whom to ask.
        message: what.
        chosen: by the user, so that no budget of calls applies.
    """

    contact: Contact
    message: GetProviders
    chosen: bool


@dataclass(frozen=True, slots=True)
class Rules:
    """What all searches of a layer share.

    Attributes:
        own_id: our node id.
        own_address: where we are; None: nowhere.
        network: who may be heard of.
        contacts: verified ENRs.
        records: verified provider records.
        options: bounds.
    """

    own_id: NodeId
    own_address: Callable[[], Address | None]
    network: NetworkClass
    contacts: ContactCache
    records: RecordCache
    options: DhtOptions


class Search:
    """One search.

    Args:
        key: what is looked for.
        start: nodes to begin with.
        chosen: whether they were given by the user.
        rules: of the layer.
        enough: providers after which it is over.

    Attributes:
        key: what is looked for.
        answerers: nodes that answered.
        asked: nodes that were asked.
        found: providers by node id, with the hops to who named each first.
        bad: answers, or parts of them, that were not believed.
        chosen: see there.
        widened: the walk was begun a second time, from a lookup.
    """

    __slots__ = (
        "_enough", "_givers", "_hops", "_lookup", "_pages", "_paging", "_rules", "_taken", "_waiting",
        "answerers", "asked", "bad", "chosen", "found", "key", "widened",
    )  # fmt: skip

    def __init__(
        self, key: Key, start: Iterable[Contact], rules: Rules, *, chosen: bool, enough: int
    ) -> None:
        self.key = key
        self.chosen = chosen
        self.asked = self.bad = 0
        self.answerers: list[Contact] = []
        self.found: dict[NodeId, int] = {}
        self.widened = False
        self._rules = rules
        self._enough = enough
        self._hops: dict[NodeId, int] = {}
        self._taken: dict[NodeId, int] = {}
        self._pages: dict[NodeId, int] = {}
        self._givers: set[NodeId] = set()
        self._waiting: deque[Question] = deque()
        self._paging = 0
        self._lookup = self._walk_from(start, hops=1)

    def next_questions(self) -> list[Question]:
        """Return whom to ask now; `answered` or `failed` must follow for each."""
        questions = []
        while self._waiting:
            questions.append(self._waiting.popleft())
            self._paging += 1
        if self.asked < self._rules.options.asked:
            for contact, _ in self._lookup.next_questions():
                chosen = self.chosen and self._hops[contact.node_id] == 1
                questions.append(Question(contact, self._question(b""), chosen))
                self.asked += 1
        return questions

    def answered(self, question: Question, page: Page, address: Address, unix: float) -> list[ProviderRecord]:
        """Take an answer; returns the providers in it that are new.

        Args:
            question: what it answers.
            page: not verified.
            address: where it came from.
            unix: seconds of the time of day.
        """
        node = question.contact.node_id
        found = self._providers(node, page, address, unix)
        if question.message.cursor:
            self._paging -= 1
        else:
            self.answerers.append(question.contact)
            self._lookup.answered(node, self._nodes(node, page, address))
        if self._wants_more(node, page):
            self._waiting.append(Question(question.contact, self._question(page.next), question.chosen))
        return found

    def failed(self, question: Question, *, final: bool) -> None:
        """Learn that a node did not answer, or nothing of use; unless final, it may be asked again."""
        if question.message.cursor:
            self._paging -= 1
        else:
            self._lookup.failed(question.contact.node_id, final=final)

    def own(self, records: Iterable[ProviderRecord]) -> list[ProviderRecord]:
        """Take what our own store has."""
        return [each for each in records if self._is_new(each, 0)]

    def widen(self, contacts: Iterable[Contact], hops: int) -> None:
        """Go on with the nodes that a lookup found near the key and that were not asked yet."""
        self.widened, self.chosen = True, False
        fresh = [each for each in contacts if each.node_id not in self._hops]
        self._lookup = self._walk_from(fresh, hops + 1)

    @property
    def idle(self) -> bool:
        """Whether nothing is under way; after `next_questions` gave nothing, the walk is at its end."""
        return self._lookup.finished and not self._paging and not self._waiting

    @property
    def ended(self) -> Ended | None:
        """Why it is over, if it is, before all were asked."""
        options = self._rules.options
        if len(self.found) >= self._enough and len(self._givers) >= min(options.sources, self._enough):
            return Ended.ENOUGH
        if self.idle and self.asked >= options.asked:
            return Ended.LIMIT
        return None

    def _walk_from(self, start: Iterable[Contact], hops: int) -> Lookup:
        contacts = list({each.node_id: each for each in start if each.address is not None}.values())
        self._hops.update((each.node_id, hops) for each in contacts)
        target = NodeId(self.key)
        return Lookup(target, self._rules.own_id, contacts, retries=self._rules.options.retries)

    def _wants_more(self, node: NodeId, page: Page) -> bool:
        options = self._rules.options
        if not page.next or not page.records or self._taken.get(node, 0) >= options.per_source:
            return False
        self._pages[node] = self._pages.get(node, 1) + 1
        return self._pages[node] <= options.pages

    def _question(self, cursor: bytes) -> GetProviders:
        return GetProviders(self.key, cursor, self._rules.options.per_source)

    def _providers(self, node: NodeId, page: Page, address: Address, unix: float) -> list[ProviderRecord]:
        found = []
        for raw in page.records:
            if self._taken.get(node, 0) >= self._rules.options.per_source:
                break
            try:
                record = self._rules.records.get(raw, self.key)
            except DecodeError:
                # Checking signatures is dear, so one bad record ends what is read of the answer.
                self.bad += 1
                break
            if not is_current(record.hour, unix) or not is_storable(record, self._rules.network, address):
                self.bad += 1
                continue
            self._taken[node] = self._taken.get(node, 0) + 1
            self._givers.add(node)
            if self._is_new(record, self._hops[node]):
                found.append(record)
        return found

    def _is_new(self, record: ProviderRecord, hops: int) -> bool:
        node = record.node_id
        if node == self._rules.own_id or node in self.found:
            return False
        self.found[node] = hops
        return True

    def _nodes(self, teller: NodeId, page: Page, address: Address) -> list[Contact]:
        found = []
        nearest = xor_distance(teller, self.key)
        for raw in page.nodes[:_NODES_READ]:
            try:
                contact = self._rules.contacts.get(raw)
            except DecodeError:
                self.bad += 1
                break
            if xor_distance(contact.node_id, self.key) >= nearest or not self._is_usable(contact, address):
                self.bad += 1
            elif contact.node_id not in self._hops:
                self._hops[contact.node_id] = self._hops[teller] + 1
                found.append(contact)
        return found

    def _is_usable(self, contact: Contact, source: Address) -> bool:
        return (
            contact.node_id != self._rules.own_id
            and contact.address is not None
            and contact.address != self._rules.own_address()
            and self._rules.network.may_hear(contact.address, source)
        )
