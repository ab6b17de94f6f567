"""What JSON-RPC and the metrics page see of the daemon."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from relay.app.discovering import Discovery
from relay.app.identity import Identity
from relay.app.nodes import NodeFiles
from relay.app.pair import NamedNodes
from relay.app.startup import Startup
from relay.app.sums import sum_connections, sum_counters, sum_feeds
from relay.chain.networks import ChainConfig
from relay.chain.transactions import Transaction
from relay.observe.snapshot import MetricsSnapshot, PeerKind, TorView
from relay.peering.info import PeerInfo, peer_info
from relay.primitives.address import Address, TcpAddress
from relay.primitives.enode import Enode
from relay.primitives.i2p import I2P_PORT
from relay.primitives.keys import node_id
from relay.primitives.node import Node
from relay.relaying.own import OwnTransactions
from relay.relaying.pool import PooledTx
from relay.relaying.private.desk import PrivateDesk
from relay.rpc.transaction_json import transaction_json
from relay.rpc.views import NodeInfo, PoolStatus
from relay.tor.status import StatusBoard
from relay.transports.tripwire import Tripwire

TOLD_OF_DISCOVERY: Final = (
    "table",
    "live",
    "sessions",
    "streams",
    "lookups",
    "sent",
    "received",
    "refused",
    "failed",
)


class Relay:
    """The running parts, handed to the views.

    Attributes:
        main: the identity that the node's own URL names, and that our users' transactions enter by.
        rpc_counts: what clients of JSON-RPC were refused, by event.
        upstream_counts: what its upstreams have done, by event.
        tripwire: of this process; None where the mode has none, or a test is the process.
    """

    def __init__(
        self,
        chain: ChainConfig,
        identities: Sequence[Identity],
        named: NamedNodes,
        board: StatusBoard | None,
    ) -> None:
        self.chain, self.identities, self.named, self.board = chain, identities, named, board
        self.main = identities[0]
        self.rpc_counts: Mapping[str, int] = {}
        self.upstream_counts: Mapping[str, int] = {}
        self.tripwire: Tripwire | None = None


class NodeAdapter:
    """`relay.rpc.views.NodeView`, `HeadView`, `TxSubmitter` and `PoolTable` of a running relay."""

    def __init__(self, relay: Relay, client: str, datadir: str) -> None:
        self._relay = relay
        self._watching: list[Callable[[], None]] = []
        self.client_version = client
        self.datadir = datadir

    @property
    def chain_id(self) -> int:
        """Chain id that transactions are signed for."""
        return self._relay.chain.chain_id

    @property
    def network_id(self) -> int:
        """Network id of the Status message."""
        return self._relay.chain.network_id

    @property
    def listening(self) -> bool:
        """Whether peers can connect."""
        return any(
            "clearnet" in each.listeners or each.onion is not None or each.i2p is not None
            for each in self._relay.identities
        )

    @property
    def peer_count(self) -> int:
        """Joined peers."""
        return sum(len(each.peers) for each in self._relay.identities)

    def node_info(self) -> NodeInfo:
        """Tell of ourselves."""
        relay = self._relay
        shown = {each.side: self._info(each) for each in relay.identities}
        info = shown[relay.main.side]
        if len(shown) == 1:
            return info
        return replace(info, identities={str(side): each for side, each in shown.items()})

    def _info(self, identity: Identity) -> NodeInfo:
        listener = identity.listeners.get("clearnet") or identity.listeners.get("onion")
        host, port = _public_endpoint(identity, listener)
        udp = identity.discovery.udp
        udp_port = 0 if udp is None else udp.port
        shown = identity.record.record
        return NodeInfo(
            id=node_id(identity.key.public_key).hex(),
            name=self.client_version,
            enode=Enode(identity.key.public_key, host, port, udp_port).url,
            enr=shown.to_text(),
            ip=shown.ip or shown.ip6 or "127.0.0.1",
            discovery_port=udp_port,
            listener_port=port,
            listen_addr="" if listener is None else str(listener),
            protocols={"eth": self._eth_info(identity)},
            discovery=_discovery_info(identity.discovery),
        )

    def _eth_info(self, identity: Identity) -> dict[str, object]:
        chain, known = self._relay.chain, identity.eth.ranges.current
        return {
            "network": chain.network_id,
            "genesis": "0x" + chain.genesis_hash.hex(),
            "head": "0x" + known.latest_hash.hex(),
            "earliestBlock": known.earliest,
            "latestBlock": known.latest,
        }

    def peers(self) -> Sequence[PeerInfo]:
        """Tell of each joined peer."""
        found = []
        for identity in self._relay.identities:
            for session in identity.peers.sessions():
                peer = identity.eth.roster.get(session)
                included = None if peer is None else peer.included
                found.append(peer_info(session, included, str(identity.side or "")))
        return found

    def add_peer(self, url: str) -> None:
        """Keep connected to an enode URL or record."""
        self._relay.named.add_peer(Node.parse(url))

    def remove_peer(self, url: str) -> None:
        """Disconnect and dial no more."""
        self._relay.named.remove_peer(Node.parse(url).public_key)

    def add_trusted(self, url: str) -> None:
        """Let it connect even when all slots are taken."""
        self._relay.named.trust(Node.parse(url))

    def remove_trusted(self, url: str) -> None:
        """Undo add_trusted without disconnecting."""
        self._relay.named.distrust(Node.parse(url).public_key)

    def submit(self, raw: bytes) -> bytes:
        """Take a transaction of our own users."""
        return self._relay.main.eth.submit(raw)

    def status(self) -> PoolStatus:
        """Count what is held, each once."""
        first, *others = (each.eth.pool.by_hash for each in self._relay.identities)
        return PoolStatus(len(first) + sum(len(each.keys() - first.keys()) for each in others))

    def transaction(self, tx_hash: bytes) -> Transaction | None:
        """Return a transaction that is held."""
        found = (each.eth.transaction(tx_hash) for each in self._relay.identities)
        return next((each for each in found if each is not None), None)

    def watch_pool(self, listener: Callable[[PooledTx], None] | None) -> None:
        """Tell who listens of each transaction that comes in, once; None: nobody does any more."""
        for end in self._watching:
            end()
        self._watching = []
        for identity in self._relay.identities if listener is not None else ():
            assert listener is not None
            self._watching.append(identity.news.listen(_unless_held(listener, identity.twin)))

    def show_pending(self, tx_hash: bytes) -> object:
        """Return a transaction that is held as JSON-RPC shows it."""
        tx = self.transaction(tx_hash)
        return None if tx is None else transaction_json(tx)

    def signers(self) -> list[bytes]:
        """Return the public keys of all senders in the pool."""
        pools = (each.eth.pool for each in self._relay.identities)
        return list(dict.fromkeys(signer for pool in pools for signer in pool.signers()))

    def sent_by(self, signer: bytes) -> tuple[bytes, list[Transaction]]:
        """Return address and transactions of a sender in order of nonce."""
        by_nonce: dict[int, Transaction] = {}
        address = b""
        for identity in reversed(self._relay.identities):
            address, found = identity.eth.sent_by(signer)
            by_nonce.update((each.nonce, each) for each in found)
        return address, [by_nonce[nonce] for nonce in sorted(by_nonce)]

    @property
    def private(self) -> PrivateDesk | None:
        """The private broadcast of their transactions; None where it is off."""
        return self._relay.main.eth.private

    @property
    def own(self) -> OwnTransactions:
        """Transactions of our own users."""
        return self._relay.main.eth.own

    @property
    def latest_block(self) -> int:
        """Number of the latest block that our peers agree on."""
        return max(each.eth.ranges.current.latest for each in self._relay.identities)


def _unless_held(listener: Callable[[PooledTx], None], twin: Identity | None) -> Callable[[PooledTx], None]:
    """Leave out what the other pool has, since it was told of when it came there."""
    if twin is None:
        return listener
    held = twin.eth.pool

    def tell(tx: PooledTx) -> None:
        if tx.hash not in held:
            listener(tx)

    return tell


def _public_endpoint(identity: Identity, listener: Address | None) -> tuple[str, int]:
    if identity.onion is not None:
        return identity.onion
    if identity.i2p is not None:
        return identity.i2p, I2P_PORT
    shown = identity.record.record
    return shown.ip or shown.ip6 or "127.0.0.1", listener.port if isinstance(listener, TcpAddress) else 0


def _discovery_info(discovery: Discovery) -> dict[str, object]:
    shown: dict[str, object] = {}
    for name, counts in discovery.counts().items():
        shown[name] = {each: getattr(counts, each) for each in TOLD_OF_DISCOVERY}
    if dht := discovery.dht():
        shown["dht"] = dht
    return shown


class MetricsAdapter:
    """`relay.observe.snapshot.MetricsSource` of a running relay."""

    def __init__(self, relay: Relay, files: NodeFiles, startup: Startup) -> None:
        self._relay, self._files, self._startup = relay, files, startup

    def snapshot(self) -> MetricsSnapshot:
        """Read everything now: what two identities have and do is added up."""
        relay, identities = self._relay, self._relay.identities
        sessions = (session for each in identities for session in each.peers.sessions())
        discoveries = [each.discovery for each in identities]
        pools = [each.eth.pool for each in identities]
        known = max((each.eth.ranges.current for each in identities), key=lambda each: each.latest)
        private = relay.main.eth.private
        return MetricsSnapshot(
            peers=Counter(PeerKind(str(each.label), each.inbound) for each in sessions),
            ingress=sum(each.peers.ingress for each in identities),
            egress=sum(each.peers.egress for each in identities),
            dials=sum_connections(each.counts.connections(inbound=False) for each in identities),
            serves=sum_connections(each.counts.connections(inbound=True) for each in identities),
            tor=_tor_view(relay.board),
            static_nodes={
                "loaded": relay.named.static_loaded,
                "rejected": self._files.rejected,
                "connected": relay.named.static_connected,
            },
            transactions=sum_counters([each.eth.counters for each in identities]),
            pool_transactions=sum(map(len, pools)),
            pool_bytes=sum(each.bytes for each in pools),
            head=known.latest,
            earliest=known.earliest,
            startup=dict(self._startup.seconds),
            discovery={name: counts for each in discoveries for name, counts in each.counts().items()},
            feeds=sum_feeds(each.feeds() for each in discoveries),
            dropped={way: counts for each in discoveries for way, counts in each.dropped().items()},
            dht=relay.main.discovery.dht(),
            rpc=relay.rpc_counts,
            upstreams=relay.upstream_counts,
            breaches=None if relay.tripwire is None else relay.tripwire.breaches,
            private=None if private is None else private.broadcast.counters,
        )


def _tor_view(board: StatusBoard | None) -> TorView:
    if board is None:
        return TorView()
    status = board.status
    return TorView(
        status.bootstrap_percent,
        status.control_connected,
        status.service_up,
        status.uploads,
        status.upload_failures,
        board.upload_age,
        status.introductions,
    )
