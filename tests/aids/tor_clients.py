"""Tor clients of the private network that tests share: starting one takes seconds."""

from __future__ import annotations

import asyncio

from relay.localnet.client import ClientHandle
from relay.localnet.network import PrivateTor


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
