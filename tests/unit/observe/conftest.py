"""A loop and a source of metrics that only tests move."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from relay.observe.loop_stall import LoopStallMonitor
from relay.observe.metrics import Metrics
from relay.observe.snapshot import MetricsSnapshot


class Timer:
    def __init__(self, due: float, callback: Callable[[], None]) -> None:
        self.due = due
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """A LoopClock: time passes in `pass_time`; what is due runs after it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(self.now + delay, callback)
        self.timers.append(timer)
        return timer

    def pass_time(self, seconds: float) -> None:
        """Hold the loop for so long, then run what became due."""
        self.now += seconds
        due = [timer for timer in self.timers if timer.due <= self.now + 1e-9]
        self.timers = [timer for timer in self.timers if timer not in due]
        for timer in due:
            if not timer.cancelled:
                timer.callback()


class Source:
    """A MetricsSource."""

    def __init__(self) -> None:
        self.now = MetricsSnapshot()

    def snapshot(self) -> MetricsSnapshot:
        return self.now


@pytest.fixture
def loop_clock() -> Loop:
    return Loop()


@pytest.fixture
def stalls(loop_clock: Loop) -> LoopStallMonitor:
    return LoopStallMonitor(loop_clock)


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def metrics(source: Source, stalls: LoopStallMonitor) -> Metrics:
    return Metrics(source, stalls, version="1.2.3")
