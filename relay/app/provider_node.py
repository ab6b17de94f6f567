"""A node of the provider DHT without a daemon: an onion service for discovery streams, and nothing else.

It is the relay of the data folder where there is one, by its keys, and holds that folder as a daemon would.
Where there is none it makes keys for the occasion, and leaves nothing behind. It speaks no eth, and its
record does not say so: relays need not call it in vain.
"""

from __future__ import annotations

import asyncio
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from relay.app.datadir import DataDir
from relay.app.occasion import passing_tasks
from relay.app.onion_gate import onion_gate
from relay.app.onions import OnionDiscovery
from relay.app.outward import proxy_address, socket_rules, ways_out
from relay.app.record import OwnRecord
from relay.app.sources import DATABASE
from relay.app.torside import TorSide, make_launched
from relay.discovery.nodedb import NodeDatabase
from relay.discovery.peer_text import KnownKey, nobody_known, peer_text
from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.errors import UsageError
from relay.primitives.keys import NodeId, PublicKey
from relay.primitives.node import Node
from relay.primitives.onion import OnionAddress, parse_onion
from relay.settings import Settings
from relay.transports.first_byte import Gate
from relay.transports.listener import Label, serve
from relay.transports.sockets import SocketFactory

__all__ = ["ProviderNode", "known_nodes", "provider_node"]

SEEDS: Final = 16
STOP_SECONDS: Final = 4.5
ONION_SOCKET_MODE: Final = 0o666  # as the daemon's: the folder says who may connect


@dataclass(frozen=True, slots=True)
class ProviderNode:
    """What runs.

    Attributes:
        onion: its discovery, with the DHT on top.
        text: ONION:PORT/NODEID, for others to enter by.
    """

    onion: OnionDiscovery
    text: str


@asynccontextmanager
async def provider_node(
    settings: Settings, entry: Iterable[Node], *, say: Callable[[str], None] = lambda words: None
) -> AsyncIterator[ProviderNode]:
    """Run a node with an onion service of its own until the block ends.

    Args:
        settings: the daemon's flags.
        entry: onions to enter by.
        say: told what a person may want to know.

    Raises:
        UsageError: there is no Tor, or no onion service is wanted.
        LocalError: keys, the data folder, or Tor are not to be had.
    """
    if not settings.wants_onion_service:
        raise UsageError("a provider is reached by its onion service: leave --onion-service off out")
    with ExitStack() as stack:
        data = _data_folder(settings, stack, say)
        node = _Node(replace(settings, datadir=data.path), data)
        async with passing_tasks() as tasks:
            try:
                yield await node.start(tasks, tuple(entry), say)
            finally:
                await node.stop()


def known_nodes(settings: Settings) -> tuple[list[Node], KnownKey]:
    """Return onions that a daemon in the data folder has met, to enter by, and their keys by node id."""
    path = settings.datadir / DATABASE
    if not path.is_file():
        return [], nobody_known
    database = NodeDatabase(path, now=time.time)
    try:
        seeds = database.candidates(SEEDS, Network.ONION, time.time())
    finally:
        database.close()

    def known(node: NodeId) -> PublicKey | None:
        database = NodeDatabase(path, now=time.time)
        try:
            record = database.get(node, Network.ONION)
        finally:
            database.close()
        return None if record is None else record.public_key

    return [Node.from_record(record) for record in seeds], known


class _Node:
    """Builds the parts in order, and ends them."""

    def __init__(self, settings: Settings, data: DataDir) -> None:
        self._settings, self._data = settings, data
        self._launched = make_launched(settings, lambda: self._sockets)
        self._sockets = SocketFactory(socket_rules(settings, self._launched))
        self._onion: OnionDiscovery | None = None
        self._gate: Gate | None = None
        self._tor: TorSide | None = None

    async def start(
        self, tasks: asyncio.TaskGroup, entry: tuple[Node, ...], say: Callable[[str], None]
    ) -> ProviderNode:
        settings, data = self._settings, self._data
        if settings.is_private:
            raise UsageError(
                "--onion-auth-clients hides this node, and a provider tells its address to whoever asks:"
                " leave one of them out"
            )
        key = data.node_key(settings.nodekey, secrets.token_bytes)
        onion_key = data.onion_key(settings.onion_key, secrets.token_bytes)
        host = parse_onion(settings.onion_address or onion_key.address)
        record = OwnRecord(key, data, fork_id=lambda: None)
        proxy = proxy_address(settings, self._launched)
        ways = ways_out(settings.mode, self._sockets, proxy, lambda: (host,))
        onion = OnionDiscovery(key, lambda: record.onion_record, ways, entry, tasks=tasks, dht=True)
        self._onion = onion

        is_up = asyncio.Event()

        def published(address: OnionAddress) -> None:
            record.publish(address, settings.onion_port)
            is_up.set()

        self._tor = TorSide(
            settings,
            self._sockets,
            self._launched,
            onion_key,
            on_up=published,
            on_down=lambda _reason: record.withdraw(),
        )
        say("publishing the onion service")
        await self._tor.start(tasks)
        self._publish(onion, self._tor, tasks)
        # Only then: whom we call before would keep a record of us that names no address.
        await is_up.wait()
        tasks.create_task(onion.run())
        return ProviderNode(
            onion, peer_text(key.public_key, Endpoint(Network.ONION, host, settings.onion_port))
        )

    def _publish(self, onion: OnionDiscovery, tor: TorSide, tasks: asyncio.TaskGroup) -> None:
        streams = onion.streams
        self._gate = gate = onion_gate(None, streams, shows_circuits=self._settings.shows_circuits)
        assert gate is not None
        listener = serve(
            tasks,
            self._sockets,
            self._settings.onion_listener,
            gate.protocol,
            Label.ONION,
            has_room=gate.has_room,
            mode=ONION_SOCKET_MODE,
        )
        tasks.create_task(tor.run(listener.address))

    async def stop(self) -> None:
        """Withdraw the service and hang up."""
        if self._onion is not None:
            self._onion.stop()
        if self._gate is not None:
            self._gate.close()
        if self._tor is not None:
            self._tor.stop()
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_SECONDS):
                    await self._tor.wait_stopped()


def _data_folder(settings: Settings, stack: ExitStack, say: Callable[[str], None]) -> DataDir:
    """Hold the data folder, or one for the occasion."""
    path = settings.datadir
    if path.is_dir():
        say(f"this node is the relay of {path}")
    else:
        say(f"no data folder {path}: this node has a key and an onion address for this time only")
        path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pyrelay-")))
    data = DataDir(path)
    data.lock()
    stack.callback(data.unlock)
    return data
