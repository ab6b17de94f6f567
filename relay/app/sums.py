"""Counters of several identities as one: what is shown of them says nothing of which had which part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from relay.observe.snapshot import Connections, FeedCounts

__all__ = ["sum_connections", "sum_counters", "sum_feeds"]

T = TypeVar("T")
_HIGHEST: Final = frozenset({"longest_slice"})
"""Counters that are no sums."""


def sum_counters(parts: Sequence[T]) -> T:
    """Add up objects whose slots hold numbers, `Counter`s, or further such objects; one part is itself."""
    if len(parts) == 1:
        return parts[0]
    total = type(parts[0])()
    for name in getattr(total, "__slots__", ()):
        setattr(total, name, _sum(name, [getattr(part, name) for part in parts]))
    return total


def _sum(name: str, values: list[Any]) -> Any:  # noqa: ANN401 - of whatever type the values are
    if isinstance(values[0], Counter):
        return sum(values, Counter())
    if isinstance(values[0], int | float):
        return max(values) if name in _HIGHEST else sum(values)
    return sum_counters(values)


def sum_connections(parts: Iterable[Connections]) -> Connections:
    """Add up attempts of one direction."""
    tried = joined = stayed = 0
    errors = Counter[str]()
    for part in parts:
        tried, joined, stayed = tried + part.tried, joined + part.joined, stayed + part.stayed
        errors.update(part.errors)
    return Connections(tried, joined, stayed, dict(errors))


def sum_feeds(parts: Iterable[Mapping[str, FeedCounts]]) -> dict[str, FeedCounts]:
    """Add up sources of candidates by their names."""
    total: dict[str, FeedCounts] = {}
    for part in parts:
        for name, counts in part.items():
            known = total.get(name, FeedCounts())
            refused = Counter(known.refused)
            refused.update(counts.refused)
            total[name] = FeedCounts(
                known.waiting + counts.waiting, known.taken + counts.taken, dict(refused)
            )
    return total
