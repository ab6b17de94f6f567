"""Two ends of a devp2p connection, joined by hand, with randomness that repeats."""

from __future__ import annotations

from hashlib import shake_256
from itertools import count

from relay.primitives.keys import NodeKey
from relay.protocols.devp2p.capabilities import Capability
from relay.protocols.devp2p.connection import DevP2PConnection
from relay.protocols.devp2p.events import Event
from relay.protocols.devp2p.messages import P2P_VERSION, Hello

__all__ = ["ETH", "ETH_CODES", "Pair", "Randomness", "feed", "make_hello"]

ETH_CODES = 18
ETH = (Capability("eth", 68, 17), Capability("eth", 69, ETH_CODES))


class Randomness:
    """A `rand` that gives the same bytes for the same seed."""

    def __init__(self, seed: object = 0) -> None:
        self._seed = repr(seed).encode()
        self._calls = count()

    def __call__(self, size: int) -> bytes:
        return shake_256(self._seed + b"/%d" % next(self._calls)).digest(size)


def make_hello(key: NodeKey, capabilities=ETH, version: int = P2P_VERSION, client: str = "test/1") -> Hello:
    return Hello(version, client, tuple(capabilities), 0, key.public_key)


class Pair:
    """An initiator `a` and a recipient `b`; what each reported is in `a_events` and `b_events`."""

    def __init__(self, seed: object = 0, *, a_hello=make_hello, b_hello=make_hello) -> None:
        rand = Randomness(seed)
        self.a_key, self.b_key = NodeKey.generate(rand), NodeKey.generate(rand)
        self.a = DevP2PConnection.initiator(self.a_key, self.b_key.public_key, a_hello(self.a_key), rand)
        self.b = DevP2PConnection.recipient(self.b_key, b_hello(self.b_key), rand)
        self.a_events: list[Event] = []
        self.b_events: list[Event] = []

    def exchange(self, size: int = 1 << 20) -> None:
        """Carry what waits on both sides, in pieces of size, until nothing does."""
        while True:
            to_b, to_a = self.a.take_output(), self.b.take_output()
            if not to_a and not to_b:
                return
            self.b_events += feed(self.b, to_b, size)
            self.a_events += feed(self.a, to_a, size)

    def connect(self, size: int = 1 << 20) -> Pair:
        self.exchange(size)
        return self


def feed(connection: DevP2PConnection, data: bytes, size: int = 1 << 20) -> list[Event]:
    """Let a connection receive data in pieces of size."""
    events: list[Event] = []
    for start in range(0, len(data), size):
        events += connection.receive(data[start : start + size])
    return events
