"""What JSON-RPC and the metrics page see of the daemon."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from relay.app.discovering import Discovery
from relay.app.nodes import NodeFiles
from relay.app.observer import PeerCounts
from relay.app.record import OwnRecord
from relay.app.startup import Startup
from relay.chain.networks import ChainConfig
from relay.chain.transactions import Transaction
from relay.observe.snapshot import MetricsSnapshot, PeerKind, TorView
from relay.peering.info import PeerInfo, peer_info
from relay.peering.peers import PeerSet
from relay.peering.scheduler import DialScheduler
from relay.primitives.address import Address, TcpAddress
from relay.primitives.enode import Enode
from relay.primitives.keys import node_id
from relay.primitives.node import Node
from relay.relaying.handler import EthRelay
from relay.relaying.own import OwnTransactions
from relay.relaying.private.desk import PrivateDesk
from relay.rpc.transaction_json import transaction_json
from relay.rpc.views import NodeInfo, PoolStatus
from relay.tor.status import StatusBoard
from relay.transports.tripwire import Tripwire


class Relay:
    """The running parts, handed to the views.

    Attributes:
        listeners: where peers come in, by label.
        onion: our onion address while it is published.
        rpc_counts: what clients of JSON-RPC were refused, by event.
        upstream_counts: what its upstreams have done, by event.
        tripwire: of this process; None where the mode has none, or a test is the process.
    """

    def __init__(
        self,
        chain: ChainConfig,
        peers: PeerSet,
        scheduler: DialScheduler,
        eth: EthRelay,
        record: OwnRecord,
        board: StatusBoard | None,
        discovery: Discovery,
    ) -> None:
        self.chain, self.peers, self.scheduler, self.eth = chain, peers, scheduler, eth
        self.record, self.board, self.discovery = record, board, discovery
        self.listeners: dict[str, Address] = {}
        self.onion: tuple[str, int] | None = None
        self.rpc_counts: Mapping[str, int] = {}
        self.upstream_counts: Mapping[str, int] = {}
        self.tripwire: Tripwire | None = None


class NodeAdapter:
    """`relay.rpc.views.NodeView`, `HeadView`, `TxSubmitter` and `PoolTable` of a running relay."""

    def __init__(self, relay: Relay, client: str, datadir: str) -> None:
        self._relay = relay
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
        relay = self._relay
        return "clearnet" in relay.listeners or relay.onion is not None

    @property
    def peer_count(self) -> int:
        """Joined peers."""
        return len(self._relay.peers)

    def node_info(self) -> NodeInfo:
        """Tell of ourselves."""
        relay = self._relay
        public_key = relay.peers.public_key
        listener = relay.listeners.get("clearnet") or relay.listeners.get("onion")
        host, port = self._public_endpoint(listener)
        udp = relay.discovery.udp
        udp_port = 0 if udp is None else udp.port
        shown = relay.record.record
        return NodeInfo(
            id=node_id(public_key).hex(),
            name=self.client_version,
            enode=Enode(public_key, host, port, udp_port).url,
            enr=shown.to_text(),
            ip=shown.ip or shown.ip6 or "127.0.0.1",
            discovery_port=udp_port,
            listener_port=port,
            listen_addr="" if listener is None else str(listener),
            protocols={"eth": self._eth_info()},
            discovery=self._discovery_info(),
        )

    def _public_endpoint(self, listener: Address | None) -> tuple[str, int]:
        if self._relay.onion is not None:
            return self._relay.onion
        shown = self._relay.record.record
        return shown.ip or shown.ip6 or "127.0.0.1", listener.port if isinstance(listener, TcpAddress) else 0

    def _discovery_info(self) -> dict[str, object]:
        shown: dict[str, object] = {}
        for name, counts in self._relay.discovery.counts().items():
            told = (
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
            shown[name] = {each: getattr(counts, each) for each in told}
        if dht := self._relay.discovery.dht():
            shown["dht"] = dht
        return shown

    def _eth_info(self) -> dict[str, object]:
        chain, known = self._relay.chain, self._relay.eth.ranges.current
        return {
            "network": chain.network_id,
            "genesis": "0x" + chain.genesis_hash.hex(),
            "head": "0x" + known.latest_hash.hex(),
            "earliestBlock": known.earliest,
            "latestBlock": known.latest,
        }

    def peers(self) -> Sequence[PeerInfo]:
        """Tell of each joined peer."""
        known = self._relay.eth.roster.get
        found = [(session, known(session)) for session in self._relay.peers.sessions()]
        return [peer_info(session, None if peer is None else peer.included) for session, peer in found]

    def add_peer(self, url: str) -> None:
        """Keep connected to an enode URL or record."""
        self._relay.scheduler.add_static(Node.parse(url))

    def remove_peer(self, url: str) -> None:
        """Disconnect and dial no more."""
        self._relay.scheduler.remove_peer(Node.parse(url).public_key)

    def add_trusted(self, url: str) -> None:
        """Let it connect even when all slots are taken."""
        self._relay.peers.trust(Node.parse(url).public_key)

    def remove_trusted(self, url: str) -> None:
        """Undo add_trusted without disconnecting."""
        self._relay.peers.distrust(Node.parse(url).public_key)

    def submit(self, raw: bytes) -> bytes:
        """Take a transaction of our own users."""
        return self._relay.eth.submit(raw)

    def status(self) -> PoolStatus:
        """Count the pool."""
        return PoolStatus(len(self._relay.eth.pool))

    def transaction(self, tx_hash: bytes) -> Transaction | None:
        """Return a transaction that is held."""
        return self._relay.eth.transaction(tx_hash)

    def show_pending(self, tx_hash: bytes) -> object:
        """Return a transaction that is held as JSON-RPC shows it."""
        tx = self.transaction(tx_hash)
        return None if tx is None else transaction_json(tx)

    def signers(self) -> list[bytes]:
        """Return the public keys of all senders in the pool."""
        return self._relay.eth.pool.signers()

    def sent_by(self, signer: bytes) -> tuple[bytes, list[Transaction]]:
        """Return address and transactions of a sender in order of nonce."""
        return self._relay.eth.sent_by(signer)

    @property
    def private(self) -> PrivateDesk | None:
        """The private broadcast of their transactions; None where it is off."""
        return self._relay.eth.private

    @property
    def own(self) -> OwnTransactions:
        """Transactions of our own users."""
        return self._relay.eth.own

    @property
    def latest_block(self) -> int:
        """Number of the latest block that our peers agree on."""
        return self._relay.eth.ranges.current.latest


class MetricsAdapter:
    """`relay.observe.snapshot.MetricsSource` of a running relay."""

    def __init__(self, relay: Relay, counts: PeerCounts, files: NodeFiles, startup: Startup) -> None:
        self._relay, self._counts, self._files, self._startup = relay, counts, files, startup

    def snapshot(self) -> MetricsSnapshot:
        """Read everything now."""
        relay = self._relay
        kinds = Counter(PeerKind(str(each.label), each.inbound) for each in relay.peers.sessions())
        return MetricsSnapshot(
            peers=kinds,
            ingress=relay.peers.ingress,
            egress=relay.peers.egress,
            dials=self._counts.connections(inbound=False),
            serves=self._counts.connections(inbound=True),
            tor=_tor_view(relay.board),
            static_nodes={
                "loaded": relay.scheduler.static_loaded,
                "rejected": self._files.rejected,
                "connected": relay.scheduler.static_connected,
            },
            transactions=relay.eth.counters,
            pool_transactions=len(relay.eth.pool),
            pool_bytes=relay.eth.pool.bytes,
            head=relay.eth.ranges.current.latest,
            earliest=relay.eth.ranges.current.earliest,
            startup=dict(self._startup.seconds),
            discovery=relay.discovery.counts(),
            feeds=relay.discovery.feeds(),
            dropped=relay.discovery.dropped(),
            dht=relay.discovery.dht(),
            rpc=relay.rpc_counts,
            upstreams=relay.upstream_counts,
            breaches=None if relay.tripwire is None else relay.tripwire.breaches,
            private=None if relay.eth.private is None else relay.eth.private.broadcast.counters,
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
