"""Random walks: only while hungry, slower while they bring nothing."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from relay.discovery.driver import NoAnswer
from relay.discovery.walker import Pace, Walker
from relay.protocols.discv5 import Failure


class Enough(Exception):
    pass


class Bench:
    """A walker whose sleeps are written down; the last one ends the test."""

    def __init__(self, news: list[int], *, hungry: list[bool] | None = None, fail: bool = False) -> None:
        self.pauses: list[float] = []
        self.targets: list[bytes] = []
        self._news, self._hungry, self._fail = (
            iter(news),
            iter([*hungry, False, False] if hungry else [True] * 99),
            fail,
        )
        self._sleeps = len(news) if hungry is None else len(hungry)
        self.walker = Walker(
            self.lookup,
            lambda contact: contact,
            hungry=lambda: next(self._hungry),
            rand=lambda count: bytes([len(self.targets)]) * count,
            sleep=self.sleep,
            pace=Pace(2.0, 6.0),
        )

    async def sleep(self, seconds: float) -> None:
        if len(self.pauses) > self._sleeps:
            raise Enough
        self.pauses.append(seconds)
        await asyncio.sleep(0)

    async def lookup(self, target: bytes) -> SimpleNamespace:
        self.targets.append(target)
        if self._fail:
            raise NoAnswer(Failure.BUSY)
        contacts = (True,) * next(self._news, 0) + (False,)
        return SimpleNamespace(contacts=contacts, asked=3, hops=2)

    async def run(self) -> None:
        with pytest.raises(Enough):
            await self.walker.run()


async def test_walks_slow_down_while_they_bring_nothing_new() -> None:
    bench = Bench([0, 0, 0, 0, 1])
    await bench.run()
    assert bench.pauses == [2.0, 3.0, 4.5, 6.0, 6.0, 2.0]
    assert bench.walker.walks == 6
    assert bench.walker.hops == 2


async def test_each_walk_has_a_target_of_its_own() -> None:
    bench = Bench([1, 1])
    await bench.run()
    assert len(set(bench.targets)) == len(bench.targets) == 3
    assert {len(each) for each in bench.targets} == {32}


async def test_nobody_walks_without_hunger() -> None:
    bench = Bench([], hungry=[False, False, True, False])
    await bench.run()
    assert len(bench.targets) == 1


async def test_a_walk_that_fails_is_one_that_brought_nothing() -> None:
    bench = Bench([1, 1], fail=True)
    await bench.run()
    assert bench.pauses == [2.0, 3.0, 4.5]
    assert bench.walker.walks == 0
