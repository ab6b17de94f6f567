"""Limits and deadlines of peering, with go-ethereum's defaults where it has them."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["DialOptions", "EvictionOptions", "PeeringOptions"]


@dataclass(frozen=True, slots=True)
class EvictionOptions:
    """When an inbound peer gives its place to a newcomer; see `relay.peering.eviction`.

    Attributes:
        enabled: if not, a full set refuses everybody, as geth's does.
        share_of_measure: one inbound place in so many is kept by each measure of worth.
        share_of_door: one in so many may be held by newcomers that others made room for.
        grace: seconds in which a peer that joined is not sent away.
        exile: seconds in which a peer that was sent away, or one of its network group, makes nobody give way.
    """

    enabled: bool = True
    share_of_measure: int = 8
    share_of_door: int = 8
    grace: float = 120.0
    exile: float = 3600.0


@dataclass(frozen=True, slots=True)
class PeeringOptions:
    """How many peers, how long they may take, how much may wait for them.

    Attributes:
        max_peers: joined peers; trusted ones come on top (geth: MaxPeers).
        dial_ratio: one peer in so many is dialed, the others come in (geth: DialRatio); 0 means 3.
        max_pending: inbound handshakes between the RLPx handshake and joining (geth: MaxPendingPeers).
        max_waiting: accepted connections whose first packet is not complete, or waits for its turn.
        patience: seconds after which one that is slow with its first packet gives way to a newcomer.
        turns_per_slice: RLPx handshakes computed before the event loop gets its turn.
        slice_seconds: the same bound in time.
        handshake_timeout: seconds for each phase of the handshake (geth: handshakeTimeout).
        handshake_timeout_tor: the same where the connection runs through Tor.
        ping_interval: seconds between two pings, whatever else passes (geth: pingInterval).
        read_timeout: seconds without a byte after which a peer is dropped (geth: frameReadTimeout).
        read_timeout_tor: the same through Tor.
        write_timeout: seconds in which nothing of what waits is taken (geth: frameWriteTimeout).
        linger: seconds in which a peer may read our Disconnect before the connection is cut.
        inbound_throttle: seconds between two connections of one internet address (geth: inboundThrottleTime).
        busy_bytes: bytes that wait for a peer above which it is not `writable`; writable again at a quarter.
        overflow_bytes: bytes that wait for a peer above which it is dropped.
        sweep_interval: seconds between two looks at all deadlines: their granularity.
        eviction: who gives way when no place is free.
    """

    max_peers: int = 50
    dial_ratio: int = 3
    max_pending: int = 50
    max_waiting: int = 1024
    patience: float = 1.0
    turns_per_slice: int = 8
    slice_seconds: float = 0.005
    handshake_timeout: float = 5.0
    handshake_timeout_tor: float = 30.0
    ping_interval: float = 15.0
    read_timeout: float = 30.0
    read_timeout_tor: float = 60.0
    write_timeout: float = 20.0
    linger: float = 2.0
    inbound_throttle: float = 30.0
    busy_bytes: int = 4 * 1024 * 1024
    overflow_bytes: int = 16 * 1024 * 1024
    sweep_interval: float = 1.0
    eviction: EvictionOptions = field(default_factory=EvictionOptions)

    @property
    def max_dialed(self) -> int:
        """How many candidates may be dialed peers: at least one, unless no peers are wanted at all."""
        if not self.max_peers:
            return 0
        return max(1, self.max_peers // (self.dial_ratio or 3))

    @property
    def max_inbound(self) -> int:
        """How many peers may have come in."""
        return self.max_peers - self.max_dialed


@dataclass(frozen=True, slots=True)
class DialOptions:
    """When a node is dialed again.

    Attributes:
        max_pending: dials and handshakes of them at a time (geth: MaxPendingPeers).
        history: seconds before the same node is dialed again: more than geth's inbound throttle of 30 s.
        history_exempt: the same where no throttle by address applies: onion and local addresses.
        short_backoff: seconds after the first failure of the way; doubled with each further one.
        long_backoff: the same where a try soon is of no use: descriptor not found, peer full.
        hopeless_backoff: the same for peers of another network, or that are somebody else.
        max_backoff: upper bound of all of them.
        jitter: share of a delay that is added at random, 0 to this.
        settled: seconds after which a peer that leaves has not failed.
        max_history: candidates whose last dial is remembered; the oldest are forgotten first.
        idle: seconds between two looks at the candidate sources, which may also call `wake`.
        stagger: seconds between two nodes that are dialed when the network is back.
        until_return: seconds from our goodbye to the dial of one who is dialed anew: it may still have to
            travel, and a second connection of one node is refused.
        others_wait: seconds after the start in which places are kept for sources that have brought nobody.
        allow_private: candidates at loopback and private addresses are dialed, since we are there ourselves.
    """

    max_pending: int = 50
    history: float = 35.0
    history_exempt: float = 5.0
    short_backoff: float = 5.0
    long_backoff: float = 20.0
    hopeless_backoff: float = 300.0
    max_backoff: float = 600.0
    jitter: float = 0.25
    settled: float = 60.0
    max_history: int = 4096
    idle: float = 10.0
    stagger: float = 0.25
    until_return: float = 3.0
    others_wait: float = 120.0
    allow_private: bool = False
