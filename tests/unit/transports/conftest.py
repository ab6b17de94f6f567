from __future__ import annotations

import os
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest

from relay.primitives.endpoint import Endpoint
from relay.primitives.keys import PublicKey
from relay.primitives.node import Node
from relay.primitives.onion import OnionKey
from tests.aids.socks_server import SocksServer

ONION = str(OnionKey.from_seed(bytes(32)).address)
OTHER_ONION = str(OnionKey.from_seed(bytes(31) + b"\x01").address)
PUBLIC_KEY = PublicKey(bytes(range(64)))


def node(*hosts: tuple[str, int]) -> Node:
    return Node(PUBLIC_KEY, tuple(Endpoint.parse(host, port) for host, port in hosts))


def counting_rand() -> object:
    """Random bytes that are none: 0, 1, 2..."""
    calls = iter(range(1 << 16))
    return lambda count: next(calls).to_bytes(count, "big")


@contextmanager
def no_descriptors() -> Iterator[None]:
    """In the block the process can open nothing more."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.fixture
async def proxy() -> AsyncIterator[SocksServer]:
    async with SocksServer() as server:
        yield server
        assert not server.scripts, "a test left scripts unused"
