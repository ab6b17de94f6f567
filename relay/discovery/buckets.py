"""How much of our time strangers get: token buckets for packets, budgets for the work they cause. Pure.

Three bounds, the cheapest first. An address and its network may send so many packets a second; and what all
hosts of one standing send together may take so much of our time, so that a flood from forged sources stops
there and not in the event loop. Hosts that have proved to be where they say have a budget of their own, which
forged packets can't use up unless their sender knows whom we talk to.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Hashable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

__all__ = ["Buckets", "Budget", "Drop", "Gate", "GateOptions", "Rate", "prefixes_of"]


@dataclass(frozen=True, slots=True)
class Rate:
    """What a bucket gives.

    Attributes:
        per_second: tokens that it gains.
        burst: tokens that it holds.
    """

    per_second: float
    burst: float


@dataclass(frozen=True, slots=True)
class GateOptions:
    """Bounds for packets that come in.

    Attributes:
        host: packets of one IPv4 address, or one IPv6 /64, which a single host has.
        network: packets of one /24, or one IPv6 /48.
        strangers: seconds of work for all hosts that have proved nothing.
        proved: the same for hosts that answered us or made a session; who forges packets has to guess them.
        lan: the same for loopback and the LAN, which have no other bound.
        sources: addresses, networks and proved hosts that are remembered, each; the longest unheard go first.
    """

    host: Rate = Rate(100.0, 400.0)
    network: Rate = Rate(400.0, 1200.0)
    strangers: Rate = Rate(0.25, 0.5)
    proved: Rate = Rate(0.25, 1.0)
    lan: Rate = Rate(0.9, 2.0)
    sources: int = 8192


class Drop(StrEnum):
    """Which bound a packet was over; the label of a counter."""

    HOST = "host"
    NETWORK = "network"
    STRANGERS = "strangers"
    PROVED = "proved"
    LAN = "lan"


class Buckets:
    """A token bucket for each key. Of too many the longest unheard is forgotten, and would come back full."""

    __slots__ = ("_buckets", "_rate", "_size")

    def __init__(self, rate: Rate, size: int) -> None:
        self._rate = rate
        self._size = size
        self._buckets: dict[Hashable, tuple[float, float]] = {}  # tokens, and when they were counted

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: Hashable, now: float) -> bool:
        """Take one token; returns whether there was one."""
        rate = self._rate
        bucket = self._buckets.pop(key, None)
        if bucket is None:
            tokens = rate.burst
            if len(self._buckets) >= self._size:
                del self._buckets[next(iter(self._buckets))]
        else:
            tokens = min(rate.burst, bucket[0] + (now - bucket[1]) * rate.per_second)
        enough = tokens >= 1.0
        self._buckets[key] = (tokens - enough, now)
        return enough


class Budget:
    """Seconds of work. It may be overdrawn by one piece, which later ones pay for."""

    __slots__ = ("_counted", "_left", "_rate")

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._left = rate.burst
        self._counted = float("inf")

    def is_left(self, now: float) -> bool:
        """Whether any work may be done now."""
        if now > self._counted:
            gained = (now - self._counted) * self._rate.per_second
            self._left = min(self._rate.burst, self._left + gained)
        self._counted = now
        return self._left > 0

    def spend(self, seconds: float) -> None:
        """Take note of work done."""
        self._left -= seconds


class Gate:
    """Says which packets are read at all.

    Ask `admit` for each packet, and tell `spent` after it what it cost.
    """

    __slots__ = ("_admitted", "_budgets", "_hosts", "_networks", "_proved", "_size")

    def __init__(self, options: GateOptions | None = None) -> None:
        options = options or GateOptions()
        self._size = options.sources
        self._hosts = Buckets(options.host, options.sources)
        self._networks = Buckets(options.network, options.sources)
        self._budgets = {
            Drop.STRANGERS: Budget(options.strangers),
            Drop.PROVED: Budget(options.proved),
            Drop.LAN: Budget(options.lan),
        }
        self._admitted = self._budgets[Drop.STRANGERS]
        self._proved: dict[Hashable, None] = {}

    def __len__(self) -> int:
        """Return how many things are remembered."""
        return len(self._hosts) + len(self._networks) + len(self._proved)

    def admit(self, host: str, now: float, *, lan: bool) -> Drop | None:
        """Say why a packet from an IP is dropped unread; None: it is not."""
        if lan:
            return self._has_time(Drop.LAN, now)
        address, network = prefixes_of(host)
        if not self._hosts.take(address, now):
            return Drop.HOST
        if not self._networks.take(network, now):
            return Drop.NETWORK
        return self._has_time(Drop.PROVED if address in self._proved else Drop.STRANGERS, now)

    def spent(self, seconds: float) -> None:
        """Take note of what the packet that was admitted last has cost."""
        self._admitted.spend(seconds)

    def prove(self, host: str) -> None:
        """Note that somebody really is at an IP."""
        address = prefixes_of(host)[0]
        self._proved.pop(address, None)
        if len(self._proved) >= self._size:
            del self._proved[next(iter(self._proved))]
        self._proved[address] = None

    def _has_time(self, standing: Drop, now: float) -> Drop | None:
        self._admitted = self._budgets[standing]
        return None if self._admitted.is_left(now) else standing


@lru_cache(maxsize=4096)
def prefixes_of(host: str) -> tuple[str, str]:
    """Return the keys of an IP: of its machine and of its network. The address and /24, or /64 and /48."""
    if ":" not in host:
        return host, host.rpartition(".")[0]
    packed = ipaddress.IPv6Address(host).packed
    return packed[:8].hex(), packed[:6].hex()
