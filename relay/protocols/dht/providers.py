"""The layer on a discv5 core: serves the DHT to others, searches in it, writes to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from relay.primitives.enr import NodeRecord
from relay.primitives.errors import DecodeError
from relay.primitives.keys import NodeKey
from relay.protocols.dht.asking import Asking, Outcome
from relay.protocols.dht.events import DhtEvent, Ended, FindDone, ProviderFound
from relay.protocols.dht.finding import Question, Rules, Search
from relay.protocols.dht.keys import Key
from relay.protocols.dht.messages import PROTOCOL, Page, decode_answer
from relay.protocols.dht.options import DhtOptions
from relay.protocols.dht.proofs import Proofs
from relay.protocols.dht.providing import Provisions
from relay.protocols.dht.record import ProviderRecord, RecordCache, expiry_at
from relay.protocols.dht.serving import Serving
from relay.protocols.dht.store import Store
from relay.protocols.dht.tokens import Tokens
from relay.protocols.discv5 import (
    Contact,
    ContactCache,
    Discv5,
    Event,
    Failure,
    LookupDone,
    NodeDropped,
    NodeSeen,
    NodeVerified,
    SessionEstablished,
    TalkRequest,
)
from relay.protocols.discv5.lookup import RESULT_SIZE
from relay.protocols.discv5.networks import Address, NetworkClass

__all__ = ["Providers"]

_UNIFORM_BYTES: Final = 6


class _Find:
    """A search, how long it may take, and whether the core looks up where it can go on."""

    __slots__ = ("handle", "looking", "search", "until")

    def __init__(self, handle: int, search: Search, until: float) -> None:
        self.handle = handle
        self.search = search
        self.until = until
        self.looking = False


class Providers:
    """The provider DHT of one node on one network class. See the package's docstring for how to drive it.

    Args:
        core: what it stands on; it takes the protocol "prov" there.
        key: the node key.
        own_record: gives our record now.
        network: that of the core.
        options: bounds and intervals.
        rand: random bytes.
        unix: seconds of the time of day.
        contacts: verified ENRs; one to share with the core, or with other nodes of a simulation.
        records: verified provider records, likewise.

    Attributes:
        store: what is kept for others, for reading.
        serving: what was asked of us, for reading.
        proofs: calls to providers, for reading.
        bad: answers to searches, or parts of them, that were not believed.
        unsupported: nodes that searches met and that do not speak the protocol.
    """

    def __init__(
        self,
        core: Discv5,
        key: NodeKey,
        own_record: Callable[[], NodeRecord],
        network: NetworkClass,
        options: DhtOptions | None = None,
        *,
        rand: Callable[[int], bytes],
        unix: Callable[[], float],
        contacts: ContactCache | None = None,
        records: RecordCache | None = None,
    ) -> None:
        options = options or DhtOptions()
        self._core = core
        self._key = key
        self._own_record = own_record
        self._network = network
        self._options = options
        self._rand = rand
        self._unix = unix
        self.bad = self.unsupported = 0
        self._handles = 0
        self._events: list[DhtEvent] = []
        self._finds: dict[int, _Find] = {}
        contacts = contacts or ContactCache(network.address_of, options.records)
        records = records or RecordCache(contacts, options.records)
        self._rules = Rules(core.node_id, self._own_address, network, contacts, records, options)
        self._asking = Asking(core)
        self.store = Store(network, options, rand)
        self.proofs = Proofs(core, self._asking, self.store, options)
        tokens = Tokens(options.token_period, rand)
        self.serving = Serving(
            core.node_id, core.table, network, self.store, self.proofs, records, tokens, rand=rand, unix=unix
        )
        self._provisions = Provisions(
            self._asking, options, self._sign, lambda: len(core.table) > 0, self._events.append, self._uniform
        )
        core.register_talk(PROTOCOL)

    @property
    def next_deadline(self) -> float:
        """When to call `poll`: seconds of the clock."""
        soonest = min(self._provisions.next_deadline, self.proofs.due)
        if not self._finds:
            return soonest
        return min(soonest, *(find.until for find in self._finds.values()))

    @property
    def providing(self) -> int:
        """How many keys we provide."""
        return len(self._provisions)

    @property
    def finding(self) -> int:
        """How many searches are under way."""
        return len(self._finds)

    def take_events(self) -> list[DhtEvent]:
        """Return what happened and forget it: after every call to the layer."""
        if not self._events:
            return []
        taken = self._events[:]
        self._events.clear()
        return taken

    def find(self, key: Key, now: float, entry: Iterable[Contact] = (), *, enough: int | None = None) -> int:
        """Search for the providers of a key; ends with FindDone, after a ProviderFound for each.

        Args:
            key: what to look for.
            now: seconds of the clock.
            entry: nodes to begin with, instead of those of our table.
            enough: providers after which the search may end; by default that of the options.
        """
        self._handles += 1
        handle = self._handles
        if len(self._finds) >= self._options.finds:
            self._events.append(FindDone(handle, key, 0, 0, 0, Ended.BUSY))
            return handle
        start = list(entry)
        chosen = bool(start)
        near = start or self._core.table.closest(key, RESULT_SIZE)
        search = Search(key, near, self._rules, chosen=chosen, enough=enough or self._options.enough)
        find = self._finds[handle] = _Find(handle, search, now + self._options.find_timeout)
        self._found(find, search.own(self._stored(key)))
        self._advance(find, now)
        return handle

    def cancel(self, handle: int) -> None:
        """End a search without a word; answers that still come are not looked at."""
        self._finds.pop(handle, None)

    def provide(self, key: Key, now: float) -> int:
        """Provide a key from now on: a ProvideDone after each time that it was written.

        Raises:
            ValueError: over `DhtOptions.provides` keys.
        """
        if key not in self._provisions and not self._provisions.has_room:
            raise ValueError(f"at most {self._options.provides} keys are provided at one time")
        self._handles += 1
        handle = self._provisions.add(key, self._handles, now)
        self._provisions.poll(now)
        return handle

    def stop_providing(self, key: Key) -> bool:
        """Provide a key no longer: what others keep expires. Returns whether it was provided."""
        self.serving.own.pop(key, None)
        return self._provisions.drop(key)

    def renew(self, now: float) -> None:
        """Write what we provide anew soon: our own record changed."""
        self._provisions.renew(now)

    def receive(self, event: Event, now: float) -> None:
        """Learn of an event of the core."""
        if type(event) is NodeSeen:
            # Hearsay is of no use here, and most of what a core tells.
            return
        match event:
            case TalkRequest(_, _, protocol, _):
                if protocol == PROTOCOL:
                    self._core.respond_talk(event, self.serving.answer(event, now))
            case NodeVerified(contact):
                self.proofs.proved(contact, now)
                self._provisions.arrived(contact.node_id, now)
                self._provisions.poll(now)
            case SessionEstablished(contact, incoming):
                if not incoming:
                    self.proofs.proved(contact, now)
            case NodeDropped(node):
                self.proofs.doubted(node)
                self._provisions.left(node, now)
            case _:
                self._asking.settle(event, now)

    def poll(self, now: float) -> None:
        """Do what is due."""
        self.proofs.poll(now)
        self._provisions.poll(now)
        for find in [each for each in self._finds.values() if each.until <= now]:
            self._finish(find, Ended.LIMIT)

    def _own_address(self) -> Address | None:
        return self._network.address_of(self._own_record())

    def _sign(self, key: Key) -> ProviderRecord | None:
        record = self._own_record()
        address = self._network.address_of(record)
        if address is None:
            return None
        signed = ProviderRecord.sign(self._key, key, record, expiry_at(self._unix()), address)
        self.serving.own[key] = signed
        return signed

    def _stored(self, key: Key) -> list[ProviderRecord]:
        self.store.expire(self._unix())
        walk = self.store.walk(key, self._rand(8))
        return [entry.record for entry, _ in zip(walk, range(self._options.per_source), strict=False)]

    def _advance(self, find: _Find, now: float) -> None:
        search = find.search
        ended = search.ended
        while ended is None and (questions := search.next_questions()):
            for question in questions:
                self._ask(find, question, now)
            ended = search.ended
        if ended is not None:
            self._finish(find, ended)
        elif search.idle and not find.looking:
            if search.found or search.widened:
                self._finish(find, Ended.ALL_ASKED if search.asked else Ended.NO_PEERS)
            else:
                find.looking = True
                # Our own table may be empty: who answered knows others.
                self._asking.lookup(search.key, partial(self._looked_up, find), now, search.answerers)

    def _ask(self, find: _Find, question: Question, now: float) -> None:
        if question.chosen or self._core.may_dial(question.contact, now):
            self._asking.talk(
                question.contact, question.message, partial(self._answered, find, question), now
            )
        else:
            find.search.failed(question, final=True)

    def _answered(self, find: _Find, question: Question, outcome: Outcome, now: float) -> None:
        if find.handle not in self._finds:
            return
        search = find.search
        if isinstance(outcome, Failure):
            again = outcome is Failure.LOST or (self._options.lossy and outcome is Failure.TIMEOUT)
            search.failed(question, final=not again)
        elif (page := self._page(outcome)) is None:
            search.failed(question, final=True)
        else:
            self._found(find, search.answered(question, page, question.contact.address, self._unix()))
        self._advance(find, now)

    def _page(self, outcome: Outcome) -> Page | None:
        if not outcome:
            self.unsupported += 1
            return None
        assert isinstance(outcome, bytes)
        try:
            answer = decode_answer(outcome)
        except DecodeError:
            answer = None
        if isinstance(answer, Page):
            return answer
        self.bad += 1
        return None

    def _looked_up(self, find: _Find, outcome: Outcome, now: float) -> None:
        if find.handle not in self._finds:
            return
        find.looking = False
        if isinstance(outcome, LookupDone):
            find.search.widen(outcome.contacts, outcome.hops)
        else:
            find.search.widen((), 0)
        self._advance(find, now)

    def _found(self, find: _Find, records: Iterable[ProviderRecord]) -> None:
        hops = find.search.found
        self._events.extend(ProviderFound(find.handle, each, hops[each.node_id]) for each in records)

    def _finish(self, find: _Find, ended: Ended) -> None:
        search = find.search
        del self._finds[find.handle]
        self.bad += search.bad
        hops = min(search.found.values(), default=0)
        self._events.append(FindDone(find.handle, search.key, len(search.found), search.asked, hops, ended))

    def _uniform(self) -> float:
        return int.from_bytes(self._rand(_UNIFORM_BYTES), "big") / (1 << 8 * _UNIFORM_BYTES)
