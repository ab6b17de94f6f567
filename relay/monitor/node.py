"""A watched node at one moment: its head, whether it syncs, and its peers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

from relay.monitor.peer import Peer, clean
from relay.monitor.rpc import BeaconApi, JsonRpc, MethodMissing, RpcRefused, RpcSaidNo
from relay.monitor.shapes import PeerList, PeerReader, beacon_peers

__all__ = ["BeaconNode", "ExecutionNode", "NodeView", "WatchedNode", "chain_name"]

CHAINS: Final = {1: "mainnet", 11155111: "sepolia", 560048: "hoodi", 17000: "holesky", 100: "gnosis"}
_NO_ADMIN: Final = (
    "the node does not serve admin_peers here: give its unix socket (IPC), or start it with the admin module"
)


@dataclass(frozen=True, slots=True)
class NodeView:
    """What a node told.

    Attributes:
        kind: execution or beacon.
        client: as it calls itself, fit for a terminal.
        identity: its node id; "" where it tells none. Another one means another node.
        chain: name, or its number; "" where it does not tell.
        head: number of its block or slot; None where it does not tell.
        syncing: None where it does not tell.
        target: block that it syncs to; None where it does not sync.
        peers: of it.
        refused: entries of its list that are no peers.
        waiting: peers that are not connected yet, of a beacon node.
    """

    kind: str
    client: str
    identity: str
    chain: str
    head: int | None
    syncing: bool | None
    target: int | None
    peers: tuple[Peer, ...]
    refused: int = 0
    waiting: int = 0

    def lag(self, peer: Peer) -> int | None:
        """Return by how many blocks a peer is behind the node; None where one of both does not tell."""
        if peer.head is None or self.head is None:
            return None
        return max(0, max(self.head, self.target or 0) - peer.head)


class WatchedNode(Protocol):
    """A node that can be looked at."""

    async def look(self) -> NodeView:
        """Ask for everything; raises RpcRefused."""
        ...

    def close(self) -> None:
        """Close connections."""
        ...


class ExecutionNode:
    """A node with admin_peers.

    Args:
        rpc: asks it.
    """

    def __init__(self, rpc: JsonRpc) -> None:
        self._rpc = rpc
        self._reader = PeerReader()

    async def look(self) -> NodeView:
        """See `WatchedNode`."""
        info = await self._asked("admin_nodeInfo")
        client = _text(info.get("name") if isinstance(info, dict) else None)
        if not client:
            client = _text(await self._asked("web3_clientVersion"))
        syncing = await self._asked("eth_syncing")
        chain = _hex(await self._asked("eth_chainId"))
        head = _hex(await self._asked("eth_blockNumber"))
        found = await self._peers(of_pyrelay=client.startswith("pyrelay/"))
        return NodeView(
            kind="execution",
            client=client,
            identity=_text(info.get("id") if isinstance(info, dict) else None),
            chain="" if chain is None else chain_name(chain),
            head=head,
            syncing=None if syncing is None else syncing is not False,
            target=_hex(syncing.get("highestBlock")) if isinstance(syncing, dict) else None,
            peers=found.peers,
            refused=found.refused,
        )

    def close(self) -> None:
        """See `WatchedNode`."""
        self._rpc.close()

    async def _peers(self, *, of_pyrelay: bool) -> PeerList:
        try:
            return self._reader.read(await self._rpc.call_for_list("admin_peers"), of_pyrelay=of_pyrelay)
        except MethodMissing:
            raise RpcRefused(_NO_ADMIN) from None

    async def _asked(self, method: str) -> Any:  # noqa: ANN401 - the method's own shape
        """Ask for what is of use but not needed: many nodes do not have all of it."""
        with suppress(RpcSaidNo):
            return await self._rpc.call(method)
        return None


class BeaconNode:
    """A node with the Beacon API: Prysm, Lighthouse, Teku, Nimbus, Lodestar. Spec: beacon-APIs, Node.

    Args:
        api: asks it.
    """

    def __init__(self, api: BeaconApi) -> None:
        self._api = api

    async def look(self) -> NodeView:
        """See `WatchedNode`."""
        version, identity = await self._api.get("/eth/v1/node/version"), await self._identity()
        state = await self._api.get("/eth/v1/node/syncing")
        found = beacon_peers(await self._entries())
        state = state if isinstance(state, dict) else {}
        head, distance = _decimal(state.get("head_slot")), _decimal(state.get("sync_distance"))
        syncing = state.get("is_syncing")
        return NodeView(
            kind="beacon",
            client=_text(version.get("version") if isinstance(version, dict) else None),
            identity=identity,
            chain="",
            head=head,
            syncing=syncing if isinstance(syncing, bool) else None,
            target=None if syncing is not True or head is None or distance is None else head + distance,
            peers=found.peers,
            refused=found.refused,
            waiting=found.waiting,
        )

    def close(self) -> None:
        """See `WatchedNode`."""
        self._api.close()

    async def _entries(self) -> Iterator[Any]:
        return await self._api.get_list("/eth/v1/node/peers")

    async def _identity(self) -> str:
        with suppress(RpcRefused):  # some keep it to themselves
            found = await self._api.get("/eth/v1/node/identity")
            return _text(found.get("peer_id") if isinstance(found, dict) else None)
        return ""


def chain_name(chain_id: int) -> str:
    """Return the name of a chain, or its number."""
    return CHAINS.get(chain_id, f"chain {chain_id}")


def _text(value: object) -> str:
    return clean(value) if isinstance(value, str) else ""


def _hex(value: object) -> int | None:
    return _integer(value, 16) if isinstance(value, str) and value.startswith("0x") else None


def _decimal(value: object) -> int | None:
    return _integer(value, 10) if isinstance(value, str) and value.isdecimal() else None


def _integer(text: str, base: int) -> int | None:
    if len(text) > 20:
        return None
    with suppress(ValueError):
        return int(text, base)
    return None
