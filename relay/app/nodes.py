"""Nodes that the user named, and those known from before: files, their watchers, and the dial scheduler."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol

import structlog

from relay.app.datadir import PEERS, DataDir
from relay.discovery.mix import Feed
from relay.discovery.static_nodes import StaticNodes, StaticNodesFile, log_static_nodes
from relay.peering.peers import PeerSet
from relay.primitives.errors import DecodeError, LocalError, StorageError
from relay.primitives.node import Node
from relay.settings import Settings

log = structlog.get_logger("relay.app")

MAX_SAVED = 512


class Named(Protocol):
    """Takes the nodes of the files: `relay.app.pair.NamedNodes`, or a dial scheduler."""

    def replace_static(self, nodes: Iterable[Node], /) -> None:
        """Make these the static nodes."""
        ...

    def replace_trusted(self, nodes: Iterable[Node], /) -> None:
        """Make these the trusted nodes."""
        ...


class NodeFiles:
    """static-nodes.json and trusted-nodes.json: read at the start, on change and on SIGHUP."""

    def __init__(self, settings: Settings, named: Named) -> None:
        self._named = named
        self._static = StaticNodesFile(settings.static_nodes_path, required=settings.static_nodes is not None)
        self._trusted = StaticNodesFile(
            settings.trusted_nodes_path, required=settings.trusted_nodes is not None
        )

    @property
    def loaded(self) -> int:
        """Static nodes in force."""
        return len(self._static.current.nodes)

    @property
    def rejected(self) -> int:
        """Entries of static-nodes.json that were named and skipped."""
        return len(self._static.current.rejected)

    def load(self) -> None:
        """Read both files now; a bad one is named and leaves the earlier set in force."""
        for file, apply in ((self._static, self._apply_static), (self._trusted, self._apply_trusted)):
            try:
                found = file.load()
            except LocalError as error:
                log.warning("node file not loaded", cause=str(error), kept=len(file.current.nodes))
                continue
            if file is self._static or found.nodes or found.rejected:
                log_static_nodes(found)
            apply(found)

    async def watch(self) -> None:
        """Follow both files until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._static.watch(self._apply_static))
            tasks.create_task(self._trusted.watch(self._apply_trusted))

    def _apply_static(self, found: StaticNodes) -> None:
        self._named.replace_static(found.nodes)

    def _apply_trusted(self, found: StaticNodes) -> None:
        self._named.replace_trusted(found.nodes)


class KnownPeers:
    """Peers that were dialed with success, over restarts; a feed of the mix."""

    def __init__(self, data: DataDir) -> None:
        self._data = data
        self._known: dict[bytes, Node] = {}
        for url in _strings(data.load_state(PEERS)):
            try:
                node = Node.parse(url)
            except DecodeError:
                continue
            self._known[node.public_key] = node

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All of them, the latest last."""
        return tuple(self._known.values())

    def offer_to(self, feed: Feed) -> None:
        """Put all of them into a feed, the latest last: a full feed drops the oldest."""
        for node in self._known.values():
            feed.offer(node, "peer of before")

    def save(self, peers: PeerSet) -> None:
        """Remember whom we dialed and are connected with."""
        for session in peers.sessions():
            if not session.inbound and session.public_key is not None and session.endpoint is not None:
                self._known.pop(session.public_key, None)
                self._known[session.public_key] = Node(session.public_key, (session.endpoint,), None)
        while len(self._known) > MAX_SAVED:
            del self._known[next(iter(self._known))]
        try:
            self._data.save_state(PEERS, [node.enode.url for node in self._known.values()])
        except StorageError as error:
            log.warning("peers not saved", cause=str(error))


def _strings(value: object) -> list[str]:
    return [each for each in value if isinstance(each, str)][:MAX_SAVED] if isinstance(value, list) else []
