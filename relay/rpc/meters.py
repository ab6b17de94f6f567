"""How many calls a client may make: token buckets, by IP address, or by connection on unix sockets."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from relay.primitives.errors import UsageError
from relay.rpc.errors import RpcError

__all__ = ["Bucket", "Meters", "Rate", "parse_rate"]

LIMIT_EXCEEDED: Final = -32005  # EIP-1474
MAX_CLIENTS: Final = 4096  # with a bucket of their own; the one that called least lately is forgotten
_RATE: Final = re.compile(r"([0-9]{1,7})(?:/(s|m|h))?")
_SECONDS: Final = {None: 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Rate:
    """Calls in a time; as many may come at once.

    Attributes:
        calls: tokens of a full bucket.
        seconds: in which an empty one fills.
    """

    calls: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.calls} calls in {self.seconds:g} s"


def parse_rate(text: str) -> Rate:
    """Read N, N/s, N/m or N/h.

    Raises:
        UsageError: anything else, or 0.
    """
    found = _RATE.fullmatch(text.strip())
    if found is None or not int(found[1]):
        raise UsageError(f"{text[:32]!r} is no rate: give calls a second, such as 50, 50/s or 600/m")
    return Rate(int(found[1]), _SECONDS[found[2]])


class Bucket:
    """One client's calls (`relay.rpc.dispatcher.Meter`)."""

    __slots__ = ("_at", "_clock", "_counters", "_rate", "_tokens")

    def __init__(self, rate: Rate, clock: Callable[[], float], counters: Counter[str] | None = None) -> None:
        self._rate = rate
        self._counters = counters
        self._clock = clock
        self._tokens = float(rate.calls)
        self._at = clock()

    def admit(self) -> None:
        """Count a call.

        Raises:
            RpcError: -32005, with the time after which there is room again.
        """
        now, rate = self._clock(), self._rate
        self._tokens = min(rate.calls, self._tokens + (now - self._at) * rate.calls / rate.seconds)
        self._at = now
        if self._tokens < 1.0:
            if self._counters is not None:
                self._counters["call over the rate"] += 1
            wait = (1.0 - self._tokens) * rate.seconds / rate.calls
            raise RpcError(LIMIT_EXCEEDED, f"limit exceeded: {rate}; try again in {wait:.3g} s")
        self._tokens -= 1.0


class Meters:
    """The buckets of all clients.

    Args:
        rate: of each.
        clock: monotonic seconds.
        counters: of calls that were refused.
    """

    def __init__(self, rate: Rate, clock: Callable[[], float], counters: Counter[str] | None = None) -> None:
        self._rate = rate
        self._clock = clock
        self._counters = counters
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def of_address(self, address: str) -> Bucket:
        """Return the bucket of an IP address; a /64 of IPv6 is one client, who has all of its addresses."""
        key = _client(address)
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket(self._rate, self._clock, self._counters)
            if len(self._buckets) > MAX_CLIENTS:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        return bucket

    def of_connection(self) -> Bucket:
        """Return a bucket for a connection that has no address."""
        return Bucket(self._rate, self._clock, self._counters)


def _client(address: str) -> str:
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(int(parsed) >> 64)
