"""Upstreams over scripted nodes, on a clock that tests may move."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from relay.rpc.upstream.options import UpstreamOptions
from relay.rpc.upstream.upstreams import Upstreams
from relay.rpc.upstream.urls import parse_upstream
from relay.transports.host_dialer import HostDialer
from relay.transports.sockets import SocketFactory, SocketRules
from tests.aids.upstream import CHAIN


class MovedClock:
    """The loop's clock, moved forward by tests."""

    def __init__(self) -> None:
        self.moved = 0.0

    def __call__(self) -> float:
        return asyncio.get_running_loop().time() + self.moved


Make = Callable[..., Upstreams]


@asynccontextmanager
async def upstreams_of(
    *urls: str,
    clock: Callable[[], float] | None = None,
    cache_bytes: int = 0,
    dialer: Any = None,
    tls: Any = None,
    **options: Any,
) -> AsyncIterator[Upstreams]:
    """Upstreams of these URLs; closed at the end, with all their tasks."""
    sockets = SocketFactory(SocketRules.anywhere())
    extra = {} if tls is None else {"tls": tls}
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(asyncio.timeout(30))
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        made = Upstreams(
            [parse_upstream(url) for url in urls],
            dialer or HostDialer(sockets, None),
            sockets,
            tasks,
            clock=clock or asyncio.get_running_loop().time,
            rand=bytes,
            options=UpstreamOptions(**{"chain_id": CHAIN, **options}),
            cache_bytes=cache_bytes,
            **extra,
        )
        try:
            yield made
        finally:
            made.close()


@pytest.fixture
def moved() -> MovedClock:
    return MovedClock()
