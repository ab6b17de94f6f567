"""One run: a network grows, then lives on under churn while it is measured."""

from __future__ import annotations

import gc
import resource
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from statistics import fmean, median
from typing import Any

from benchmarks.simulation.finds import Found, Providing
from benchmarks.simulation.measures import Health, Judged, Lookups, Series, Tables
from benchmarks.simulation.population import Population
from benchmarks.simulation.suite import SUITES
from benchmarks.simulation.tor import Tor
from relay.protocols.discv5 import Options

__all__ = ["Run", "Scenario", "run"]


@dataclass(frozen=True)
class Scenario:
    """What is run.

    Attributes:
        nodes: at the end of growth, and from then on.
        minutes: of virtual time after growth.
        seed: of everything.
        suite: "real" or "null".
        network: "onion" or "udp".
        grow: minutes of growth; nodes come evenly in the first half of them. 0: a network that stands.
        churn: part of the nodes that is replaced in an hour.
        lookups: a minute.
        keys: provided from the end of growth on, each by one node; 0: without the DHT.
        finds: searches for them a minute.
        window: seconds of a point of the curves.
        rest: seconds at most, without churn, in which what was begun may end.
    """

    nodes: int = 1000
    minutes: float = 60.0
    seed: int = 1
    suite: str = "real"
    network: str = "onion"
    grow: float = 10.0
    churn: float = 0.3
    lookups: int = 60
    keys: int = 60
    finds: int = 30
    window: float = 60.0
    rest: float = 300.0


DEAD = 0.07  # part of the known nodes that are dead when a network stands; as after an hour from a cold start
ENDING = 20.0  # seconds from look to look whether it has
BEREAVED = 20  # keys whose holders die
SEARCHES = 5  # for each of those


class Run:
    """A scenario under way."""

    def __init__(self, scenario: Scenario, options: Options | None = None) -> None:
        self.scenario = scenario
        self._began = time.process_time()
        self.population = Population(scenario.network, SUITES[scenario.suite], scenario.seed, options=options)
        self.lookups = Lookups(self.population, scenario.window, scenario.seed + 2)
        self.health = Health(self.population, scenario.window, scenario.seed + 3)
        self.traffic = Series(scenario.window)
        self.providing = (
            Providing(self.population, scenario.window, scenario.keys, scenario.seed + 4)
            if scenario.keys
            else None
        )
        self.bereaved: Series = Series(scenario.window)

    def grow(self, tell: Callable[[str], None]) -> None:
        """Let the network come to be."""
        if not self.scenario.grow:
            self.population.settle(self.scenario.nodes, DEAD)
            return
        seconds = self.scenario.grow * 60
        self.population.grow(self.scenario.nodes, seconds / 2)
        self._pass(seconds, tell)

    def live(self, tell: Callable[[str], None]) -> None:
        """Let it live under churn, and measure."""
        scenario, network = self.scenario, self.population.network
        seconds = scenario.minutes * 60
        self.population.churn(scenario.churn, seconds)
        self.lookups.spread(int(scenario.lookups * scenario.minutes), network.now, seconds)
        if self.providing is not None:
            self.providing.begin(min(120.0, seconds / 4))
            self.providing.spread(int(scenario.finds * scenario.minutes), network.now, seconds)
        self._pass(seconds, tell)

    def settle(self, tell: Callable[[str], None]) -> None:
        """Let what was begun come to its end."""
        self._let_end(tell)
        self.lookups.drop_dead()

    def bereave(self, tell: Callable[[str], None]) -> None:
        """Let half of the holders of some keys die at once, and have the keys searched for in that minute."""
        if self.providing is None:
            return
        lived, self.providing.found = self.providing.found, self.bereaved
        for key in self.providing.bereave(0.5, BEREAVED):
            for _ in range(SEARCHES):
                self.population.network.at(
                    self.population.network.now + self.population.draw.random() * 60.0,
                    partial(self.providing.search, key),
                )
        self._pass(60.0, tell)
        self._let_end(tell)
        self.providing.found = lived

    def _let_end(self, tell: Callable[[str], None]) -> None:
        """Let what was begun come to its end, with no further deaths."""
        end = self.population.network.now + self.scenario.rest
        while self.population.network.now < end and self._under_way:
            self._pass(min(ENDING, end - self.population.network.now), tell)

    @property
    def _under_way(self) -> int:
        return self.lookups.under_way + (0 if self.providing is None else self.providing.under_way)

    def _pass(self, seconds: float, tell: Callable[[str], None]) -> None:
        network, window = self.population.network, self.scenario.window
        end = network.now + seconds
        while network.now < end:
            packets, sent = network.packets, network.bytes
            network.run(min(window, end - network.now))
            self.health.look()
            if self.providing is not None:
                self.providing.renew()
            self.traffic.add(network.now - window / 2, (network.packets - packets, network.bytes - sent))
            tell(self._line())

    def _line(self) -> str:
        network, judged = self.population.network, self.lookups.judged.windows()
        tables = self.health.tables.windows()
        lookups = f" lookups {_part_good(judged[-1][1]):.3f}" if judged else ""
        health: Tables | None = tables[-1][1][-1] if tables else None
        state = f" table {health.size:.0f} live {health.live:.3f} near {health.near:.3f}" if health else ""
        nodes = len(self.population.alive)
        if self.providing is not None and (found := self.providing.found.windows()):
            lookups += f" finds {_part_living(found[-1][1]):.3f}"
        took = time.process_time() - self._began
        done = f"{network.now / 60:5.1f} min  {nodes:5} nodes  {network.packets:>10,} packets  {took:5.0f} s"
        return done + state + lookups

    def result(self) -> dict[str, Any]:
        """Return everything but the time it took: equal for equal seeds."""
        network, scenario = self.population.network, self.scenario
        judged: list[Judged] = self.lookups.judged.all()
        begin, end = scenario.grow, scenario.grow + scenario.minutes
        hours = scenario.minutes / 60
        counted = [
            value for minute, values in self.traffic.windows() if begin < minute < end for value in values
        ]
        return {
            "scenario": asdict(scenario),
            "nodes_made": self.population.made,
            "nodes_gone": self.population.gone,
            "packets": network.packets,
            "bytes": network.bytes,
            "messages": dict(sorted(network.traffic().items())),
            "events": {kind.__name__: count for kind, count in sorted(network.events.items(), key=_name)},
            "packets_node_hour": sum(packets for packets, _ in counted) / scenario.nodes / hours,
            "bytes_node_hour": sum(sent for _, sent in counted) / scenario.nodes / hours,
            "lookups": _lookups(judged) | {"refused": self.lookups.refused, "asker_died": self.lookups.lost},
            "finds": self._finds(),
            "tables": asdict(self.health.tables.windows()[-1][1][-1]),
            "dials": _dials(self.population),
            "curves": self._curves(),
        }

    def _finds(self) -> dict[str, Any]:
        if self.providing is None:
            return {}
        written = self.providing.stored
        return _found(self.providing.found.all()) | {
            "stored": fmean(written) if written else 0.0,
            "half_of_holders_dead": _found(self.bereaved.all()),
        }

    def _curves(self) -> dict[str, list[dict[str, Any]]]:
        finds = self.providing.found.windows() if self.providing is not None else []
        return {
            "finds": [{"minute": at, **_found(values)} for at, values in finds],
            "lookups": [{"minute": at, **_lookups(values)} for at, values in self.lookups.judged.windows()],
            "tables": [{"minute": at, **asdict(values[-1])} for at, values in self.health.tables.windows()],
            "traffic": [
                {
                    "minute": at,
                    "packets": sum(each for each, _ in values),
                    "bytes": sum(each for _, each in values),
                }
                for at, values in self.traffic.windows()
            ],
        }


