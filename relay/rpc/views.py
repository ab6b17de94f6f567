"""What JSON-RPC needs of the node, declared where it is used; `app` implements it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from relay.chain.transactions import Transaction
    from relay.relaying.own import Progress

__all__ = [
    "DhtView",
    "HeadView",
    "NodeInfo",
    "NodeView",
    "OwnView",
    "PeerView",
    "PoolStatus",
    "PoolTable",
    "PoolView",
    "TxSubmitter",
]


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """What admin_nodeInfo tells (geth: p2p.NodeInfo).

    Attributes:
        id: node id, 64 hex digits.
        name: the client name that peers see.
        enode: URL; its host is the onion address where that is all there is.
        enr: text form of the own record.
        ip: own IP; for an only-onion node "127.0.0.1", as geth shows before it knows better.
        discovery_port: UDP port, 0 without discovery.
        listener_port: TCP port that peers dial.
        listen_addr: HOST:PORT or unix:PATH of the listener.
        protocols: capability name to what is known of it; for eth: network, genesis, config, head.
        discovery: our own addition: each discovery protocol with its table, sessions and walks.
        identities: likewise: both nodes that this relay is, by "onion" and "clearnet", where it is two; all
            else is the first one's then.
    """

    id: str
    name: str
    enode: str
    enr: str
    ip: str
    discovery_port: int
    listener_port: int
    listen_addr: str
    protocols: Mapping[str, object]
    discovery: Mapping[str, object] = field(default_factory=dict)
    identities: Mapping[str, NodeInfo] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Return geth's JSON shape."""
        shown: dict[str, object] = {
            "id": self.id,
            "name": self.name,
            "enode": self.enode,
            "enr": self.enr,
            "ip": self.ip,
            "ports": {"discovery": self.discovery_port, "listener": self.listener_port},
            "listenAddr": self.listen_addr,
            "protocols": dict(self.protocols),
            "discovery": dict(self.discovery),
        }
        if self.identities:
            shown["identities"] = {name: info.to_json() for name, info in self.identities.items()}
        return shown


class PeerView(Protocol):
    """A joined peer (`relay.peering.info.PeerInfo`)."""

    @property
    def id(self) -> str:
        """Node id, 64 hex digits."""
        ...

    def to_json(self) -> dict[str, object]:
        """Return one entry of admin_peers, in geth's shape."""
        ...


class NodeView(Protocol):
    """The node, as far as eth, net, web3 and admin look."""

    @property
    def chain_id(self) -> int:
        """Chain id that transactions are signed for."""
        ...

    @property
    def network_id(self) -> int:
        """Network id of the Status message."""
        ...

    @property
    def client_version(self) -> str:
        """Client name that peers see."""
        ...

    @property
    def datadir(self) -> str:
        """Data folder."""
        ...

    @property
    def listening(self) -> bool:
        """Whether peers can connect."""
        ...

    @property
    def peer_count(self) -> int:
        """Joined peers."""
        ...

    def node_info(self) -> NodeInfo:
        """Tell of ourselves."""
        ...

    def peers(self) -> Sequence[PeerView]:
        """Tell of each joined peer, in any order."""
        ...

    def add_peer(self, url: str, /) -> None:
        """Keep connected to an enode URL or record.

        Raises:
            DecodeError: it is neither.
        """
        ...

    def remove_peer(self, url: str, /) -> None:
        """Disconnect and dial no more; raises as add_peer."""
        ...

    def add_trusted(self, url: str, /) -> None:
        """Let it connect even when all slots are taken; raises as add_peer."""
        ...

    def remove_trusted(self, url: str, /) -> None:
        """Undo add_trusted without disconnecting; raises as add_peer."""
        ...


class TxSubmitter(Protocol):
    """The way into the pool for transactions of our own users."""

    def submit(self, raw: bytes, /) -> bytes:
        """Take a transaction in canonical form and return its 32-byte hash.

        Raises:
            RelayError: it is refused; the text is for the user, in geth's words where geth has them.
        """
        ...


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """Counts of the pool: pending ones are relayed; without state nothing is ever queued for a nonce gap."""

    pending: int
    queued: int = 0


class PoolView(Protocol):
    """The pool, as far as txpool_* looks."""

    def status(self) -> PoolStatus:
        """Count."""
        ...


class PoolTable(PoolView, Protocol):
    """The transactions of the pool, as far as eth_* and txpool_* look."""

    def transaction(self, tx_hash: bytes, /) -> Transaction | None:
        """Return one that is held."""
        ...

    def signers(self) -> Sequence[bytes]:
        """Return the public keys of all senders."""
        ...

    def sent_by(self, signer: bytes, /) -> tuple[bytes, list[Transaction]]:
        """Return address and transactions of a sender in order of nonce, none for one that is gone."""
        ...


class HeadView(Protocol):
    """The chain, as far as it is known without one."""

    @property
    def latest_block(self) -> int:
        """Number of the latest block that our peers agree on."""
        ...


class OwnView(Protocol):
    """Transactions of our own users, in the pool or not any more (`relay.relaying.own.OwnTransactions`)."""

    def __contains__(self, tx_hash: object, /) -> bool:
        """Tell whether a hash is one of theirs."""
        ...

    def progress(self, tx_hash: bytes, /) -> Progress | None:
        """Tell how far it has come."""
        ...

    def waiting(self) -> list[bytes]:
        """Return the hashes of those in no block."""
        ...

    def oldest_wait(self) -> float | None:
        """Return for how many seconds the oldest of them has waited."""
        ...

    def nonces(self, address: bytes, /) -> frozenset[int] | None:
        """Return the nonces in the pool of one of our users; None for another sender."""
        ...

    def mined(self, tx_hash: bytes, number: int, block_hash: bytes, /) -> None:
        """Take that a block has it."""
        ...

    def unmined(self, tx_hash: bytes, /) -> None:
        """Take that this block is no part of the chain any more."""
        ...


class DhtView(Protocol):
    """The provider DHT, as far as dht_* looks. Keys are texts: 0x and 64 hex digits, or what is hashed.

    All raise RelayError where there is no DHT, or for a key or peer that is none.
    """

    def provide(self, key: str, peers: Sequence[str], /) -> str:
        """Provide a key from now on, entering by these peers, too; returns the id of a job."""
        ...

    def find(self, key: str, peers: Sequence[str], /) -> str:
        """Search, beginning with these peers where there are any; returns the id of a job."""
        ...

    def job(self, job: str, /) -> Mapping[str, object]:
        """Tell of a job: state (waiting, running, done, failed), reason, providers, stored, asked."""
        ...

    def cancel(self, job: str, /) -> bool:
        """End a job; a key whose providing it began is provided no more. False: it has ended already."""
        ...

    def providing(self) -> Sequence[Mapping[str, object]]:
        """Tell of each key that somebody had us provide."""
        ...

    def stop_providing(self, key: str, /) -> bool:
        """Provide a key no longer; says whether it was provided."""
        ...
