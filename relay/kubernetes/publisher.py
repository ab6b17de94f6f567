"""Our own entry: written, renewed by heartbeats, written again where it was lost.

A pod writes its own key of the shared map, or its own Lease, and nothing else.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog

from relay.app.datadir import write_atomic
from relay.discovery.files import read_regular
from relay.kubernetes.api import Api
from relay.kubernetes.book import SUMMARY
from relay.kubernetes.entry import Entry, sign_entry
from relay.kubernetes.failures import ApiFailed, Trouble
from relay.kubernetes.following import BackOff
from relay.kubernetes.identity import Identity
from relay.kubernetes.options import BookMode, BookOptions, Own
from relay.primitives.enr import NodeRecord
from relay.primitives.errors import StorageError

__all__ = ["Publisher", "SequenceFile"]

log = structlog.get_logger("relay.kubernetes")

SEQUENCE: Final = "address-book.json"
REBUILD: Final = 10.0  # seconds at most until a lost entry is written again: not all pods in the same second
MOST_LINES: Final = 100  # pods; an apply on a map of 100 costs the server 0.2 s, of 200 already 0.6 s
CONTENTION: Final = 0.25  # seconds until the first further try, where others write the same map at once
TRIES: Final = 6
SETTLE: Final = 2.0  # seconds at least between two writes
_BESIDE: Final = frozenset({Trouble.REFUSED, Trouble.CONFLICT})
_AWAY: Final = frozenset({Trouble.UNREACHABLE, Trouble.SERVER, Trouble.THROTTLED})
MAP_PATIENCE: Final = 5.0  # seconds for a write of the map, where an object of our own would do as well
_HYSTERESIS: Final = 0.8  # back to the shared map only well below the limit


class SequenceFile:
    """The last sequence that was used, over restarts: readers take a lower one for a replay.

    Args:
        folder: the data folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / SEQUENCE
        self._last = self._read()

    @property
    def last(self) -> int:
        """The last sequence that was used."""
        return self._last

    def next(self, seen: int = 0) -> int:
        """Return a sequence above all that were used or seen, and remember it."""
        self._last = max(self._last, seen) + 1
        try:
            write_atomic(self._path, json.dumps({"sequence": self._last}).encode() + b"\n")
        except StorageError as error:
            log.warning("sequence not saved", cause=str(error))
        return self._last

    def _read(self) -> int:
        try:
            value = json.loads(read_regular(self._path, 4096))
        except (OSError, ValueError, RecursionError):
            return 0
        found = value.get("sequence") if isinstance(value, dict) else None
        return found if type(found) is int and found > 0 else 0


