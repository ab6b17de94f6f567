"""Following trees as they change: which name to ask next, what an answer means.

The driver sends the queries and hands back what it got. A tree is walked in random order, its links first;
what was read stays known by its hash, so that a new root costs only what changed. Records are handed out
once and not kept. Everything is bounded: queries a second and in flight, trees, entries of a tree, tries of
an entry. Spec: dnsdisc.md, Client Protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from relay.primitives.enr import NodeRecord
from relay.primitives.errors import DecodeError
from relay.primitives.hashing import keccak256
from relay.protocols.dnsdisc.entries import (
    ROOT_PREFIX,
    Branch,
    Entry,
    Link,
    Root,
    parse_entry,
    parse_hash,
    subdomain,
)
from relay.protocols.dnsdisc.events import Event, Query, Reason, RecordFound, Refused, TreeSynced
from relay.protocols.dnsdisc.followed import FollowedTree, Subtree

__all__ = ["SyncOptions", "TreeSync"]

_NEVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class SyncOptions:
    """Limits of following trees.

    Attributes:
        rate: queries a second. go-ethereum's default.
        burst: queries that may go out at once after a pause.
        max_in_flight: queries without an answer yet.
        query_timeout: seconds after which an unanswered query counts as failed; the driver's own is shorter.
        recheck: seconds between looks at a root. go-ethereum's default.
        entry_retry: seconds that a tree pauses after an entry failed; doubles with each failure in a row.
        root_retry: seconds before a root that failed is asked again; doubles with each failure.
        max_trees: trees followed, those of the user and those linked; further links are refused.
        max_entries: entries of one tree; beyond them it is read no further.
        max_tries: of one entry, until the root changes.
        recheck_after: failures in a row after which the root is looked at again, since it may have changed.
    """

    rate: float = 3.0
    burst: int = 3
    max_in_flight: int = 8
    query_timeout: float = 60.0
    recheck: float = 30 * 60.0
    entry_retry: float = 1.0
    root_retry: float = 5.0
    max_trees: int = 16
    max_entries: int = 20_000
    max_tries: int = 3
    recheck_after: int = 5


@dataclass(slots=True)
class _Asked:
    """A query without an answer: for which tree, for which of its entries (None for its root)."""

    tree: FollowedTree
    subtree: Subtree | None
    name: str
    deadline: float

    @property
    def dns_name(self) -> str:
        """The name of the query."""
        return subdomain(self.name, self.tree.link.domain) if self.name else self.tree.link.domain


class _NotBelieved(DecodeError):
    """An answer that is refused, with the reason for the counters."""

    def __init__(self, reason: Reason, why: str) -> None:
        super().__init__(why)
        self.reason = reason


class TreeSync:
    """Follows the trees of some URLs and those they link to."""

    def __init__(
        self,
        links: Iterable[Link],
        rand: Callable[[int], bytes],
        options: SyncOptions | None = None,
        *,
        seqs: Mapping[Link, int] | None = None,
    ) -> None:
        """Make it for the user's trees.

        Args:
            links: the trees to begin with; they stay.
            rand: random bytes, for the order of the walk.
            options: limits.
            seqs: sequence numbers seen in an earlier life; an older root is a replay.
        """
        self._seqs = dict(seqs or {})
        self._options = options or SyncOptions()
        self._rand = rand
        self._given = tuple(dict.fromkeys(links))
        self._trees = {link: FollowedTree(link, self._options.max_entries) for link in self._given}
        self._asked: dict[str, list[_Asked]] = {}  # by DNS name; several entries may share one
        self._tokens = float(self._options.burst)
        self._tokens_at = -_NEVER

    @property
    def trees(self) -> tuple[FollowedTree, ...]:
        """What is followed now, for status pages."""
        return tuple(self._trees.values())

    def queries(self, now: float) -> list[Query]:
        """Return the names to ask now. Each is to be answered by `receive`."""
        self._refill(now)
        queries: list[Query] = []
        while self._tokens >= 1 and len(self._asked) < self._options.max_in_flight:
            asked = self._draw(now)
            if asked is None:
                break
            waiting = self._asked.setdefault(asked.dns_name, [])
            waiting.append(asked)
            if len(waiting) == 1:
                self._tokens -= 1
                queries.append(Query(asked.dns_name))
        return queries

    def receive(self, name: str, texts: Sequence[str] | None, now: float) -> list[Event]:
        """Take what a name holds.

        Args:
            name: as in the query; one that was not asked is refused.
            texts: its TXT records, character-strings joined; None if it could not be resolved.
            now: seconds.
        """
        waiting = self._asked.pop(name, None)
        if waiting is None:
            return [Refused("", name[:64], "this name was not asked", Reason.NOT_ASKED)]
        return [event for asked in waiting for event in self._answered(asked, texts, now)]

    def poll(self, now: float) -> list[Event]:
        """Give up queries that nobody answered."""
        late = [name for name, waiting in self._asked.items() if waiting[0].deadline <= now]
        return [event for name in late for event in self.receive(name, None, now)]

    def next_deadline(self, now: float) -> float | None:
        """Return when to call `poll` and `queries` again; None when only an answer can bring new work."""
        due = [waiting[0].deadline for waiting in self._asked.values()]
        if len(self._asked) < self._options.max_in_flight:
            self._refill(now)
            token_at = now if self._tokens >= 1 else now + (1 - self._tokens) / self._options.rate
            due += [max(token_at, tree.ready_at) for tree in self._trees.values()]
        earliest = min(due, default=_NEVER)
        return None if earliest == _NEVER else earliest

    # -- asking ----------------------------------------------------------------------------------------

    def _refill(self, now: float) -> None:
        options = self._options
        elapsed = max(0.0, now - self._tokens_at)
        self._tokens = min(float(options.burst), self._tokens + elapsed * options.rate)
        self._tokens_at = max(now, self._tokens_at)

    def _draw(self, now: float) -> _Asked | None:
        """Take the next thing to ask, from the tree that waits longest."""
        for link, tree in tuple(self._trees.items()):
            asked = self._draw_from(tree, now + self._options.query_timeout, now)
            if asked is not None:
                self._trees[link] = self._trees.pop(link)  # to the end of the row
                return asked
        return None

    def _draw_from(self, tree: FollowedTree, deadline: float, now: float) -> _Asked | None:
        if tree.root_due <= now:
            tree.root_asked = True
            return _Asked(tree, None, "", deadline)
        if tree.pause_until > now:
            return None
        for subtree in tree.subtrees:
            name = subtree.draw(self._rand)
            if name is not None:
                return _Asked(tree, subtree, name, deadline)
        return None

    # -- answers ---------------------------------------------------------------------------------------

    def _answered(self, asked: _Asked, texts: Sequence[str] | None, now: float) -> list[Event]:
        tree = asked.tree
        if self._trees.get(tree.link) is not tree:
            return []  # it was linked to, and is no more
        if asked.subtree is None:
            return self._root_answered(tree, texts, now)
        if asked.subtree not in tree.subtrees:
            return []  # the root has changed since
        try:
            entry = _entry(asked.name, texts)
            events = self._entry_found(tree, asked.subtree, asked.name, entry)
            tree.failures = 0
        except DecodeError as error:
            events = self._entry_failed(tree, asked.subtree, asked.name, error, now)
        return events + self._completed(tree)

    def _root_answered(self, tree: FollowedTree, texts: Sequence[str] | None, now: float) -> list[Event]:
        tree.root_asked = False
        try:
            root = _root(tree.link, texts)
            newest = max(self._seqs.get(tree.link, 0), tree.root.seq if tree.root is not None else 0)
            if root.seq < newest:
                why = f"sequence number {root.seq} is older than {newest}: a replay"
                raise _NotBelieved(Reason.REPLAY, why)
        except DecodeError as error:
            delay = self._options.root_retry * 2 ** min(tree.root_failures, 16)
            tree.root_failures += 1
            tree.check_root_at = now + min(delay, self._options.recheck)
            reason = error.reason if isinstance(error, _NotBelieved) else Reason.BAD_ROOT
            return [Refused(tree.link.domain, tree.link.domain, str(error), reason)]
        tree.accept(root)
        tree.check_root_at = now + self._options.recheck
        return self._completed(tree)

    def _entry_found(self, tree: FollowedTree, subtree: Subtree, name: str, entry: Entry) -> list[Event]:
        if isinstance(entry, Branch):
            if not subtree.add_branch(name, entry.children):
                why = "the tree is too large, the rest of it is left out"
                return [Refused(tree.link.domain, name, why, Reason.TOO_LARGE)]
            return []
        if isinstance(entry, Link) is not subtree.of_links:
            raise DecodeError("a link among the records, or a record among the links")
        if isinstance(entry, NodeRecord):
            subtree.add_leaf(name)
            return [RecordFound(entry, tree.link.domain)]
        subtree.add_leaf(name, entry)
        return self._follow(tree, entry)

    def _follow(self, tree: FollowedTree, link: Link) -> list[Event]:
        if link in self._trees:
            return []
        if len(self._trees) >= self._options.max_trees:
            why = "too many trees, this one is not followed"
            return [Refused(tree.link.domain, link.domain, why, Reason.TOO_MANY_TREES)]
        self._trees[link] = FollowedTree(link, self._options.max_entries)
        return []

    def _entry_failed(
        self, tree: FollowedTree, subtree: Subtree, name: str, error: DecodeError, now: float
    ) -> list[Event]:
        subtree.failed(name, self._options.max_tries)
        tree.pause_until = now + self._options.entry_retry * 2**tree.failures
        tree.failures += 1
        if tree.failures >= self._options.recheck_after:
            tree.failures = 0
            tree.is_doubted = True
            tree.check_root_at = min(tree.check_root_at, now + self._options.root_retry)
        reason = error.reason if isinstance(error, _NotBelieved) else Reason.BAD_ENTRY
        return [Refused(tree.link.domain, name, str(error), reason)]

    def _completed(self, tree: FollowedTree) -> list[Event]:
        if tree.root is None or tree.completed or not all(subtree.complete for subtree in tree.subtrees):
            return []
        tree.completed = True
        for subtree in tree.subtrees:
            subtree.settle()
        self._forget_unlinked()
        leaves = [subtree.leaf_count for subtree in tree.subtrees]
        return [TreeSynced(tree.link.domain, tree.root.seq, records=leaves[1], links=leaves[0])]

    def _forget_unlinked(self) -> None:
        """Drop the trees that no chain of links from the user's trees leads to any more."""
        reached = set(self._given)
        waiting = list(self._given)
        while waiting:
            fresh = (self._trees[waiting.pop()].links & self._trees.keys()) - reached
            reached |= fresh
            waiting += fresh
        self._trees = {link: tree for link, tree in self._trees.items() if link in reached}


def _root(link: Link, texts: Sequence[str] | None) -> Root:
    """Pick the root among the texts of a domain, which may have others: SPF and the like."""
    found = [text for text in texts or () if text.startswith(ROOT_PREFIX)]
    if texts is None:
        raise _NotBelieved(Reason.NOT_RESOLVED, "not resolved")
    if not found:
        raise _NotBelieved(Reason.NO_ROOT, "no root of a tree at this name")
    root = Root.parse(found[0])
    if not root.signed_by(link.public_key):
        raise _NotBelieved(Reason.BAD_SIGNATURE, "the root is not signed by the key of the link")
    return root


def _entry(name: str, texts: Sequence[str] | None) -> Entry:
    if texts is None:
        raise _NotBelieved(Reason.NOT_RESOLVED, "not resolved")
    wanted = parse_hash(name)
    for text in texts:
        if keccak256(text.encode("utf-8", "surrogatepass")).startswith(wanted):
            return parse_entry(text)
    raise _NotBelieved(Reason.WRONG_HASH, "no text at this name has the hash that the name spells")
