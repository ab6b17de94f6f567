"""Two clusters: two API servers that know nothing of each other, and one Tor network between their relays.

Overlay federated, its three ways one by one. Each cluster has a Secret of its own; their pods have the same
names.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from relay.localnet.client import ClientHandle
from relay.primitives.errors import LocalError
from relay.tor.control import TorControl
from tests.aids.daemon import ROOT
from tests.aids.dns_server import DnsServerAid
from tests.aids.kube_apiserver import ApiServer, api_server
from tests.aids.kube_pods import install
from tests.aids.kube_relays import Cluster, PodRelay
from tests.aids.lab import Chain, free_port, listening, start_all
from tests.aids.tor_clients import private_network, tor_clients
from tests.aids.until import until

pytestmark = [pytest.mark.tor, pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

LIST, RESOLVER = "relays.example", "198.51.100.53"
SECONDS = 240.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def clients(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[list[ClientHandle]]:
    """A Tor for each cluster, of one private network with exits."""
    async with private_network(tmp_path_factory.mktemp("private-tor")) as network:
        yield await tor_clients(network, 2)


@pytest.fixture(scope="module")
def other_server(installed: ApiServer, tmp_path_factory: pytest.TempPathFactory):
    with api_server(installed.binaries, tmp_path_factory.mktemp("other-kube")) as found:
        install(found, Cluster.namespace)
        yield found


@dataclass
class World:
    """The clusters and their chain."""

    first: Cluster
    second: Cluster
    chain: Chain

    async def met(self) -> None:
        """Wait until each relay of the second cluster has a peer of the first."""
        theirs = {each.id for each in self.first.relays}
        for relay in self.second.relays:

            async def has_one(relay: PodRelay = relay) -> bool:
                relay.check()
                try:
                    return any(each["enode"][8:136] in theirs for each in await relay.peers())
                except LocalError:
                    return False

            await until(has_one, lambda r=relay: f"{r.pod} meets\n{r.said()}\n{r.tail()}", SECONDS, 0.3)

    async def carries(self) -> None:
        """What is handed in in the first cluster comes to every relay of the second."""
        made = self.chain.transfers(1)
        async with AsyncExitStack() as stack:
            ears = [await stack.enter_async_context(listening(each)) for each in self.second.relays]
            await self.first.relays[-1].submit(made)
            for ear in ears:
                await ear.until_heard(made, SECONDS)


@pytest_asyncio.fixture(loop_scope="module")
async def world(
    installed: ApiServer, other_server: ApiServer, clients: list[ClientHandle]
) -> AsyncIterator[World]:
    folder = Path(tempfile.mkdtemp(prefix="pr-"))  # short: sockets are below it
    chain = Chain(folder)
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        names = zip(("one", "two"), (installed, other_server), clients, strict=True)
        first, second = (Cluster(name, server, folder, chain.path, tor, stack) for name, server, tor in names)
        first.empty()
        second.empty()
        yield World(first, second, chain)


async def test_by_the_onion_dht_from_one_relay_of_the_other_cluster(world: World) -> None:
    await world.first.scale(2, "--discovery", "onion,dht")
    entry = world.first.book()["gethrelay-only-onion-0"]["enode"]
    await world.second.scale(2, "--discovery", "onion,dht", "--bootnodes", entry)
    await world.met()
    await world.carries()
    # Not by the bootnode's own word alone: each provides the chain's key, and the table spans both clusters.
    for relay in (*world.first.relays, *world.second.relays):
        await relay.until_metric("pyrelay_dht", lambda keys: keys >= 1, SECONDS, what="providing")
    provider, asker = world.first.relays[1], world.second.relays[1]
    await pyrelay("dht", "provide", "one of the first cluster", "--datadir", str(provider.directory))
    out = await pyrelay("dht", "find", "one of the first cluster", "--ipcpath", str(asker.ipc_path), "--json")
    assert [each["id"] for each in json.loads(out)["providers"]] == [provider.key.node_id.hex()]


async def pyrelay(*words: str) -> str:
    """Run a command to its end, and return what it prints."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "relay.cli.main", *words, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(SECONDS):
        out, _ = await child.communicate()
    assert child.returncode == 0
    return out.decode()


async def brought(relay: PodRelay, source: str) -> float:
    """How many nodes a source has brought: dialed, or waiting."""
    kinds = ("pyrelay_candidates", "pyrelay_candidates_taken_total")
    return sum([await relay.metric(kind, source=source) for kind in kinds])


async def test_by_a_signed_list_in_the_dns_that_both_use(world: World, tmp_path: Path) -> None:
    """The list is made of what both address books hold, and asked for through Tor's exits."""
    await world.first.scale(2)
    await world.second.scale(2)
    records = [*await world.first.records(), *await world.second.records()]
    key = tmp_path / "list-key"
    key.write_text("11" * 32)
    zone = tmp_path / "zone"
    sign = ("dns", "sign", "--key", str(key), "--domain", LIST, "--zone", str(zone), "--json", *records)
    url = json.loads(await pyrelay(*sign))["url"]
    async with DnsServerAid.of_zone(zone.read_text(), LIST) as dns:
        for cluster in (world.first, world.second):
            async with TorControl.connect(cluster.tor.open_control) as control:
                await control.command("MAPADDRESS", f"{RESOLVER}=127.0.0.1")
            for relay in cluster.relays:  # as the StatefulSet does after a change of federation.env
                assert await relay.stop() == 0
                relay.arguments += [
                    "--discovery", "dns", "--dns-lists", url, "--dns-resolver", f"tcp://{RESOLVER}:{dns.port}",
                ]  # fmt: skip
        await start_all(*world.first.relays, *world.second.relays, deadline=SECONDS)
        await world.met()
        assert {how for how, _ in dns.asked} == {"tcp"}
    await world.carries()
    assert sum([await brought(each, "dns") for each in world.second.relays]) >= 1


@asynccontextmanager
async def join_onion(tor: ClientHandle, folder: Path, port: int) -> AsyncIterator[str]:
    """What the overlay puts on Tor's command line: an onion that leads to --node-info."""
    async with TorControl.connect(tor.open_control) as control:
        service = (f"HiddenServiceDir={folder}", f'HiddenServicePort="80 127.0.0.1:{port}"')
        await control.command("SETCONF", *service)
        name = folder / "hostname"
        await until(name.exists, "Tor makes the service", SECONDS)
        try:
            yield f"http://{name.read_text().strip()}"
        finally:
            await control.command("RESETCONF", "HiddenServiceDir")


async def test_by_asking_a_relay_who_it_is_and_dialing_it(world: World, tmp_path: Path) -> None:
    """admin_nodeInfo there, admin_addPeer here: by the command, and by the sidecar's --join."""
    port = free_port()
    await world.first.scale(1, sidecar=("--node-info", f"127.0.0.1:{port}"))
    await world.first.scale(2)
    async with join_onion(world.first.tor, tmp_path / "join", port) as url:
        await world.second.scale(1)
        await world.second.scale(2, sidecar=("--join", url))
        (door, _), (asker, keeper) = world.first.relays, world.second.relays

        async def joined() -> bool:
            return await asker.join(url) == 0

        await until(joined, asker.said, SECONDS, every=2.0)
        enode = door.onion_enode.partition("?")[0]
        assert f"Adding peer: {url} -> {enode}" in asker.said()
        await world.met()
        assert enode in json.loads((keeper.directory / "static-nodes.json").read_text())
        await world.carries()
