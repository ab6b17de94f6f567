"""Only-i2p relays, each behind walls of its own, on a private network of i2pd routers behind theirs.

Behind a relay's walls there is its own loopback with the router's SAM bridge, and routes to nowhere: what it
sends anywhere else is seen, and lost.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from relay.primitives.enr import NodeRecord
from relay.primitives.node import Node
from tests.aids.i2pd import FOUND, SAM_PORT, PrivateI2P, bridged
from tests.aids.kernel import LISTEN, needs_proc, sockets_of
from tests.aids.lab import Chain, start_all
from tests.aids.until import until
from tests.aids.walled import Walled, needs_walls
from tests.aids.walled_relay import METRICS, WalledRelay

pytestmark = [
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="module"),
    needs_proc,
    needs_walls,
    pytest.mark.skipif(FOUND is None, reason="i2pd is not installed: tools/apt-install.sh i2pd"),
]

SECONDS = 120.0  # tunnels take half a minute to be built, on a machine that has time for it


class I2PRelay(WalledRelay):
    """Nothing outside I2P."""

    def __init__(
        self, folder: Path, chain: Chain, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(
            folder, chain.path, "--only-i2p", "--i2p-sam", f"127.0.0.1:{SAM_PORT}", "--i2p-hops", "0",
            "--metrics.port", str(METRICS), *arguments, environment=environment,
        )  # fmt: skip

    async def record(self) -> NodeRecord:  # type: ignore[override]
        return NodeRecord.from_text(await self.own_record())


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Whose path is short: sockets are below it."""
    with tempfile.TemporaryDirectory(prefix="pr-i2p-") as name:
        yield Path(name)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def routers(folder: Path) -> AsyncIterator[PrivateI2P]:
    with Walled() as walls:
        network = PrivateI2P(folder / "routers", walls)
        try:
            await network.start(SECONDS)
            yield network
        finally:
            network.stop()


async def test_three_relays_on_i2p_alone_exchange_transactions_and_nothing_leaves(
    routers: PrivateI2P, folder: Path
) -> None:
    chain = Chain(folder)
    async with AsyncExitStack() as stack:
        relays = [await placed(stack, routers, folder, number, chain) for number in range(3)]
        first, second, third = relays
        await start_all(*relays, deadline=SECONDS)

        for relay in relays:
            record = await relay.record()
            assert set(record.pairs) == {"eth", "i2p", "id", "secp256k1"}
            url = (await relay.rpc("admin_nodeInfo"))["enode"]
            assert url == f"enode://{relay.id}@{record.i2p}:0"
            assert Node.parse(url).i2p == Node.from_record(record).i2p
        # One is named by its URL, one by its record.
        middle = (await second.rpc("admin_nodeInfo"))["enode"]
        first.name_static_nodes(middle)
        third.name_static_nodes(await second.own_record())
        await second.joined(first, third, deadline=SECONDS)
        assert await second.networks() == {("i2p", "inbound"): 2}
        assert await first.networks() == {("i2p", "outbound"): 1}

        for giver, takers in ((first, (second, third)), (third, (second, first))):
            held = [await each.metric("pyrelay_pool_transactions") for each in takers]
            await giver.submit(chain.transfers(1))
            for each, before in zip(takers, held, strict=True):
                await each.until_metric("pyrelay_pool_transactions", before + 1, SECONDS)

        await survives_its_router(routers, first, second)
        for relay in relays:
            keeps_to_the_bridge(relay)
            assert int(await relay.metric("pyrelay_tripwire_breaches_total")) == 0
            assert [line for line in relay.log_path.read_text().splitlines() if ".b32.i2p" in line] == []
            key = relay.directory / "i2p_key"
            assert (key.stat().st_mode & 0o777, key.stat().st_size) == (0o600, 679)
        for relay in relays:
            address = (await relay.record()).i2p
            assert await relay.stop() == 0
            if relay is third:
                await relay.start(SECONDS)
                assert (await relay.record()).i2p == address


