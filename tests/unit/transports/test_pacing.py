from __future__ import annotations

import asyncio

import pytest

from relay.primitives.errors import ConnectFailed, Retry
from relay.transports.pacing import EXIT_PACE, ONION_PACE, DialPacer, Pace

STEADY = Pace(per_second=2.0, jitter=0.0, max_pending=3, max_waiting=5)


class Clock:
    """Time that passes when somebody sleeps, in the order of waking."""

    def __init__(self) -> None:
        self.now = 100.0
        self.sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        wake = asyncio.get_running_loop().create_future()
        self.sleepers.append((self.now + seconds, wake))
        await wake

    async def run_until(self, end: float) -> None:
        await settle()
        while due := sorted(each for each in self.sleepers if each[0] <= end and not each[1].done()):
            self.now, wake = due[0]
            wake.set_result(None)
            await settle()
        self.now = end


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def no_jitter(count: int) -> bytes:
    return bytes(count)


def full_jitter(count: int) -> bytes:
    return b"\xff" * count


class Dials:
    """Dials that stay pending until told to end, with the times they started at."""

    def __init__(self, clock: Clock, pacer: DialPacer) -> None:
        self.clock, self.pacer = clock, pacer
        self.starts: list[float] = []
        self.end = asyncio.Event()

    async def dial(self) -> None:
        async with self.pacer.turn():
            self.starts.append(self.clock.now)
            await self.end.wait()


async def test_first_dial_starts_at_once_and_others_two_a_second() -> None:
    clock = Clock()
    dials = Dials(clock, DialPacer(STEADY, no_jitter, clock, clock.sleep))
    dials.end.set()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(4):
            tasks.create_task(dials.dial())
        await clock.run_until(110)
    assert dials.starts == [100.0, 100.5, 101.0, 101.5]


async def test_jitter_only_slows() -> None:
    clock = Clock()
    pace = Pace(per_second=2.0, jitter=0.5, max_pending=9, max_waiting=9)
    dials = Dials(clock, DialPacer(pace, full_jitter, clock, clock.sleep))
    dials.end.set()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(3):
            tasks.create_task(dials.dial())
        await clock.run_until(110)
    gaps = [later - sooner for sooner, later in zip(dials.starts, dials.starts[1:], strict=False)]
    assert gaps == pytest.approx([0.75, 0.75])


async def test_no_more_dials_are_under_way_than_allowed() -> None:
    clock = Clock()
    pacer = DialPacer(STEADY, no_jitter, clock, clock.sleep)
    dials = Dials(clock, pacer)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(5):
            tasks.create_task(dials.dial())
        await clock.run_until(200)
        assert (pacer.pending, pacer.waiting, len(dials.starts)) == (3, 2, 3)
        dials.end.set()
        await clock.run_until(300)
    assert (pacer.pending, pacer.waiting, len(dials.starts)) == (0, 0, 5)


async def test_dial_beyond_the_queue_fails_at_once_and_soon_may_try_again() -> None:
    clock = Clock()
    pacer = DialPacer(STEADY, no_jitter, clock, clock.sleep)
    dials = Dials(clock, pacer)
    async with asyncio.TaskGroup() as tasks:
        held = [tasks.create_task(dials.dial()) for _ in range(5)]
        await settle()
        await clock.run_until(200)
        waiting = [tasks.create_task(dials.dial()) for _ in range(3)]
        await settle()
        with pytest.raises(ConnectFailed, match="too many dials") as caught:
            await dials.dial()
        assert caught.value.retry is Retry.SHORT
        for task in held + waiting:
            task.cancel()
    assert (pacer.pending, pacer.waiting) == (0, 0)


async def test_cancelled_waits_give_their_places_back() -> None:
    clock = Clock()
    pacer = DialPacer(STEADY, no_jitter, clock, clock.sleep)
    dials = Dials(clock, pacer)
    async with asyncio.TaskGroup() as tasks:
        cancelled = [tasks.create_task(dials.dial()) for _ in range(5)]
        await settle()  # one dials, two sleep until their start, two wait for a place
        assert (pacer.pending, pacer.waiting) == (1, 4)
        for task in cancelled:
            task.cancel()
        await settle()
        assert (pacer.pending, pacer.waiting) == (0, 0)
        dials.end.set()
        for _ in range(3):
            tasks.create_task(dials.dial())
        await clock.run_until(300)
    assert len(dials.starts) == 4


async def test_a_failed_dial_gives_its_place_back() -> None:
    clock = Clock()
    pacer = DialPacer(STEADY, no_jitter, clock, clock.sleep)
    with pytest.raises(ConnectFailed):
        async with pacer.turn():
            raise ConnectFailed("refused")
    assert pacer.pending == 0


def test_budgets_stay_below_what_guards_and_exits_bear() -> None:
    assert ONION_PACE.per_second <= 2
    assert 8 <= ONION_PACE.max_pending <= 16
    assert EXIT_PACE.per_second <= ONION_PACE.per_second
