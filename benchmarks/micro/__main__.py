"""Command line: `python -m benchmarks.micro [--json] [--match TEXT] [--rounds N] [--profile NAME]`."""

import argparse
import cProfile
import importlib
import json
import pkgutil
import platform
import pstats
from collections.abc import Sequence

from benchmarks.micro import cases as cases_package
from benchmarks.micro.measure import ROUNDS, Figure, measure
from benchmarks.micro.registry import CASES, Case


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.micro", description="Times the hot functions."
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--match", default="", metavar="TEXT", help="only cases whose group or name has TEXT in it"
    )
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, metavar="N", help="rounds of each case (%(default)s)"
    )
    parser.add_argument(
        "--profile", action="store_true", help="show what the matching cases spend their time in"
    )
    options = parser.parse_args()
    for module in pkgutil.iter_modules(cases_package.__path__):
        importlib.import_module(f"{cases_package.__name__}.{module.name}")
    chosen = [case for case in CASES if options.match in f"{case.group}: {case.name}"]
    if not chosen:
        parser.error(f"no case has {options.match!r} in its name")
    if options.profile:
        _profile(chosen)
        return
    figures = measure(chosen, options.rounds)
    print(json.dumps(_report(figures), indent=1) if options.json else _table(figures))


def _profile(chosen: Sequence[Case], calls: int = 20_000) -> None:
    for case in chosen:
        call = case.prepare()
        profile = cProfile.Profile()
        profile.enable()
        for _ in range(calls):
            call()
        profile.disable()
        print(f"{case.group}: {case.name}, {calls} calls")
        pstats.Stats(profile).sort_stats("tottime").print_stats(15)


def _report(figures: Sequence[Figure]) -> dict[str, object]:
    return {
        "machine": {
            "python": platform.python_version(),
            "system": platform.system(),
            "cpu": platform.machine(),
        },
        "cases": [
            {
                "group": figure.case.group,
                "name": figure.case.name,
                "best_us": round(figure.best * 1e6, 3),
                "median_us": round(figure.median * 1e6, 3),
                "per_second": round(figure.rate),
                "megabytes_per_second": round(figure.megabytes, 1) if figure.megabytes else None,
            }
            for figure in figures
        ],
    }


def _table(figures: Sequence[Figure]) -> str:
    lines = []
    group = ""
    for figure in figures:
        if figure.case.group != group:
            group = figure.case.group
            lines.append(f"\n{group:<44} {'best us':>10} {'median':>10} {'1/s':>12} {'MB/s':>9}")
        megabytes = f"{figure.megabytes:9.1f}" if figure.megabytes else ""
        lines.append(
            f"  {figure.case.name:<42} {figure.best * 1e6:10.3f} {figure.median * 1e6:10.3f}"
            f" {figure.rate:12,.0f} {megabytes}"
        )
    return "\n".join(lines).lstrip("\n")


if __name__ == "__main__":
    main()
