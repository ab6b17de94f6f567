"""What the metrics page shows, as plain values read at a scrape: hot paths only count integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from relay.relaying.counters import RelayCounters
from relay.relaying.private.counters import PrivateCounters

__all__ = [
    "DIAL_ERRORS",
    "SERVE_ERRORS",
    "Connections",
    "DiscoveryCounts",
    "FeedCounts",
    "MetricsSnapshot",
    "MetricsSource",
    "PeerKind",
    "TorView",
]

SERVE_ERRORS: Final = (
    "id_unexpected",
    "known",
    "other",
    "rlpx_enc",
    "rlpx_proto",
    "saturated",
    "self",
    "useless",
)
"""geth's names (p2p/metrics.go) of what ended an inbound connection before the peer joined."""
DIAL_ERRORS: Final = ("connection", *SERVE_ERRORS)
"""The same for dials; connection: refused, timed out, no route, or the proxy could not reach it."""


@dataclass(frozen=True, slots=True)
class PeerKind:
    """Peers are counted by these two, never named.

    Attributes:
        network: onion, ipv4 or ipv6.
        inbound: it dialed us.
    """

    network: str
    inbound: bool


@dataclass(frozen=True, slots=True)
class Connections:
    """Attempts of one direction since the start.

    Attributes:
        tried: dials begun, or connections accepted.
        joined: of those, peers that joined.
        stayed: of those, that stayed a minute.
        errors: causes to counts; causes outside of DIAL_ERRORS or SERVE_ERRORS count as "other".
    """

    tried: int = 0
    joined: int = 0
    stayed: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TorView:
    """Tor as far as it matters to peers; all zero without Tor.

    Attributes:
        bootstrap_percent: 0 to 100.
        control_connected: the control port answers.
        service_up: peers can reach our onion address.
        service_uploads: descriptor uploads that succeeded.
        service_upload_failures: descriptor uploads that did not.
        service_upload_age: seconds since the last one that succeeded; None before the first.
        introductions: established circuits to introduction points.
    """

    bootstrap_percent: int = 0
    control_connected: bool = False
    service_up: bool = False
    service_uploads: int = 0
    service_upload_failures: int = 0
    service_upload_age: float | None = None
    introductions: int = 0


@dataclass(frozen=True, slots=True)
class DiscoveryCounts:
    """One discovery protocol on one network: "v4", "v5", "onion".

    Attributes:
        table: nodes in the table.
        live: of those, that have answered lately.
        sessions: session keys that are kept; 0 for v4.
        streams: open streams; 0 where packets are datagrams.
        lookups: random walks that ended.
        sent: messages by kind.
        received: messages by kind.
        refused: packets that were not taken, by reason.
        failed: requests that came to nothing, by reason.
    """

    table: int = 0
    live: int = 0
    sessions: int = 0
    streams: int = 0
    lookups: int = 0
    sent: Mapping[str, int] = field(default_factory=dict)
    received: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FeedCounts:
    """One source of candidates.

    Attributes:
        waiting: candidates now.
        taken: handed to the dial scheduler.
        refused: dropped, by reason.
    """

    waiting: int = 0
    taken: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MetricsSnapshot:
    """One moment.

    Attributes:
        peers: joined peers by kind.
        ingress: bytes from peers since the start.
        egress: bytes to peers since the start.
        dials: outbound connections.
        serves: inbound connections.
        tor: state of Tor.
        static_nodes: loaded, rejected, connected.
        transactions: what relaying counts.
        pool_transactions: in the pool now.
        pool_bytes: in the pool now.
        head: number of the latest block that is confirmed; earliest: the first that peers serve.
        startup: step of the start to its seconds.
        discovery: by protocol.
        dropped: below the protocols of discovery, by way ("udp", "onion") and reason: packets that were not
            looked into or not sent, streams that were not wanted.
        feeds: sources of candidates.
        dht: what the provider DHT counts, by name.
        rpc: what clients of JSON-RPC were refused, by event.
        upstreams: what JSON-RPC's upstreams have done, by event.
        private: what private broadcast counts; None where it is off.
        breaches: of the tripwire; None where none is set.
    """

    peers: Mapping[PeerKind, int] = field(default_factory=dict)
    ingress: int = 0
    egress: int = 0
    dials: Connections = field(default_factory=Connections)
    serves: Connections = field(default_factory=Connections)
    tor: TorView = field(default_factory=TorView)
    static_nodes: Mapping[str, int] = field(default_factory=dict)
    transactions: RelayCounters = field(default_factory=RelayCounters)
    pool_transactions: int = 0
    pool_bytes: int = 0
    head: int = 0
    earliest: int = 0
    startup: Mapping[str, float] = field(default_factory=dict)
    discovery: Mapping[str, DiscoveryCounts] = field(default_factory=dict)
    dropped: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    feeds: Mapping[str, FeedCounts] = field(default_factory=dict)
    dht: Mapping[str, int] = field(default_factory=dict)
    rpc: Mapping[str, int] = field(default_factory=dict)
    upstreams: Mapping[str, int] = field(default_factory=dict)
    private: PrivateCounters | None = None
    breaches: int | None = None


class MetricsSource(Protocol):
    """Who can tell; `app` implements it."""

    def snapshot(self) -> MetricsSnapshot:
        """Read everything now; cheap, must not raise."""
        ...
