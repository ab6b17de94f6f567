"""What a crawl takes from lists of nodes in the DNS.

A list tells of nodes, and can't be asked whether they are there. Those that another source can call are
handed to it; the rest, as IPs where the mode hides ours, are dialed as peers are, and a Hello is the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeAlias

from relay.discovery.crawled import Client, CrawledNode, Found
from relay.discovery.crawler import CrawlOptions, Tell
from relay.discovery.driver import NoAnswer
from relay.discovery.hello import NoHello
from relay.primitives.enr import NodeRecord
from relay.primitives.keys import NodeId
from relay.protocols.discv5 import Failure

__all__ = ["LIST_CRAWL", "ListSource", "Lists", "MakeLists", "Others"]

LIST_CRAWL: Final = CrawlOptions(
    visits=6, per_second=2.0, revisit=1800.0, retry=120.0, walk_pause=10.0, quiet_walks=1
)
"""A visit is a whole connection, through an exit as a rule."""
PATIENCE: Final = 30  # looks without a new record, after which a list counts as read
LOOK: Final = 1.0  # seconds between two looks how far the lists are


class Lists(Protocol):
    """What reads the lists.

    Attributes:
        records: found so far.
    """

    records: int

    @property
    def all_read(self) -> bool:
        """Whether nothing is left to read."""

    async def run(self) -> None:
        """Read until cancelled."""


MakeLists: TypeAlias = Callable[[Callable[[NodeRecord, str], bool]], Lists]
"""Makes what reads them, told who takes a record and the list's domain."""


@dataclass(frozen=True, slots=True)
class Others:
    """What becomes of a record.

    Attributes:
        hand_on: gives it to the sources that can call it; returns whether there is one.
        dialable: whether the dialer of peers could call it.
        ask: has it do so; raises NoHello.
    """

    hand_on: Callable[[NodeRecord], bool]
    dialable: Callable[[NodeRecord], bool]
    ask: Callable[[CrawledNode], Awaitable[Client]]


class ListSource:
    """Lists in the DNS.

    Args:
        make: makes what reads them.
        others: what becomes of records.
        tasks: where the reading lives.
    """

    def __init__(self, make: MakeLists, others: Others, *, tasks: asyncio.TaskGroup) -> None:
        self._others, self._tasks = others, tasks
        self._lists = make(self._found)
        self._known: dict[NodeId, Found] = {}
        self._tell: Tell = lambda found: False

    @property
    def name(self) -> str:
        """What the nodes that answered are marked with."""
        return "dns"

    def listen(self, tell: Tell) -> None:
        """Have every node told of that comes up, and begin to read."""
        self._tell = tell
        self._tasks.create_task(self._lists.run(), name="crawl dns lists")

    async def visit(self, node_id: NodeId) -> None:
        """Dial a node and read its Hello; one without room is there as well. Raises NoAnswer."""
        found = self._known[node_id]
        node = CrawledNode(found.public_key, node_id)
        node.adopt(found)
        try:
            client = await self._others.ask(node)
        except NoHello as error:
            if not error.full:
                raise NoAnswer(Failure.UNREACHABLE) from None
        else:
            self._tell(replace(found, client=client))

    async def walk(self) -> None:
        """Wait until the lists are read, or bring nothing any more."""
        quiet = 0
        while not self._lists.all_read and quiet < PATIENCE:
            before = self._lists.records
            await asyncio.sleep(LOOK)
            quiet = 0 if self._lists.records > before else quiet + 1

    def _found(self, record: NodeRecord, _domain: str) -> bool:
        if self._others.hand_on(record):
            return True
        if not self._others.dialable(record):
            return False
        found = Found(record.public_key, record.node_id, record, None)
        self._known[record.node_id] = found  # before it is told of: a visit may follow at once
        if not self._tell(found):
            del self._known[record.node_id]
            return False
        return True
