"""Endpoint proofs, and the count of packets an IP may send us; both are bounded.

A proof holds for a node id at an IP, whatever the port, as go-ethereum has it. Spec: discv4.md, Endpoint
Proof.
"""

from __future__ import annotations

from typing import Final

from relay.primitives.keys import NodeId
from relay.protocols.discv4.options import Options

__all__ = ["Bonds", "HostBudget"]

_NEVER: Final = float("-inf")


class _Bond:
    """Seconds of the clock: when it last pinged us, and last answered a ping."""

    __slots__ = ("ping", "pong")

    def __init__(self) -> None:
        self.ping = _NEVER
        self.pong = _NEVER


class Bonds:
    """Who has proved to be where."""

    __slots__ = ("_hosts", "_options")

    def __init__(self, options: Options) -> None:
        self._options = options
        self._hosts: dict[str, dict[NodeId, _Bond]] = {}  # the least recently heard first

    def __len__(self) -> int:
        return sum(map(len, self._hosts.values()))

    def proved(self, node: NodeId, host: str, now: float) -> bool:
        """Whether a node has lately answered a ping at this IP, so that it may ask for more than a Pong."""
        bond = self._hosts.get(host, {}).get(node)
        return bond is not None and now - bond.pong < self._options.bond_accepted

    def given(self, node: NodeId, host: str, now: float) -> bool:
        """Whether a node has lately got a Pong of ours, so that it should answer our requests."""
        bond = self._hosts.get(host, {}).get(node)
        return bond is not None and now - bond.ping < self._options.bond_assumed

    def heard_pong(self, node: NodeId, host: str, now: float, *, pinged: bool) -> None:
        """Note the answer to our ping; pinged: since we sent it, the node has pinged us as well."""
        bond = self._bond(node, host)
        bond.pong = now
        if pinged:
            bond.ping = now

    def heard_ping(self, node: NodeId, host: str, now: float) -> None:
        """Note a ping that we answer. Pings can be forged, so they make no room for themselves."""
        bond = self._hosts.get(host, {}).get(node)
        if bond is not None:
            bond.ping = now

    def doubt(self, node: NodeId, host: str) -> None:
        """Note that a node did not answer a request: it may have forgotten our proof."""
        bond = self._hosts.get(host, {}).get(node)
        if bond is not None:
            bond.ping = _NEVER

    def _bond(self, node: NodeId, host: str) -> _Bond:
        nodes = self._hosts.pop(host, None)
        if nodes is None:
            nodes = {}
            if len(self._hosts) >= self._options.bond_hosts:
                del self._hosts[next(iter(self._hosts))]
        self._hosts[host] = nodes
        bond = nodes.pop(node, None) or _Bond()
        if len(nodes) >= self._options.bonds_per_host:
            del nodes[next(iter(nodes))]
        nodes[node] = bond
        return bond


class HostBudget:
    """A token bucket for each IP, so that a flood costs little and an answer floods nobody."""

    __slots__ = ("_buckets", "_options")

    def __init__(self, options: Options) -> None:
        self._options = options
        self._buckets: dict[str, tuple[float, float]] = {}  # tokens, and when they were counted

    def __len__(self) -> int:
        return len(self._buckets)

    def admit(self, host: str, now: float) -> bool:
        """Take one packet from an IP, or say no."""
        options = self._options
        tokens, counted = self._buckets.pop(host, (float(options.packet_burst), now))
        tokens = min(float(options.packet_burst), tokens + (now - counted) * options.packets_per_second)
        if len(self._buckets) >= options.counted_hosts:
            del self._buckets[next(iter(self._buckets))]
        admitted = tokens >= 1
        self._buckets[host] = (tokens - admitted, now)
        return admitted