def run(scenario: Scenario, tell: Callable[[str], None], options: Options | None = None) -> dict[str, Any]:
    """Run a scenario; `cost` in the result is what it took of this machine.

    Of that, `cpu_seconds_minutes` is for the start and the minutes of the scenario; the rest is for what ends
    after them, and for the searches whose holders have died.
    """
    began, cpu = time.perf_counter(), time.process_time()
    # Nothing of a simulation is garbage in cycles worth the search: it would take a third of the time.
    gc.disable()
    try:
        it = Run(scenario, options)
        it.grow(tell)
        it.live(tell)
        minutes = time.process_time() - cpu
        it.settle(tell)
        it.bereave(tell)
    finally:
        gc.enable()
    seconds = time.process_time() - cpu
    return it.result() | {
        "cost": {
            "seconds": round(time.perf_counter() - began, 1),
            "cpu_seconds": round(seconds, 1),
            "cpu_seconds_minutes": round(minutes, 1),
            "microseconds_packet": round(seconds / it.population.network.packets * 1e6, 1),
            "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }
    }


def _lookups(judged: list[Judged]) -> dict[str, Any]:
    if not judged:
        return {"count": 0}
    seconds = sorted(each.seconds for each in judged)
    return {
        "count": len(judged),
        "good": _part_good(judged),
        "all": sum(each.right == 16 for each in judged) / len(judged),
        "right": fmean(each.right for each in judged),
        "young": sum(each.young for each in judged) / len(judged),
        "hops": fmean(each.hops for each in judged),
        "asked": fmean(each.asked for each in judged),
        "seconds_median": median(seconds),
        "seconds_p90": seconds[int(0.9 * (len(seconds) - 1))],
    }


def _found(found: list[Found]) -> dict[str, Any]:
    if not found:
        return {"count": 0}
    return {
        "count": len(found),
        "living": _part_living(found),
        "hops": fmean(each.hops for each in found),
        "asked": fmean(each.asked for each in found),
        "seconds_median": median(each.seconds for each in found),
    }


def _part_living(found: list[Found]) -> float:
    return sum(each.living for each in found) / len(found)


def _name(counted: tuple[type, int]) -> str:
    return counted[0].__name__


def _part_good(judged: list[Judged]) -> float:
    return sum(each.good for each in judged) / len(judged)


def _dials(population: Population) -> dict[str, int]:
    links = population.links
    if not isinstance(links, Tor):
        return {}
    return {"begun": links.dials, "failed": links.failed_dials, "opened": links.opened}