class Publisher:
    """Writes our entry.

    Args:
        api: of our namespace.
        own: who we are.
        identity: our keys.
        options: the book's.
        wall: seconds since 1970, for the line that people read.
        random: from 0 to 1.
        seen: the highest sequence of ours that the book holds.
        size: pods in the book.
        lost: whether the book does not hold what was written.
        on_failure: told each failure.

    Attributes:
        written: entries that were written.
        failed: tries that failed.
        recent: the latest entries that were written: a watch shows them late.
    """

    def __init__(
        self,
        api: Api,
        own: Own,
        identity: Identity,
        options: BookOptions,
        *,
        wall: Callable[[], float],
        random: Callable[[], float],
        seen: Callable[[], int] = lambda: 0,
        size: Callable[[], int] = lambda: 0,
        lost: Callable[[], bool] = lambda: False,
        on_failure: Callable[[ApiFailed], None] = lambda _: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._api, self._own, self._identity, self._options = api, own, identity, options
        self._wall, self._random, self._sleep = wall, random, sleep
        self._seen, self._size, self._lost, self._on_failure = seen, size, lost, on_failure
        self._sequence = SequenceFile(own.datadir)
        self._record: NodeRecord | None = None
        self._objects = options.mode is BookMode.OBJECTS
        self._may_objects = True
        self._changed = False
        self._summary = ""
        self._wake = asyncio.Event()
        self.written = self.failed = 0
        self.recent: deque[str] = deque(maxlen=4)

    @property
    def objects(self) -> bool:
        """Whether our entry is a Lease now."""
        return self._objects

    @property
    def sequence(self) -> int:
        """The sequence of our latest entry."""
        return self._sequence.last

    def set_record(self, record: NodeRecord | None) -> None:
        """Put the daemon's record into the entry; written soon if it is another one."""
        if record != self._record:
            self._record = record
            self._changed = True
            self._wake.set()

    def renew(self) -> None:
        """Write soon, out of turn, if what we wrote is still missing then."""
        self._wake.set()

    def summary_lost(self) -> None:
        """Write the line for people again with the next heartbeat."""
        self._summary = ""

    async def publish(self) -> None:
        """Write the entry once.

        Raises:
            ApiFailed: it could not be.
        """
        self._choose()
        self._changed = False
        text = self._signed()
        self.recent.append(text)  # before: its echo may come before the answer
        contention = BackOff(self._random, first=CONTENTION, longest=CONTENTION * 2**TRIES)
        for tries_left in reversed(range(TRIES)):
            try:
                await self._write_where_allowed(text)
                break
            except ApiFailed as error:
                self.failed += 1
                # Others wrote the same map in that moment, more often than the server itself tries again.
                if error.trouble is not Trouble.CONFLICT or not tries_left:
                    raise
                await self._sleep(contention.pause(error))
        self.written += 1

    async def run(self) -> None:
        """Renew the entry until cancelled; the first one is written at once."""
        backoff = BackOff(self._random)
        told = None
        while True:
            try:
                await self.publish()
            except ApiFailed as error:
                pause = backoff.pause(error)
                if told is not error.trouble:
                    told = error.trouble
                    log.warning("own entry not written", cause=str(error), retry_in=round(pause, 1))
                    self._on_failure(error)
                await self._sleep(pause)
                continue
            if told is not None:
                log.info("own entry written again")
                told = None
            backoff.reset()
            await self._rest()

    async def _rest(self) -> None:
        """Wait for the next heartbeat, or until somebody is in a hurry."""
        spread = self._options.heartbeat * self._options.jitter
        seconds = self._options.heartbeat + spread * (2 * self._random() - 1)
        try:
            async with asyncio.timeout(seconds):
                while True:
                    await self._wake.wait()
                    self._wake.clear()
                    # Never all pods at once: a map that was deleted is missed by all in the same moment.
                    await self._sleep(SETTLE + self._random() * REBUILD)
                    if self._changed or self._lost():
                        return
        except TimeoutError:
            return

    def _choose(self) -> None:
        if self._options.mode is not BookMode.AUTO:
            return
        size, limit = self._size(), self._options.objects_from
        if self._objects and size < limit * _HYSTERESIS:
            self._objects = False
            log.info("entry goes into the shared map again", pods=size)
        elif not self._objects and self._may_objects and size > limit:
            self._objects = True
            log.info("entry becomes an object of its own", pods=size, limit=limit)

    def _signed(self) -> str:
        stamp = datetime.fromtimestamp(self._wall(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        entry = Entry(
            place=self._own.place,
            sequence=self._sequence.next(self._seen()),
            timestamp=stamp,
            public_key=self._identity.node.public_key,
            onion=self._identity.onion.address,
            port=self._own.port,
        )
        if self._record is not None:
            entry = replace(entry, record=self._record)
        return sign_entry(entry, self._identity.node, self._identity.onion, self._own.cluster_key)

    async def _write_where_allowed(self, text: str) -> None:
        try:
            await self._write(text)
        except ApiFailed as error:
            if self._options.mode is not BookMode.AUTO:
                raise
            if not self._objects and self._may_objects and error.trouble in _BESIDE:
                await self._write_beside(text, error)
                return
            if not self._objects or error.trouble is not Trouble.FORBIDDEN:
                raise
            log.warning("entry stays in the shared map", cause=str(error))
            self._may_objects = self._objects = False
            await self._write(text)

    async def _write_beside(self, text: str, refusal: ApiFailed) -> None:
        """Write an object where the map takes nothing now; the next heartbeat tries the map again.

        Somebody may have filled it. Or many write it at once, as when all pods start together: each further
        try then costs the server a merge of all of them, and 200 pods keep it busy for minutes.
        """
        try:
            await self._write_lease(text)
        except ApiFailed as error:
            raise (error if error.trouble in _AWAY else refusal) from None
        if refusal.trouble is Trouble.REFUSED:
            log.warning("entry written as an object of its own: the map refuses it", cause=str(refusal))
            self._on_failure(refusal)
        else:
            log.info("entry written as an object of its own: many write the map at once")
        self._objects = True

    async def _write(self, text: str) -> None:
        book, pod = self._options.name, self._own.place.pod
        if not self._objects:
            await self._write_map(text)
            self._summary = ""
            return
        await self._write_lease(text)
        await self._summarize(book, pod)

    async def _write_map(self, text: str) -> None:
        book, pod = self._options.name, self._own.place.pod
        choice = self._options.mode is BookMode.AUTO and self._may_objects
        try:
            async with asyncio.timeout(MAP_PATIENCE if choice else None):
                await self._api.apply_map(book, pod, {pod: text})
        except TimeoutError:
            words = f"patch configmaps/{book}: not done within {MAP_PATIENCE:g} s"
            raise ApiFailed(Trouble.CONFLICT, words) from None

    async def _write_lease(self, text: str) -> None:
        stamp = datetime.fromtimestamp(self._wall(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        lasts = int(self._options.stale_after)
        spec = {"renewTime": stamp, "leaseDurationSeconds": lasts}
        await self._api.apply_lease(self._options.name, self._own.place.pod, self._own.uid, text, spec)

    async def _summarize(self, book: str, pod: str) -> None:
        """Keep a line for people in the map: written once, since each write is sent to every pod.

        Not in a large book: what an apply costs the server grows with the square of the managers.
        """
        if self._size() > MOST_LINES:
            return
        onion, key = self._identity.onion.address, self._identity.node.public_key.hex()
        lease = f"lease/{book}-{pod}"
        line = f'{SUMMARY}"{lease}","onion":"{onion}","nodeId":"{key}","port":{self._own.port}}}'
        if line == self._summary:
            return
        try:
            await self._api.apply_map(book, pod, {pod: line})
        except ApiFailed as error:
            log.warning("line for people not written", cause=str(error))
            return
        self._summary = line
