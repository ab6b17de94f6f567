"""The provider DHT for the rest of the daemon: keys to provide, searches to iterate over."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import structlog

from relay.discovery.driver import Clock, CoreDriver
from relay.protocols.dht import (
    DhtEvent,
    FindDone,
    Key,
    ProvideDone,
    ProviderFound,
    ProviderRecord,
    Providers,
    ProvideWaiting,
    Waiting,
)
from relay.protocols.discv5 import Contact

__all__ = ["Finding", "Provided", "ProviderClient"]

_log = structlog.get_logger("relay.discovery")


@dataclass(frozen=True, slots=True)
class Provided:
    """How a key was written.

    Attributes:
        key: what is provided.
        stored: nodes that keep it.
        asked: nodes that were asked to.
        refused: why others do not, with their number.
    """

    key: Key
    stored: int
    asked: int
    refused: tuple[tuple[str, int], ...]


class Finding:
    """A search; iterate over it for the providers as they are found, once. It ends when the search ends.

    Leaving it early by `async with`, `aclose` or a cancelled iteration and then `aclose` ends the search; one
    that is simply dropped ends by itself, at its own deadline at the latest.

    Attributes:
        done: how it ended; None while it runs.
    """

    def __init__(self, client: ProviderClient, handle: int) -> None:
        self.done: FindDone | None = None
        self._client = client
        self._handle = handle
        # As many as a search may find, which its options bound.
        self._found: deque[ProviderFound] = deque()
        self._closed = False
        self._news = asyncio.Event()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ProviderRecord:
        return (await self.next_found()).record

    async def next_found(self) -> ProviderFound:
        """Return the next provider with its hops; raises StopAsyncIteration. Cancelling it loses nothing."""
        while not self._found:
            if self._closed:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._found.popleft()

    async def with_hops(self) -> AsyncIterator[ProviderFound]:
        """Give each provider with its hops, as the iteration over the search itself gives them without."""
        with suppress(StopAsyncIteration):
            while True:
                yield await self.next_found()

    async def aclose(self) -> None:
        """End the search, if it has not ended; whoever waits for it sees it end."""
        self._client.forget(self._handle)
        self._close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def take(self, event: ProviderFound | FindDone) -> None:
        """Learn of an event of the layer: the client's to call."""
        if isinstance(event, FindDone):
            self.done = event
            self._close()
        else:
            self._found.append(event)
            self._news.set()

    def _close(self) -> None:
        self._closed = True
        self._news.set()


class ProviderClient:
    """Asks one layer, which must be among the driver's layers, and takes its events.

    Args:
        driver: of the core.
        dht: the layer on it.
        clock: the event loop.

    Attributes:
        counts: what happened: "provided", "found", "searches", and how searches ended.
    """

    def __init__(self, driver: CoreDriver, dht: Providers, *, clock: Clock) -> None:
        self.counts: Counter[str] = Counter()
        self._driver = driver
        self._dht = dht
        self._clock = clock
        self._findings: dict[int, Finding] = {}
        self._providing: dict[int, list[asyncio.Future[Provided]]] = {}
        self._on_waiting: Callable[[Key, Waiting], None] = _ignored
        self._on_provided: Callable[[Provided], None] = _ignored
        driver.after_turns(self._drain)

    def on_waiting(self, callback: Callable[[Key, Waiting], None]) -> None:
        """Have a callback told when a key waits for peers, or for our own address."""
        self._on_waiting = callback

    def on_provided(self, callback: Callable[[Provided], None]) -> None:
        """Have a callback told each time that a key was written, first and again."""
        self._on_provided = callback

    def begin(self, key: Key) -> None:
        """Provide a key from now on, until `stop_providing`; `on_provided` is told how it goes.

        Raises:
            ValueError: too many keys are provided.
        """
        self._dht.provide(key, self._clock.time())
        self._driver.flush()

    async def provide(self, key: Key) -> Provided:
        """Provide a key from now on, until `stop_providing`; returns when it was written once.

        That waits until a peer is there, however long. Cancelled, the key is provided all the same: call
        `stop_providing`.

        Raises:
            ValueError: too many keys are provided.
        """
        future: asyncio.Future[Provided] = asyncio.get_running_loop().create_future()
        handle = self._dht.provide(key, self._clock.time())
        futures = self._providing.setdefault(handle, [])
        futures.append(future)
        try:
            self._driver.flush()
            return await future
        finally:
            futures.remove(future)
            if not futures:
                self._providing.pop(handle, None)

    def stop_providing(self, key: Key) -> bool:
        """Provide a key no longer; what others keep of it expires within a day."""
        stopped = self._dht.stop_providing(key)
        self._driver.flush()
        return stopped

    def find(self, key: Key, entry: Iterable[Contact] = (), *, enough: int | None = None) -> Finding:
        """Search for the providers of a key.

        Args:
            key: what to look for.
            entry: nodes to begin with, instead of those of our table.
            enough: providers after which the search may end; by default as many as the layer's options have.
        """
        handle = self._dht.find(key, self._clock.time(), entry, enough=enough)
        finding = self._findings[handle] = Finding(self, handle)
        self.counts["searches"] += 1
        self._driver.flush()
        return finding

    def forget(self, handle: int) -> None:
        """End a search."""
        finding = self._findings.pop(handle, None)
        if finding is not None:
            self._dht.cancel(handle)

    def _drain(self) -> None:
        for event in self._dht.take_events():
            self._take(event)

    def _take(self, event: DhtEvent) -> None:
        match event:
            case ProviderFound(handle):
                self.counts["found"] += 1
                self._tell(handle, event)
            case FindDone(handle):
                self.counts[event.ended.value] += 1
                self._tell(handle, event)
                self._findings.pop(handle, None)
            case ProvideWaiting(handle, key, reason):
                _log.info("cannot provide yet", target=key.hex()[:16], reason=reason.value)
                self._on_waiting(key, reason)
            case ProvideDone(handle, key, stored, asked, refused):
                self.counts["provided"] += 1
                _log.debug("key provided", target=key.hex()[:16], stored=stored, asked=asked)
                provided = Provided(key, stored, asked, refused)
                for future in self._providing.get(handle, ()):
                    if not future.done():
                        future.set_result(provided)
                self._on_provided(provided)

    def _tell(self, handle: int, event: ProviderFound | FindDone) -> None:
        finding = self._findings.get(handle)
        if finding is not None:
            finding.take(event)


def _ignored(*_: object) -> None:
    """Nobody wants to know."""