async def placed(
    stack: AsyncExitStack, routers: PrivateI2P, folder: Path, number: int, chain: Chain, *arguments: str
) -> I2PRelay:
    """A relay behind walls with a router of its own; it ends with the stack."""
    relay = I2PRelay(Path(tempfile.mkdtemp(prefix="r", dir=folder)), chain, *arguments)
    relay.walls = stack.enter_context(Walled())
    await stack.enter_async_context(bridged(routers, number, relay.walls))
    stack.push_async_callback(relay.stop)
    return relay


async def survives_its_router(routers: PrivateI2P, first: I2PRelay, second: I2PRelay) -> None:
    """The routers end and begin anew: everybody is told, and is reached under the same address again."""
    routers.stop()
    await first.until_metric("p2p_peers", 0, SECONDS)

    async def is_unready() -> bool:
        return (await first.page("/readyz"))[0] != 200

    await until(is_unready, "the relay says that it is not ready", SECONDS)
    routers.restart()
    await first.joined(second, deadline=2 * SECONDS)


def keeps_to_the_bridge(relay: I2PRelay) -> None:
    """No packet but with the bridge and the metrics page, no socket of another kind."""
    strangers = relay.walls.strangers({SAM_PORT, METRICS})
    assert strangers == Counter(), strangers
    assert relay.walls.to_ports({SAM_PORT}) > 100
    found = sockets_of(relay.pid)
    for each in found.tcp:
        ends = {each.local[1], each.remote[1]}
        assert (each.state == LISTEN and each.local == ("127.0.0.1", METRICS)) or ends & {SAM_PORT, METRICS}


async def test_relays_find_one_another_by_discovery_over_i2p(routers: PrivateI2P, folder: Path) -> None:
    chain = Chain(folder)
    async with AsyncExitStack() as stack:
        hub = await placed(stack, routers, folder, 0, chain, "--discovery", "i2p")
        await hub.start(SECONDS)
        entry = ("--discovery", "i2p", "--bootnodes", (await hub.rpc("admin_nodeInfo"))["enode"])
        others = [await placed(stack, routers, folder, number, chain, *entry) for number in (1, 2)]
        await start_all(*others, deadline=SECONDS)
        one, two = others
        # Nobody has told them of each other but the hub.
        await one.joined(hub, two, deadline=2 * SECONDS)
        await two.joined(hub, one, deadline=2 * SECONDS)
        for relay in (hub, one, two):
            live = await relay.metric("pyrelay_discovery_live", protocol="i2p")
            assert live >= 1
            keeps_to_the_bridge(relay)


@asynccontextmanager
async def lonely(folder: Path, **environment: str) -> AsyncIterator[I2PRelay]:
    """A relay behind walls where a web server stands in the bridge's place; launched, no more."""
    relay = I2PRelay(Path(tempfile.mkdtemp(prefix="l", dir=folder)), Chain(folder), environment=environment)
    with Walled() as walls:
        relay.walls = walls
        server = await asyncio.start_server(_web_server, sock=walls.listen(SAM_PORT))
        try:
            relay.launch()
            yield relay
        finally:
            server.close()
            await relay.stop()


async def test_stranger_in_place_of_the_bridge_is_named_and_not_ready(folder: Path) -> None:
    async with lonely(folder) as relay:
        told = await relay.until_event("waiting for the i2p router", SECONDS)
        assert "answers in HTTP" in told["cause"]
        assert (await relay.page("/readyz"))[0] == 503
        assert relay.walls.strangers({SAM_PORT, METRICS}) == Counter()
        assert await relay.stop() == 0


@pytest.mark.parametrize("leak", ["udp", "dns", "tcp", "library"])
async def test_leak_made_on_purpose_is_seen_at_the_walls(folder: Path, leak: str) -> None:
    async with lonely(folder, LEAK=leak, TRIPWIRE="off") as relay:
        await relay.until_event("waiting for the i2p router", SECONDS)
        assert relay.walls.strangers({SAM_PORT, METRICS}) != Counter()


@pytest.mark.parametrize("leak", ["udp", "dns", "tcp", "library"])
async def test_leak_made_on_purpose_ends_the_daemon_before_a_packet_leaves(folder: Path, leak: str) -> None:
    async with lonely(folder, LEAK=leak) as relay:
        assert await relay.wait_exit(SECONDS) == 1
        assert relay.walls.strangers({SAM_PORT, METRICS}) == Counter()


async def _web_server(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await writer.drain()
    writer.close()
