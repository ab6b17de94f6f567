"""The sidecar: follows the address book, renews our entry, and keeps static-nodes.json for the daemon.

It alone writes that file. Whatever happens to the API server or to the book, the file keeps the peers that it
has until they are known to be gone: see relay.kubernetes.book.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog

from relay.kubernetes.api import Api, Change, Listed
from relay.kubernetes.book import AddressBook, Conflict
from relay.kubernetes.checking import OnionChecks
from relay.kubernetes.events import EventWriter
from relay.kubernetes.failures import ApiFailed, Trouble
from relay.kubernetes.following import Follower, Source, SyncClock
from relay.kubernetes.identity import Identity
from relay.kubernetes.joining import CallFailed, Daemon, record_of_info
from relay.kubernetes.options import BookMode, BookOptions, DiscoveryOptions, Own
from relay.kubernetes.pages import DiscoveryCounts
from relay.kubernetes.peers_file import PeersFile, merged, short_onion
from relay.kubernetes.publisher import Publisher
from relay.primitives.errors import DecodeError, LocalError, StorageError
from relay.primitives.keys import PublicKey

__all__ = ["Discovery", "Seams"]

log = structlog.get_logger("relay.kubernetes")

MAP: Final = "map"
OBJECTS: Final = "objects"
FIRST_LIST: Final = 5.0  # seconds that the first entry waits for the first list
TICK: Final = 15.0  # seconds between two looks at who grew old
ASK_DAEMON: Final = 60.0  # seconds between two looks at the daemon's record
ASK_SOON: Final = 5.0  # seconds, until it has one
FLUSH: Final = 5.0  # seconds between two looks for Events to write
JOIN_AGAIN: Final = 900.0  # seconds between two questions to another cluster's daemon
JOIN_SOON: Final = 60.0  # seconds after one that failed


@dataclass(frozen=True, slots=True)
class Seams:
    """Time and chance. clock: monotonic; wall: since 1970; random: from 0 to 1."""

    clock: Callable[[], float]
    wall: Callable[[], float]
    random: Callable[[], float]
    rand: Callable[[int], bytes]
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class Discovery:
    """All that the sidecar does, until it is cancelled.

    Args:
        api: of our namespace.
        own: who we are.
        identity: our keys.
        book: the book's options.
        options: the sidecar's.
        seams: time and chance.
        checks: dials onions before they are passed on; None: without.
        join: asks a daemon of another cluster for its enode URL.
    """

    def __init__(
        self,
        api: Api,
        own: Own,
        identity: Identity,
        book: BookOptions,
        options: DiscoveryOptions,
        seams: Seams,
        *,
        checks: OnionChecks | None = None,
        join: Callable[[str], Awaitable[str]] | None = None,
    ) -> None:
        self._own, self._options, self._seams, self._mode = own, options, seams, book.mode
        self._identity, self._checks, self._join = identity, checks, join
        self._clock = SyncClock(seams.clock)
        self._events = EventWriter(api, own, clock=seams.clock, wall=seams.wall, rand=seams.rand)
        self.book = AddressBook(
            own.place, identity.node.public_key, own.cluster_key, stale_after=book.stale_after,
            on_rejected=self._rejected, on_conflict=self._conflict, on_replaced=self._replaced,
        )  # fmt: skip
        self.publisher = Publisher(
            api, own, identity, book, wall=seams.wall, random=seams.random, seen=self.book.sequence,
            size=lambda: self.book.size, lost=self._lost, on_failure=self._failed, sleep=seams.sleep,
        )  # fmt: skip
        self._file = PeersFile(options.static_nodes, identity.node.public_key)
        self._before: dict[PublicKey, str] = {}
        self._stale_after = book.stale_after
        self._joined: dict[str, str] = {}
        self._given: set[str] = set()
        self._states: dict[str, bool | None] = {}
        self._change = asyncio.Event()
        self._known = asyncio.Event()
        self._daemon = Daemon(str(options.ipc))
        self._map_seen = False
        self._last_sync = 0.0
        self._peers = 0
        self._file_failed = False
        self.info: dict[str, Any] | None = None
        self._followers = self._make_followers(api, book)

    async def run(self) -> None:
        """Work until cancelled; nothing that the API server, the daemon or Tor do ends it."""
        self._before = self._file.read()
        log.info("peers of before", count=len(self._before))
        async with asyncio.TaskGroup() as tasks:
            for follower in self._followers:
                tasks.create_task(follower.run())
            tasks.create_task(self._publish())
            tasks.create_task(self._keep_file())
            tasks.create_task(self._ask_daemon())
            tasks.create_task(self._write_events())
            for url in self._options.joins if self._join is not None else ():
                tasks.create_task(self._keep_joined(url))

    def counts(self) -> DiscoveryCounts:
        """Tell the metrics page how it stands."""
        found = self.book.counts(self._clock())
        entries = {"fresh": found.fresh, "stale": found.stale, "rejected": found.rejected}
        if self._checks is not None:
            alive = self.book.peers(self._clock())
            entries["unreached"] = len(alive) - len(self._checks.passed(alive))
        ends: dict[str, int] = {}
        for follower in self._followers:
            for cause, count in follower.ends.items():
                ends[cause] = ends.get(cause, 0) + count
        updates = {
            "accepted": self.book.updates,
            "rejected": self.book.rejections,
            "written": self.publisher.written,
            "write_failed": self.publisher.failed,
        }
        return DiscoveryCounts(
            entries, updates, self.book.conflicts, self._last_sync, ends, self._peers,
            self.publisher.objects, self._clock.running,
        )  # fmt: skip

    # -- the book ---------------------------------------------------------------------------------

    def _make_followers(self, api: Api, book: BookOptions) -> list[Follower]:
        async def list_map() -> Listed:
            return await api.list_map(book.name)

        async def list_leases() -> Listed:
            return await api.list_leases(book.name)

        sources = [Source(MAP, list_map, lambda version, seconds: api.watch_map(book.name, version, seconds))]
        if book.mode is not BookMode.CONFIGMAP:
            sources.append(
                Source(
                    OBJECTS,
                    list_leases,
                    lambda version, seconds: api.watch_leases(book.name, version, seconds),
                )
            )
        return [self._follower(source) for source in sources]

    def _follower(self, source: Source) -> Follower:
        name = source.name
        self._states[name] = False

        def on_failure(error: ApiFailed) -> None:
            if name == OBJECTS and self._mode is BookMode.AUTO and error.trouble is Trouble.FORBIDDEN:
                self._sync(name, None)  # without that right the shared map is all there is
                self._known.set()
            else:
                self._failed(error)

        take = self._take_map if name == MAP else self._take_objects
        return Follower(
            source,
            on_list=take,
            on_change=self._change_map if name == MAP else self._change_object,
            on_sync=lambda synced: self._sync(name, synced),
            on_failure=on_failure,
            random=self._seams.random,
            sleep=self._seams.sleep,
        )

    def _take_map(self, listed: Listed) -> None:
        data = listed.items[0].data if listed.items else {}
        if self._map_seen and not listed.items:
            self._missing_map()
        self._map_seen = bool(listed.items)
        self._taken(MAP, data)

    def _change_map(self, change: Change) -> None:
        if change.gone:
            self._missing_map()
        self._map_seen = not change.gone
        self._taken(MAP, {} if change.gone else change.item.data)

    def _missing_map(self) -> None:
        log.warning("the address book was deleted: it is written again")
        self._events.note(
            "AddressBookRebuilt", "the ConfigMap was deleted; each relay writes its entry again"
        )
        self.publisher.summary_lost()

    def _take_objects(self, listed: Listed) -> None:
        found: dict[str, str] = {}
        for item in listed.items:
            found.update(item.data)
        self._taken(OBJECTS, found)

    def _change_object(self, change: Change) -> None:
        for pod, text in change.item.data.items():
            if change.gone:
                self.book.remove(OBJECTS, pod)
            else:
                self.book.put(OBJECTS, pod, text, self._clock())
        self._changed()

    def _taken(self, source: str, data: Any) -> None:  # noqa: ANN401 - a mapping of texts
        self.book.replace(source, data, self._clock())
        if source == self._followers[-1].name:
            self._known.set()
        self._changed()

    def _changed(self) -> None:
        self._last_sync = self._seams.wall()
        if self._lost():
            self.publisher.renew()
        self._change.set()

    async def _publish(self) -> None:
        """Publish once it is known how many pods there are: many take objects, and leave the map alone."""
        try:
            async with asyncio.timeout(FIRST_LIST):
                await self._known.wait()
        except TimeoutError:
            pass
        await self.publisher.run()

    def _sync(self, source: str, synced: bool | None) -> None:
        if self._states.get(source) is None and synced is False:
            return  # it was forbidden, and still is
        self._states[source] = synced
        needed = [state for state in self._states.values() if state is not None]
        self._clock.run(bool(needed) and all(needed))
        if self._clock.running:
            self._last_sync = self._seams.wall()
        if self._lost():  # while nobody looked
            self.publisher.renew()

    def _lost(self) -> bool:
        """Tell whether the book holds something else under our name than we wrote."""
        recent = self.publisher.recent
        if not recent:
            return False
        if self.book.sequence() > self.publisher.sequence:
            return True  # of an earlier life, whose count was lost: others take ours for a replay
        source = OBJECTS if self.publisher.objects else MAP
        return self._states.get(source) is True and self.book.text(source, self._own.place.pod) not in recent

    # -- what is told -----------------------------------------------------------------------------

    def _rejected(self, pod: str, why: str) -> None:
        log.warning("entry not believed", pod=pod[:80], why=why)
        self._events.note("AddressBookEntryRejected", f"entry of pod {pod[:80]}: {why}", about=pod[:80])

    def _conflict(self, conflict: Conflict) -> None:
        log.error("two pods with one identity", cause=conflict.words)
        self._events.note("AddressBookConflict", conflict.words, about=conflict.pod[:80])

    def _replaced(self, pod: str) -> None:
        log.warning("a pod has other keys than before", pod=pod[:80])
        words = f"pod {pod[:80]} has other keys than before: was its volume lost? It is a new relay"
        self._events.note("AddressBookIdentityReplaced", words, about=pod[:80])

    def _failed(self, error: ApiFailed) -> None:
        reasons = {
            Trouble.FORBIDDEN: "AddressBookForbidden",
            Trouble.REFUSED: "AddressBookRefused",
            Trouble.UNAUTHORIZED: "AddressBookUnauthorized",
        }
        self._events.note(reasons.get(error.trouble, "AddressBookUnavailable"), str(error))

    async def _write_events(self) -> None:
        while True:
            await self._events.flush()
            await self._seams.sleep(FLUSH)

    # -- static-nodes.json ------------------------------------------------------------------------

    async def _keep_file(self) -> None:
        while True:
            self._change.clear()
            await self._update()
            try:
                async with asyncio.timeout(TICK):
                    await self._change.wait()
            except TimeoutError:
                pass

    async def _update(self) -> None:
        now = self._clock()
        self.book.forget(now)
        if now > self._stale_after:
            self._before.clear()
        entries = self.book.peers(now)
        if self._checks is not None:
            if await self._checks.check(entries):
                entries = self.book.peers(self._clock())
            entries = self._checks.passed(entries)
        urls = merged(entries, self._before, self._joined.values())
        try:
            if self._file.write(urls):
                log.info("static nodes written", peers=len(urls))
                for entry in entries:
                    log.debug("peer", pod=entry.place.pod, onion=short_onion(entry.onion))
            self._file_failed = False
        except StorageError as error:
            if not self._file_failed:
                log.warning("static nodes not written", cause=str(error))
                self._events.note("StaticNodesNotWritten", str(error))
            self._file_failed = True
            return
        self._peers = len(urls)
        if self._options.add_peers:
            await self._add_peers(urls)

    async def _add_peers(self, urls: list[str]) -> None:
        """Tell a daemon that follows no file of each peer, once."""
        for url in [each for each in urls if each not in self._given]:
            try:
                await self._daemon.add_peer(url)
            except CallFailed as error:
                log.warning("the daemon does not take a peer", cause=str(error))
            except LocalError as error:
                log.info("the daemon can not be told of peers yet", cause=str(error))
                return
            self._given.add(url)

    # -- the daemon, and daemons of others --------------------------------------------------------

    async def _ask_daemon(self) -> None:
        onion, key = self._identity.onion.address, self._identity.node.public_key
        told = ""
        while True:
            pause = ASK_SOON
            try:
                self.info = await self._daemon.info()
                record = record_of_info(self.info, key, onion, self._own.port)
                self.publisher.set_record(record)
                pause, told = (ASK_SOON if record is None else ASK_DAEMON), ""
            except DecodeError as error:
                if str(error) != told:
                    log.warning("the daemon's record is not used", cause=str(error))
                    self._events.note("DaemonIdentity", str(error))
                told, pause = str(error), ASK_DAEMON
            except LocalError as error:
                self.info = None
                if str(error) != told:
                    log.info("the daemon does not answer yet", cause=str(error))
                told = str(error)
            await self._seams.sleep(pause)

    async def _keep_joined(self, url: str) -> None:
        assert self._join is not None
        while True:
            try:
                found = await self._join(url)
            except LocalError as error:
                log.warning("not joined", cause=str(error))
                pause = JOIN_SOON
            else:
                pause = JOIN_AGAIN
                if self._identity.node.public_key.hex() in found:
                    log.info("one of those to join is this relay itself: left out")
                    return
                if self._joined.get(url) != found:
                    self._joined[url] = found
                    self._change.set()
            await self._seams.sleep(pause * (1 + self._seams.random() / 4))
