"""How the way to the nearest nodes grows with the network: `python -m benchmarks.simulation.curve`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from math import log2
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.simulation.run import Scenario, run

__all__ = ["main", "slope"]

SIZES = (100, 300, 1000, 3000, 10_000)
MINUTES = 2.0
LOOKUPS = 150  # a minute


def main() -> int:
    """Run a standing network of each size for two minutes; figures as JSON, the curve as PNG with --plot."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulation.curve", description=__doc__)
    parser.add_argument("--sizes", type=_sizes, default=SIZES, metavar="N,N...")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--network", default="onion", choices=("onion", "udp"))
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the curve (PNG)")
    args = parser.parse_args()
    points = [_point(size, args.seed, args.network) for size in args.sizes]
    result = {"network": args.network, "seed": args.seed, "points": points, "hops_a_doubling": slope(points)}
    if args.json is not None:
        args.json.write_text(json.dumps(result, indent=1), encoding="ascii")
    if args.plot is not None:
        _draw(result, args.plot)
    print(json.dumps(result, indent=1))
    return 0


def slope(points: Sequence[dict[str, Any]]) -> float:
    """Return by how much the hops grow where the network doubles: least squares over log2 of nodes."""
    if len(points) < 2:
        return 0.0
    logs, hops = [log2(each["nodes"]) for each in points], [each["hops"] for each in points]
    middle, height = fmean(logs), fmean(hops)
    spread = sum((each - middle) ** 2 for each in logs)
    return float(sum((a - middle) * (b - height) for a, b in zip(logs, hops, strict=True)) / spread)


def _point(size: int, seed: int, network: str) -> dict[str, Any]:
    scenario = Scenario(
        nodes=size,
        minutes=MINUTES,
        seed=seed,
        suite="null",
        network=network,
        grow=0.0,
        lookups=LOOKUPS,
        keys=0,
    )
    result = run(scenario, lambda _line: None)
    lookups, cost = result["lookups"], result["cost"]
    told = {name: lookups[name] for name in ("count", "good", "right", "hops", "asked", "seconds_median")}
    print(f"{size:6} nodes: {told}", file=sys.stderr, flush=True)
    return {"nodes": size, **told, "table": result["tables"]["size"], "cpu_seconds": cost["cpu_seconds"]}


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(int(each) for each in text.split(","))


def _draw(result: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    points = result["points"]
    nodes = [each["nodes"] for each in points]
    figure = Figure(figsize=(8, 6), layout="constrained")
    hops, asked = figure.subplots(2, 1, sharex=True)
    for axes, name, words in ((hops, "hops", "hops"), (asked, "asked", "nodes asked")):
        axes.plot(nodes, [each[name] for each in points], marker="o")
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.set_ylabel(words)
        axes.grid(alpha=0.3)
    asked.set_xlabel("nodes")
    figure.suptitle(f"Lookups, {result['network']}: {result['hops_a_doubling']:.2f} hops for each doubling")
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    sys.exit(main())
