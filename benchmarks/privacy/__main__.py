"""`python -m benchmarks.privacy`: whose a transaction is, as a spy guesses: figures as JSON, curve as PNG."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from benchmarks.privacy.graph import World, make_world
from benchmarks.privacy.links import SPACE, left_by_elimination, tagged_links
from benchmarks.privacy.measures import judge
from benchmarks.privacy.spread import Defence, Simulation
from benchmarks.privacy.table import draw, table
from relay.relaying.dandelion import StemOptions
from relay.relaying.trickle import TrickleOptions

RESULTS = Path(__file__).parents[1] / "results" / "privacy.json"
PICTURE = Path(__file__).parents[1] / "privacy.png"

CORE = TrickleOptions(outbound=2.0, inbound=5.0)  # Bitcoin Core's figures
QUICK_TRICKLE = TrickleOptions(outbound=0.2, inbound=0.5)
STEM = StemOptions(own=True)
DEFENCES = (
    Defence("diffusion"),
    Defence("trickle", CORE),
    Defence("dandelion", stem=STEM),
    Defence("dandelion, stems dropped", stem=STEM, drops=True),
    Defence("dandelion and trickle", CORE, STEM),
    Defence("private, strangers first", private=True, strangers=True),
    Defence("private and trickle", CORE, private=True),
    Defence("private", private=True),
)
TOGETHER = {"dandelion and trickle", "private and trickle"}
SHARES = (0.1, 0.2, 0.3)
TARGETS = 10  # relays that are looked at one by one
TAGGED = (Defence("diffusion"), Defence("trickle of 0.2 s", QUICK_TRICKLE), Defence("trickle", CORE))
ELIMINATIONS = (1, 2, 3, 5, 10, 20)


def main() -> int:
    """Run every defence against every spy, telling of each on standard error."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.privacy", description=__doc__)
    parser.add_argument("--relays", type=int, default=150)
    parser.add_argument("--worlds", type=int, default=2, help="graphs, one after the other")
    parser.add_argument(
        "--latency", type=float, default=0.2, help="seconds one way, median (default: onions)"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--json", type=Path, default=RESULTS, metavar="FILE")
    parser.add_argument("--plot", type=Path, default=PICTURE, metavar="FILE", help="draw the curve (PNG)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="simulate nothing, show this result")
    args = parser.parse_args()
    _quiet()
    if args.report is not None:
        result = json.loads(args.report.read_text(encoding="ascii"))
    else:
        result = simulate(args.relays, args.worlds, args.latency, args.seed, _say, jobs=args.jobs)
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=1) + "\n", encoding="ascii")
    draw(result, args.plot)
    print(table(result))
    return 0


@dataclass(frozen=True)
class Case:
    """One set of runs; all cases are independent of each other.

    Attributes:
        relays, worlds, latency, seed: of the graphs.
        defence: what relays do.
        share: of them that spy.
        greedy: the spy takes all room that there is.
    """

    relays: int
    worlds: int
    latency: float
    seed: int
    defence: Defence
    share: float
    greedy: bool = False

    def world(self, number: int) -> World:
        return make_world(self.relays, self.share, self.latency, self.seed + number, greedy=self.greedy)


def simulate(
    relays: int,
    worlds: int,
    latency: float,
    seed: int,
    tell: Callable[[str], None] = lambda _line: None,
    shares: Sequence[float] = SHARES,
    defences: Sequence[Defence] = DEFENCES,
    jobs: int = 1,
) -> dict[str, Any]:
    """Return all figures; the same arguments give the same ones, in whatever number of processes."""
    middle = shares[len(shares) // 2]
    common = (relays, worlds, latency, seed)
    cases = [
        Case(*common, defence, share)
        for defence in defences
        for share in (shares if defence.name not in TOGETHER else (middle,))
    ]
    greedy = [Case(*common, defence, middle, greedy=True) for defence in defences[:3]]
    tagged = [(Case(*common, defence, middle), tags) for defence in TAGGED for tags in (1, 5)]
    hidden = [
        Case(*common, Defence("private", private=True, strangers=strangers), middle)
        for strangers in (True, False)
    ]
    with _mapping(jobs) as spread:
        played = spread(_play, [*cases, *greedy])
        links, left = spread(_tag, tagged), spread(_eliminate, hidden)
        origins = []
        for case, found in zip([*cases, *greedy], played, strict=True):
            origins.append(found)
            words = f"{case.defence.name}, {case.share:.0%}{' greedy' if case.greedy else ''}"
            tell(f"{words}: {found['best']} {found['best_recall']:.3f}, {found['seconds']}")
        return {
            "relays": relays,
            "worlds": worlds,
            "latency": latency,
            "seed": seed,
            "origins": origins[: len(cases)],
            "greedy": origins[len(cases) :],
            "links": list(links),
            "elimination": list(left),
        }


@contextmanager
def _mapping(jobs: int) -> Iterator[Callable[..., Iterable[Any]]]:
    if jobs == 1:
        yield map
        return
    with ProcessPoolExecutor(jobs, initializer=_quiet) as pool:
        yield pool.map


def _play(case: Case) -> dict[str, Any]:
    runs = []
    for number in range(case.worlds):
        simulation = Simulation(case.world(number), case.defence, case.seed + number)
        runs.append((simulation, [simulation.send(each, SPACE * each) for each in simulation.world.honest]))
    return {"defence": case.defence.name, "spies": case.share, **judge(runs)}


def _tag(job: tuple[Case, int]) -> dict[str, Any]:
    case, tags = job
    simulation = Simulation(case.world(0), case.defence, case.seed)
    targets = range(min(TARGETS, case.relays // 4))
    return {"defence": case.defence.name, **tagged_links(simulation, targets, tags)}


def _eliminate(case: Case) -> dict[str, Any]:
    simulation = Simulation(case.world(0), case.defence, case.seed)
    left = left_by_elimination(simulation, range(min(2 * TARGETS, case.relays // 4)), ELIMINATIONS)
    return {"strangers": case.defence.strangers, "left": {str(count): each for count, each in left.items()}}


def _quiet() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
