"""Times a call: the fastest of many short rounds, since noise of the machine only ever adds."""

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.micro.registry import Call, Case

ROUNDS = 40
MIN_ROUND = 0.002  # seconds; long enough for the clock, short enough to fit between disturbances


@dataclass(frozen=True, slots=True)
class Figure:
    """Seconds of one item: the fastest round, and the median of all."""

    case: Case
    best: float
    median: float

    @property
    def rate(self) -> float:
        return 1 / self.best

    @property
    def megabytes(self) -> float | None:
        return self.case.size / (self.best * self.case.items) / 1e6 if self.case.size else None


def measure(cases: Sequence[Case], rounds: int = ROUNDS) -> list[Figure]:
    """Time the cases in turns, so that a slow spell of the machine hits all of them alike."""
    calls = [(case, case.prepare()) for case in cases]
    repeats = [_calls_a_round(call) for _, call in calls]
    times: list[list[float]] = [[] for _ in calls]
    collecting = gc.isenabled()
    gc.disable()
    try:
        for _ in range(rounds):
            for (_, call), count, into in zip(calls, repeats, times, strict=True):
                into.append(_time(call, count))
    finally:
        if collecting:
            gc.enable()
    return [
        Figure(case, min(seen) / case.items, sorted(seen)[len(seen) // 2] / case.items)
        for (case, _), seen in zip(calls, times, strict=True)
    ]


def _calls_a_round(call: Call) -> int:
    count = 1
    while _time(call, count) * count < MIN_ROUND:
        count *= 2
    return count


def _time(call: Call, count: int) -> float:
    started = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - started) / count
