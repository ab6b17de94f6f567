"""Looks at a node again and again, for as long as its caller wants to; survives whatever the node does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from relay.monitor.node import WatchedNode
from relay.monitor.rpc import RpcRefused
from relay.monitor.watch import Watch

__all__ = ["Monitor"]


class Monitor:
    """Watches one node.

    Args:
        node: asked.
        clock: monotonic seconds.
        interval: seconds from one look to the next; a look that takes longer is followed by the next at once
            after a pause of a tenth of its time.

    Attributes:
        clock: as given.
        watch: what was seen.
        on_look: called after each look.
    """

    def __init__(self, node: WatchedNode, *, clock: Callable[[], float], interval: float) -> None:
        self._node, self.clock, self._interval = node, clock, interval
        self.watch = Watch(clock())
        self.on_look: Callable[[], None] = lambda: None

    @property
    def now(self) -> float:
        """Seconds of the clock."""
        return self.clock()

    async def look(self) -> bool:
        """Look once; tells whether the node answered."""
        try:
            view = await self._node.look()
        except RpcRefused as error:
            self.watch.fail(str(error), self.clock())
            return False
        else:
            self.watch.take(view, self.clock())
            return True
        finally:
            self.on_look()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            begun = self.clock()
            await self.look()
            took = self.clock() - begun
            await asyncio.sleep(max(self._interval - took, took / 10, 0.05))

    def close(self) -> None:
        """Close connections."""
        self._node.close()
