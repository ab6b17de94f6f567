"""What may be tuned, with units. The specification's own numbers stand where they are used."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Options"]


@dataclass(frozen=True, slots=True)
class Options:
    """Numbers of one core; most are go-ethereum's.

    Attributes:
        reply_timeout: seconds until a packet counts as unanswered.
        expiration: seconds that our packets are valid.
        bond_accepted: seconds that an endpoint proof of another node counts here.
        bond_assumed: seconds that we expect ours to count there: discv4.md says 12 h, go-ethereum 24 h.
        fast_interval: seconds; a random node of the fast list is pinged after a random part of it.
        slow_interval: the same for the slow list, of nodes that have answered before.
        quiet: seconds after a node's last answer in which it is not pinged to see whether it is there.
        refresh_interval: seconds between rounds of lookups for the table's sake.
        starved_interval: the same while the table is empty.
        refresh_lookups: lookups of random targets in a round, after the one for ourselves.
        max_lookups: at one time; further ones are refused.
        max_pings: of our own unanswered at one time; further ones count as unanswered.
        max_ping_backs: unanswered pings to nodes that pinged first; beyond, the node must ping again.
        max_requests: FindNode and ENRRequest at one time, over all nodes; further ones count as unanswered.
        max_requests_per_node: the same for one node.
        max_packets: outgoing packets waiting to be taken; later ones are dropped.
        bucket_limit: nodes of one /24 in a bucket and its replacements.
        table_limit: the same in the whole table.
        bonds_per_host: node ids of one IP whose proof is remembered; the oldest go first.
        bond_hosts: IPs with a remembered proof; the least recently heard go first.
        packets_per_second: from one IP, beyond its burst; more are dropped unread. Not for our own LAN.
        packet_burst: packets from one IP at once.
        counted_hosts: IPs whose packets are counted; the least recently heard go first.
    """

    reply_timeout: float = 0.5
    expiration: float = 20.0
    bond_accepted: float = 24 * 3600.0
    bond_assumed: float = 12 * 3600.0
    fast_interval: float = 3.0
    slow_interval: float = 9.0
    quiet: float = 5.0
    refresh_interval: float = 30 * 60.0
    starved_interval: float = 10.0
    refresh_lookups: int = 3
    max_lookups: int = 16
    max_pings: int = 256
    max_ping_backs: int = 128
    max_requests: int = 256
    max_requests_per_node: int = 8
    max_packets: int = 1024
    bucket_limit: int = 2
    table_limit: int = 10
    bonds_per_host: int = 64
    bond_hosts: int = 8192
    packets_per_second: float = 50.0
    packet_burst: int = 200
    counted_hosts: int = 8192
