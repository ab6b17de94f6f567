"""Keys that we provide: written to the nodes nearest to each, again and again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Final

from relay.primitives.errors import DecodeError
from relay.primitives.keys import NodeId
from relay.protocols.dht.asking import Asking, Outcome
from relay.protocols.dht.events import DhtEvent, ProvideDone, ProvideWaiting, Waiting
from relay.protocols.dht.keys import Key
from relay.protocols.dht.messages import Added, AddProvider, Answer, GetProviders, Page, Status, decode_answer
from relay.protocols.dht.options import DhtOptions
from relay.protocols.dht.record import ProviderRecord
from relay.protocols.discv5 import Contact, Failure, LookupDone
from relay.protocols.discv5.distance import xor_distance

__all__ = ["Provisions", "Sign"]

Sign = Callable[[Key], ProviderRecord | None]
"""Makes our record for a key, good for a day; None: we have no address on this network now."""

_STORED: Final = "stored"
_UNSUPPORTED: Final = "does not speak the protocol"
_BAD_ANSWER: Final = "bad answer"


class _Round:
    """One time of writing a record: a lookup, then to each of the nearest a GET for a token and an ADD."""

    __slots__ = (
        "_asking",
        "_done",
        "_left",
        "_options",
        "_record",
        "_running",
        "asked",
        "holders",
        "outcomes",
    )

    def __init__(
        self,
        record: ProviderRecord,
        asking: Asking,
        options: DhtOptions,
        done: Callable[[_Round, float], None],
    ) -> None:
        self.asked = 0
        self.holders: list[NodeId] = []
        self.outcomes: Counter[str] = Counter()
        self._record = record
        self._asking = asking
        self._options = options
        self._done = done
        self._left: list[Contact] = []
        self._running = 0

    def begin(self, now: float) -> None:
        self._asking.lookup(self._record.key, self._looked_up, now)

    def _looked_up(self, outcome: Outcome, now: float) -> None:
        if isinstance(outcome, LookupDone):
            self._left = list(reversed(outcome.contacts))
        self._advance(now)

    def _advance(self, now: float) -> None:
        wanted = self._options.replication - len(self.holders)
        while self._left and self._running < min(self._options.writers, wanted):
            self._running += 1
            self.asked += 1
            self._get(self._left.pop(), now)
        if not self._running:
            self._done(self, now)

    def _get(self, contact: Contact, now: float, tries: int = 1) -> None:
        message = GetProviders(self._record.key, b"", 0)
        self._asking.talk(contact, message, partial(self._got, contact, tries), now)

    def _got(self, contact: Contact, tries: int, outcome: Outcome, now: float) -> None:
        answer = _answer(outcome)
        if isinstance(answer, Page):
            message = AddProvider(self._record.key, answer.token, self._record.raw)
            self._asking.talk(contact, message, partial(self._added, contact, tries), now)
        else:
            self._missed(contact, tries, answer, now)

    def _added(self, contact: Contact, tries: int, outcome: Outcome, now: float) -> None:
        answer = _answer(outcome)
        if not isinstance(answer, Added):
            self._missed(contact, tries, answer, now)
        elif answer.status == Status.STORED:
            self.holders.append(contact.node_id)
            self._end(_STORED, now)
        elif answer.status == Status.BAD_TOKEN and tries <= self._options.retries:
            # Between the two the stream was another one, or the secret turned twice.
            self._get(contact, now, tries + 1)
        else:
            self._end(_status_name(answer.status), now)

    def _missed(self, contact: Contact, tries: int, answer: Answer | Failure | str, now: float) -> None:
        """Take an answer of the wrong kind, or none."""
        lost = answer is Failure.LOST or (self._options.lossy and answer is Failure.TIMEOUT)
        if lost and tries <= self._options.retries:
            self._get(contact, now, tries + 1)
        else:
            self._end(answer if isinstance(answer, str) else _BAD_ANSWER, now)

    def _end(self, outcome: str, now: float) -> None:
        self.outcomes[outcome] += 1
        self._running -= 1
        self._advance(now)


class _Provision:
    """A key that is provided.

    Attributes:
        due: when the next round begins; infinity while one is under way.
        ended: when the last one ended.
        waiting: what it waits for, as it was told.
        failures: rounds in a row that stored nothing.
        holders: who keeps the record.
    """

    __slots__ = ("due", "ended", "failures", "handle", "holders", "key", "round", "waiting")

    def __init__(self, handle: int, key: Key, now: float) -> None:
        self.handle = handle
        self.key = key
        self.due = now
        self.ended = -inf
        self.waiting: Waiting | None = None
        self.failures = 0
        self.round: _Round | None = None
        self.holders: set[NodeId] = set()


class Provisions:
    """All keys that we provide.

    Args:
        asking: makes the requests.
        options: bounds and intervals.
        sign: makes our records.
        has_peers: whether there is anybody to write to.
        emit: takes events.
        uniform: a random number from 0 to 1.
    """

    __slots__ = ("_asking", "_emit", "_has_peers", "_keys", "_options", "_rounds", "_sign", "_uniform")

    def __init__(
        self,
        asking: Asking,
        options: DhtOptions,
        sign: Sign,
        has_peers: Callable[[], bool],
        emit: Callable[[DhtEvent], None],
        uniform: Callable[[], float],
    ) -> None:
        self._asking = asking
        self._options = options
        self._sign = sign
        self._has_peers = has_peers
        self._emit = emit
        self._uniform = uniform
        self._keys: dict[Key, _Provision] = {}
        self._rounds = 0

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def next_deadline(self) -> float:
        """When the next round is due; infinity without one, and while no more may run."""
        if not self._keys or self._rounds >= self._options.rounds:
            return inf
        return min((each.due for each in self._keys.values()), default=inf)

    def __contains__(self, key: Key) -> bool:
        return key in self._keys

    @property
    def has_room(self) -> bool:
        """Whether one more key may be provided."""
        return len(self._keys) < self._options.provides

    def add(self, key: Key, handle: int, now: float) -> int:
        """Provide a key from now on; one that is provided already is written anew, under its old handle."""
        known = self._keys.get(key)
        if known is None:
            known = self._keys[key] = _Provision(handle, key, now)
        elif known.round is None:
            known.due = now
        return known.handle

    def drop(self, key: Key) -> bool:
        """Provide a key no longer: nothing is withdrawn, the records expire. Says whether it was provided."""
        known = self._keys.pop(key, None)
        if known is not None and known.round is not None:
            self._rounds -= 1
        return known is not None

    def renew(self, now: float) -> None:
        """Write all keys anew: our own record is another one."""
        for each in self._keys.values():
            self._bring_forward(each, now)

    def arrived(self, node: NodeId, now: float) -> None:
        """Learn of a node that answers: it may be one of the nearest to a key."""
        for each in self._keys.values():
            if each.waiting is not None:
                each.due = min(each.due, now)
            elif each.holders and node not in each.holders and self._belongs(node, each):
                self._bring_forward(each, now)

    def left(self, node: NodeId, now: float) -> None:
        """Learn of a node that does not answer any more."""
        for each in self._keys.values():
            if node in each.holders:
                self._bring_forward(each, now)

    def poll(self, now: float) -> None:
        """Begin the rounds that are due."""
        for each in [each for each in self._keys.values() if each.due <= now]:
            if self._rounds < self._options.rounds:
                self._begin(each, now)

    def _begin(self, each: _Provision, now: float) -> None:
        record = self._sign(each.key) if self._has_peers() else None
        if record is None:
            self._wait(each, Waiting.ADDRESS if self._has_peers() else Waiting.PEERS, now)
            return
        each.due = inf
        self._rounds += 1
        each.round = _Round(record, self._asking, self._options, partial(self._ended, each))
        each.round.begin(now)

    def _wait(self, each: _Provision, reason: Waiting, now: float) -> None:
        each.due = now + self._options.waiting
        if each.waiting is not reason:
            each.waiting = reason
            self._emit(ProvideWaiting(each.handle, each.key, reason))

    def _ended(self, each: _Provision, finished: _Round, now: float) -> None:
        if self._keys.get(each.key) is not each or each.round is not finished:
            return
        self._rounds -= 1
        each.round, each.ended = None, now
        if not finished.asked:
            self._wait(each, Waiting.PEERS, now)
            return
        each.waiting = None
        each.holders = set(finished.holders)
        each.failures = 0 if finished.holders else each.failures + 1
        pause = self._pause(each, poor=2 * len(finished.holders) < finished.asked)
        each.due = now + pause
        refused = tuple(sorted((why, count) for why, count in finished.outcomes.items() if why != _STORED))
        self._emit(ProvideDone(each.handle, each.key, len(finished.holders), finished.asked, refused, pause))

    def _pause(self, each: _Provision, *, poor: bool) -> float:
        usual = self._options.republish * (0.9 + 0.2 * self._uniform())
        if not each.failures:
            return usual if not poor else min(usual, self._options.topup)
        return min(usual, self._options.retry * 2.0 ** min(each.failures - 1, 16))

    def _belongs(self, node: NodeId, each: _Provision) -> bool:
        """Say whether a node is nearer to the key than one of its holders, or there are too few of them."""
        if len(each.holders) < self._options.replication:
            return True
        farthest = max(xor_distance(holder, each.key) for holder in each.holders)
        return xor_distance(node, each.key) < farthest

    def _bring_forward(self, each: _Provision, now: float) -> None:
        if each.round is None:
            each.due = min(each.due, max(now, each.ended + self._options.topup))


def _answer(outcome: Outcome) -> Answer | Failure | str:
    if isinstance(outcome, Failure):
        return outcome
    assert isinstance(outcome, bytes)
    if not outcome:
        return _UNSUPPORTED
    try:
        return decode_answer(outcome)
    except DecodeError:
        return _BAD_ANSWER


def _status_name(status: int) -> str:
    try:
        return Status(status).name.lower().replace("_", " ")
    except ValueError:
        return f"status {status}"
