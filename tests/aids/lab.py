"""Relays on Tor: `RelayProcess` with an identity made beforehand, and what is heard and seen around it."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from relay.localnet.accounts import Transfers, make_accounts
from relay.localnet.client import ClientHandle
from relay.localnet.genesis import throwaway_genesis
from relay.localnet.ports import free_ports
from relay.primitives.enode import Enode
from relay.primitives.enr import build_record
from relay.primitives.errors import LocalError
from relay.primitives.keys import NodeKey
from relay.primitives.onion import OnionKey, parse_onion
from relay.transports.sockets import SocketFactory, SocketRules
from tests.aids.daemon import RelayProcess
from tests.aids.until import until

CHAIN_ID = 424_242
ANSWER_SECONDS = 20.0
TOR_SECONDS = 60.0  # for what Tor has a part in


def free_port() -> int:
    """A port outside of the range of outgoing connections that nothing listens on."""
    return free_ports(1, SocketFactory(SocketRules.anywhere()), secrets.token_bytes)[0]


def through(client: ClientHandle) -> list[str]:
    """Flags that lead through a Tor client."""
    return ["--tor-proxy", str(client.socks), "--tor-control", str(client.control)]


class Chain:
    """A throwaway chain: its genesis.json, and transfers that are valid on it."""

    def __init__(self, folder: Path) -> None:
        accounts = make_accounts(200, secrets.token_bytes)
        genesis = throwaway_genesis(CHAIN_ID, (each.address for each in accounts), 1_700_000_000)
        self.path = folder / "genesis.json"
        self.path.write_text(json.dumps(genesis), encoding="ascii")
        self._transfers = Transfers(accounts, CHAIN_ID)

    def transfers(self, count: int) -> dict[str, str]:
        """New signed transactions: hash to bytes, both as JSON-RPC writes them."""
        made = (self._transfers.next() for _ in range(count))
        return {"0x" + tx_hash.hex(): "0x" + raw.hex() for tx_hash, raw in made}


class OnionRelay(RelayProcess):
    """A daemon whose keys are there before it starts, so that others can know its enode.

    Attributes:
        key: of devp2p.
        onion_key: of its onion service.
        onion_port: the service's public port.
    """

    def __init__(
        self,
        directory: Path,
        network: Path | str,
        *arguments: str,
        onion_port: int = 30303,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.onion_port = onion_port
        flags = ("--network", str(network), "--onion-port", str(onion_port), *arguments)
        super().__init__(directory, *flags, clearnet=False, environment=environment)
        self.key = NodeKey.generate(secrets.token_bytes)
        self.onion_key = OnionKey.generate(secrets.token_bytes)
        _write_secret(directory / "nodekey", self.key.secret.hex().encode())
        _write_secret(directory / "onion_key", self.onion_key.to_tor_file())

    @property
    def id(self) -> str:
        """Public key, 128 hex digits, as in an enode URL."""
        return self.key.public_key.hex()

    @property
    def onion(self) -> str:
        return str(self.onion_key.address)

    @property
    def onion_enode(self) -> str:
        return self.enode_at(self.onion, self.onion_port)

    def enode_at(self, host: str, port: int) -> str:
        return Enode(self.key.public_key, host, port, 0).url

    def clearnet_enode(self, host: str, port: int) -> str:
        """The URL of its second identity, which has a key from its first start on."""
        key = NodeKey(bytes.fromhex((self.directory / "clearnet" / "nodekey").read_text()))
        return Enode(key.public_key, host, port, 0).url

    def record(self, *, tcp: int, ip: str | None = None, onion: str | None = None) -> str:
        """A signed record with just these addresses, in text form; records have one TCP port for both."""
        onion3 = None if onion is None else parse_onion(onion)
        return build_record(self.key, 1, ip=ip, tcp=tcp, onion3=onion3).to_text()

    def name_static_nodes(self, *nodes: str) -> None:
        """Replace the static nodes of a running relay, at once."""
        self.write_static_nodes(nodes)
        self.signal(signal.SIGHUP)

    async def timed_stop(self) -> float:
        """Stop; it must exit with 0. Returns how many seconds that took."""
        began = time.monotonic()
        assert await self.stop() == 0, self.tail()
        return time.monotonic() - began

    async def own_record(self) -> str:
        """The record as admin_nodeInfo shows it."""
        return str((await self.rpc("admin_nodeInfo"))["enr"])

    async def joined(self, *others: OnionRelay, deadline: float = TOR_SECONDS) -> dict[str, dict[str, Any]]:
        """Wait until exactly these are its peers; admin_peers by public key."""
        wanted = {other.id for other in others}
        seen: dict[str, dict[str, Any]] = {}

        async def reached() -> bool:
            self.check()
            with suppress(LocalError):
                peers = {each["enode"][8:136]: each for each in await self.peers()}
                seen.clear()
                seen.update(peers)
                return seen.keys() == wanted
            return False

        await until(
            reached,
            lambda: f"{self.name} has {len(others)} given peers, but {len(seen)}\n{self.tail()}",
            deadline,
        )
        return seen

    async def networks(self) -> dict[tuple[str, str], int]:
        """Numbers of peers by (network, direction), without zeros."""
        entries = (await self.metrics())["pyrelay_peers"]
        found = {(each["labels"]["network"], each["labels"]["direction"]): each["value"] for each in entries}
        return {kind: int(count) for kind, count in found.items() if count}

    async def until_dialed(self, count: int, deadline: float = TOR_SECONDS) -> None:
        """Wait until so many more dials have ended than at this moment."""
        before = await self.metric("p2p_dials")
        await self.until_metric("p2p_dials", lambda dials: dials >= before + count, deadline)

    async def submit(self, transactions: dict[str, str]) -> None:
        """Hand transactions in, one after the other over one connection; each hash must come back."""
        async with ipc(self.ipc_path) as line:
            answers = await line.batch(("eth_sendRawTransaction", raw) for raw in transactions.values())
        assert answers == list(transactions)


class Ipc:
    """A connection to a relay's unix socket that stays."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def batch(self, calls: Iterable[tuple[str, ...]]) -> list[Any]:
        """Write all, then read as many results."""
        written = 0
        for method, *params in calls:
            body = {"jsonrpc": "2.0", "id": written, "method": method, "params": params}
            self._writer.write(json.dumps(body).encode())
            written += 1
        results = []
        async with asyncio.timeout(ANSWER_SECONDS):
            for _ in range(written):
                answer = json.loads(await self._reader.readuntil(b"\n"))
                assert "result" in answer, answer
                results.append(answer["result"])
        return results

    async def hashes(self) -> AsyncIterator[str]:
        """What comes in after eth_subscribe."""
        while line := await self._reader.readline():
            yield json.loads(line)["params"]["result"]


