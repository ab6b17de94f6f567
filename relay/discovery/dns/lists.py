"""Following lists of nodes while somebody needs nodes: drives TreeSync, and hands each record out.

A list has thousands of entries, and nobody needs them all at once: names are asked only while the mix is
hungry. What was found is remembered, within bounds, and offered again when the whole list has been read.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Final

import structlog

from relay.discovery.dns.resolvers import Resolver
from relay.discovery.driver import Clock
from relay.primitives.enr import NodeRecord
from relay.primitives.errors import DecodeError, StorageError
from relay.primitives.keys import NodeId
from relay.protocols.dnsdisc.entries import Link
from relay.protocols.dnsdisc.events import Event, Reason, RecordFound, Refused, TreeSynced
from relay.protocols.dnsdisc.followed import FollowedTree
from relay.protocols.dnsdisc.sync import SyncOptions, TreeSync

__all__ = ["DnsLists"]

LOOK_AGAIN: Final = 2.0  # seconds between two looks whether the mix is hungry
OFFER_AGAIN: Final = 60.0  # seconds between two rounds of what is known already
ROUND: Final = 32  # records of such a round
MAX_KNOWN: Final = 1024  # records remembered, about 1 KB each; the oldest go first
MAX_SEQS: Final = 64  # lists whose sequence numbers are kept
_SOONEST: Final = 0.01  # seconds

_log = structlog.get_logger("relay.discovery")


class DnsLists:
    """Follows the lists of some URLs and those that they link to.

    Attributes:
        records: found so far.
        refused: answers not believed, by reason.
        reoffered: records offered once more.
        forgotten: records that were no longer remembered for want of room.
        seqs: the sequence numbers seen, by URL.
    """

    def __init__(
        self,
        links: Iterable[Link],
        resolver: Resolver,
        offer: Callable[[NodeRecord, str], bool],
        *,
        hungry: Callable[[], bool],
        clock: Clock,
        rand: Callable[[int], bytes],
        options: SyncOptions | None = None,
        seqs: Mapping[str, int] | None = None,
        save: Callable[[Mapping[str, int]], None] = lambda _: None,
        watch: Callable[[Event], None] = lambda _: None,
    ) -> None:
        """Make it; nothing is asked before `run`.

        Args:
            links: the user's lists.
            resolver: asks DNS.
            offer: takes a record and the list's domain; False if the record is of no use in this mode, on
                this network or just now.
            hungry: whether somebody needs nodes.
            clock: the event loop.
            rand: random bytes, for the order of reading.
            options: limits of reading.
            seqs: sequence numbers by URL, from an earlier life; a list older than that is refused.
            save: keeps them; called when one changes.
            watch: told of every event.
        """
        self.records = 0
        self.refused: Counter[Reason] = Counter()
        self.reoffered = 0
        self.forgotten = 0
        self.seqs: dict[str, int] = dict(seqs or {})
        self._sync = TreeSync(links, rand, options, seqs=_by_link(self.seqs))
        self._resolver, self._offer, self._hungry = resolver, offer, hungry
        self._clock, self._rand, self._save, self._watch = clock, rand, save, watch
        self._changed = asyncio.Event()
        self._known: OrderedDict[NodeId, tuple[NodeRecord, str]] = OrderedDict()
        self._offer_again_at = 0.0
        self._warned: set[tuple[str, Reason]] = set()

    @property
    def trees(self) -> tuple[FollowedTree, ...]:
        """What is followed now, for status pages."""
        return self._sync.trees

    @property
    def all_read(self) -> bool:
        """Whether nothing is left to read until a root changes."""
        return all(tree.completed for tree in self._sync.trees)

    def wake(self) -> None:
        """Look at once whether there is something to do, as when the mix got hungry."""
        self._changed.set()

    async def run(self) -> None:
        """Follow the lists until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._changed.clear()
                due = self._do_what_is_due(tasks)
                timer = self._clock.call_at(due, self._changed.set)
                try:
                    await self._changed.wait()
                finally:
                    timer.cancel()

    def _do_what_is_due(self, tasks: asyncio.TaskGroup) -> float:
        """Ask and offer what there is; returns when to come back."""
        now = self._clock.time()
        self._take(self._sync.poll(now))
        if not self._hungry():
            return now + LOOK_AGAIN
        for query in self._sync.queries(now):
            tasks.create_task(self._ask(query.name))
        self._offer_known(now)
        due = self._sync.next_deadline(now)
        return max(now + _SOONEST, min(now + LOOK_AGAIN, due if due is not None else now + LOOK_AGAIN))

    async def _ask(self, name: str) -> None:
        texts = await self._resolver.txt(name)
        self._take(self._sync.receive(name, texts, self._clock.time()))
        self._note_seqs()
        self._changed.set()

    def _take(self, events: Iterable[Event]) -> None:
        for event in events:
            match event:
                case RecordFound(record, domain):
                    self._found(record, domain)
                case TreeSynced():
                    self._synced(event)
                case Refused():
                    self._refused(event)
            self._watch(event)

    def _found(self, record: NodeRecord, domain: str) -> None:
        self.records += 1
        if self._offer(record, domain):
            self._known.pop(record.node_id, None)
            self._known[record.node_id] = (record, domain)
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
                self.forgotten += 1

    def _synced(self, event: TreeSynced) -> None:
        self._warned = {each for each in self._warned if each[0] != event.domain}
        _log.info("dns list read", list=event.domain, seq=event.seq, records=event.records, links=event.links)

    def _refused(self, event: Refused) -> None:
        self.refused[event.reason] += 1
        kind = (event.domain, event.reason)
        # An unreachable resolver says so itself, and each of a list's thousands of entries may be bad.
        quiet = kind in self._warned or event.reason is Reason.NOT_RESOLVED
        self._warned.add(kind)
        note = _log.debug if quiet else _log.warning
        note("dns list: answer refused", list=event.domain, name=event.name, why=event.why)

    def _offer_known(self, now: float) -> None:
        """Offer what is known once more: a peer that was full an hour ago may have room."""
        if not self._known or not self.all_read or now < self._offer_again_at:
            return
        self._offer_again_at = now + OFFER_AGAIN
        ids = tuple(self._known)
        start = int.from_bytes(self._rand(4), "big") % len(ids)
        for step in range(min(ROUND, len(ids))):
            record, domain = self._known[ids[(start + step) % len(ids)]]
            self._offer(record, domain)
            self.reoffered += 1

    def _note_seqs(self) -> None:
        roots = {str(tree.link): tree.root.seq for tree in self._sync.trees if tree.root is not None}
        if all(self.seqs.get(url) == seq for url, seq in roots.items()):
            return
        self.seqs = dict(list((self.seqs | roots).items())[-MAX_SEQS:])
        try:
            self._save(self.seqs)
        except StorageError as error:
            _log.warning("sequence numbers of dns lists not kept", cause=str(error))


def _by_link(seqs: Mapping[str, int]) -> dict[Link, int]:
    found = {}
    for url, seq in seqs.items():
        with suppress(DecodeError):  # of another version's making: it guards nothing
            found[Link.parse(url)] = seq
    return found
