"""Packets on their way out: signed, counted, waiting to be taken."""

from __future__ import annotations

from collections import Counter

from relay.primitives.endpoint import Endpoint
from relay.primitives.keys import NodeKey
from relay.protocols.discv4.packets import Packet, encode

__all__ = ["Outbox"]


class Outbox:
    """A bounded queue; with a driver that does not take from it, later packets are dropped.

    Attributes:
        sent: packets by kind, those dropped as "dropped".
    """

    def __init__(self, key: NodeKey, size: int) -> None:
        self._key = key
        self._size = size
        self._packets: list[tuple[bytes, Endpoint]] = []
        self.sent: Counter[str] = Counter()

    def send(self, packet: Packet, to: Endpoint) -> bytes:
        """Sign a packet and queue it; return its hash."""
        data, digest = encode(self._key, packet)
        if len(self._packets) >= self._size:
            self.sent["dropped"] += 1
        else:
            self.sent[type(packet).__name__] += 1
            self._packets.append((data, to))
        return digest

    def take(self) -> list[tuple[bytes, Endpoint]]:
        """Hand over what waits."""
        packets, self._packets = self._packets, []
        return packets
