"""Meeting at the keys of a chain: what is provided, when that changes, and what is done with answers."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from relay.discovery import rendezvous as rendezvous_module
from relay.discovery.rendezvous import Rendezvous
from relay.discovery.walker import Pace
from relay.protocols.dht import Key, RendezvousKeys


class Enough(Exception):
    pass


def key(number: int) -> Key:
    return Key(bytes([number]) * 32)


class Finding:
    def __init__(self, records: list[int]) -> None:
        self._records = iter(records)

    def __aiter__(self):
        return self

    async def __anext__(self) -> int:
        try:
            return next(self._records)
        except StopIteration:
            raise StopAsyncIteration from None

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


class Client:
    def __init__(self, records: list[int] | None = None) -> None:
        self.provided: list[Key] = []
        self.stopped: list[Key] = []
        self.searched: list[Key] = []
        self.records = records or []
        self.full = False

    async def provide(self, wanted: Key) -> SimpleNamespace:
        if self.full:
            raise ValueError("too many keys")
        self.provided.append(wanted)
        return SimpleNamespace(stored=1)

    def stop_providing(self, wanted: Key) -> bool:
        self.stopped.append(wanted)
        return True

    def find(self, wanted: Key, enough: int) -> Finding:
        self.searched.append(wanted)
        return Finding(self.records)


class Bench:
    """Time passes in sleeps: those of the searcher are counted, the provider's move the clock."""

    def __init__(self, client: Client, *, hungry: bool = True, searches: int = 3) -> None:
        self.now = 1000.0
        self.found: list[int] = []
        self.pauses: list[float] = []
        self.searches = searches
        self.meeting = Rendezvous(
            client,
            self.keys,
            self.take,
            hungry=lambda: hungry,
            rand=lambda count: bytes(count),
            unix=lambda: self.now,
            sleep=self.sleep,
            pace=Pace(2.0, 5.0),
        )

    def keys(self, unix: float) -> RendezvousKeys:
        epoch = 1 if unix < 2000 else 2
        return RendezvousKeys((key(epoch), key(epoch + 10)), (key(epoch),), 2000 if epoch == 1 else 3000)

    def take(self, record: int) -> bool:
        self.found.append(record)
        return record > 0

    async def sleep(self, seconds: float) -> None:
        if seconds > 100:
            self.now += seconds
            if self.now >= 3000:
                await asyncio.Event().wait()
            await asyncio.sleep(0)
            return
        if len(self.pauses) >= self.searches:
            raise Enough
        self.pauses.append(seconds)
        await asyncio.sleep(0)

    async def run(self) -> None:
        with pytest.raises(ExceptionGroup) as caught:
            await self.meeting.run()
        assert caught.group_contains(Enough)


async def test_our_share_of_the_keys_is_provided_and_changes_with_the_epoch() -> None:
    client = Client()
    await Bench(client).run()
    assert client.provided == [key(1), key(2)]
    assert client.stopped == [key(1)]


async def test_no_room_for_our_keys_is_no_bug() -> None:
    client = Client()
    client.full = True
    await Bench(client).run()
    assert client.provided == []


async def test_searches_slow_down_while_they_bring_nothing_new() -> None:
    bench = Bench(Client(), searches=4)
    await bench.run()
    assert bench.pauses == [2.0, 3.0, 4.5, 5.0]


async def test_nobody_searches_without_hunger() -> None:
    client = Client([1])
    await Bench(client, hungry=False).run()
    assert client.searched == []


async def test_of_many_providers_a_few_are_drawn(monkeypatch) -> None:
    monkeypatch.setattr(rendezvous_module, "SAMPLE", 3)
    bench = Bench(Client(list(range(1, 10))), searches=1)
    await bench.run()
    assert len(bench.found) == 3 == len(set(bench.found))
    assert bench.pauses == [2.0]
