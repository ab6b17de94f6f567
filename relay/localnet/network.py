"""A private Tor network on loopback: directory authorities, relays and clients, without internet.

Guards, directories, introduction and rendezvous points are real: clients reach each other's onion services
as they would on the public network. Three authorities and four relays have their consensus some nine seconds
after the start on two cores, and a client is bootstrapped two to four seconds later.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import secrets
import shutil
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from relay.localnet.authority_keys import write_authority_keys, write_relay_key
from relay.localnet.client import ClientHandle, Progress
from relay.localnet.ports import free_ports
from relay.localnet.torrc import (
    FIRST_INTERVAL,
    LOOPBACK,
    Authority,
    authority_lines,
    bandwidth_file,
    network_lines,
    node_lines,
    relay_lines,
)
from relay.primitives.address import Address, TcpAddress
from relay.primitives.errors import LocalError, TorControlError, TransportError
from relay.tor.address import Streams
from relay.tor.process import TorProcess, check_version, find_tor, tor_version
from relay.tor.torrc import client_torrc
from relay.transports.sockets import SocketFactory, SocketRules

VOTING_INTERVAL: Final = 20  # seconds; the network's view, when a relay came too late for the first vote
FIRST_CONSENSUS_LEAD: Final = 8.0  # seconds from start to the first consensus; the vote is 2 s before
START_DEADLINE: Final = 90.0  # seconds for the consensus that holds every relay
POLL_INTERVAL: Final = 0.1  # seconds
POKE_EVERY: Final = 15  # polls
MAX_CONSENSUS: Final = 1_000_000  # bytes; ours has some 5,000


class PrivateTor:
    """The network: `start`, `add_client` as often as wanted, `stop`.

    Every process ends with this one, also when this one is killed (Tor looks every 15 s).

    Args:
        directory: everything is below it; made when missing.
        relays: relays that are no authority; with four, every hop of an onion connection has a choice.
        authorities: 3, fewer cannot agree after a loss.
        exits: two relays allow connections to 127.0.0.0/8, for the modes that use exits.
        address: of this machine, where authorities and relays listen; clients of other network namespaces
            need one that they reach.
        binary: tor's path; found by PATH when None.
    """

    def __init__(
        self,
        directory: Path,
        *,
        relays: int = 4,
        authorities: int = 3,
        exits: bool = False,
        binary: str | None = None,
        voting_interval: int = VOTING_INTERVAL,
        lead: float = FIRST_CONSENSUS_LEAD,
        address: str = LOOPBACK,
    ) -> None:
        self.directory = directory.absolute()
        self.clients: dict[str, ClientHandle] = {}
        self._relay_count, self._authority_count, self._exits = relays, authorities, exits
        self._given_binary, self._binary = binary, ""
        self._interval, self._lead, self._address = voting_interval, lead, address
        self._factory = SocketFactory(SocketRules.anywhere())
        self._authorities: list[Authority] = []
        self._nodes: dict[str, TorProcess] = {}

    # -- life

    async def start(self, progress: Progress = lambda _percent, _text: None) -> None:
        """Start authorities and relays, and return when a consensus holds all of them.

        Raises:
            LocalError: no tor, a node ended, or no consensus in time; what was started is stopped.
        """
        async with AsyncExitStack() as guard:
            guard.push_async_callback(self.stop)
            await self._start(progress)
            guard.pop_all()

    async def _start(self, progress: Progress) -> None:
        self._binary = find_tor(self._given_binary)
        check_version(await tor_version(self._binary))
        progress(0, "making keys of a private Tor network")
        await asyncio.to_thread(self._make_keys)
        offset = int(time.time() + self._lead) % FIRST_INTERVAL
        progress(10, f"starting {self._authority_count} directory authorities")
        for authority in self._authorities:
            lines = authority_lines(
                authority,
                voting_interval=self._interval,
                voting_offset=offset,
                bandwidths=self._bandwidths,
            )
            await self._start_node(authority.name, authority.or_port, lines)
        await self._until_authorities_listen()
        progress(20, f"starting {self._relay_count} relays")
        await self._start_relays()
        await self._until_consensus(progress)
        progress(95, "the relays fetch each other's descriptors")
        await self._until_relays_know()
        progress(100, "the private Tor network is up")

    async def stop(self) -> None:
        """End every process of the network, by its id."""
        async with asyncio.TaskGroup() as tasks:
            for process in self._processes():
                tasks.create_task(process.stop())

    def _processes(self) -> list[TorProcess]:
        return [*(client.process for client in self.clients.values()), *self._nodes.values()]

    def remove(self) -> None:
        """Delete the directory of a stopped network."""
        shutil.rmtree(self.directory, ignore_errors=True)

    # -- clients

    @property
    def client_lines(self) -> list[str]:
        """Torrc lines by which any Tor client joins this network (`extra` of `LaunchedTor`)."""
        return network_lines(self._authorities)

    async def add_client(
        self,
        name: str,
        progress: Progress = lambda _percent, _text: None,
        *,
        extra: Sequence[str] = (),
        wait: bool = True,
    ) -> ClientHandle:
        """Start a client with ports of its own and wait for its bootstrap.

        Args:
            name: not used before; its directory's name.
            progress: told percent and Tor's words.
            extra: more torrc lines.
            wait: False returns at once; use the handle's `wait_bootstrapped`.

        Raises:
            LocalError: it ended, or did not bootstrap in time.
        """
        assert name not in self.clients
        directory = self.directory / name
        socks, control = (TcpAddress(LOOPBACK, port) for port in self._free_ports(2))
        lines = client_torrc(directory, socks, control, os.getpid(), [*self.client_lines, *extra])
        process = TorProcess(self._binary, directory, lines)
        client = self.clients[name] = ClientHandle(name, process, socks, control, self._open)
        await client.start()
        if wait:
            await client.wait_bootstrapped(progress)
        return client

    # -- authorities and relays

    @property
    def _bandwidths(self) -> Path:
        return self.directory / "bandwidths"

    def _make_keys(self) -> None:
        ports = self._free_ports(2 * self._authority_count)
        for number in range(self._authority_count):
            name, or_port, dir_port = f"authority{number + 1}", ports.pop(), ports.pop()
            identity = write_authority_keys(self.directory / name / "data", f"{self._address}:{dir_port}")
            self._authorities.append(Authority(name, or_port, dir_port, identity, self._address))
        known = [authority.identity.fingerprint for authority in self._authorities]
        for number in range(self._relay_count):
            known.append(write_relay_key(self.directory / f"relay{number + 1}" / "data"))
        self._bandwidths.write_text(bandwidth_file(known, time.time()), encoding="ascii")

    async def _start_relays(self) -> None:
        resolver_file = self.directory / "resolv.conf"
        await asyncio.to_thread(resolver_file.touch)
        for number, port in enumerate(self._free_ports(self._relay_count)):
            exits = self._exits and number < 2
            lines = relay_lines(exits=exits, resolver_file=resolver_file)
            await self._start_node(f"relay{number + 1}", port, lines)

    async def _start_node(self, name: str, or_port: int, lines: Sequence[str]) -> None:
        directory = self.directory / name
        own = node_lines(name, directory, or_port, os.getpid(), self._address)
        common = [*network_lines(self._authorities), *own]
        process = self._nodes[name] = TorProcess(self._binary, directory, [*common, *lines])
        await process.start()

    async def _until_authorities_listen(self) -> None:
        """A relay whose first upload finds nobody tries again only a minute later."""
        for authority in self._authorities:
            for port in (authority.or_port, authority.dir_port):
                await self._until_listening(port, authority.name)

    async def _listens(self, port: int) -> bool:
        try:
            _, writer = await self._open(TcpAddress(self._address, port))
        except TransportError:
            return False
        writer.transport.abort()
        return True

    async def _until_consensus(self, progress: Progress) -> None:
        wanted = self._authority_count + self._relay_count
        began = time.monotonic()
        deadline = began + START_DEADLINE
        missing = list(self._authorities)
        while missing:
            elapsed = time.monotonic() - began
            progress(30 + int(60 * min(elapsed / self._lead, 1)), "the authorities vote on the network")
            if await self._running_nodes(missing[0]) == wanted:
                missing.pop(0)
                continue
            await self._pause(deadline, "the authorities agreed on no consensus with every relay")

    async def _until_relays_know(self) -> None:
        """Wait until every node has all descriptors: a client that finds some missing waits ten seconds.

        The relays asked for a consensus too early and now wait longer from try to try, so they are poked.
        """
        wanted = self._authority_count + self._relay_count
        deadline = time.monotonic() + START_DEADLINE
        for attempt in itertools.count():
            lacking = [
                each for each in self._nodes.values() if count_descriptors(each.directory / "data") < wanted
            ]
            if not lacking:
                return
            if attempt % POKE_EVERY == 0:
                for process in lacking:
                    process.retry_downloads()
            await self._pause(deadline, "the relays did not fetch each other's descriptors")

    async def _running_nodes(self, authority: Authority) -> int:
        """How many nodes are Running in the consensus that an authority serves."""
        try:
            async with asyncio.timeout(5):
                reader, writer = await self._open(TcpAddress(self._address, authority.dir_port))
                try:
                    writer.write(b"GET /tor/status-vote/current/consensus-microdesc HTTP/1.0\r\n\r\n")
                    return count_running(await _read_all(reader))
                finally:
                    writer.transport.abort()
        except (TransportError, OSError):
            return 0

    async def _until_listening(self, port: int, name: str) -> None:
        deadline = time.monotonic() + START_DEADLINE
        while not await self._listens(port):
            await self._pause(deadline, f"{name} does not listen")

    async def _pause(self, deadline: float, otherwise: str) -> None:
        """Wait a moment; a node that ended or a passed deadline is raised."""
        for name, process in self._nodes.items():
            if not process.running:
                error = process.exit_error(await process.wait_exit())
                raise TorControlError(f"{name} of the private Tor network: {error}")
        if time.monotonic() > deadline:
            raise LocalError(f"the private Tor network did not start in {START_DEADLINE:g} s: {otherwise}")
        await asyncio.sleep(POLL_INTERVAL)

    # -- sockets

    def _free_ports(self, count: int) -> list[int]:
        return free_ports(count, self._factory, secrets.token_bytes)

    async def _open(self, address: Address) -> Streams:
        return await self._factory.open_stream(address)


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    document = bytearray()
    while len(document) < MAX_CONSENSUS and (part := await reader.read(65_536)):
        document += part
    return bytes(document)


def count_running(document: bytes) -> int:
    """Nodes with the Running flag in a consensus; 0 for anything else."""
    return len(re.findall(rb"^s (?:.* )?Running(?: |$)", document, re.MULTILINE))


def count_descriptors(data_directory: Path) -> int:
    """Microdescriptors that a node has fetched or made, by its journal."""
    try:
        journal = (data_directory / "cached-microdescs.new").read_bytes()
    except OSError:
        return 0
    return len(re.findall(rb"^ntor-onion-key ", journal, re.MULTILINE))
