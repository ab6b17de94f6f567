"""`python -m benchmarks.simulation`: one run; figures as JSON, curves as PNG with --plot."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.simulation.run import Scenario, run


def main() -> int:
    """Run the scenario that the flags describe, telling of each minute on standard error."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulation", description=__doc__)
    for name, field in Scenario.__dataclass_fields__.items():
        parser.add_argument(f"--{name}", type=type(field.default), default=field.default)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything, curves included")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the curves (PNG)")
    given = vars(parser.parse_args())
    json_path, plot_path = given.pop("json"), given.pop("plot")
    result = run(Scenario(**given), lambda line: print(line, file=sys.stderr, flush=True))
    if json_path is not None:
        json_path.write_text(json.dumps(result, indent=1), encoding="ascii")
    if plot_path is not None:
        _draw(result, plot_path)
    result.pop("curves")
    print(json.dumps(result, indent=1))
    return 0


def _draw(result: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    curves, scenario = result["curves"], result["scenario"]
    figure = Figure(figsize=(9, 9), layout="constrained")
    shares, costs, hops = figure.subplots(3, 1, sharex=True)
    for axes, kind, name in (
        (shares, "lookups", "good"),
        (shares, "tables", "live"),
        (shares, "tables", "fill"),
        (shares, "finds", "living"),
        (costs, "lookups", "asked"),
        (costs, "finds", "asked"),
        (hops, "lookups", "hops"),
        (hops, "finds", "hops"),
    ):
        points = [(each["minute"], each[name]) for each in curves[kind] if each.get(name) is not None]
        axes.plot(
            [minute for minute, _ in points],
            [value for _, value in points],
            marker=".",
            label=f"{kind}: {name}",
        )
    for axes, words in ((shares, "share"), (costs, "messages"), (hops, "hops")):
        axes.set_ylabel(words)
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right", fontsize="small")
    hops.set_xlabel("virtual minutes")
    figure.suptitle(
        f"{scenario['nodes']} nodes, {scenario['network']}, churn {scenario['churn']:.0%} an hour,"
        f" seed {scenario['seed']}, {scenario['suite']} encryption"
    )
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    sys.exit(main())
