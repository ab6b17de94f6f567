"""Three only-onion daemons on real Tor: they join, relay, hide, and come back.

The tests of this file share the three daemons, in this order; each leaves them joined with one another.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from relay.localnet.client import ClientHandle
from relay.localnet.network import PrivateTor
from relay.primitives.endpoint import Endpoint
from relay.primitives.enr import NodeRecord
from relay.primitives.errors import ProxyFailed
from relay.tor.control import TorControl
from relay.transports.sockets import SocketFactory, SocketRules
from relay.transports.socks_dialer import Isolation, SocksDialer
from tests.aids.kernel import ESTABLISHED, needs_proc, sockets_of, speaks_only_to
from tests.aids.lab import Chain, Ear, OnionRelay, listening, start_all, through
from tests.aids.tor_clients import tor_clients

pytestmark = [pytest.mark.tor, pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

STOP_SECONDS = 5.0
BACK_SECONDS = 60.0
REACH_SECONDS = 20.0
GONE = (0xF0, 0xF2, 0xF3)  # ExtendedErrors: no descriptor, or no introduction or rendezvous


@dataclass(frozen=True)
class Trio:
    """Relay N uses client N. The first dials both others, the second the third."""

    chain: Chain
    relays: list[OnionRelay]
    clients: list[ClientHandle]

    async def joined(self, deadline: float = BACK_SECONDS) -> None:
        """Each two are peers."""
        async with asyncio.TaskGroup() as waits:
            for relay in self.relays:
                others = [each for each in self.relays if each is not relay]
                waits.create_task(relay.joined(*others, deadline=deadline))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def trio(private_tor: PrivateTor) -> AsyncIterator[Trio]:
    folder = Path(tempfile.mkdtemp(prefix="pr-"))  # short: sockets are below it
    clients = await tor_clients(private_tor, 3)
    chain = Chain(folder)
    relays = [
        OnionRelay(folder / f"relay{number}", chain.path, "--only-onion", *through(client))
        for number, client in enumerate(clients, 1)
    ]
    first, second, third = relays
    try:
        await start_all(*relays)
        second.name_static_nodes(third.onion_enode)
        first.name_static_nodes(second.onion_enode, third.onion_enode)
        yield Trio(chain, relays, clients)
    finally:
        for relay in relays:
            await relay.stop()
        shutil.rmtree(folder)


async def test_three_daemons_join_both_ways(trio: Trio) -> None:
    first, second, third = trio.relays

    await trio.joined()

    assert await first.networks() == {("onion", "outbound"): 2}
    assert await second.networks() == {("onion", "outbound"): 1, ("onion", "inbound"): 1}
    assert await third.networks() == {("onion", "inbound"): 2}


async def test_static_nodes_named_by_both_sides_stay_one_connection(trio: Trio) -> None:
    for relay in trio.relays:
        relay.name_static_nodes(*(each.onion_enode for each in trio.relays if each is not relay))

    for relay in trio.relays:
        await relay.until_metric("pyrelay_static_nodes", 2, state="loaded")
        assert await relay.metric("pyrelay_static_nodes", state="connected") == 2
        assert await relay.metric("p2p_peers") == 2


async def test_a_thousand_transactions_reach_every_daemon(trio: Trio) -> None:
    transactions = trio.chain.transfers(1000)
    hashes = list(transactions)
    async with AsyncExitStack() as stack:
        ears = [await stack.enter_async_context(listening(relay)) for relay in trio.relays]
        async with asyncio.TaskGroup() as submits:
            for number, relay in enumerate(trio.relays):
                share = {each: transactions[each] for each in hashes[number::3]}
                submits.create_task(relay.submit(share))

        for ear in ears:
            await ear.until_heard(hashes)

    for ear, relay in zip(ears, trio.relays, strict=True):
        assert ear.heard == set(hashes)
        assert not ear.twice
        assert await relay.metric("pyrelay_pool_transactions") == len(hashes)
    await trio.joined()


@needs_proc
async def test_daemons_hold_no_socket_but_to_their_tor(trio: Trio) -> None:
    for relay, client in zip(trio.relays, trio.clients, strict=True):
        connections = speaks_only_to(relay, client.process.pid)

        assert len(connections) == 3  # two peers and the control connection
        for each in connections:
            delivered = each.local == relay.listener("onion")
            assert delivered or each.remote in (_pair(client.socks), _pair(client.control))


def _pair(address: object) -> tuple[str, int]:
    host, _, port = str(address).rpartition(":")
    return host, int(port)


async def test_each_peer_rides_a_circuit_of_its_own(trio: Trio) -> None:
    streams = {}
    for relay, client in zip(trio.relays, trio.clients, strict=True):
        found = await _streams(client)
        assert len(found) == (await relay.networks()).get(("onion", "outbound"), 0)
        streams[relay.name] = found

    first = streams[trio.relays[0].name]
    assert {target for _, target in first} == {f"{each.onion}:{each.onion_port}" for each in trio.relays[1:]}
    assert len({circuit for circuit, _ in first}) == 2
    for client, found in zip(trio.clients, streams.values(), strict=True):
        for circuit, _ in found:
            hops, purpose = await _circuit(client, circuit)
            assert hops >= 3
            assert purpose == "HS_CLIENT_REND"


async def _streams(client: ClientHandle) -> list[tuple[str, str]]:
    """Circuit and target of each connected stream."""
    async with TorControl.connect(client.open_control) as control:
        lines = (await control.get_info("stream-status")).splitlines()
    words = [line.split() for line in lines if line]
    return [(each[2], each[3]) for each in words if each[1] == "SUCCEEDED"]


async def _circuit(client: ClientHandle, circuit: str) -> tuple[int, str]:
    """Hops and purpose of a circuit."""
    async with TorControl.connect(client.open_control) as control:
        for line in (await control.get_info("circuit-status")).splitlines():
            words = line.split()
            if words[:2] == [circuit, "BUILT"]:
                purpose = next(each for each in words if each.startswith("PURPOSE="))
                return len(words[2].split(",")), purpose.removeprefix("PURPOSE=")
    raise AssertionError(f"no circuit {circuit}")


async def test_with_tor_stopped_nothing_arrives_and_all_comes_back_with_it(trio: Trio) -> None:
    alone, *others = trio.relays
    number_before = NodeRecord.from_text(await alone.own_record()).seq
    transactions = trio.chain.transfers(10)
    async with AsyncExitStack() as stack:
        ears = [await stack.enter_async_context(listening(relay)) for relay in others]

        await trio.clients[0].kill()
        await alone.joined(deadline=10)
        await alone.submit(transactions)
        await alone.until_dialed(2)  # it tries, and has nobody to ask

        _assert_connected_to_nothing(alone)
        assert await alone.metric("p2p_peers") == 0
        assert await alone.metric("pyrelay_onion_service_up") == 0
        assert (await alone.page("/healthz"))[0] == 200
        assert (await alone.page("/readyz"))[0] == 503
        assert NodeRecord.from_text(await alone.own_record()).onion3 is None
        assert not any(ear.heard for ear in ears)

        await trio.clients[0].restart()
        await alone.wait_ready(BACK_SECONDS)
        await trio.joined()
        await _all_heard(ears, transactions)

    record = NodeRecord.from_text(await alone.own_record())
    assert record.onion3 == alone.onion
    assert record.seq == number_before + 2  # withdrawn, and shown again
    assert (await alone.rpc("admin_nodeInfo"))["enode"] == alone.onion_enode
    assert await _reachable(trio.clients[1], alone)


async def _all_heard(ears: list[Ear], transactions: dict[str, str]) -> None:
    for ear in ears:
        await ear.until_heard(transactions)


def _assert_connected_to_nothing(relay: OnionRelay) -> None:
    if Path("/proc/self/net/tcp").exists():
        found = sockets_of(relay.pid)
        assert not found.others
        page = ("127.0.0.1", relay.metrics_port)
        assert [each for each in found.connections if each.state == ESTABLISHED and each.local != page] == []


async def test_restarted_daemon_is_the_same(trio: Trio) -> None:
    relay = trio.relays[1]
    before = await relay.rpc("admin_nodeInfo")

    assert await relay.timed_stop() < STOP_SECONDS
    await relay.start(BACK_SECONDS)
    await trio.joined()

    after = await relay.rpc("admin_nodeInfo")
    assert after["enode"] == before["enode"] == relay.onion_enode
    assert after["enr"] == before["enr"]  # nothing changed: not even the number


async def test_killed_daemon_comes_back_with_its_address(trio: Trio) -> None:
    """Tor drops the service of a controller that is gone, and gives the address to the next one."""
    relay = trio.relays[2]
    before = NodeRecord.from_text(await relay.own_record())

    relay.kill()
    await relay.start(BACK_SECONDS)
    await trio.joined()

    after = NodeRecord.from_text(await relay.own_record())
    assert after.onion3 == before.onion3 == relay.onion
    assert after.seq >= before.seq


async def test_clean_stop_withdraws_the_service(trio: Trio) -> None:
    """Last: it leaves two."""
    relay, watcher, _ = trio.relays
    assert await _reachable(trio.clients[1], relay)

    assert await relay.timed_stop() < STOP_SECONDS

    assert relay.events("stopped")
    await watcher.joined(trio.relays[2], deadline=5)  # told by Disconnect, not by a time-out
    left = [each for each in watcher.events("peer left") if relay.id.startswith(each["peer"])]
    assert [(each["why"], each["by_peer"]) for each in left[-1:]] == [("client quitting", True)]
    assert not await _reachable(trio.clients[1], relay, seconds=3)
    async with TorControl.connect(trio.clients[0].open_control) as control:
        assert relay.onion.removesuffix(".onion") not in await control.get_info("onions/current")


async def _reachable(client: ClientHandle, relay: OnionRelay, seconds: float = REACH_SECONDS) -> bool:
    """Whether a connection through a Tor client to a relay's onion service succeeds."""
    sockets = SocketFactory(SocketRules.only(client.socks))
    dialer = SocksDialer(sockets, client.socks, Isolation(secrets.token_bytes), exits=False)
    try:
        async with asyncio.timeout(seconds):
            transport, _ = await dialer.dial(Endpoint.parse(relay.onion, relay.onion_port), asyncio.Protocol)
    except ProxyFailed as error:
        if error.code not in GONE:
            raise
        return False
    except TimeoutError:  # Tor goes on trying for minutes
        return False
    transport.abort()
    return True
