"""What is measured. Each scenario starts a fresh relay, and returns figures by name."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Protocol

from benchmarks.load.loop import Target
from benchmarks.load.remote import Remote
from benchmarks.load.sink import Verdict
from benchmarks.load.straight import Straight
from benchmarks.processes import cpu_seconds, peak_rss_bytes, rss_bytes
from benchmarks.transactions import TransferSet
from relay.primitives.keys import PublicKey

Figures = dict[str, float]

SINKS = 25
SETTLE = 1.5  # seconds after connecting and after the warm-up
IDLE_PEERS, BURST, CROWD = 50, 500, 1000
IDLE_SECONDS = 3.0
CROWD_WARM = 200  # transactions
PING_INTERVAL = 0.002
MAX_PEERS = 1600  # a third of it is kept for dialed ones, by both relays
LOOPBACK = "127.0.0.1"


class Relay(Protocol):
    """The relay in the middle."""

    name: str
    port: int
    public_key: PublicKey
    flags: list[str]

    @property
    def pid(self) -> int: ...
    def version(self) -> str: ...
    def start(self, directory: Path, max_peers: int) -> None: ...
    def stop(self) -> None: ...
    def metrics(self) -> dict[str, float]: ...


@dataclass(frozen=True)
class Sizes:
    """How much is sent: transactions, and seconds of what is paced."""

    warm: int = 4000
    full_1: int = 40_000
    full_25: int = 20_000
    slow_seconds: float = 6.0
    fast_seconds: float = 5.0
    announced_seconds: float = 4.0


QUICK = Sizes(2000, 12_000, 6000, 2.0, 2.0, 1.5)


class Setup:
    """A running relay between a source and sinks, and the part of the transactions that was not sent yet."""

    def __init__(self, relay: Relay, transfers: TransferSet, source: Remote, sinks: Remote) -> None:
        self.relay, self._transfers, self.source, self.sinks = relay, transfers, source, sinks
        self._next = 0

    @property
    def target(self) -> Target:
        return Target(self.relay.public_key, LOOPBACK, self.relay.port)

    def connect(self, sources: int, sinks: int) -> None:
        self.source.call("connect", self.target, sources, False, 1)
        self.sinks.call("connect", self.target, sinks, True, 8)
        time.sleep(SETTLE)

    def take(self, count: float) -> tuple[int, int]:
        """The next transactions: nonces must have no gap."""
        start = self._next
        self._next += int(count)
        assert self._next <= len(self._transfers.wires)
        return start, self._next

    def warm_up(self, count: int) -> None:
        start, stop = self.take(count)
        self.source.call("blast", start, stop)
        self.sinks.call("wait", count, 60.0)
        self.sinks.call("verdicts", start, stop)
        time.sleep(SETTLE)
        self.sinks.call("forget")

    def full_speed(self, name: str, count: int) -> Figures:
        start, stop = self.take(count)
        load = self.source.pid, self.sinks.pid
        before, load_before = cpu_seconds(self.relay.pid), sum(map(cpu_seconds, load))
        began = self.source.call("blast", start, stop)
        ended = self.sinks.call("wait", count, 120.0)
        cpu = cpu_seconds(self.relay.pid) - before
        load_cpu = sum(map(cpu_seconds, load)) - load_before
        verdicts = self.sinks.call("verdicts", start, stop)
        return _named(
            name,
            {
                "rate": count / (ended - began),
                "cpu_us": cpu / count * 1e6,
                "cores": cpu / (ended - began),
                "load_cores": load_cpu / (ended - began),
                **_integrity(verdicts),
            },
        )

    def paced(self, name: str, command: str, rate: float, seconds: float) -> Figures:
        start, stop = self.take(rate * seconds)
        count = stop - start
        before = cpu_seconds(self.relay.pid)
        left = self.source.call(command, start, stop, rate)
        self.sinks.call("wait", count, 60.0)
        cpu = cpu_seconds(self.relay.pid) - before
        verdicts = self.sinks.call("verdicts", start, stop)
        self.sinks.call("forget")
        pairs = chain.from_iterable(zip(verdict.arrived, left, strict=True) for verdict in verdicts)
        latencies = sorted(arrived - sent for arrived, sent in pairs if arrived)
        return _named(
            name,
            {
                "p50_ms": percentile(latencies, 50) * 1e3,
                "p99_ms": percentile(latencies, 99) * 1e3,
                "cpu_us": cpu / count * 1e6,
                "sent_per_second": (count - 1) / (left[-1] - left[0]),
                **_integrity(verdicts),
            },
        )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The nearest rank of ordered values; NaN of none."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def _integrity(verdicts: Sequence[Verdict]) -> Figures:
    reasons = verdicts[0].reasons
    if reasons:
        raise ConnectionError(f"the relay disconnected: {reasons[0]}")
    return {
        "missing": sum(verdict.missing for verdict in verdicts),
        "twice": sum(verdict.twice for verdict in verdicts),
        "foreign": sum(verdict.foreign for verdict in verdicts),
        "fetched": sum(verdict.fetched for verdict in verdicts),
    }


def _named(name: str, figures: Figures) -> Figures:
    return {f"{name}.{key}": value for key, value in figures.items()}


def _own(name: str, relay: Relay) -> Figures:
    """What the daemon itself says; geth says nothing of the kind."""
    metrics = relay.metrics()
    if not metrics:
        return {}
    return _named(
        name,
        {
            "stall_ms": metrics["pyrelay_event_loop_stall_seconds"] * 1e3,
            "slice_ms": metrics["pyrelay_intake_slice_seconds_max"] * 1e3,
        },
    )


@contextmanager
def running(relay: Relay, transfers: TransferSet) -> Iterator[Setup]:
    """Start the relay in a fresh folder, and two load processes."""
    with ExitStack() as stack:
        # The load is forked first: while nothing else of this process is open.
        source = stack.enter_context(Remote(transfers))
        sinks = stack.enter_context(Remote(transfers))
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="pyrelay-bench-"))
        stack.callback(relay.stop)
        relay.start(Path(directory), MAX_PEERS)
        yield Setup(relay, transfers, source, sinks)


def full_1(relay: Relay, transfers: TransferSet, sizes: Sizes) -> Figures:
    """One source, one sink, as fast as it goes."""
    return _full(relay, transfers, "full_1", 1, sizes.warm, sizes.full_1)


def full_25(relay: Relay, transfers: TransferSet, sizes: Sizes) -> Figures:
    """One source, 25 sinks that fetch what is announced, as fast as it goes."""
    return _full(relay, transfers, "full_25", SINKS, sizes.warm, sizes.full_25)


def _full(relay: Relay, transfers: TransferSet, name: str, sinks: int, warm: int, count: int) -> Figures:
    with running(relay, transfers) as setup:
        setup.connect(1, sinks)
        setup.warm_up(warm)
        figures = setup.full_speed(name, count)
        peak = {f"{name}.peak_rss_mb": peak_rss_bytes(relay.pid) / 1e6}
        return figures | peak | _own(name, relay)


def paced_1(relay: Relay, transfers: TransferSet, sizes: Sizes) -> Figures:
    """One sink; 200 and 2,000 transactions a second, one by one."""
    return _paced(relay, transfers, sizes, 1)


def paced_25(relay: Relay, transfers: TransferSet, sizes: Sizes) -> Figures:
    """25 sinks; 200 and 2,000 transactions a second, one by one."""
    return _paced(relay, transfers, sizes, SINKS)


def _paced(relay: Relay, transfers: TransferSet, sizes: Sizes, sinks: int) -> Figures:
    with running(relay, transfers) as setup:
        setup.connect(1, sinks)
        setup.warm_up(sizes.warm)
        figures = setup.paced(f"paced_200_{sinks}", "pace", 200.0, sizes.slow_seconds)
        return figures | setup.paced(f"paced_2000_{sinks}", "pace", 2000.0, sizes.fast_seconds)


def announced(relay: Relay, transfers: TransferSet, sizes: Sizes) -> Figures:
    """The source only announces; then one announces what another pushes within 200 ms."""
    with running(relay, transfers) as setup:
        setup.connect(2, 1)
        setup.warm_up(sizes.warm)
        figures = setup.paced("announced", "announce", 200.0, sizes.announced_seconds)
        start, stop = setup.take(200.0 * sizes.announced_seconds)
        _, served = setup.source.call("announce_then_push", start, stop, 200.0, 0.2)
        figures["announced.duplicate_bytes"] = served / (stop - start)
        return figures


def peers(relay: Relay, transfers: TransferSet, sizes: Sizes) -> Figures:
    """Memory of idle peers, and 500 handshakes at once beside a peer that pings."""
    with running(relay, transfers) as setup, Remote(transfers) as pinger:
        crowd, target, pid = setup.sinks, setup.target, relay.pid
        crowd.call("connect", target, IDLE_PEERS, False, 10)
        crowd.call("idle", IDLE_SECONDS)
        few = rss_bytes(pid)
        pinger.call("connect", target, 1, False, 1)
        calm = pinger.call("ping", 0.5, PING_INTERVAL)
        before = cpu_seconds(pid)
        pinger.begin("ping", 3.0, PING_INTERVAL)
        time.sleep(0.2)
        burst = crowd.call("burst", target, BURST)
        cpu = cpu_seconds(pid) - before
        waits = pinger.result()
        crowd.call("connect", target, CROWD - IDLE_PEERS - BURST - 1, False, 50)
        left = crowd.call("idle", IDLE_SECONDS)
        if left != CROWD - 1:
            raise ConnectionError(f"the relay dropped {CROWD - 1 - left} idle peers")
        many = rss_bytes(pid)
        return {
            "peers.rss_50_mb": few / 1e6,
            "peers.rss_1000_mb": many / 1e6,
            "peers.per_peer_kb": (many - few) / (CROWD - IDLE_PEERS) / 1e3,
            "handshakes.ms": burst / BURST * 1e3,
            "handshakes.cpu_ms": cpu / BURST * 1e3,
            "handshakes.longest_wait_ms": max(waits) * 1e3,
            "handshakes.calm_wait_ms": max(calm) * 1e3,
        }


def crowd(relay: Relay, transfers: TransferSet, sizes: Sizes) -> Figures:
    """A thousand peers, 200 transactions a second, one by one: how much of a core, how much memory."""
    with running(relay, transfers) as setup:
        setup.connect(1, CROWD - 1)
        setup.warm_up(CROWD_WARM)
        began, before = time.monotonic(), cpu_seconds(relay.pid)
        figures = setup.paced("crowd", "pace", 200.0, sizes.slow_seconds)
        figures["crowd.cores"] = (cpu_seconds(relay.pid) - before) / (time.monotonic() - began)
        figures["crowd.peak_rss_mb"] = peak_rss_bytes(relay.pid) / 1e6
        return figures | _own("crowd", relay)


def ceiling(transfers: TransferSet, sizes: Sizes) -> Figures:
    """The load without a relay: what it could ask of one."""
    figures: Figures = {}
    for sinks, count in ((1, Sizes.full_1), (SINKS, sizes.full_25)):
        with Remote(transfers, Straight) as straight, Remote(transfers) as receivers:
            public_key, port = straight.call("address")
            receivers.call("connect", Target(public_key, LOOPBACK, port), sinks, True, 8)
            straight.call("prepare", 0, count)
            began = time.monotonic()
            straight.begin("blast_all")
            ended = receivers.call("wait", count, 60.0)
            straight.result()
            verdicts = receivers.call("verdicts", 0, count)
            figures[f"ceiling.rate_{sinks}"] = count / (ended - began)
            lost = _integrity(verdicts)
            assert not lost["missing"]
            assert not lost["foreign"]
    return figures


Scenario = Callable[[Relay, TransferSet, Sizes], Figures]
SCENARIOS: dict[str, Scenario] = {
    "full-1": full_1,
    "full-25": full_25,
    "paced-1": paced_1,
    "paced-25": paced_25,
    "announced": announced,
    "peers": peers,
    "crowd": crowd,
}
