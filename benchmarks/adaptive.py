"""What an onion peer waits for a block: asked for by Tor, or fetched by clearnet beforehand.

`python -m benchmarks.adaptive [--rounds N] [--json]`. On a private Tor network: a peer asks a relay by its
onion service, over a stream that stays. The relay has the answer (`--adaptive-transport`), or asks another
onion service for it; and what clearnet takes for the same is measured beside it. Loopback has no latency, so
what is seen is the work of Tor; on the public network a way through it takes half a second or more.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Final, TypeAlias

from benchmarks.onion_service import DEADLINE, FACTORY, PORT, service
from relay.localnet.client import ClientHandle
from relay.localnet.network import PrivateTor
from relay.observe.logs import LogOptions, configure
from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.onion import OnionAddress, OnionKey
from relay.transports.socks5 import Credentials, SocksHandshake
from relay.transports.socks_dialer import exchange

SIZES: Final = {"a header": 600, "a body": 64 << 10, "receipts": 256 << 10, "a full answer": 2 << 20}
WAYS: Final = {
    "direct": "clearnet, for comparison",
    "held": "by Tor, the relay has it: fetched by clearnet beforehand",
    "asked": "by Tor, the relay asks another onion peer",
}

Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Answerer: TypeAlias = Callable[[int], Awaitable[bytes]]


async def ask(streams: Streams, size: int) -> bytes:
    """Ask for so many bytes."""
    reader, writer = streams
    writer.write(size.to_bytes(4, "big"))
    return await reader.readexactly(size)


@asynccontextmanager
async def answering(answer: Answerer) -> AsyncIterator[int]:
    """Listen; yields the port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.read(4):
                writer.write(await answer(int.from_bytes(head, "big")))
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def by_tor(visitor: ClientHandle, onion: OnionAddress) -> Streams:
    """Connect to a service on a circuit of its own."""
    sock = await FACTORY.open(visitor.socks)
    credentials = Credentials(secrets.token_hex(8).encode(), b"benchmark")
    await exchange(sock, SocksHandshake(Endpoint(Network.ONION, onion, PORT), credentials), DEADLINE)
    return await asyncio.open_connection(sock=sock)


async def times(streams: Streams, size: int, rounds: int) -> float:
    """Median seconds of an answer."""
    await ask(streams, size)
    found = []
    for _ in range(rounds):
        began = perf_counter()
        await ask(streams, size)
        found.append(perf_counter() - began)
    return median(found)


async def measure(rounds: int) -> dict[str, dict[str, float]]:
    """Seconds by way, then by what is asked for."""
    async with AsyncExitStack() as stack:
        network = PrivateTor(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pr-"))))
        await network.start()
        stack.push_async_callback(network.stop)
        names = ("peer", "relay", "other")
        peer, relay, other = [await network.add_client(name) for name in names]

        async def hold(size: int) -> bytes:
            return bytes(size)

        async def pass_on(size: int) -> bytes:
            return await ask(upstream, size)

        held_port = await stack.enter_async_context(answering(hold))
        asked_port = await stack.enter_async_context(answering(pass_on))
        keys = [OnionKey.generate(secrets.token_bytes) for _ in range(3)]
        for client, key, port in zip(
            (other, relay, relay), keys, (held_port, held_port, asked_port), strict=True
        ):
            await stack.enter_async_context(service(client, key, f"127.0.0.1:{port}"))
        upstream = await by_tor(relay, keys[0].address)
        ways = {
            "direct": await asyncio.open_connection("127.0.0.1", held_port),
            "held": await by_tor(peer, keys[1].address),
            "asked": await by_tor(peer, keys[2].address),
        }
        result = {
            way: {name: await times(streams, size, rounds) for name, size in SIZES.items()}
            for way, streams in ways.items()
        }
        for _, writer in (upstream, *ways.values()):
            writer.transport.abort()
        return result


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adaptive", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, metavar="N")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    configure(LogOptions())
    result = asyncio.run(measure(options.rounds))
    if options.json:
        print(json.dumps(result, indent=1))
        return 0
    print(f"{'median of an answer, ms':60}" + "".join(f"{name:>15}" for name in SIZES))
    for way, words in WAYS.items():
        print(f"{words:60}" + "".join(f"{result[way][name] * 1000:15.1f}" for name in SIZES))
    for slow, quick in (("asked", "held"), ("held", "direct")):
        ratios = (result[slow][name] / result[quick][name] for name in SIZES)
        print(f"{f'{slow} / {quick}':60}" + "".join(f"{each:15.1f}" for each in ratios))
    return 0


if __name__ == "__main__":
    sys.exit(main())
