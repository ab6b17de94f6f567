"""Eight only-onion relays in a line find one another by discovery alone, and no datagram is sent.

Each knows only the next, as a bootnode; there are no static nodes and no DHT. Once the first has entered by
its link, the link is cut.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from relay.localnet.client import ClientHandle
from relay.localnet.network import PrivateTor
from relay.primitives.address import TcpAddress
from relay.tor.control import TorControl
from tests.aids.capture import Capture, capture, needs_capture
from tests.aids.kernel import sockets_of
from tests.aids.lab import OnionRelay, listening, start_all
from tests.aids.netns import own_network
from tests.aids.tor_lab import Place, RealTor, scripted_lab, tor_lab

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

RELAYS = 8
FOUND_SECONDS = 60.0  # from the last onion service that is up to the last connection


async def line_of(place: Place) -> list[OnionRelay]:
    relays = [await place.relay("--only-onion", "--discovery", "onion") for _ in range(RELAYS)]
    for each, following in pairwise(relays):
        each.arguments += ["--bootnodes", following.onion_enode]
    await start_all(*relays, deadline=90.0)
    return relays


async def all_joined(relays: list[OnionRelay], deadline: float) -> None:
    async with asyncio.TaskGroup() as waits:
        for relay in relays:
            others = [each for each in relays if each is not relay]
            waits.create_task(relay.joined(*others, deadline=deadline))


async def passes_to_all(place: Place, relays: list[OnionRelay]) -> None:
    """A transaction handed to the first arrives at each other one, and one handed to the last, too."""
    async with AsyncExitStack() as stack:
        ears = [await stack.enter_async_context(listening(relay)) for relay in relays]
        for source in (0, RELAYS - 1):
            sent = place.chain.transfers(5)
            await relays[source].submit(sent)
            for ear in ears:
                await ear.until_heard(sent)


async def test_a_line_becomes_a_mesh_on_scripted_proxies() -> None:
    async with scripted_lab() as place:
        relays = await line_of(place)
        await all_joined(relays, FOUND_SECONDS)
        await passes_to_all(place, relays)
        for relay in relays:
            assert await relay.metric("pyrelay_candidates_taken_total", source="onion") > 0 or not (
                await relay.networks()
            ).get(("onion", "outbound"))


@asynccontextmanager
async def private_network(folder: Path) -> AsyncIterator[PrivateTor]:
    network = PrivateTor(folder)
    try:
        await network.start()
        yield network
    finally:
        await network.stop()


async def cut_first_link(place: Place, first: OnionRelay) -> int:
    """Close every stream that the first relay has opened; they lead to the second. Returns how many."""
    assert isinstance(place.proxies, RealTor)
    closed = 0
    async with TorControl.connect(place.proxies.client(first).open_control) as control:
        for line in (await control.get_info("stream-status")).splitlines():
            await control.command("CLOSESTREAM", line.split()[0], "1")
            closed += 1
    return closed


@needs_capture
@pytest.mark.tor
async def test_a_line_becomes_a_mesh_on_real_tor_without_one_datagram(tmp_path: Path) -> None:
    with own_network():
        async with private_network(tmp_path) as network, tor_lab(network, RELAYS) as place:
            with capture() as seen:
                relays = await line_of(place)
                began = time.monotonic()
                await relays[0].until_metric("pyrelay_discovery_live", lambda nodes: nodes >= 1, 60)
                assert await cut_first_link(place, relays[0]) >= 1
                await all_joined(relays, FOUND_SECONDS - (time.monotonic() - began))
                await passes_to_all(place, relays)
                for relay in relays:
                    has_tcp_with_tor_only(relay, place.proxies.client(relay))
                assert seen.datagrams() == []
                assert lookup_is_seen(seen)


def has_tcp_with_tor_only(relay: OnionRelay, tor: ClientHandle) -> None:
    """Its sockets as the kernel shows them; discovery opens and closes streams all the while."""
    found = sockets_of(relay.pid)
    assert not found.others  # no UDP, nothing raw
    assert isinstance(tor.socks, TcpAddress)
    assert isinstance(tor.control, TcpAddress)
    to_tor = {("127.0.0.1", tor.socks.port), ("127.0.0.1", tor.control.port)}
    for each in found.connections:
        assert each.remote in to_tor or each.local in found.listeners, each


def lookup_is_seen(seen: Capture) -> bool:
    """The control: a question to a name server would have been noticed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"a question", ("127.0.0.1", 53))
    return [each.to for each in seen.datagrams()] == [("127.0.0.1", 53)]
