"""What may be tuned in the provider DHT, with units."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DhtOptions"]


@dataclass(frozen=True, slots=True)
class DhtOptions:
    """Numbers of one layer.

    Attributes:
        replication: nodes nearest to a key that a record is written to, 16 at most.
        writers: of these, how many are written to at a time.
        republish: seconds between two rounds of writing a key; a random tenth is taken off or added.
        topup: seconds from a round to one brought forward: the neighbourhood of its key changed, or less than
            half of the nodes stored it.
        retry: seconds to the next round after one that stored nothing; doubles with each, up to republish.
        waiting: seconds between two looks whether there is somebody to write to.
        provides: keys that are provided; more of them are refused.
        rounds: keys that are written at one time; the others take turns.
        finds: searches at one time; more of them end as BUSY.
        find_timeout: seconds; a search ends then with what it has.
        retries: how often a node is asked again whose stream was lost, or that knew our token no more.
        lossy: packets get lost, so that who was silent is asked again too.
        asked: nodes that one search asks at most.
        enough: providers after which a search ends, once `sources` nodes have named some.
        sources: see `enough`: so that one liar does not fill a search with its own.
        per_source: providers that a search takes from one node.
        pages: pages that a search takes from one node.
        per_key: records kept for one key; see `store` for who yields.
        per_provider: records kept of one node id, and of one host under any ids.
        per_group: records of one network group (/24; onions: none) under one key.
        total: records kept.
        token_period: seconds; a token is good for one to two of them.
        probe_interval: seconds between dials that prove providers of keys which fill up.
        probes: providers waiting for such a dial; later ones are not proved.
        records: verified records that are kept by their bytes, beside the store.
    """

    replication: int = 16
    writers: int = 8
    republish: float = 3600.0
    topup: float = 300.0
    retry: float = 30.0
    waiting: float = 5.0
    provides: int = 64
    rounds: int = 4
    finds: int = 16
    find_timeout: float = 300.0
    retries: int = 1
    lossy: bool = False
    asked: int = 96
    enough: int = 48
    sources: int = 3
    per_source: int = 24
    pages: int = 8
    per_key: int = 128
    per_provider: int = 64
    per_group: int = 4
    total: int = 4096
    token_period: float = 300.0
    probe_interval: float = 30.0
    probes: int = 256
    records: int = 2048
