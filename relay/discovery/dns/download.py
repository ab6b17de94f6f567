"""Reading one whole list, once, with everything checked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from relay.discovery.dns.lists import DnsLists
from relay.discovery.dns.resolvers import Resolver
from relay.discovery.driver import Clock
from relay.primitives.enr import NodeRecord
from relay.primitives.errors import LocalError
from relay.primitives.keys import NodeId
from relay.protocols.dnsdisc.entries import Link, Root
from relay.protocols.dnsdisc.events import Event, Reason, RecordFound, Refused, TreeSynced
from relay.protocols.dnsdisc.sync import SyncOptions
from relay.protocols.dnsdisc.tree import MAX_ENTRIES

__all__ = ["Downloaded", "download"]

RATE: Final = 10.0  # questions a second: one list, once, and a person waits
_LINKED: Final = Reason.TOO_MANY_TREES  # what is linked to is named and not followed


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A list as it was read.

    Attributes:
        link: where it was.
        root: signed by the link's key.
        records: sorted by node id.
        links: to other lists, sorted.
    """

    link: Link
    root: Root
    records: tuple[NodeRecord, ...]
    links: tuple[Link, ...]


async def download(
    link: Link,
    resolver: Resolver,
    *,
    clock: Clock,
    rand: Callable[[int], bytes],
    rate: float = RATE,
    progress: Callable[[int], None] = lambda _: None,
) -> Downloaded:
    """Read a list; lists that it links to are not followed.

    Args:
        link: of the list.
        resolver: asks DNS.
        clock: the event loop.
        rand: random bytes.
        rate: questions a second.
        progress: told how many records there are so far.

    Raises:
        LocalError: the root is not there or not signed by the link's key, or entries are missing or wrong.
    """
    reading = _Reading(link, resolver, clock, rand, rate, progress)
    return await reading.run()


class _Reading:
    def __init__(
        self,
        link: Link,
        resolver: Resolver,
        clock: Clock,
        rand: Callable[[int], bytes],
        rate: float,
        progress: Callable[[int], None],
    ) -> None:
        options = SyncOptions(rate=rate, burst=max(1, int(rate)), max_trees=1, max_entries=MAX_ENTRIES)
        self._link = link
        self._progress = progress
        self._records: dict[NodeId, NodeRecord] = {}
        self._problem = ""
        self._over = asyncio.Event()
        self._lists = DnsLists(
            (link,),
            resolver,
            lambda _record, _domain: False,
            hungry=lambda: not self._over.is_set(),
            clock=clock,
            rand=rand,
            options=options,
            watch=self._watch,
        )

    async def run(self) -> Downloaded:
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(self._lists.run())
            await self._over.wait()
            reading.cancel()
        tree = self._lists.trees[0]
        missing = sum(subtree.given_up for subtree in tree.subtrees)
        if tree.root is None or not tree.completed or missing or self._problem:
            count = f"{missing} entries are missing, and what is below them: " if missing else ""
            raise LocalError(f"{self._link.domain}: {count}{self._problem or 'it could not be read'}")
        records = tuple(self._records[each] for each in sorted(self._records))
        links = tuple(sorted(tree.subtrees[0].links, key=str))
        return Downloaded(self._link, tree.root, records, links)

    def _watch(self, event: Event) -> None:
        match event:
            case RecordFound(record):
                self._records[record.node_id] = record
                self._progress(len(self._records))
            case Refused(_, name, why, reason) if reason is not _LINKED:
                self._refused(name, why, reason)
            case TreeSynced():
                if not any(subtree.given_up for subtree in self._lists.trees[0].subtrees):
                    self._problem = ""  # what failed has come at a later try
                self._over.set()

    def _refused(self, name: str, why: str, reason: Reason) -> None:
        is_root = name == self._link.domain
        self._problem = why if is_root else f"{name}: {why}"
        if is_root or reason is Reason.TOO_LARGE:
            self._over.set()
