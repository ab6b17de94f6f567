"""The first connection to an onion service and those after it, on a private Tor network.

`python -m benchmarks.onion_service [--rounds N] [--json]`. Each round publishes a service of its own, whose
descriptor is in nobody's cache, and connects: cold; again by new circuits; again by the circuit that is
there; and after SIGNAL NEWNYM, with which a Tor forgets all descriptors. Loopback has no latency: what is
measured is the number of steps. On the public network each of them takes a second or more.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Final

from relay.localnet.client import ClientHandle
from relay.localnet.network import PrivateTor
from relay.observe.logs import LogOptions, configure
from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.onion import OnionAddress, OnionKey
from relay.tor.client_auth import AuthorizedClient, OnionAccess, forget_access, give_access
from relay.tor.control import TorControl
from relay.tor.onion_service import OnionService, OnionServiceOptions
from relay.tor.status import StatusBoard
from relay.transports.sockets import SocketFactory, SocketRules
from relay.transports.socks5 import Credentials, SocksHandshake
from relay.transports.socks_dialer import exchange

PORT: Final = 30303
REPEATS: Final = 5
DEADLINE: Final = 60.0  # seconds
SETTLE: Final = 2.0  # seconds for the other directories: a visitor asks one of them by chance
FACTORY: Final = SocketFactory(SocketRules.anywhere())
LINES: Final = {
    "publish": "publish: ADD_ONION until the first directory has the descriptor",
    "cold": "first connection, descriptor fetched",
    "repeat": "again by a new circuit, descriptor cached",
    "same": "again by the same circuit",
    "forgotten": "after NEWNYM, descriptor fetched again",
    "private": "first connection to a private service, with its key",
}

Figures = dict[str, list[float]]


@asynccontextmanager
async def service(
    client: ClientHandle, key: OnionKey, target: str, clients: tuple[AuthorizedClient, ...] = ()
) -> AsyncIterator[float]:
    """Publish until the end of the block; yields the seconds until it was up."""
    up = asyncio.Event()
    options = OnionServiceOptions(key, PORT, target, clients=clients)
    running = OnionService(options, client.open_control, StatusBoard(), on_up=lambda _: up.set())
    began = perf_counter()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(running.run())
        try:
            async with asyncio.timeout(DEADLINE):
                await up.wait()
            seconds = perf_counter() - began
            await asyncio.sleep(SETTLE)
            yield seconds
        finally:
            running.stop()


async def connect(visitor: ClientHandle, onion: OnionAddress, circuit: bytes) -> float:
    """Seconds until SOCKS says that the service is reached."""
    began = perf_counter()
    sock = await FACTORY.open(visitor.socks)
    try:
        await exchange(
            sock,
            SocksHandshake(Endpoint(Network.ONION, onion, PORT), Credentials(circuit, b"benchmark")),
            DEADLINE,
        )
    finally:
        sock.close()
    return perf_counter() - began


async def forget(control: TorControl) -> None:
    """Have a Tor forget all descriptors; it does so once in ten seconds at most."""
    done = asyncio.Event()
    control.listen("SIGNAL", lambda _event: done.set())
    await control.set_events()
    await control.command("SIGNAL", "NEWNYM")
    await done.wait()


async def one_round(
    here: ClientHandle, visitor: ClientHandle, control: TorControl, target: str, figures: Figures
) -> None:
    """Measure one public and one private service."""
    key, circuit = OnionKey.generate(secrets.token_bytes), secrets.token_hex(8).encode()
    async with service(here, key, target) as seconds:
        figures["publish"].append(seconds)
        figures["cold"].append(await connect(visitor, key.address, circuit))
        for _ in range(REPEATS):
            fresh = secrets.token_hex(8).encode()
            figures["repeat"].append(await connect(visitor, key.address, fresh))
            figures["same"].append(await connect(visitor, key.address, circuit))
        await forget(control)
        figures["forgotten"].append(await connect(visitor, key.address, secrets.token_hex(8).encode()))
    key = OnionKey.generate(secrets.token_bytes)
    access = OnionAccess.generate(key.address, secrets.token_bytes)
    async with service(here, key, target, (access.client,)):
        await give_access(control, [access])
        figures["private"].append(await connect(visitor, key.address, secrets.token_hex(8).encode()))
        await forget_access(control, [access])


async def measure(rounds: int) -> dict[str, dict[str, float]]:
    """Run everything; median, fastest and slowest in seconds, and how often a descriptor was fetched."""
    figures: Figures = {name: [] for name in LINES}
    fetched = 0

    def count(_event: object) -> None:
        nonlocal fetched
        fetched += 1

    with tempfile.TemporaryDirectory(prefix="pr-") as folder:
        network = PrivateTor(Path(folder))
        await network.start()
        try:
            here, visitor = [await network.add_client(name) for name in ("here", "visitor")]
            echo = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
            target = f"127.0.0.1:{echo.sockets[0].getsockname()[1]}"
            async with TorControl.connect(visitor.open_control) as control:
                control.listen("HS_DESC", lambda event: count(event) if "REQUESTED" in event.text else None)
                await control.set_events()
                for number in range(rounds):
                    print(f"round {number + 1} of {rounds}", file=sys.stderr)
                    await one_round(here, visitor, control, target, figures)
            echo.close()
        finally:
            await network.stop()
    result = {
        name: {"median": median(each), "least": min(each), "most": max(each), "count": len(each)}
        for name, each in figures.items()
    }
    return {**result, "descriptors": {"fetched": fetched, "connections": sum(map(len, figures.values()))}}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.onion_service", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, metavar="N")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    configure(LogOptions())
    result = asyncio.run(measure(options.rounds))
    if options.json:
        print(json.dumps(result, indent=1))
        return 0
    for name, words in LINES.items():
        row = result[name]
        print(
            f"{words:66}{row['median']:7.2f} s  ({row['least']:.2f} to {row['most']:.2f}, {row['count']:.0f})"
        )
    told = result["descriptors"]
    print(f"descriptors asked for: {told['fetched']:.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
