"""Runs one discv5 core in the event loop: its clock, its packets, and requests that can be awaited.

What stands on the core (the provider DHT) is a `Layer`: it is told of every event and may ask the core too.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from math import inf
from typing import Final, Protocol, TypeAlias

import structlog

from relay.primitives.enr import NodeRecord
from relay.primitives.errors import RelayError
from relay.primitives.keys import NodeId
from relay.primitives.node import Node
from relay.protocols.discv5 import (
    Address,
    Contact,
    Discv5,
    Event,
    Failure,
    LookupDone,
    Ponged,
    Reason,
    Refused,
    RequestDone,
    RequestFailed,
    Result,
)

__all__ = ["Clock", "CoreDriver", "Layer", "Listener", "NoAnswer"]

_log = structlog.get_logger("relay.discovery")

_SOONEST: Final = 0.001  # seconds; the loop's clock may fire a timer early by less


class NoAnswer(RelayError):
    """A request came to nothing.

    Attributes:
        failure: why.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"no answer: {failure.value}")
        self.failure = failure


class Clock(Protocol):
    """What is needed of the event loop."""

    def time(self) -> float:
        """Return monotonic seconds."""

    def call_at(self, when: float, callback: Callable[[], object], /) -> asyncio.TimerHandle:
        """Call back at a time."""


class Layer(Protocol):
    """A protocol on top of the core, pure as it is. Its calls may make the core send and emit."""

    @property
    def next_deadline(self) -> float:
        """When to call `poll`; infinity for never."""

    def receive(self, event: Event, now: float) -> None:
        """Learn of an event of the core."""

    def poll(self, now: float) -> None:
        """Do what is due."""


Listener: TypeAlias = Callable[[Event], None]


class CoreDriver:
    """Drives a core; whoever owns the sockets calls `receive` and `closed`.

    Args:
        core: of one network class.
        send: puts a packet on its way; must not call back into the driver before it returns.
        clock: the event loop.
        layers: protocols on top.

    Attributes:
        core: for reading, and for what needs no answer.
        refused: packets that were not taken, by reason.
        failed: requests that came to nothing, by reason.
    """

    def __init__(
        self,
        core: Discv5,
        send: Callable[[bytes, Address], None],
        *,
        clock: Clock,
        layers: Sequence[Layer] = (),
    ) -> None:
        self.core = core
        self.refused: Counter[Reason] = Counter()
        self.failed: Counter[Failure] = Counter()
        self._send = send
        self._clock = clock
        self._layers = tuple(layers)
        self._listeners: list[Listener] = []
        self._turns: list[Callable[[], None]] = []
        self._waiting: dict[int, asyncio.Future[Result | LookupDone]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._armed = inf
        self._running = False

    def listen(self, listener: Listener) -> None:
        """Have a callback told of every event, after the layers."""
        self._listeners.append(listener)

    def after_turns(self, callback: Callable[[], None]) -> None:
        """Have a callback take a layer's events, whenever it may have some; it must not call the driver."""
        self._turns.append(callback)

    def start(self) -> None:
        """Begin: the core refreshes its table from here on."""
        self._running = True
        self.wake()

    def stop(self) -> None:
        """End: no timer fires any more, and what waits is cancelled."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for future in self._waiting.values():
            future.cancel()

    def receive(self, data: bytes, source: Address) -> Reason | None:
        """Take a packet; returns why it was refused, if it was."""
        events = self.core.receive_packet(data, source, self._clock.time())
        refusal = next((event.reason for event in events if isinstance(event, Refused)), None)
        self._settle(events)
        return refusal

    def opened(self, address: Address) -> None:
        """Learn that a dial has come through."""
        self.core.opened(address, self._clock.time())
        self.flush()

    def closed(self, address: Address, failure: Failure = Failure.UNREACHABLE) -> None:
        """Learn that a stream is gone, or that an address can't be dialed; see `Discv5.close_address`."""
        self._settle(self.core.close_address(address, self._clock.time(), failure))

    def add_node(self, node: Node | NodeRecord) -> None:
        """Tell the core of a node known from elsewhere."""
        self.core.add_node(node, self._clock.time())
        self.flush()

    async def ping(self, to: Contact) -> Ponged:
        """Send a PING; raises NoAnswer."""
        result = await self._answer(self.core.ping(to, self._clock.time()))
        assert isinstance(result, Ponged)
        return result

    async def findnode(self, to: Contact, distances: tuple[int, ...]) -> tuple[Contact, ...]:
        """Ask for nodes at distances; raises NoAnswer."""
        result = await self._answer(self.core.findnode(to, distances, self._clock.time()))
        assert isinstance(result, tuple)
        return result

    async def talkreq(self, to: Contact, protocol: bytes, payload: bytes) -> bytes:
        """Send a TALKREQ; raises NoAnswer, and ValueError for one that is too long."""
        result = await self._answer(self.core.talkreq(to, protocol, payload, self._clock.time()))
        assert isinstance(result, bytes)
        return result

    async def lookup(self, target: NodeId) -> LookupDone:
        """Search for the nodes nearest to a target; raises NoAnswer when too many are under way."""
        result = await self._answer(self.core.lookup(target, self._clock.time()))
        assert isinstance(result, LookupDone)
        return result

    def flush(self) -> None:
        """Send what waits and set the timer anew: after any call to the core or a layer."""
        for callback in self._turns:
            callback()
        for data, to in self.core.take_packets():
            self._send(data, to)
        self._arm()

    def wake(self) -> None:
        """Do what is due now."""
        now = self._clock.time()
        events = self.core.poll(now)
        for layer in self._layers:
            layer.poll(now)
        self._settle(events)

    async def _answer(self, handle: int) -> Result | LookupDone:
        future: asyncio.Future[Result | LookupDone] = asyncio.get_running_loop().create_future()
        self._waiting[handle] = future
        try:
            self.flush()
            return await future
        finally:
            del self._waiting[handle]

    def _settle(self, events: list[Event]) -> None:
        now = self._clock.time()
        for event in events:
            self._resolve(event)
            for layer in self._layers:
                layer.receive(event, now)
            for listener in self._listeners:
                listener(event)
        self.flush()

    def _resolve(self, event: Event) -> None:
        match event:
            case Refused(reason):
                self.refused[reason] += 1
            case RequestDone(request, _, result):
                self._complete(request, result)
            case LookupDone(request):
                self._complete(request, event)
            case RequestFailed(request, _, failure):
                self.failed[failure] += 1
                future = self._waiting.get(request)
                if future is not None and not future.done():
                    future.set_exception(NoAnswer(failure))

    def _complete(self, request: int, result: Result | LookupDone) -> None:
        future = self._waiting.get(request)
        if future is not None and not future.done():
            future.set_result(result)

    def _arm(self) -> None:
        """Set the timer, unless one that is set fires no later: it then looks again."""
        if not self._running:
            return
        now = self._clock.time()
        due = min(self.core.next_deadline, *(layer.next_deadline for layer in self._layers), inf)
        if self._timer is not None and self._armed <= due:
            return
        if self._timer is not None:
            self._timer.cancel()
        if due == inf:
            self._timer = None
            return
        self._armed = max(due, now + _SOONEST)
        self._timer = self._clock.call_at(self._armed, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self.wake()
