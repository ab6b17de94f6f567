"""Discv5 drivers in one event loop that reach each other without sockets."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Hashable
from dataclasses import replace

from relay.discovery.driver import CoreDriver
from relay.protocols.discv5 import ONION, UDP, Options
from tests.aids.discv5 import TestNode, make_node

__all__ = ["QUICK", "QUICK_ONION", "DriverNet"]

QUICK = replace(UDP, fast_interval=0.05, slow_interval=0.2, starved_interval=0.2, refresh_interval=1.0)
QUICK_ONION = replace(
    ONION, response_timeout=0.5, connect_timeout=0.5, response_floor=None,
    fast_interval=0.05, slow_interval=0.2, quiet=0.0, refresh_interval=1.0, starved_interval=0.2,
    candidate_interval=0.01,
)  # fmt: skip


class DriverNet:
    """Drivers by address; a packet arrives in the next turn of the loop.

    Attributes:
        silent: addresses that packets get lost to.
    """

    def __init__(self, options: Options = QUICK, *, onion: bool = False) -> None:
        self.options = options
        self.onion = onion
        self.nodes: dict[Hashable, tuple[TestNode, CoreDriver]] = {}
        self.silent: set[Hashable] = set()

    def add(self, number: int, *, knows: int | None = None, **changes: object) -> CoreDriver:
        node = make_node(
            number, self.options, onion=self.onion, rand=random.Random(number).randbytes, **changes
        )
        loop = asyncio.get_running_loop()

        def send(data: bytes, to: Hashable) -> None:
            target = self.nodes.get(to)
            if target is not None and to not in self.silent:
                loop.call_soon(target[1].receive, data, node.address)

        driver = CoreDriver(node.core, send, clock=loop)
        if knows is not None:
            node.core.add_bootnode(self._record_of(knows))
        self.nodes[node.address] = (node, driver)
        return driver

    def start(self) -> None:
        for _, driver in self.nodes.values():
            driver.start()

    def stop(self) -> None:
        for _, driver in self.nodes.values():
            driver.stop()

    def _record_of(self, number: int) -> object:
        return make_node(number, self.options, onion=self.onion).record
