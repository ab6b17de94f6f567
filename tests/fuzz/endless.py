"""Fuzz the pure parsers for as long as wanted: `python -m tests.fuzz.endless --minutes 10 --target all`.

With atheris (pip install atheris) inputs grow by the branches that they reach; without it a mutating runner
of our own does the same by lines, slower. Each crash is written to a file, which `--replay FILE` runs again,
and belongs into a test of the parser's own.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from types import CodeType, FrameType
from typing import Any, Final

from tests.fuzz.mutations import mutate

MAX_INPUT: Final = 4096  # bytes
CRASHED: Final = 1
_EXECUTED: Final = re.compile(r"number_of_executed_units: (\d+)")
_ROOT: Final = str(Path(__file__).parents[2] / "relay")


def main() -> int:
    """Run one target, or all of them with an equal share of the time each."""
    arguments = _parser().parse_args()
    if arguments.replay is not None:
        _targets()[arguments.target].run(arguments.replay.read_bytes())
        return 0
    names = sorted(_targets()) if arguments.target == "all" else [arguments.target]
    seconds = arguments.each or arguments.minutes * 60 / len(names)
    use_atheris = importlib.util.find_spec("atheris") is not None and not arguments.plain
    failed = False
    for name in names:
        work = _by_atheris if use_atheris else _by_hand
        failed |= work(name, seconds, arguments)
    return CRASHED if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.endless", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="for all targets together")
    parser.add_argument(
        "--each", type=float, metavar="SECONDS", help="for each target, in place of --minutes"
    )
    parser.add_argument("--target", default="all", help="a name of tests/fuzz/targets.py (default: all)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the mutations")
    parser.add_argument("--crashes", type=Path, default=Path("fuzz-crashes"), metavar="DIR")
    parser.add_argument("--plain", action="store_true", help="our own runner even where atheris is there")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run one input and show what it raises")
    return parser


def _targets() -> dict[str, Any]:
    from tests.fuzz.targets import TARGETS

    return TARGETS


# -- our own runner


class Coverage:
    """Lines of relay/ that a run reaches; a new one makes its input worth keeping."""

    def __init__(self) -> None:
        self.seen: set[tuple[CodeType, int]] = set()
        self._new = False

    def is_new(self, run: Any, data: bytes, allowed: tuple[type[Exception], ...]) -> bool:
        """Run, and tell whether a line was reached for the first time. Raises what is not allowed."""
        self._new = False
        sys.settrace(self._enter)
        try:
            run(data)
        except allowed:
            pass
        finally:
            sys.settrace(None)
        return self._new

    def _enter(self, frame: FrameType, _event: str, _argument: object) -> Any:
        return self._line if frame.f_code.co_filename.startswith(_ROOT) else None

    def _line(self, frame: FrameType, event: str, _argument: object) -> Any:
        if event == "line":
            place = (frame.f_code, frame.f_lineno)
            if place not in self.seen:
                self.seen.add(place)
                self._new = True
        return self._line


def _by_hand(name: str, seconds: float, arguments: argparse.Namespace) -> bool:
    target, coverage, chance = _targets()[name], Coverage(), Random(arguments.seed)
    corpus = list(target.seeds) or [b""]
    for seed in corpus:
        coverage.is_new(target.run, seed, target.allowed)
    began, runs, crashes = time.monotonic(), 0, 0
    while time.monotonic() - began < seconds and crashes < 5:
        data = mutate(chance.choice(corpus), chance, corpus)[:MAX_INPUT]
        runs += 1
        try:
            # most runs go without the trace, which costs ten times the parser
            if runs % 4 == 0:
                if coverage.is_new(target.run, data, target.allowed):
                    corpus.append(data)
            else:
                _run(target, data)
        except Exception as error:  # noqa: BLE001 - whatever is not allowed is what we look for
            crashes += 1
            _keep(arguments.crashes, name, data, error)
    kept = f"{len(corpus)} kept, {len(coverage.seen)} lines reached"
    print(_told(name, runs, time.monotonic() - began, f"{kept}, {crashes} crashes"), flush=True)
    return crashes > 0


def _told(name: str, runs: int, seconds: float, end: str) -> str:
    return f"{name:<14} {runs:>9} inputs in {seconds:4.0f} s, {end}"


def _run(target: Any, data: bytes) -> None:
    try:
        target.run(data)
    except target.allowed:
        return


def _keep(folder: Path, name: str, data: bytes, error: Exception) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}"
    path.write_bytes(data)
    print(f"{name}: CRASH {type(error).__name__}: {error} ({path})", flush=True)


# -- atheris, which ends its process


def _by_atheris(name: str, seconds: float, arguments: argparse.Namespace) -> bool:
    arguments.crashes.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pr-fuzz-") as folder:
        for number, seed in enumerate(_targets()[name].seeds):
            (Path(folder) / str(number)).write_bytes(seed)
        command = [
            sys.executable, "-m", "tests.fuzz.atheris_run", name, folder,
            f"-max_total_time={max(1, int(seconds))}", f"-max_len={MAX_INPUT}",
            f"-seed={arguments.seed & 0xFFFF}",
            f"-artifact_prefix={arguments.crashes}{os.sep}{name}-", "-print_final_stats=1",
        ]  # fmt: skip
        began = time.monotonic()
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    runs = _EXECUTED.search(ended.stderr)
    told = "no crash" if ended.returncode == 0 else f"CRASH, or atheris failed:\n{ended.stderr[-2000:]}"
    print(_told(name, int(runs[1]) if runs else 0, time.monotonic() - began, told), flush=True)
    return ended.returncode != 0


if __name__ == "__main__":
    sys.exit(main())
