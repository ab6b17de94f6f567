"""What relaying counts: plain ints that the metrics page reads; nothing here knows of Prometheus."""

from __future__ import annotations

from collections import Counter

from relay.relaying.chain_data.counters import ProxyCounters
from relay.relaying.stem_counters import StemCounters

__all__ = ["RelayCounters"]


class RelayCounters:
    """Sums since the start, except where a field says otherwise.

    Attributes:
        seen: transactions that came in whole, duplicates included.
        accepted: of those, new and good ones that went into the pool.
        submitted: transactions of our own users that went into the pool.
        relayed: transactions pushed or announced to at least one peer.
        duplicates: transactions that came in whole although they were held.
        duplicate_bytes: their bytes.
        repeats: transactions that came in whole although they had been refused or dropped a short while ago.
        dropped: transactions not taken, by cause.
        offences: peers disconnected for what they sent, by cause.
        evicted, replaced, expired: transactions that left the pool, by why.
        pushes: deliveries of whole transactions (one per peer and transaction).
        announcements: deliveries of announcements (one per peer and transaction).
        gossip_frames: messages these took.
        downgraded: pushes that became announcements because the peer's socket was full.
        outbox_dropped: announcements that fell out of a slow peer's queue.
        announced_in: hashes announced to us.
        announced_known: of those, held or recently dropped.
        announced_refused: of those, not tracked: over a bound, or of a type that is not relayed.
        fetches: requests sent.
        fetched: transactions asked for.
        fetch_timeouts: requests not answered in time.
        direct_in_wait: announced transactions that arrived whole before they were fetched.
        requests: requests of peers for transactions.
        served: transactions given as answers.
        missed: hashes asked for that were not held.
        blob_held: blob transactions held now.
        blob_bytes: bytes of their blobs and extensions now.
        blobs_verified: blobs that were found to be right and went into the pool.
        cells_asked: cells of blobs asked for; cells_fetched: of those, delivered.
        cells_served: cells given as answers.
        cells_timeouts: requests for cells that were not answered in time.
        chain: what answering requests for chain data counts.
        stems: what passing transactions on before they are gossiped counts.
        verdicts: rulings of a node on transactions of peers, by outcome; overflow: no room to wait for one.
        included: transactions of the pool that a block brought.
        range_polls: questions for headers, to find the head.
        range_refused: blocks that peers named as theirs and not enough of them had.
        heads: times that the head moved.
        reorgs: of those, to another branch.
        held_back: times that a peer was not read for a while because it brought too many.
        latency_sum: seconds from arrival of a transaction to its first delivery, summed over latency_count.
        longest_slice: longest work on received transactions in one turn of the event loop, seconds.
    """

    __slots__ = (
        "accepted",
        "announced_in",
        "announced_known",
        "announced_refused",
        "announcements",
        "blob_bytes",
        "blob_held",
        "blobs_verified",
        "cells_asked",
        "cells_fetched",
        "cells_served",
        "cells_timeouts",
        "chain",
        "direct_in_wait",
        "downgraded",
        "dropped",
        "duplicate_bytes",
        "duplicates",
        "evicted",
        "expired",
        "fetch_timeouts",
        "fetched",
        "fetches",
        "gossip_frames",
        "heads",
        "held_back",
        "included",
        "latency_count",
        "latency_sum",
        "longest_slice",
        "missed",
        "offences",
        "outbox_dropped",
        "pushes",
        "range_polls",
        "range_refused",
        "relayed",
        "reorgs",
        "repeats",
        "replaced",
        "requests",
        "seen",
        "served",
        "stems",
        "submitted",
        "verdicts",
    )

    def __init__(self) -> None:
        self.seen = 0
        self.range_polls = 0
        self.range_refused = 0
        self.heads = 0
        self.reorgs = 0
        self.accepted = 0
        self.submitted = 0
        self.relayed = 0
        self.duplicates = 0
        self.duplicate_bytes = 0
        self.repeats = 0
        self.dropped: Counter[str] = Counter()
        self.offences: Counter[str] = Counter()
        self.evicted = 0
        self.replaced = 0
        self.expired = 0
        self.pushes = 0
        self.announcements = 0
        self.gossip_frames = 0
        self.downgraded = 0
        self.outbox_dropped = 0
        self.announced_in = 0
        self.announced_known = 0
        self.announced_refused = 0
        self.fetches = 0
        self.fetched = 0
        self.fetch_timeouts = 0
        self.direct_in_wait = 0
        self.requests = 0
        self.served = 0
        self.missed = 0
        self.blob_held = 0
        self.blob_bytes = 0
        self.blobs_verified = 0
        self.cells_asked = 0
        self.cells_fetched = 0
        self.cells_served = 0
        self.cells_timeouts = 0
        self.chain = ProxyCounters()
        self.stems = StemCounters()
        self.verdicts: Counter[str] = Counter()
        self.held_back = 0
        self.included = 0
        self.latency_sum = 0.0
        self.latency_count = 0
        self.longest_slice = 0.0
