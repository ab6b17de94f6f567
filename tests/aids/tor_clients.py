"""A private Tor network for tests, and its clients that they share: starting one takes seconds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from relay.localnet.client import ClientHandle
from relay.localnet.network import PrivateTor
from relay.primitives.errors import UsageError
from relay.tor.process import find_tor

__all__ = ["private_network", "tor_clients"]


@asynccontextmanager
async def private_network(folder: Path) -> AsyncIterator[PrivateTor]:
    """Three authorities and four relays, two of which are exits to loopback; no tor here skips the test."""
    try:
        find_tor()
    except UsageError as error:
        pytest.skip(str(error))
    network = PrivateTor(folder, exits=True)
    try:
        await network.start()
        yield network
    finally:
        await network.stop()


async def tor_clients(network: PrivateTor, count: int) -> list[ClientHandle]:
    """The first of the shared clients, running and bootstrapped; a test may kill them."""
    names = [f"shared{number}" for number in range(1, count + 1)]
    async with asyncio.TaskGroup() as starts:
        tasks = [starts.create_task(_client(network, name)) for name in names]
    return [task.result() for task in tasks]


async def _client(network: PrivateTor, name: str) -> ClientHandle:
    client = network.clients.get(name)
    if client is None:
        return await network.add_client(name)
    if not client.process.running:
        await client.restart()
    return client
