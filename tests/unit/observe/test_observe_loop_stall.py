import pytest

from relay.observe.loop_stall import BUCKETS, INTERVAL, WINDOW, LoopStallMonitor
from tests.unit.observe.conftest import Loop


def test_loop_in_time_shows_no_stall(stalls: LoopStallMonitor, loop_clock: Loop) -> None:
    stalls.start()
    for _ in range(10):
        loop_clock.pass_time(INTERVAL)

    assert stalls.recent_max == pytest.approx(0, abs=1e-6)
    assert stalls.counts[0] == 10


def test_stall_is_seen_for_a_minute_and_then_forgotten(stalls: LoopStallMonitor, loop_clock: Loop) -> None:
    stalls.start()
    loop_clock.pass_time(INTERVAL + 0.3)
    loop_clock.pass_time(INTERVAL + 0.04)
    assert stalls.recent_max == pytest.approx(0.3)

    for _ in range(int(WINDOW / INTERVAL) - 2):
        loop_clock.pass_time(INTERVAL)
    assert stalls.recent_max == pytest.approx(0.3)
    for _ in range(3):
        loop_clock.pass_time(INTERVAL)
    assert stalls.recent_max == pytest.approx(0, abs=1e-6)


def test_stall_that_goes_on_is_seen_already(stalls: LoopStallMonitor, loop_clock: Loop) -> None:
    stalls.start()
    loop_clock.now += INTERVAL + 2.0
    assert stalls.recent_max == pytest.approx(2.0)


def test_lateness_is_counted_by_bucket(stalls: LoopStallMonitor, loop_clock: Loop) -> None:
    stalls.start()
    for late in (0.0, 0.0015, 0.03, 100.0):
        loop_clock.pass_time(INTERVAL + late)

    assert stalls.counts[0] == 1
    assert stalls.counts[1] == 1
    assert stalls.counts[BUCKETS.index(0.05)] == 1
    assert stalls.counts[-1] == 1
    assert stalls.total == pytest.approx(100.0315)


def test_monitor_that_is_stopped_probes_no_more(stalls: LoopStallMonitor, loop_clock: Loop) -> None:
    stalls.start()
    stalls.stop()
    stalls.stop()
    loop_clock.pass_time(10)

    assert sum(stalls.counts) == 0
    assert stalls.recent_max == 0


def test_memory_is_bounded(stalls: LoopStallMonitor, loop_clock: Loop) -> None:
    stalls.start()
    for turn in range(3000):
        loop_clock.pass_time(INTERVAL + 1 / (turn + 1))
    assert len(stalls._maxima) <= WINDOW / INTERVAL + 1
