"""Two only-onion relays without any network: no interface, no sockets but unix ones, real Tor outside."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.localnet.client import ClientHandle
from relay.localnet.network import PrivateTor
from tests.aids.http_client import exchange, request
from tests.aids.kernel import kind_of, needs_proc, sockets_of
from tests.aids.lab import Chain, OnionRelay, start_all
from tests.aids.netns import no_network
from tests.aids.unix_only import SUPPORTED

pytestmark = [
    pytest.mark.tor,
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="session"),
    needs_proc,
    pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="a network of one's own needs root"),
    pytest.mark.skipif(not SUPPORTED, reason="no seccomp filter for this machine"),
]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Whose path is short: sockets are below it."""
    with tempfile.TemporaryDirectory(prefix="pr-") as name:
        yield Path(name)


class CutOff(OnionRelay):
    """A relay that has nothing but files and unix sockets."""

    def __init__(self, folder: Path, chain: Chain, client: Path) -> None:
        super().__init__(
            folder, chain.path, "--only-onion",
            "--tor-proxy", f"unix:{client}/socks", "--tor-control", f"unix:{client}/control",
            "--onion-listen", f"unix:{folder}/onion", "--metrics.addr", f"unix:{folder}/metrics",
            "--http", "--http.addr", f"unix:{folder}/http", "--ws", "--ws.addr", f"unix:{folder}/http",
        )  # fmt: skip
        self.module = "tests.aids.unix_only"

    def launch(self) -> None:
        with no_network():
            super().launch()

    @property
    def metrics_port(self) -> int | None:
        return 0

    async def page(self, path: str, *, accept: str = "text/plain") -> tuple[int, bytes]:
        reply = await exchange(
            self.directory / "metrics", request(path=path, headers={"Accept": accept, "Connection": "close"})
        )
        return reply.status, reply.body

    async def post(self, method: str) -> Any:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": []})
        headers = {"Content-Type": "application/json", "Connection": "close"}
        reply = await exchange(self.directory / "http", request("POST", body=body, headers=headers))
        return json.loads(reply.body)["result"]


async def unix_client(network: PrivateTor, folder: Path, name: str) -> tuple[ClientHandle, Path]:
    """A Tor client whose ports are unix sockets, too, as Debian's are."""
    sockets = folder / name
    sockets.mkdir(mode=0o700)
    lines = [
        f"SocksPort unix:{sockets}/socks IsolateSOCKSAuth ExtendedErrors",
        f"ControlPort unix:{sockets}/control",
    ]
    return await network.add_client(name, extra=lines), sockets


async def test_two_relays_without_a_network_exchange_a_transaction(
    private_tor: PrivateTor, folder: Path
) -> None:
    chain = Chain(folder)
    async with asyncio.TaskGroup() as starts:
        made = [starts.create_task(unix_client(private_tor, folder, f"unix{number}")) for number in (1, 2)]
    first, second = (CutOff(folder / f"relay{n}", chain, each.result()[1]) for n, each in enumerate(made))
    try:
        first.write_static_nodes([second.onion_enode])
        await start_all(first, second)
        await first.joined(second)
        await second.joined(first)
        for giver, taker in ((first, second), (second, first)):
            held = await taker.metric("pyrelay_pool_transactions")
            await giver.submit(chain.transfers(1))
            await taker.until_metric("pyrelay_pool_transactions", held + 1, 30)
        for relay in (first, second):
            found = sockets_of(relay.pid)
            assert found.tcp == ()
            # A unix socket is listed where its connection was made, which is out here.
            kinds = {kind_of(relay.pid, inode) for inode in found.others}
            assert kinds <= {(socket.AF_UNIX, socket.SOCK_STREAM), None}
            assert Path(f"/proc/{relay.pid}/net/tcp").read_text().count("\n") == 1  # the heading
            assert await relay.post("net_peerCount") == "0x1"
            assert int(await relay.metric("pyrelay_tripwire_breaches_total")) == 0
        for relay in (first, second):
            assert await relay.stop() == 0
            left = {each.name for each in relay.directory.iterdir() if each.is_socket()}
            assert left == set()
    finally:
        await first.stop()
        await second.stop()
        for each in made:
            client = each.result()[0]
            await client.stop()
            del private_tor.clients[client.name]
            shutil.rmtree(client.process.directory, ignore_errors=True)
