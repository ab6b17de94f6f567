"""UDP over the internet: nodes on a map, packets that are late and lost."""

from __future__ import annotations

from collections.abc import Hashable
from math import hypot

from benchmarks.simulation.network import Node, VirtualNetwork

__all__ = ["Internet"]

FARTHEST = 0.12  # seconds one way across the map; the antipodes are 100 to 150 ms away
ACCESS = (0.001, 0.015)  # seconds that a node's own line adds: fibre to cable
JITTER = 0.05  # share of the latency


class _Place:
    __slots__ = ("access", "x", "y")

    def __init__(self, x: float, y: float, access: float) -> None:
        self.x = x
        self.y = y
        self.access = access


class Internet:
    """Latency of a link is that of two places and two lines, with some jitter.

    Args:
        loss: part of the packets that never arrives.
        latency: seconds, least and most, the same for all links; None: by the map.
    """

    def __init__(self, loss: float = 0.01, latency: tuple[float, float] | None = None) -> None:
        self._loss = loss
        self._latency = latency
        self._network: VirtualNetwork

    def attach(self, network: VirtualNetwork) -> None:
        self._network = network

    def joined(self, node: Node) -> None:
        draw = self._network.random
        node.ways = _Place(draw.random(), draw.random(), draw.uniform(*ACCESS))

    def left(self, node: Node) -> None:
        """Nobody is told."""

    def send(self, node: Node, data: bytes, to: Hashable) -> None:
        network = self._network
        draw = network.random.random
        target = network.nodes.get(to)
        if target is not None and (not self._loss or draw() >= self._loss):
            network.carry(
                network.now + self._delay(node.ways, target.ways, draw()), target, data, node.address
            )

    def _delay(self, a: _Place, b: _Place, share: float) -> float:
        if self._latency is not None:
            least, most = self._latency
            return least + share * (most - least)
        # On a map without edges, so that no place is the middle.
        x, y = abs(a.x - b.x), abs(a.y - b.y)
        way = hypot(min(x, 1 - x), min(y, 1 - y)) / hypot(0.5, 0.5)
        return (FARTHEST * way + a.access + b.access) * (1 + JITTER * share)
