"""The eth capability of the relay: joins pool, intake, gossip, fetcher, requests and block range."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import structlog

from relay.chain.forkid import ForkFilter, fork_id
from relay.chain.transaction_errors import SERVER_ERROR
from relay.chain.transaction_sender import address_of
from relay.chain.transactions import (
    BLOB,
    InvalidTransaction,
    Transaction,
    TransactionUndecodable,
    canonical,
    decode,
    transaction_hash,
    wire,
)
from relay.primitives.errors import PeerError, ProtocolBreach, SubprotocolError, UselessPeer
from relay.primitives.keys import PublicKey
from relay.protocols.eth.messages import REQUESTS, BlockRangeUpdate, Status
from relay.protocols.eth.packing import decode_announcement, decode_masked_announcement
from relay.relaying.admission import Admission
from relay.relaying.blobs.side import BlobSide
from relay.relaying.blockrange import BlockRange, RangeKeeper
from relay.relaying.chain_data.proxy import ChainProxy
from relay.relaying.chain_data.wire import ANSWERS
from relay.relaying.chain_data.wire import REQUESTS as CHAIN_REQUESTS
from relay.relaying.counters import RelayCounters
from relay.relaying.fetcher import Fetcher
from relay.relaying.gossip import Gossip
from relay.relaying.inclusion import Inclusions
from relay.relaying.intake import Intake
from relay.relaying.new_blocks import NewBlocks
from relay.relaying.options import RelayOptions
from relay.relaying.own import OwnTransactions
from relay.relaying.pool import PooledTx, TxPool
from relay.relaying.recent import RecentHashes
from relay.relaying.requests import PieceCache, Requests
from relay.relaying.roster import RelayPeer, Roster
from relay.relaying.stem import Stems
from relay.relaying.verdict import Court

if TYPE_CHECKING:
    from relay.chain.headers import Header
    from relay.chain.networks import ChainConfig
    from relay.relaying.blobs.side import Verifier
    from relay.relaying.private.desk import PrivateDesk
    from relay.relaying.seams import Handle, Loop, Publisher, Session
    from relay.relaying.verdict import Judge

__all__ = ["EthRelay"]

WEI: Final = 10**18  # of an ether
_MASKED_VERSION: Final = 72  # of eth, whose announcements end with a custody mask

_Method = Callable[[RelayPeer, int, bytes], None]


class EthRelay:
    """Handler of eth sessions (`relay.peering.interfaces.EthHandler`) and the daemon's view of transactions.

    Attributes:
        options, counters, pool, roster, fetcher, gossip, intake, own, stems, chain, ranges: its parts, to be
            read.
        blobs: the part for blob transactions; None where they are not relayed.
        publisher, private: who takes transactions of our own users out: of the pool, or past it.
    """

    def __init__(
        self,
        config: ChainConfig,
        options: RelayOptions,
        loop: Loop,
        unix: Callable[[], float],
        rand: Callable[[int], bytes],
        verifier: Verifier | None = None,
    ) -> None:
        self._config = config
        self._loop = loop
        self._unix = unix
        self._forks = ForkFilter(config)
        self._log = structlog.get_logger("relay.relaying")
        self._timer: Handle | None = None
        self._recent = RecentHashes(options.recent_count, options.recent_seconds)
        self._cache = PieceCache(options.piece_cache_bytes, options.piece_cache_seconds)
        self._admission = Admission(config, unix)
        self.options = options
        self.counters = RelayCounters()
        self.pool = TxPool(options, self.counters, self._recent)
        self.roster = Roster(self.pool, loop, options.pace)
        self.fetcher = Fetcher(
            self.pool, self._recent, options, self.counters, loop, rand, self._false_announcement
        )
        self.gossip = Gossip(self.roster, self.pool, self._cache, options, self.counters, loop, rand)
        self.intake = Intake(
            self._admission,
            self.pool,
            self._recent,
            self.fetcher,
            self.gossip,
            options,
            self.counters,
            loop,
        )
        self.requests = Requests(self.pool, self._cache, options, self.counters)
        self.chain = ChainProxy(
            options.chain_data, self.counters.chain, loop, rand, self._false_answer, config.genesis_hash
        )
        self.ranges = RangeKeeper(config.genesis_hash, options.range, self.counters, rand)
        self.ranges.source = self.chain
        self.ranges.on_blocks = self._new_blocks
        self.own = OwnTransactions(self.gossip, self.roster, self.pool, options, self.counters, loop, rand)
        self.stems = Stems(
            self.roster,
            self.pool,
            self._recent,
            self._admission,
            self.intake,
            self.own,
            options.stem,
            self.counters,
            loop,
            rand,
        )
        self._followed = NewBlocks(self.chain, Inclusions(self.pool, self.roster, self.counters), self.own)
        self.publisher: Publisher = self.own
        self.private: PrivateDesk | None = None
        self.blobs: BlobSide | None = None
        self._methods: dict[int, _Method] = dict.fromkeys(REQUESTS, self._nothing)
        self._methods |= dict.fromkeys(CHAIN_REQUESTS.values(), self.chain.request)
        self._methods |= dict.fromkeys(ANSWERS.values(), self.chain.response)
        self._methods |= {
            0x02: self._transactions,
            0x08: self._announcement,
            0x09: self._get_pooled_transactions,
            0x0A: self._pooled_transactions,
            0x11: self._block_range,
        }
        if verifier is not None:
            self._relay_blobs(verifier, rand)

    def _relay_blobs(self, verifier: Verifier, rand: Callable[[int], bytes]) -> None:
        blobs = self.blobs = BlobSide(
            verifier,
            self.options,
            self.pool,
            self.fetcher,
            self.gossip,
            self._recent,
            self.counters,
            self._loop,
            rand,
            self._false_announcement,
            self._publish_own,
            self.intake.decided,
        )
        self.fetcher.blobs = self.intake.blobs = blobs
        self.requests.blobs = blobs.store
        self._methods[0x14] = lambda peer, _code, payload: blobs.get_cells(peer, payload)
        self._methods[0x15] = lambda peer, _code, payload: blobs.cells(peer, payload)

    def judge_by(self, judge: Judge) -> None:
        """Pass on what peers bring only once this node has ruled it good; what our users send as before."""
        intake = self.intake
        intake.court = Court(judge, intake.decided, self.options.verdict, self.counters, self._loop)
        self.fetcher.waiting = intake.court.waiting
        if self.blobs is not None:
            self.blobs.judge = judge

    def start(self, after: float = 0.0) -> None:
        """Begin housekeeping.

        Args:
            after: seconds until the first round. Peers see where in a second the rounds are.
        """
        if self._timer is not None:
            return
        if after:
            self._timer = self._loop.call_later(after, self._tick)
        else:
            self._tick()

    def stop(self) -> None:
        """End housekeeping."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- the eth capability ----------------------------------------------------------------------------

    def status(self, version: int) -> Status:
        """Make our Status: the fork id of the network now, and the range that peers told of."""
        current = self.ranges.current
        return Status(
            version=version,
            network_id=self._config.network_id,
            genesis=self._config.genesis_hash,
            fork_id=fork_id(self._config, None, self._unix()),
            earliest=current.earliest,
            latest=current.latest,
            latest_hash=current.latest_hash,
            head=current.latest_hash,
        )

    def check_status(self, session: Session, status: Status) -> None:
        """Judge a peer's Status, in geth's order.

        Raises:
            UselessPeer: another network, genesis or fork.
            SubprotocolError: another version than agreed, or a block range that cannot be.
        """
        config = self._config
        if status.network_id != config.network_id:
            raise UselessPeer(f"network {status.network_id}, not {config.network_id}")
        if session.eth is not None and status.version != session.eth.version:
            raise SubprotocolError(f"Status of eth/{status.version} in eth/{session.eth.version}")
        if status.genesis != config.genesis_hash:
            raise UselessPeer(f"genesis {status.genesis.hex()[:16]} is another chain's")
        self._forks.check(status.fork_id, self._unix())
        status.check()

    def joined(self, session: Session) -> None:
        """Take a peer: it gets our pool announced, and its transactions are taken."""
        peer = self.roster.join(session)
        peer.told_latest = self.ranges.current.latest
        self.ranges.joined(peer)
        self.chain.joined(peer)
        status = session.status
        if status is not None and status.version != 68:
            self._learn_range(peer, BlockRange(status.earliest, status.latest, status.latest_hash))
        if self.blobs is not None:
            self.blobs.joined()
        self.gossip.joined(peer)

    def left(self, session: Session, reason: int) -> None:
        """Let go of a peer."""
        peer = self.roster.leave(session)
        if peer is None:
            return
        self.intake.left(peer)
        self.gossip.left(peer)
        self.stems.left(peer)
        self.fetcher.left(peer)
        if self.blobs is not None:
            self.blobs.left(peer)
        self.ranges.left(peer)
        self.chain.left(peer)

    def message(self, session: Session, code: int, payload: bytes) -> None:
        """Take a message of a joined peer.

        Raises:
            PeerError: it broke a rule.
        """
        peer = self.roster.get(session)
        if peer is None:
            return
        method = self._methods.get(code)
        try:
            if method is None:
                # A second Status, blocks (since the Merge), an answer that nobody asked for, an unknown code.
                raise SubprotocolError(f"unexpected eth message {code:#04x}")
            method(peer, code, payload)
        except PeerError:
            self.counters.offences[f"{code:#04x}" if method else "unexpected"] += 1
            raise

    # -- our own users ---------------------------------------------------------------------------------

    def submit(self, raw: bytes) -> bytes:
        """Take a transaction of one of our own users and send it out; one with blobs once they are verified.

        Args:
            raw: canonical bytes, as eth_sendRawTransaction has them.

        Returns:
            Its hash.

        Raises:
            InvalidTransaction: it was not taken, in geth's words.
        """
        try:
            tx_hash = transaction_hash(raw)
            self._check_fee(self._admission.decode(raw))
            underway = self.stems if self.private is None else self.private
            if tx_hash in self.pool or tx_hash in underway:
                raise InvalidTransaction(SERVER_ERROR, "already known", "known")
            tx = self._admission.admit(raw, tx_hash, local=True)
        except TransactionUndecodable as error:
            raise InvalidTransaction(SERVER_ERROR, str(error), "undecodable") from None
        if tx.type == BLOB:
            self._submit_blobs(tx)
            return tx_hash
        if self.private is not None:
            self._recent.discard(tx_hash)  # when it comes back it has to be news
            self.private.take(tx)
            return tx_hash
        if self.stems.begin(tx):
            self.counters.submitted += 1
            return tx_hash
        known = self.fetcher.arrived(tx_hash, tx.type, tx.size, pushed=False)
        entry = PooledTx(tx, wire(raw), known, self._loop.time(), local=True)
        refusal = self.pool.add(entry)
        if refusal is not None:
            raise InvalidTransaction(SERVER_ERROR, refusal.value, refusal.name.lower())
        self._recent.discard(tx_hash)
        self.counters.submitted += 1
        self._publish_own(entry)
        return tx_hash

    def _publish_own(self, entry: PooledTx) -> None:
        self.own.remember(entry)
        self.publisher.publish([entry])

    def _submit_blobs(self, tx: Transaction) -> None:
        if self.blobs is None:
            raise InvalidTransaction(
                SERVER_ERROR, "transaction type not supported: blob transactions are not relayed", "type"
            )
        assert tx.sidecar is not None
        if not tx.sidecar.blobs:
            raise InvalidTransaction(SERVER_ERROR, "missing blobs in blob transaction", "blobs")
        refusal = self.blobs.submit(tx)
        if refusal is not None:
            raise InvalidTransaction(SERVER_ERROR, refusal, "blobs")

    def _check_fee(self, tx: Transaction) -> None:
        """Refuse what a typing error would cost (geth: --rpc.txfeecap)."""
        fee, cap = tx.fee_cap * tx.gas / WEI, self.options.local_fee_cap
        if fee > cap:
            text = f"tx fee ({fee:.2f} ether) exceeds the configured cap ({cap:.2f} ether)"
            raise InvalidTransaction(SERVER_ERROR, text, "fee")

    def pool_status(self) -> tuple[int, int]:
        """Return how many transactions are pending and queued; without state none is known to be queued."""
        return len(self.pool), 0

    def pool_content(self) -> Iterator[tuple[bytes, list[Transaction]]]:
        """Walk over senders (20 bytes) and their transactions in order of nonce; decodes each."""
        for sender, entries in self.pool.by_sender().items():
            yield sender, [_transaction(entry) for entry in entries]

    def sent_by(self, signer: bytes) -> tuple[bytes, list[Transaction]]:
        """Return address and transactions of a sender by its public key, in order of nonce."""
        entries = sorted(self.pool.of_signer(signer), key=lambda entry: entry.nonce)
        return address_of(PublicKey(signer)), [_transaction(entry) for entry in entries]

    def transaction(self, tx_hash: bytes) -> Transaction | None:
        """Return a transaction that is held."""
        entry = self.pool.by_hash.get(tx_hash)
        return None if entry is None else _transaction(entry)

    # -- messages --------------------------------------------------------------------------------------

    def _transactions(self, peer: RelayPeer, _code: int, payload: bytes) -> None:
        self.intake.transactions(peer, payload)

    def _pooled_transactions(self, peer: RelayPeer, _code: int, payload: bytes) -> None:
        self.intake.pooled_transactions(peer, payload)

    def _announcement(self, peer: RelayPeer, _code: int, payload: bytes) -> None:
        if peer.version >= _MASKED_VERSION:
            self.fetcher.announced(peer, *decode_masked_announcement(payload))
        else:
            self.fetcher.announced(peer, *decode_announcement(payload))

    def _get_pooled_transactions(self, peer: RelayPeer, _code: int, payload: bytes) -> None:
        self.requests.pooled_transactions(
            peer.session, payload, peer.bit if self.options.trickle.is_on else 0
        )

    def _nothing(self, peer: RelayPeer, code: int, payload: bytes) -> None:
        self.requests.nothing(peer.session, peer.version, code, payload)

    def _block_range(self, peer: RelayPeer, _code: int, payload: bytes) -> None:
        update = BlockRangeUpdate.decode(payload, peer.version)
        session = peer.session
        if session.status is not None:
            session.status = replace(
                session.status,
                earliest=update.earliest,
                latest=update.latest,
                latest_hash=update.latest_hash,
            )
        self._learn_range(peer, BlockRange(update.earliest, update.latest, update.latest_hash))

    def _learn_range(self, peer: RelayPeer, claim: BlockRange) -> None:
        self.ranges.learn(peer, claim)
        self.chain.learn(peer, claim)

    # -- inside ----------------------------------------------------------------------------------------

    def _new_blocks(self, headers: Sequence[Header]) -> None:
        self.chain.confirm(headers)
        self._followed.take(headers)

    def _false_announcement(self, peer: RelayPeer, cause: str) -> None:
        error = SubprotocolError(cause)
        self.counters.offences["announcement"] += 1
        peer.session.disconnect(error.reason, cause)

    def _false_answer(self, peer: RelayPeer, cause: str) -> None:
        error = ProtocolBreach(cause)
        self.counters.offences["chain data"] += 1
        peer.session.disconnect(error.reason, cause)

    def _tick(self) -> None:
        now = self._loop.time()
        self._recent.tick(now)
        self._cache.tick(now)
        self._admission.tick()
        expired = self.pool.expire(now)
        if expired:
            self._log.debug("transactions expired", count=expired)
        if self.blobs is not None:
            self.blobs.tick(now)
        self.ranges.tick(now)
        self.ranges.tell(self.roster, now)
        self._timer = self._loop.call_later(self.options.tick, self._tick)


def _transaction(entry: PooledTx) -> Transaction:
    tx = decode(canonical(entry.wire), entry.hash)
    tx._signer = PublicKey(entry.signer)  # recovered when it came in: four fifths of the cost
    return tx
