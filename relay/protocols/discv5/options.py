"""What may be tuned, with units. The specification's own numbers stand where they are used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["ONION", "UDP", "Options"]


@dataclass(frozen=True, slots=True)
class Options:
    """Numbers of one core; the defaults are go-ethereum's, for UDP.

    Attributes:
        response_timeout: seconds until a request over an existing session counts as unanswered; starts anew
            with each part of an answer.
        connect_timeout: seconds until an address without a session has answered with a WHOAREYOU; where a
            driver tells that its dial has come through, it waits response_timeout from there on.
        response_floor: seconds; where it is given, response_timeout is only the ceiling, and what is waited
            follows the measured round trips. See `patience`.
        challenge_lifetime: seconds that a WHOAREYOU of ours may be answered.
        fast_interval: seconds; a node of the fast list is pinged after a random part of it.
        slow_interval: the same for the slow list, of nodes that have answered before.
        quiet: seconds after a node's last answer in which it is not pinged.
        refresh_interval: seconds; the table is refreshed by lookups after a half to the whole of it.
        young_interval: seconds from the first refresh to a lookup for ourselves alone, or half of them; each
            time twice as long, until it is refresh_interval. 0: none.
        starved_interval: seconds between refreshes while the table is empty.
        eager_below: a node that enters a table with at most so many, itself included, brings the next refresh
            forward.
        eager_interval: seconds from refresh to refresh at least, where one is brought forward.
        ask_bootnodes: each refresh asks the bootnodes, too, whom they know near us. A lookup for ourselves
            asks our neighbours alone, so that two groups without a link would stay apart for ever.
        refresh_lookups: lookups of random ids in a refresh, after the one for ourselves.
        sessions: session keys that are kept; the least recently used go first.
        warm_sessions: sessions whose ciphers are kept set up (6 to 9 KB each); all others hold keys alone.
        challenges: WHOAREYOU packets of ours waiting for their answer; the oldest go first.
        records: verified records that are kept by their bytes; the oldest go first.
        calls: requests under way and queued, over all nodes; more of them fail as BUSY.
        calls_per_node: the same for one node.
        lookups: lookups at one time; more of them fail as BUSY.
        lookup_retries: how often a lookup asks a silent node again; for networks that lose packets.
        lookup_distances: that a lookup asks each node for; more of them make answers fuller.
        packets: outgoing packets that wait to be taken; later ones are dropped.
        bucket_group_limit: nodes of one group (/24, or teller) in a bucket and its replacements.
        table_group_limit: the same in the whole table; not for those that came by themselves.
        prove_before_entry: a node enters the table only after it has answered on an address that we dialed.
        candidates: nodes waiting to be proved; later ones are dropped.
        candidates_per_teller: how many of them one node may have told.
        candidate_interval: seconds between proofs.
        proofs: under way at a time; they must leave dials to lookups.
        dials_per_host: first requests in dial_window to one host, whoever claims it; None: no limit.
        dial_window: seconds.
    """

    response_timeout: float = 0.7
    connect_timeout: float = 0.7
    response_floor: float | None = None
    challenge_lifetime: float = 1.0
    fast_interval: float = 3.0
    slow_interval: float = 9.0
    quiet: float = 0.0
    refresh_interval: float = 1800.0
    young_interval: float = 0.0
    starved_interval: float = 10.0
    eager_below: int = 1
    eager_interval: float = 5.0
    ask_bootnodes: bool = False
    refresh_lookups: int = 3
    sessions: int = 1024
    warm_sessions: int = 128
    challenges: int = 4096
    records: int = 4096
    calls: int = 4096
    calls_per_node: int = 64
    lookups: int = 16
    lookup_retries: int = 1
    lookup_distances: int = 3  # d, d+1, d-1; go-ethereum lookupRequestLimit
    packets: int = 4096
    bucket_group_limit: int = 2
    table_group_limit: int = 10
    prove_before_entry: bool = False
    candidates: int = 256
    candidates_per_teller: int = 32
    candidate_interval: float = 1.0
    proofs: int = 16
    dials_per_host: int | None = None
    dial_window: float = 600.0


UDP: Final = Options()

# A request over the public Tor network takes 5 s in the middle and 50 s at p95, circuit included
# (WalletWasabi #8900): that is what is waited until enough round trips were measured.
# Few requests and full answers: a circuit is dear, a byte on an open stream is not.
ONION: Final = Options(
    response_timeout=15.0,
    connect_timeout=90.0,  # the driver gives its dials up earlier, the wait for their turn included
    response_floor=2.0,
    challenge_lifetime=30.0,
    fast_interval=30.0,
    slow_interval=60.0,
    quiet=1200.0,
    refresh_interval=3600.0,  # the checks keep a full table well, at a third of the circuits,
    young_interval=120.0,  # and who is new looks around more often
    ask_bootnodes=True,
    eager_below=16,
    eager_interval=3.0,
    lookup_retries=1,  # one dial in twenty takes too long, and the next one to the same onion does not
    lookup_distances=16,
    bucket_group_limit=8,
    table_group_limit=32,
    prove_before_entry=True,
    candidate_interval=0.5,
    dials_per_host=4,
)
