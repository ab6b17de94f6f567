"""Remembers the nodes of a driver in the node database, in batches, and gives them back at a start."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from relay.discovery.nodedb import NodeDatabase
from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.enr import NodeRecord
from relay.primitives.keys import NodeId
from relay.protocols.discv5 import Event, NodeDropped, NodeVerified

__all__ = ["NodeMemory"]

SEEDS: Final = 30  # go-ethereum p2p/discover: seedCount
_NETWORKS: Final = {"onion": (Network.ONION,), "i2p": (Network.I2P,)}
BATCH: Final = 64  # nodes that wait for a commit; then it is done at once


class NodeMemory:
    """What one source proves, kept by network.

    Args:
        database: where to.
        source: the feed's name, for people.
        unix: the time of day.
    """

    def __init__(self, database: NodeDatabase, source: str, unix: Callable[[], float]) -> None:
        self._database, self._source, self._unix = database, source, unix
        self._proved: dict[tuple[Network, NodeId], NodeRecord] = {}
        self._failed: set[NodeId] = set()

    def take(self, event: Event) -> None:
        """Learn of an event of a discv5 core."""
        match event:
            case NodeVerified(contact) if isinstance(contact.address, Endpoint):
                self.proved(contact.record, contact.address.network)
            case NodeDropped(node):
                self._failed.add(node)

    def proved(self, record: NodeRecord, network: Network) -> None:
        """Note a node that has answered."""
        self._proved[network, record.node_id] = record
        self._failed.discard(record.node_id)
        if len(self._proved) >= BATCH:
            self.save()

    def failed(self, node: NodeId) -> None:
        """Note a node that has not."""
        self._failed.add(node)

    def save(self) -> None:
        """Write what waits: now and then, and at the end."""
        now = self._unix()
        for network in {network for network, _ in self._proved}:
            records = [record for (each, _), record in self._proved.items() if each is network]
            self._database.seen(records, network, now, self._source)
        if self._failed:
            for network in _NETWORKS.get(self._source, (Network.IPV4, Network.IPV6)):
                self._database.failed(self._failed, network, now)
        self._proved.clear()
        self._failed.clear()

    def seeds(self, networks: Iterable[Network]) -> list[NodeRecord]:
        """Return the best nodes of before."""
        now = self._unix()
        return [record for each in networks for record in self._database.candidates(SEEDS, each, now)]
