"""Facts about the machine, and how much of it others used meanwhile."""

from __future__ import annotations

import os
import platform
import resource
import time
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def facts() -> dict[str, object]:
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    memory = next(
        (int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0
    )
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory / 1e6, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


class Others:
    """Processor time that was used by anything but us and what we started.

    Whatever of ours is counted must have ended, and been waited for, when `cores` is asked.
    """

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._busy = _busy_seconds()
        self._own = _own_seconds()

    def cores(self) -> float:
        """Cores that others kept busy on average; stolen ones too."""
        busy = _busy_seconds() - self._busy
        return max(0.0, busy - (_own_seconds() - self._own)) / (time.monotonic() - self._began)


def _busy_seconds() -> float:
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, _lines("/proc/stat")[0].split()[1:9])
    return (user + nice + system + irq + softirq + steal) / TICK


def _own_seconds() -> float:
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        total += usage.ru_utime + usage.ru_stime
    return total


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
