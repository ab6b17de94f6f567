"""Tor beside clearnet: the same daemon, reached directly and by its onion service on a private network."""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from statistics import median

from benchmarks.load.loop import Target
from benchmarks.load.remote import Remote
from benchmarks.processes import cpu_seconds, rss_bytes
from benchmarks.pyrelay import Pyrelay
from benchmarks.scenarios import LOOPBACK, Figures, percentile
from benchmarks.transactions import TransferSet, genesis
from relay.localnet.network import PrivateTor
from relay.primitives.address import TcpAddress
from relay.primitives.onion import OnionKey

ONION_PORT = 30303
PING_INTERVAL = 0.02
FIRST_SECONDS = 60.0

LABELS = {
    "connect_ms": "connect to Status, median (ms)",
    "ping_p50_ms": "round trip of a ping, p50 (ms)",
    "ping_p99_ms": "round trip of a ping, p99 (ms)",
    "rate": "throughput from one source (transactions/s)",
    "megabytes": "the same (MB/s)",
    "cpu_us": "CPU of the daemon a transaction (us)",
    "tor_cpu_us": "CPU of its tor a transaction (us)",
    "connect_cpu_ms": "CPU of the daemon a connection (ms)",
    "tor_connect_cpu_ms": "CPU of its tor a connection (ms)",
    "rss_kb": "memory of the daemon a connection (KB)",
    "tor_rss_kb": "memory of its tor a connection (KB)",
}


@dataclass(frozen=True)
class TorSizes:
    connections: int = 30
    ping_seconds: float = 3.0
    warm: int = 500
    count: int = 6000


QUICK = TorSizes(6, 1.0, 200, 2000)


@dataclass
class _Place:
    """What is measured, from where."""

    relay: Pyrelay
    tor_pid: int
    transfers: TransferSet
    sizes: TorSizes
    sent: int = 0


async def measure(transfers: TransferSet, sizes: TorSizes) -> dict[str, Figures]:
    """Figures of both ways; takes most of a minute."""
    async with AsyncExitStack() as stack:
        peers, sinks = stack.enter_context(Remote(transfers)), stack.enter_context(Remote(transfers))
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pyrelay-bench-")))
        network = PrivateTor(directory / "tor")
        stack.push_async_callback(network.stop)
        await network.start()
        service = await network.add_client("service")
        client = await network.add_client("client")
        key = OnionKey.from_seed(sha256(b"pyrelay benchmark onion").digest())
        key_file = directory / "onion_key"
        key_file.touch(0o600)
        key_file.write_bytes(key.to_tor_file())
        extra = (
            f"--tor-proxy={service.socks}", f"--tor-control={service.control}",
            f"--onion-key={key_file}", f"--onion-port={ONION_PORT}", "--single-identity",
        )  # fmt: skip
        relay = Pyrelay(genesis(), extra)
        stack.callback(relay.stop)
        relay.start(directory / "relay", 100)
        assert service.process.pid is not None
        assert isinstance(client.socks, TcpAddress)
        place = _Place(relay, service.process.pid, transfers, sizes)
        clearnet = Target(relay.public_key, LOOPBACK, relay.port)
        onion = Target(relay.public_key, key.address, ONION_PORT, client.socks.port)
        return await asyncio.to_thread(_both, place, clearnet, onion, peers, sinks)


def _both(place: _Place, clearnet: Target, onion: Target, peers: Remote, sinks: Remote) -> dict[str, Figures]:
    sinks.call("connect", clearnet, 1, True, 1)
    # One of each before it counts: descriptor and circuits to the introduction points are cached then.
    for target in (clearnet, onion):
        _first_connect(peers, target)
        time.sleep(1.0)
        peers.call("disconnect")
    return {
        name: _way(place, target, peers, sinks) for name, target in (("clearnet", clearnet), ("tor", onion))
    }


def _first_connect(peers: Remote, target: Target) -> None:
    """A descriptor that was uploaded to the first directory need not be at the one that is asked."""
    deadline = time.monotonic() + FIRST_SECONDS
    while True:
        try:
            peers.call("connect", target, 1, False, 1)
        except ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1.0)
        else:
            return


def _way(place: _Place, target: Target, peers: Remote, sinks: Remote) -> Figures:
    pids, count = {"": place.relay.pid, "tor_": place.tor_pid}, place.sizes.connections
    cpu = {name: cpu_seconds(pid) for name, pid in pids.items()}
    rss = {name: rss_bytes(pid) for name, pid in pids.items()}
    seconds = peers.call("connect", target, count, False, 1)
    figures: Figures = {"connect_ms": median(seconds) * 1e3}
    for name, pid in pids.items():
        figures[f"{name}connect_cpu_ms"] = (cpu_seconds(pid) - cpu[name]) / count * 1e3
    peers.call("idle", 1.0)
    for name, pid in pids.items():
        figures[f"{name}rss_kb"] = (rss_bytes(pid) - rss[name]) / count / 1e3
    waits = sorted(peers.call("ping", place.sizes.ping_seconds, PING_INTERVAL))
    figures |= {"ping_p50_ms": percentile(waits, 50) * 1e3, "ping_p99_ms": percentile(waits, 99) * 1e3}
    peers.call("disconnect")
    time.sleep(1.0)
    return figures | _throughput(place, target, peers, sinks)


def _throughput(place: _Place, target: Target, peers: Remote, sinks: Remote) -> Figures:
    peers.call("connect", target, 1, False, 1)
    time.sleep(0.5)
    for count in (place.sizes.warm, place.sizes.count):
        start, place.sent = place.sent, place.sent + count
        cpu, tor_cpu = cpu_seconds(place.relay.pid), cpu_seconds(place.tor_pid)
        began = peers.call("blast", start, place.sent)
        ended = sinks.call("wait", count, 60.0)
        cpu, tor_cpu = cpu_seconds(place.relay.pid) - cpu, cpu_seconds(place.tor_pid) - tor_cpu
        verdict = sinks.call("verdicts", start, place.sent)[0]
        if verdict.missing or verdict.foreign:
            raise RuntimeError(f"{verdict.missing} transactions missing, {verdict.foreign} changed")
    peers.call("disconnect")
    size = sum(map(len, place.transfers.wires[start : place.sent]))
    return {
        "rate": count / (ended - began),
        "megabytes": size / (ended - began) / 1e6,
        "cpu_us": cpu / count * 1e6,
        "tor_cpu_us": tor_cpu / count * 1e6,
    }
