"""The iterative search for the nodes nearest to a target. Spec: discv5-theory.md, "Lookup".

A pure walk over contacts: it says whom to ask and is told the answers.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Hashable, Iterable
from enum import Enum, auto
from typing import Final

from relay.primitives.keys import NodeId
from relay.protocols.discv5.contact import Contact
from relay.protocols.discv5.distance import xor_distance
from relay.protocols.discv5.networks import ITSELF

__all__ = ["ALPHA", "RESULT_SIZE", "Lookup"]

ALPHA: Final = 3  # requests at a time
RESULT_SIZE: Final = 16  # k
_KEPT: Final = 64  # nearest nodes kept, so that the silent among the first 16 have successors (our choice)


class _State(Enum):
    FRESH = auto()
    ASKED = auto()
    ANSWERED = auto()


class _Step:
    """A node on the way; hops counts the tellers before it, failures the requests that came to nothing."""

    __slots__ = ("contact", "distance", "failures", "hops", "state", "teller")

    def __init__(self, contact: Contact, distance: int, hops: int, teller: Hashable) -> None:
        self.contact = contact
        self.distance = distance
        self.hops = hops
        self.teller = teller
        self.state = _State.FRESH
        self.failures = 0

    def __lt__(self, other: _Step) -> bool:
        return self.distance < other.distance


class Lookup:
    """One search.

    Args:
        target: what is searched for.
        own_id: never asked.
        start: nodes to begin with.
        retries: how often a node that did not answer is asked again.

    Attributes:
        target: what is searched for.
        asked: requests so far.
    """

    __slots__ = ("_nearest", "_retries", "_running", "_steps", "asked", "target")

    def __init__(self, target: NodeId, own_id: NodeId, start: Iterable[Contact], *, retries: int = 0) -> None:
        self.target = target
        self.asked = 0
        self._retries = retries
        self._running = 0
        self._nearest: list[_Step] = []
        self._steps: dict[NodeId, _Step | None] = {own_id: None}  # None: seen, and not to be asked
        self._add(start, 0, ITSELF)

    def next_questions(self) -> list[tuple[Contact, Hashable]]:
        """Return whom to ask now, and who told us of each; `answered` or `failed` must follow for each."""
        questions = []
        for step in self._nearest[:RESULT_SIZE]:
            if self._running >= ALPHA:
                break
            if step.state is _State.FRESH:
                step.state = _State.ASKED
                self._running += 1
                self.asked += 1
                questions.append((step.contact, step.teller))
        return questions

    def answered(self, node: NodeId, contacts: Iterable[Contact]) -> list[Contact]:
        """Take an answer; returns the contacts in it that are new to this search."""
        step = self._steps[node]
        self._running -= 1
        if step is None:
            return []
        step.state = _State.ANSWERED
        return self._add(contacts, step.hops + 1, node)

    def failed(self, node: NodeId, *, final: bool = True) -> None:
        """Drop a node that did not answer, unless it may be asked again: the next nearest moves up."""
        step = self._steps[node]
        self._running -= 1
        if step is None:
            return
        step.failures += 1
        if not final and step.failures <= self._retries:
            step.state = _State.FRESH
            return
        self._steps[node] = None
        self._nearest = [each for each in self._nearest if each is not step]

    @property
    def finished(self) -> bool:
        """Whether nothing is under way; after `next_questions` gave nothing that is the end."""
        return not self._running

    @property
    def result(self) -> tuple[Contact, ...]:
        """The nearest nodes that answered."""
        return tuple(step.contact for step in self._best())

    @property
    def hops(self) -> int:
        """The longest chain of tellers to a node of the result."""
        return max((step.hops for step in self._best()), default=0)

    def _best(self) -> list[_Step]:
        return [step for step in self._nearest[:RESULT_SIZE] if step.state is _State.ANSWERED]

    def _add(self, contacts: Iterable[Contact], hops: int, teller: Hashable) -> list[Contact]:
        new = []
        for contact in contacts:
            node = contact.node_id
            if node not in self._steps:
                step = _Step(contact, xor_distance(node, self.target), hops, teller)
                self._steps[node] = step
                insort(self._nearest, step)
                new.append(contact)
        for step in self._nearest[_KEPT:]:
            # One that is under way has been among the nearest: its answer still counts, its place is lost.
            if step.state is _State.FRESH:
                self._steps[step.contact.node_id] = None
        del self._nearest[_KEPT:]
        return new
