"""The provider DHT on real Tor: the seed's session, `pyrelay dht` with and without a daemon, dead holders."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from relay.discovery.peer_text import parse_peer, peer_text
from relay.localnet.client import ClientHandle
from relay.localnet.network import PrivateTor
from relay.primitives.address import TcpAddress
from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.onion import OnionKey
from relay.protocols.dht import DhtOptions, Key
from relay.protocols.discv5.distance import xor_distance
from relay.tor.onion_service import OnionService, OnionServiceOptions
from relay.tor.status import StatusBoard
from tests.aids.daemon import ROOT
from tests.aids.lab import OnionRelay, start_all, through
from tests.aids.onion_dht import DhtPeer, dht_peers, searcher, ways_through
from tests.aids.tor_clients import tor_clients
from tests.aids.tor_lab import tor_lab
from tests.aids.until import until

pytestmark = [pytest.mark.tor, pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

COMMAND = [sys.executable, "-m", "relay.cli.main"]
LOCALNET_SECONDS = 150.0  # a quiet machine with two cores takes 25
MEET_SECONDS = 60.0
NODES = 24
SERVICES = 6
DIALS = 30


def environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYRELAY_")}
    return kept | {"XDG_DATA_HOME": str(folder / "xdg")}


async def dht(folder: Path, *words: object) -> tuple[int, str, str]:
    return await command(folder, "dht", *words)


async def command(folder: Path, *words: object, seconds: float = 90.0) -> tuple[int, str, str]:
    """Run the command to its end: exit code, standard output, standard error."""
    async with started(folder, *words) as child, asyncio.timeout(seconds):
        out, err = await child.communicate()
    assert child.returncode is not None
    return child.returncode, out.decode(), err.decode()


@asynccontextmanager
async def started(folder: Path, *words: object) -> AsyncIterator[asyncio.subprocess.Process]:
    child = await asyncio.create_subprocess_exec(
        *COMMAND, *map(str, words),
        cwd=ROOT, env=environment(folder), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def found(folder: Path, *words: object) -> dict[str, Any]:
    code, out, err = await dht(folder, "find", *words, "--json")
    assert code == 0, err
    told: dict[str, Any] = json.loads(out)
    return told


def text_of(relay: OnionRelay) -> str:
    return peer_text(relay.key.public_key, Endpoint(Network.ONION, relay.onion_key.address, 30303))


async def test_session_of_the_seed_is_reproduced(tmp_path: Path) -> None:
    code, out, err = await command(
        tmp_path, "localnet", "--dht", 5, "--once", "--json", seconds=LOCALNET_SECONDS
    )
    assert code == 0, err
    told = json.loads(out)
    assert set(told) == {"peers", "providers_found", "find_seconds"}
    assert told["peers"] == 5
    created = [line.split()[-1] for line in err.splitlines() if "created peer #" in line]
    assert len(created) == 5
    assert set(told["providers_found"]) == {created[0], created[-1]}
    assert 0 < told["find_seconds"] < 60


async def test_daemons_and_commands_of_their_own_provide_and_find(
    private_tor: PrivateTor, tmp_path: Path
) -> None:
    (own,) = (await tor_clients(private_tor, 3))[2:]
    flags = ["--only-onion", "--tor-proxy", str(own.socks)]
    async with tor_lab(private_tor, 2) as place:
        first, second = [await place.relay("--only-onion", "--discovery", "onion,dht") for _ in range(2)]
        second.arguments += ["--bootnodes", first.onion_enode]
        await start_all(first, second)

        code, _, err = await dht(tmp_path, "provide", "one", "two", "--datadir", second.directory)
        assert code == 0, err
        assert err.count("provided: ") == 2

        # By the daemon, by a node of the command's own, and by it entering through what was found.
        by_daemon = await found(tmp_path, "one", "--ipcpath", first.ipc_path)
        alone = await found(tmp_path, "one", "--peer", text_of(first), *flags)
        again = await found(tmp_path, "two", "--peer", alone["providers"][0]["peer"], *flags)
        for told in (by_daemon, alone, again):
            assert [each["id"] for each in told["providers"]] == [second.key.node_id.hex()]
            assert parse_peer(told["providers"][0]["enr"]).onion == parse_peer(second.onion_enode).onion
        # A node id that the daemon knows stands for its key there, and nowhere else.
        by_id = f"{second.onion}:30303/{second.key.node_id.hex()}"
        assert (await found(tmp_path, "one", "--ipcpath", first.ipc_path, "--peer", by_id))["providers"]
        code, out, err = await dht(tmp_path, "find", "one", "--peer", by_id, *flags)
        assert (code, out) == (2, "")
        assert "only the hash of a public key" in err

        for way in (["--ipcpath", first.ipc_path], ["--peer", text_of(first), *flags]):
            code, out, err = await dht(tmp_path, "find", "nobody has this", *way)
            assert (code, out) == (1, "")
            assert "nobody provides 'nobody has this'" in err

        code, _, err = await dht(tmp_path, "provide", "--stop", "one", "--datadir", second.directory)
        assert code == 0, err
        assert [each["stored"] for each in await second.rpc("dht_providing")] == [1]

        async with started(
            tmp_path, "dht", "provide", "three", "--peer", text_of(first), *through(own), "--only-onion"
        ) as child:
            said = await lines_until(child, "provided: ")
            assert any(line.startswith("no data folder") for line in said)
            own_text = next(line for line in said if line.startswith("this node is ")).split()[3].rstrip(";")
            told = await found(tmp_path, "three", "--ipcpath", second.ipc_path)
            assert [each["peer"] for each in told["providers"]] == [own_text]
            child.send_signal(signal.SIGINT)
            assert await child.wait() == 0
        assert not (tmp_path / "xdg").exists()


async def lines_until(child: asyncio.subprocess.Process, beginning: str, seconds: float = 60.0) -> list[str]:
    """What a command says on standard error, up to a line that begins so."""
    assert child.stderr is not None
    said: list[str] = []
    async with asyncio.timeout(seconds):
        while not said or not said[-1].startswith(beginning):
            line = await child.stderr.readline()
            assert line, said
            said.append(line.decode().rstrip())
    return said


async def test_search_of_two_hops_outlives_two_of_three_holders(private_tor: PrivateTor) -> None:
    clients = await tor_clients(private_tor, 4)
    async with dht_peers(clients, NODES, DhtOptions(replication=3)) as peers:
        await until(
            lambda: min(each.known for each in peers) >= 8,
            lambda: f"all know eight others: {sorted(each.known for each in peers)}",
            MEET_SECONDS,
        )
        key = Key(secrets.token_bytes(32))
        by_distance = sorted(peers, key=lambda each: xor_distance(each.key.node_id, key))
        provider = by_distance[NODES // 2]
        provided = await provider.providers.provide(key)
        assert (provided.stored, provided.refused) == (3, ())

        holders = [each for each in peers if each.keeps(key)]
        assert len(holders) == 3
        asked = by_distance[-1]
        assert asked is not provider
        assert not asked.keeps(key)
        for each in sorted(holders, key=lambda each: xor_distance(each.key.node_id, key))[:2]:
            await each.die()
            peers.remove(each)
        await finds(asked, provider, key, clients)


async def finds(asked: DhtPeer, provider: DhtPeer, key: Key, clients: list[Any]) -> None:
    async with searcher(clients[0]) as onion:
        assert onion.providers is not None
        async with asyncio.timeout(60.0), onion.providers.find(key, onion.chosen([asked.node])) as finding:
            seen = [each async for each in finding.with_hops()]
    assert [each.record.node_id for each in seen] == [provider.key.node_id]
    assert seen[0].hops >= 2
    assert finding.done is not None
    assert finding.done.asked >= 2


class Echo(asyncio.Protocol):
    """Says which service this is, and what it was told."""

    def __init__(self, name: bytes) -> None:
        self._name = name

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(self._name + b" heard " + data)


class Caller(asyncio.Protocol):
    def __init__(self) -> None:
        self.heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        if not self.heard.done():
            self.heard.set_result(data)


async def test_thirty_dials_of_one_millisecond_through_one_socks_port_end_where_they_should(
    private_tor: PrivateTor,
) -> None:
    asker, *hosts = await tor_clients(private_tor, 3)
    dialer = ways_through(asker.socks).socks
    assert dialer is not None
    async with AsyncExitStack() as stack:
        onions = [
            await stack.enter_async_context(echo_service(hosts[number % len(hosts)], b"service %d" % number))
            for number in range(SERVICES)
        ]
        calls: list[asyncio.Task[bytes]] = []
        begun, begun_before = 0, []

        async def call(number: int) -> bytes:
            nonlocal begun
            begun += 1
            transport, caller = await dialer.dial(onions[number % SERVICES], Caller)
            begun_before.append(begun)
            try:
                transport.write(b"%d" % number)
                return await caller.heard
            finally:
                transport.abort()

        async with asyncio.timeout(60.0), asyncio.TaskGroup() as tasks:
            calls += [tasks.create_task(call(number)) for number in range(DIALS)]
    assert begun_before == [DIALS] * DIALS  # all were begun in one turn of the loop, before any was there
    assert [each.result() for each in calls] == [
        b"service %d heard %d" % (number % SERVICES, number) for number in range(DIALS)
    ]


@asynccontextmanager
async def echo_service(host: ClientHandle, name: bytes) -> AsyncIterator[Endpoint]:
    """An onion service of its own, there when this begins."""
    server = await asyncio.get_running_loop().create_server(lambda: Echo(name), "127.0.0.1", 0)
    target = TcpAddress(*server.sockets[0].getsockname()[:2])
    key, up = OnionKey.generate(secrets.token_bytes), asyncio.Event()
    service = OnionService(
        OnionServiceOptions(key, 30303, str(target)),
        host.open_control,
        StatusBoard(),
        on_up=lambda _: up.set(),
    )
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(service.run())
        try:
            async with asyncio.timeout(60.0):
                await up.wait()
            yield Endpoint(Network.ONION, key.address, 30303)
        finally:
            service.stop()
            server.close()
