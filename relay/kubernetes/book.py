"""What the address book says, as far as it can be believed: checked entries, and which of them are alive.

Nobody's clock is trusted. An entry is alive while it changes before our eyes: `now` is seconds during which
we could see changes, so an API server that is away makes nobody old. What is deleted or edited into nonsense
stays in force until it is old: the relays behind it most likely still run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from relay.kubernetes.entry import ClusterKey, Entry, Place, parse_entry
from relay.primitives.errors import DecodeError
from relay.primitives.keys import PublicKey

__all__ = ["MAX_ENTRIES", "SUMMARY", "AddressBook", "BookCounts", "Conflict"]

MAX_ENTRIES: Final = 4096
SUMMARY: Final = '{"summary":'
"""How a line for people begins, of a pod whose entry is an object of its own."""


@dataclass(slots=True)
class _Held:
    entry: Entry
    changed: float


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two claims that can not both be right.

    Attributes:
        pod: under whose name the later claim stands.
        words: what is wrong.
        own: it is about this relay's own keys.
    """

    pod: str
    words: str
    own: bool


@dataclass(frozen=True, slots=True)
class BookCounts:
    """Entries by state. rejected: what stands in the book now and can not be believed."""

    fresh: int
    stale: int
    rejected: int


class AddressBook:
    """The entries of one namespace of one cluster.

    Args:
        own: where this relay runs.
        own_key: its node key's public half.
        cluster_key: None believes whoever signs.
        stale_after: seconds without a change until an entry is left out.
        on_rejected: told each time that an entry is found bad: pod and why.
        on_conflict: told each time that two pods claim the same keys.
        on_replaced: told each time that a pod has other keys than before.

    Attributes:
        rejections: entries that were found bad, all in all.
        conflicts: claims of keys that another pod has, all in all.
        updates: changes that were believed, all in all.
    """

    def __init__(
        self,
        own: Place,
        own_key: PublicKey,
        cluster_key: ClusterKey | None,
        *,
        stale_after: float,
        on_rejected: Callable[[str, str], None] = lambda _pod, _why: None,
        on_conflict: Callable[[Conflict], None] = lambda _: None,
        on_replaced: Callable[[str], None] = lambda _pod: None,
    ) -> None:
        self._own, self._own_key, self._cluster_key = own, own_key, cluster_key
        self._stale_after = stale_after
        self._on_rejected, self._on_conflict = on_rejected, on_conflict
        self._on_replaced = on_replaced
        self._held: dict[str, _Held] = {}
        self._texts: dict[str, dict[str, str]] = {}
        self._bad: dict[tuple[str, str], str] = {}
        self._told_conflicts: set[frozenset[str]] = set()
        self.rejections = self.conflicts = self.updates = 0

    def replace(self, source: str, texts: Mapping[str, str], now: float) -> None:
        """Take all that a source holds: the map, or the list of objects."""
        for pod in [each for each in self._texts.get(source, {}) if each not in texts]:
            self.remove(source, pod)
        for pod, text in texts.items():
            self.put(source, pod, text, now)

    def put(self, source: str, pod: str, text: str, now: float) -> None:
        """Take one entry."""
        known = self._texts.setdefault(source, {})
        if known.get(pod) == text:
            return
        if pod not in known and len(known) >= MAX_ENTRIES:
            self._reject(source, pod, f"the book has more than {MAX_ENTRIES} entries")
            return
        known[pod] = text
        self._bad.pop((source, pod), None)
        if text.startswith(SUMMARY):
            return
        try:
            entry = parse_entry(text, Place(self._own.cluster, self._own.namespace, pod), self._cluster_key)
            self._take(entry, now)
        except DecodeError as error:
            self._reject(source, pod, str(error))

    def remove(self, source: str, pod: str) -> None:
        """Learn that an entry is no longer there; it stays in force until it is old."""
        self._texts.get(source, {}).pop(pod, None)
        self._bad.pop((source, pod), None)

    def text(self, source: str, pod: str) -> str | None:
        """What a source holds under a pod's name."""
        return self._texts.get(source, {}).get(pod)

    def sequence(self) -> int:
        """The highest sequence that this relay's own keys have in the book."""
        held = self._held.get(self._own.pod)
        return held.entry.sequence if held is not None and held.entry.public_key == self._own_key else 0

    def peers(self, now: float) -> tuple[Entry, ...]:
        """Every other relay that is alive, each node once, in the order of the pods' names."""
        found: dict[PublicKey, Entry] = {}
        for pod, held in sorted(self._held.items()):
            own = pod == self._own.pod or held.entry.public_key == self._own_key
            if not own and not self._is_stale(held, now):
                found.setdefault(held.entry.public_key, held.entry)
        return tuple(found.values())

    @property
    def size(self) -> int:
        """Pods with an entry that was believed, alive or not, this one included."""
        return len(self._held)

    def counts(self, now: float) -> BookCounts:
        """Count the other relays' entries."""
        others = [held for pod, held in self._held.items() if pod != self._own.pod]
        stale = sum(self._is_stale(held, now) for held in others)
        return BookCounts(fresh=len(others) - stale, stale=stale, rejected=len(self._bad))

    def forget(self, now: float) -> None:
        """Drop what has been old for so long that nobody will miss it, and is not in the book any more."""
        listed = {pod for texts in self._texts.values() for pod in texts}
        for pod, held in list(self._held.items()):
            if pod not in listed and self._is_stale(held, now):
                del self._held[pod]

    def _is_stale(self, held: _Held, now: float) -> bool:
        return now - held.changed > self._stale_after

    def _take(self, entry: Entry, now: float) -> None:
        pod = entry.place.pod
        held = self._held.get(pod)
        if held is not None and held.entry.public_key == entry.public_key:
            if entry.sequence < held.entry.sequence:
                raise DecodeError(
                    f"sequence {entry.sequence} is older than {held.entry.sequence}, which was there:"
                    " replayed?"
                )
            if entry.sequence == held.entry.sequence:
                return  # the same heartbeat, from the other source
        elif held is not None:
            self._on_replaced(pod)
        self._tell_conflict(entry)
        self._held[pod] = _Held(entry, now)
        self.updates += 1

    def _tell_conflict(self, entry: Entry) -> None:
        """Two pods with the same keys both sign well: they have the same volume, or the same Secret."""
        pod = entry.place.pod
        own = entry.public_key == self._own_key
        other = self._own.pod if own and pod != self._own.pod else self._holder(entry)
        if other is None:
            return
        pair = frozenset((pod, other))
        if pair in self._told_conflicts or len(self._told_conflicts) >= MAX_ENTRIES:
            return
        self._told_conflicts.add(pair)
        self.conflicts += 1
        words = (
            f"pods {other} and {pod} have the same keys: do they share a volume, or a Secret?"
            " Each relay needs its own"
        )
        self._on_conflict(Conflict(pod, words, own))

    def _holder(self, entry: Entry) -> str | None:
        for pod, held in self._held.items():
            same = held.entry.public_key == entry.public_key or held.entry.onion == entry.onion
            if pod != entry.place.pod and same:
                return pod
        return None

    def _reject(self, source: str, pod: str, why: str) -> None:
        if len(self._bad) < MAX_ENTRIES:
            self._bad[source, pod] = why
        self.rejections += 1
        self._on_rejected(pod, why)