async def start_all(*relays: RelayProcess, deadline: float = TOR_SECONDS) -> None:
    """Start some at the same time, and wait until all are ready."""
    async with asyncio.TaskGroup() as starts:
        for relay in relays:
            starts.create_task(relay.start(deadline))


@asynccontextmanager
async def ipc(path: Path) -> AsyncIterator[Ipc]:
    reader, writer = await asyncio.open_unix_connection(str(path), limit=1 << 24)
    try:
        yield Ipc(reader, writer)
    finally:
        writer.close()


class Ear:
    """Hears every transaction that comes into a relay's pool.

    Attributes:
        heard: hashes, each once; `twice` those that came again.
    """

    def __init__(self) -> None:
        self.heard: set[str] = set()
        self.twice: set[str] = set()
        self._more = asyncio.Event()

    async def until_heard(self, wanted: Iterable[str], deadline: float = TOR_SECONDS) -> None:
        missing = set(wanted) - self.heard
        try:
            async with asyncio.timeout(deadline):
                while missing:
                    self._more.clear()
                    await self._more.wait()
                    missing -= self.heard
        except TimeoutError:
            raise TimeoutError(f"{len(missing)} transactions did not arrive in {deadline:g} s") from None

    async def listen(self, line: Ipc) -> None:
        async for each in line.hashes():
            if each in self.heard:
                self.twice.add(each)
            self.heard.add(each)
            self._more.set()


@asynccontextmanager
async def listening(relay: RelayProcess) -> AsyncIterator[Ear]:
    """Subscribe to a relay's pool while the block runs."""
    ear = Ear()
    async with ipc(relay.ipc_path) as line:
        await line.batch([("eth_subscribe", "newPendingTransactions")])
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(ear.listen(line))
            try:
                yield ear
            finally:
                task.cancel()


class Trap:
    """A listener that must see nothing: it counts connections and hangs up."""

    def __init__(self) -> None:
        self.connections = 0
        self.port = 0

    def seen(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.transport.abort()


@asynccontextmanager
async def trap() -> AsyncIterator[Trap]:
    found = Trap()
    server = await asyncio.start_server(found.seen, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()
        await server.wait_closed()


def _write_secret(path: Path, content: bytes) -> None:
    with open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(content)
