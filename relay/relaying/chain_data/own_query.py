"""Headers and bodies that we want ourselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relay.relaying.chain_data.header_job import HeaderJob
    from relay.relaying.chain_data.item_job import ItemJob
    from relay.relaying.roster import RelayPeer
    from relay.relaying.seams import Loop

__all__ = ["OwnItems", "OwnQuery"]


class OwnQuery:
    """Somebody in this process who waits for headers: told once, and in a turn of the event loop of its own.

    Attributes:
        deadline: when it is told in any case, monotonic seconds.
    """

    peers = ()
    hops = 0

    def __init__(
        self, loop: Loop, patience: float, done: Callable[[tuple[bytes, ...], RelayPeer | None], None]
    ) -> None:
        self.deadline = loop.time() + patience
        self._loop = loop
        self._done = done
        self._told = False
        self._job: HeaderJob | None = None
        self._timer = loop.call_later(patience, self._expire)

    def begin(self, job: HeaderJob) -> None:
        """Note which job will tell it."""
        if not self._told:
            self._job = job

    def headers_came(self, headers: tuple[bytes, ...], source: RelayPeer | None) -> None:
        """Tell what was found."""
        if self._told:
            return
        self._told = True
        self._job = None
        self._timer.cancel()
        self._loop.call_soon(lambda: self._done(headers, source))

    def _expire(self) -> None:
        job = self._job
        best = job.best if job is not None else ()
        if job is not None:
            job.leave(self)
        self.headers_came(best, None)


class OwnItems:
    """Somebody in this process who waits for items of blocks: told once, in a turn of its own.

    Attributes:
        deadline: when it is told in any case, monotonic seconds.
        jobs: who fetch them.
    """

    peers = ()
    hops = 0

    def __init__(
        self, loop: Loop, patience: float, wanted: set[bytes], done: Callable[[Mapping[bytes, bytes]], None]
    ) -> None:
        self.deadline = loop.time() + patience
        self.jobs: list[ItemJob] = []
        self._loop = loop
        self._wanted = wanted
        self._done = done
        self._found: dict[bytes, bytes] = {}
        self._timer = loop.call_later(patience, self._end)

    def item_came(self, block_hash: bytes, item: bytes | None) -> None:
        """Take an item, or that nobody has it."""
        if item is not None:
            self._found[block_hash] = item
        self._wanted.discard(block_hash)
        if not self._wanted:
            self._end()

    def _end(self) -> None:
        self._timer.cancel()
        jobs, self.jobs = self.jobs, []
        for job in jobs:
            job.leave(self)
        found, done = self._found, self._done
        self._loop.call_soon(lambda: done(found))
