"""The settings of chain data, each with its unit."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ProxyOptions"]


@dataclass(frozen=True, slots=True)
class ProxyOptions:
    """How long others are asked, how much is held, and who may ask how much.

    Attributes:
        patience: seconds in which a request of a peer is answered, come what may (setting
            --request-patience). geth's tests wait 2 s for headers, geth itself far longer.
        header_patience: the same for headers.
        own_patience: seconds in which we want to know what certain peers say, through Tor as well.
        header_attempt: seconds after which another peer is asked for headers too; the first may still answer.
        item_attempt: the same for bodies, receipts and access lists.
        attempts: peers asked in vain for one thing before it is given up.
        absent_seconds: for which it is believed that nobody has what all who were asked had not.
        absent_count: how much of this is remembered.
        cache_bytes: headers, bodies, receipts and access lists held (setting --chain-cache).
        canonical_count: blocks whose place in the chain is remembered, by number.
        reorg_depth: blocks below the head beyond which a different header is a lie and no reorganization.
        ahead: blocks above our confirmed head that are believed because they link to it, and by which a peer
            may be ahead of what it told (geth tells every 32 blocks).
        span: blocks of a request with gaps that are fetched whole, so that their links can be checked.
        chunk: bodies, receipts or access lists asked for at once; what is beyond is left to the requester's
            next request (geth asks for 128 bodies, 256 receipts).
        block_bytes: receipts of one block that are gathered from partial answers.
        slice_seconds: checking of answers in one turn of the event loop.
        per_upstream: requests under way to one peer: some, so that it never waits for us.
        quarantine: seconds before a peer that came in by itself is asked for anything.
        forgiveness: seconds after which a peer that owes an answer may be asked again; doubles each time.
        forgiven: how many times at most, before it answers something.
        late: seconds in which an answer that comes too late is no offence (geth's request tracker: 5 min).
        owed: late answers that are remembered per peer.
        requester_active: requests of one peer that are being fetched at a time.
        requester_queue: its requests that wait for that; beyond, they are answered with nothing.
        requester_rate: bytes a second that are fetched on behalf of one peer.
        requester_burst: bytes it may be ahead of that.
        fruitless_bytes: what a request that others were asked for in vain counts as, against the rate: else
            who asks for what nobody has could have others asked without end.
        queue: questions that wait until a peer has a place for them; beyond, they are given up.
        hops: how often a question goes from relay to relay at most.
        hop_share: part of the time left that the next relay is given.
    """

    patience: float = 4.0
    header_patience: float = 1.5
    own_patience: float = 10.0
    header_attempt: float = 0.6
    item_attempt: float = 1.3
    attempts: int = 6
    absent_seconds: float = 3.0
    absent_count: int = 4096
    cache_bytes: int = 64 * 1024 * 1024
    canonical_count: int = 131_072
    reorg_depth: int = 64
    ahead: int = 64
    span: int = 192
    chunk: int = 256
    block_bytes: int = 32 * 1024 * 1024
    slice_seconds: float = 0.003
    per_upstream: int = 8
    quarantine: float = 30.0
    forgiveness: float = 15.0
    forgiven: int = 3
    late: float = 300.0
    owed: int = 16
    requester_active: int = 16
    requester_queue: int = 256
    requester_rate: float = 32.0 * 1024 * 1024
    requester_burst: float = 256.0 * 1024 * 1024
    fruitless_bytes: int = 1024 * 1024
    queue: int = 4096
    hops: int = 2
    hop_share: float = 0.75
