"""The daemon with a sampling profiler: `python -m benchmarks.profiled OUT ARGUMENT...`.

A timer of consumed processor time interrupts the main thread; what runs then is one sample. The interpreter
notices between two instructions, so time inside of a C function is told of the line that called it.
"""

from __future__ import annotations

import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

from relay.cli.main import main as run_command

INTERVAL = 0.001  # seconds of processor time
_stacks: Counter[tuple[str, ...]] = Counter()


def _sample(_number: int, frame: FrameType | None) -> None:
    names = [f"line {frame.f_lineno}"] if frame is not None else []
    while frame is not None:
        module = frame.f_globals.get("__name__", "?")
        names.append(f"{module}:{frame.f_code.co_qualname}")
        frame = frame.f_back
    _stacks[tuple(reversed(names))] += 1


def main() -> int:
    out = Path(sys.argv[1])
    signal.signal(signal.SIGPROF, _sample)
    # SIGUSR1 begins anew: what was sampled of the start and the warm-up does not count.
    signal.signal(signal.SIGUSR1, lambda _number, _frame: _stacks.clear())
    signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)
    try:
        return run_command(sys.argv[2:])
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        out.write_text("".join(f"{';'.join(stack)} {count}\n" for stack, count in _stacks.items()))


if __name__ == "__main__":
    sys.exit(main())
