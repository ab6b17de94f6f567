"""Meeting relays of the same chain by the provider DHT: being found at its keys, and finding there.

The keys rotate and are many (`relay.protocols.dht.rendezvous`), answers are sampled, and whoever is named is
proved by a handshake before it counts: the DHT helps into the network, random walks remain the main source.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, TypeVar

import structlog

from relay.discovery.providers import ProviderClient
from relay.discovery.walker import Pace
from relay.protocols.dht import Key, ProviderRecord, RendezvousKeys

__all__ = ["DHT_PACE", "Rendezvous"]

T = TypeVar("T")
_log = structlog.get_logger("relay.discovery")

DHT_PACE: Final = Pace(10.0, 300.0)
SAMPLE: Final = 8  # providers of one key that are handed on
MOST_FOUND: Final = 64  # providers of one key that are waited for
_GROWTH: Final = 1.5
_LEAST_SLEEP: Final = 1.0  # seconds
_INDEX_BYTES: Final = 4


class Rendezvous:
    """Provides and searches at the keys of one chain.

    Args:
        client: of the DHT.
        keys: those of a time of day.
        found: takes a provider; returns whether it is news.
        hungry: whether more nodes are wanted.
        rand: random bytes.
        unix: the time of day.
        sleep: waits.
        pace: of searches.
    """

    def __init__(
        self,
        client: ProviderClient,
        keys: Callable[[float], RendezvousKeys],
        found: Callable[[ProviderRecord], bool],
        *,
        hungry: Callable[[], bool],
        rand: Callable[[int], bytes],
        unix: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        pace: Pace = DHT_PACE,
    ) -> None:
        self._client, self._keys, self._found = client, keys, found
        self._hungry, self._rand, self._unix, self._sleep = hungry, rand, unix, sleep
        self._pace = pace

    async def run(self) -> None:
        """Provide and search until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._search())
            await self._provide(tasks)

    async def _provide(self, tasks: asyncio.TaskGroup) -> None:
        provided: set[Key] = set()
        while True:
            now = self._unix()
            keys = self._keys(now)
            for key in provided.difference(keys.provide):
                self._client.stop_providing(key)
            for key in set(keys.provide) - provided:
                tasks.create_task(self._provide_one(key))
            provided = set(keys.provide)
            await self._sleep(max(_LEAST_SLEEP, keys.until - now))

    async def _provide_one(self, key: Key) -> None:
        with suppress(ValueError):  # the bound on keys is reached, by the user's own
            await self._client.provide(key)

    async def _search(self) -> None:
        pause = self._pace.shortest
        while True:
            await self._sleep(pause)
            if not self._hungry() or await self._search_once():
                pause = self._pace.shortest
            else:
                pause = min(pause * _GROWTH, self._pace.longest)

    async def _search_once(self) -> int:
        """Look at one key of the present; returns how many new nodes that brought."""
        keys = self._keys(self._unix()).find
        records = []
        async with self._client.find(keys[self._pick(len(keys))], enough=MOST_FOUND) as finding:
            async for record in finding:
                records.append(record)
        new = sum(self._found(record) for record in self._sampled(records))
        _log.debug("looked at a rendezvous key", found=len(records), new=new)
        return new

    def _sampled(self, found: Sequence[T]) -> list[T]:
        rest = list(found)
        return [rest.pop(self._pick(len(rest))) for _ in range(min(SAMPLE, len(rest)))]

    def _pick(self, count: int) -> int:
        return int.from_bytes(self._rand(_INDEX_BYTES), "big") % count
