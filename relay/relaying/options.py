"""The settings of this room, each with its unit."""

from __future__ import annotations

from dataclasses import dataclass, field

from relay.relaying.blobs.options import BlobOptions
from relay.relaying.blockrange import RangeOptions
from relay.relaying.chain_data.options import ProxyOptions
from relay.relaying.dandelion import StemOptions
from relay.relaying.pace import PaceOptions
from relay.relaying.trickle import TrickleOptions
from relay.relaying.verdict import VerdictOptions

__all__ = ["RelayOptions"]


@dataclass(frozen=True, slots=True)
class RelayOptions:
    """How much is held, for how long, and how fast it goes out.

    Attributes:
        pool_bytes: transactions held, bytes of their wire form.
        pool_count: transactions held.
        per_sender: transactions held of one sender once the pool is crowded (geth: AccountSlots 16 +
            AccountQueue 64).
        crowded: transactions held from which per_sender counts; until then there is room for whoever sends
            many (geth: an account may exceed its slots while GlobalSlots has room).
        price_bump: percent that tip cap and fee cap must both rise to replace a transaction (geth: 10).
        blob_price_bump: the same for a blob transaction (geth: 100).
        lifetime: seconds a transaction of a peer is held. Without state nobody tells us that one was mined,
            so an old one is most likely spent: announcing it to a new peer only costs both sides. Mainnet
            brings some 20 a second: 1,800 s of them just fill pool_count.
        local_lifetime: seconds one of our own users is held (geth's Lifetime: 3 h).
        local_fee_cap: ether that a transaction of our own users may cost at most (geth: --rpc.txfeecap).
        own_count: transactions of our own users that are remembered, in the pool or not; and their senders.
        own_listen_seconds: that a few peers are left out when one of these goes out: only who was not told by
            us can show that others have it. 0: tell everybody at once.
        recent_count: hashes remembered per generation after they were refused, evicted or expired; there are
            two.
        recent_seconds: the longest a generation takes before it is rotated out.
        slice_seconds: work on received transactions per turn of the event loop.
        slice_stride: transactions between two looks at the clock.
        backlog_high: bytes a peer may have waiting before its socket is not read any more.
        backlog_low: bytes under which it is read again.
        batch_count: new transactions after which they go out although more wait to be judged.
        batch_seconds: the same by time: with many peers a frame costs more than what is in it.
        pushed_bytes: larger transactions are announced only (geth: txMaxBroadcastSize).
        packet_bytes: target size of a message of transactions or announcements (geth: maxTxPacketSize).
        piece_bytes: most that is compressed as one shared piece.
        outbox_count: announcements that wait for a slow peer, the oldest fall out (geth: maxQueuedTxAnns).
        outbox_stride: announcements built per turn of the event loop.
        outbox_retry: seconds between two looks at a peer whose socket is full.
        frames_per_second: gossip frames a second beyond which batches are gathered instead of sent one by
            one; it bites only with many peers and small batches, when a frame costs more than what is in it.
            0: never.
        frames_burst: frames that may go out before that limit counts.
        piece_cache_bytes: compressed pieces kept for peers that fetch what was announced.
        piece_cache_seconds: how long.
        announced_per_peer: hashes one peer may have announced and not delivered (geth: maxTxAnnounces).
        announced_total: the same for all peers together; each peer keeps at least announced_floor.
        announced_floor: see announced_total.
        announcers: peers remembered per announced hash.
        fetch_count: hashes a request asks for at most (geth: maxTxRetrievals).
        fetch_bytes: announced bytes after which a request is full (geth: maxTxRetrievalSize).
        fetch_timeout: seconds until another announcer is asked (geth: txFetchTimeout).
        fetch_forget: seconds after which an answer counts as unsolicited (geth's request tracker: 5 min).
        fetch_wait_min: shortest wait for a direct copy before an announced transaction is fetched, seconds.
        fetch_wait_max: longest such wait, seconds (geth: fixed 0.5).
        fetch_slack: seconds by which announcements due soon are fetched along with those due now.
        answer_bytes: soft limit of an answer with transactions (geth: softResponseLimit).
        answer_lookups: hashes of a request that are looked at (geth: maxPooledTxServe).
        tick: seconds between two rounds of housekeeping.
        pace: how many transactions peers may bring.
        verdict: what waits for the ruling of a node, where one is asked.
        blobs: of blob transactions.
        range: how our block range is found and told.
        chain_data: how requests for chain data are answered.
        stem: how transactions pass from relay to relay before they are gossiped.
        trickle: how long peers wait for what is gossiped.
    """

    pool_bytes: int = 64 * 1024 * 1024
    pool_count: int = 32768
    per_sender: int = 64
    crowded: int = 5120
    price_bump: int = 10
    blob_price_bump: int = 100
    lifetime: float = 1800.0
    local_lifetime: float = 3 * 3600.0
    local_fee_cap: float = 1.0
    own_count: int = 1024
    own_listen_seconds: float = 3.0
    recent_count: int = 32768
    recent_seconds: float = 600.0
    slice_seconds: float = 0.003
    slice_stride: int = 16
    backlog_high: int = 512 * 1024
    backlog_low: int = 128 * 1024
    batch_count: int = 256
    batch_seconds: float = 0.015
    pushed_bytes: int = 4096
    packet_bytes: int = 100 * 1024
    piece_bytes: int = 32 * 1024
    outbox_count: int = 4096
    outbox_stride: int = 1024
    outbox_retry: float = 0.1
    frames_per_second: float = 10_000.0
    frames_burst: float = 500.0
    piece_cache_bytes: int = 8 * 1024 * 1024
    piece_cache_seconds: float = 10.0
    announced_per_peer: int = 4096
    announced_total: int = 32768
    announced_floor: int = 256
    announcers: int = 16
    fetch_count: int = 256
    fetch_bytes: int = 128 * 1024
    fetch_timeout: float = 5.0
    fetch_forget: float = 300.0
    fetch_wait_min: float = 0.05
    fetch_wait_max: float = 0.1
    fetch_slack: float = 0.01
    answer_bytes: int = 2 * 1024 * 1024
    answer_lookups: int = 4096
    tick: float = 1.0
    pace: PaceOptions = field(default_factory=PaceOptions)
    verdict: VerdictOptions = field(default_factory=VerdictOptions)
    blobs: BlobOptions = field(default_factory=BlobOptions)
    range: RangeOptions = field(default_factory=RangeOptions)
    chain_data: ProxyOptions = field(default_factory=ProxyOptions)
    stem: StemOptions = field(default_factory=StemOptions)
    trickle: TrickleOptions = field(default_factory=TrickleOptions)
