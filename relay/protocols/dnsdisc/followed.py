"""What is known of one tree while it is followed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from relay.protocols.dnsdisc.entries import Link, Root, parse_hash

__all__ = ["FollowedTree", "Subtree"]

_NEVER: Final = float("inf")


class Subtree:
    """The records or the links of a tree: what is known, what is missing.

    Names are kept as the bytes they spell, so that two spellings are one entry.

    Attributes:
        of_links: which of the two it is.
        top: hash name it begins at.
    """

    def __init__(self, top: str, *, of_links: bool, max_entries: int, before: Subtree | None = None) -> None:
        """Begin at a name, with what is known from before of the entries that are still reached."""
        self.of_links = of_links
        self.top = top
        self._max_entries = max_entries
        self._branches: dict[bytes, tuple[str, ...]] = {}
        self._leaves: dict[bytes, Link | None] = {}
        self._missing: list[str] = []
        self._reached: set[bytes] = set()  # known, missing, asked or given up
        self._given_up: list[str] = []
        self._tries: dict[bytes, int] = {}
        self._open = 0  # missing and asked
        # Of the tree before: what is below a branch that changed is mostly known.
        self._old_branches = before._branches if before is not None else {}
        self._old_leaves = before._leaves if before is not None else {}
        self._reach((top,))

    @property
    def complete(self) -> bool:
        """Whether nothing is missing and nothing asked."""
        return self._open == 0

    @property
    def waiting(self) -> bool:
        """Whether there is something to ask."""
        return bool(self._missing)

    @property
    def leaf_count(self) -> int:
        """How many leaves are known."""
        return len(self._leaves)

    @property
    def given_up(self) -> int:
        """How many names gave nothing, tried often enough; they and what is below them are missing."""
        return len(self._given_up)

    @property
    def links(self) -> frozenset[Link]:
        """The leaves of a subtree of links."""
        return frozenset(link for link in self._leaves.values() if link is not None)

    def __len__(self) -> int:
        return len(self._reached)

    def draw(self, rand: Callable[[int], bytes]) -> str | None:
        """Take a random name that is missing."""
        if not self._missing:
            return None
        # Four bytes against tens of thousands: the modulo's bias does not matter for an order of reading.
        at = int.from_bytes(rand(4), "big") % len(self._missing)
        self._missing[at], self._missing[-1] = self._missing[-1], self._missing[at]
        return self._missing.pop()

    def add_branch(self, name: str, children: tuple[str, ...]) -> bool:
        """Note a branch that was drawn; False when the tree is too large to follow all of it."""
        self._open -= 1
        self._branches[parse_hash(name)] = children
        return self._reach(children)

    def add_leaf(self, name: str, link: Link | None = None) -> None:
        """Note a leaf that was drawn."""
        self._open -= 1
        self._leaves[parse_hash(name)] = link

    def failed(self, name: str, max_tries: int) -> None:
        """Note that a name that was drawn gave nothing; it is drawn again, a few times."""
        key = parse_hash(name)
        self._tries[key] = self._tries.get(key, 0) + 1
        if self._tries[key] < max_tries:
            self._missing.append(name)
        else:
            self._open -= 1
            self._given_up.append(name)

    def settle(self) -> None:
        """Let go of what only the tree before had."""
        self._old_branches = {}
        self._old_leaves = {}

    def revive(self) -> None:
        """Try again what was given up."""
        self._missing += self._given_up
        self._open += len(self._given_up)
        self._given_up.clear()
        self._tries.clear()

    def _reach(self, names: tuple[str, ...]) -> bool:
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            key = parse_hash(name)
            if key in self._reached:
                continue  # in two places, or a loop
            if len(self._reached) >= self._max_entries:
                return False
            self._reached.add(key)
            if key in self._old_branches:
                self._branches[key] = self._old_branches[key]
                waiting += self._old_branches[key]
            elif key in self._old_leaves:
                self._leaves[key] = self._old_leaves[key]
            else:
                self._missing.append(name)
                self._open += 1
        return True


class FollowedTree:
    """A tree, its root and how reading it goes.

    Attributes:
        link: key and domain.
        root: the newest that was accepted.
        root_asked: the root's query is under way.
        check_root_at: when to look at the root again.
        root_failures: in a row.
        failures: of entries in a row.
        pause_until: entries are not asked before.
        is_doubted: the root is looked at before its time, since entries failed.
        subtrees: of links and of records; links come first, so that linked trees begin early.
        completed: all below the present root is read, and that has been told.
    """

    def __init__(self, link: Link, max_entries: int) -> None:
        self.link = link
        self.root: Root | None = None
        self.root_asked = False
        self.check_root_at = -_NEVER
        self.root_failures = 0
        self.failures = 0
        self.pause_until = -_NEVER
        self.is_doubted = False
        self.subtrees: tuple[Subtree, ...] = ()
        self.completed = False
        self._max_entries = max_entries
        self._links_before: frozenset[Link] = frozenset()

    @property
    def links(self) -> frozenset[Link]:
        """The trees it links to; while they are being read again, also those it did link to."""
        if not self.subtrees:
            return self._links_before
        links = self.subtrees[0]
        return links.links if links.complete else links.links | self._links_before

    @property
    def root_due(self) -> float:
        """When the root is to be asked."""
        return _NEVER if self.root_asked else self.check_root_at

    @property
    def ready_at(self) -> float:
        """When there is something to ask."""
        if not any(subtree.waiting for subtree in self.subtrees):
            return self.root_due
        return min(self.root_due, self.pause_until)

    def accept(self, root: Root) -> None:
        """Take a root that was checked; subtrees that did not change stay as they are."""
        before = self.subtrees or (None, None)
        self._links_before = self.links
        tops = (root.links, root.records)
        self.subtrees = tuple(
            old if old is not None and old.top == top else self._subtree(top, of_links, old)
            for top, of_links, old in zip(tops, (True, False), before, strict=True)
        )
        if root != self.root or not self.is_doubted:  # else what failed would be asked for without end
            for subtree in self.subtrees:
                subtree.revive()
        self.is_doubted = False
        all_read = all(subtree.complete for subtree in self.subtrees)
        self.completed = self.completed and all_read and self.root == root
        self.root = root
        self.root_failures = 0
        self.failures = 0
        self.pause_until = -_NEVER

    def _subtree(self, top: str, of_links: bool, before: Subtree | None) -> Subtree:
        return Subtree(top, of_links=of_links, max_entries=self._max_entries, before=before)
