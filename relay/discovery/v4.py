"""Runs one discv4 core in the event loop, as `driver` does a discv5 core: clock, packets, requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterable
from math import inf
from typing import Final, TypeVar

from relay.discovery.driver import Clock, NoAnswer
from relay.primitives.endpoint import Endpoint
from relay.primitives.enr import NodeRecord
from relay.protocols.discv4.contact import Contact
from relay.protocols.discv4.core import Discv4
from relay.protocols.discv4.events import Event, LookupDone, Proved, RecordAnswered, Unanswered
from relay.protocols.discv5 import Failure

__all__ = ["V4Driver", "V4Listener"]

T = TypeVar("T")
V4Listener = Callable[[Event], None]

_SOONEST: Final = 0.001  # seconds; the loop's clock may fire a timer early by less


class V4Driver:
    """Drives a core; whoever owns the socket calls `receive`.

    Args:
        core: not started yet.
        own_record: gives the record to show now.
        send: puts a packet on its way; must not call back into the driver before it returns.
        clock: the event loop.

    Attributes:
        core: for reading, and for what needs no answer.
    """

    def __init__(
        self,
        core: Discv4,
        own_record: Callable[[], NodeRecord],
        send: Callable[[bytes, Endpoint], None],
        *,
        clock: Clock,
    ) -> None:
        self.core = core
        self._own_record = own_record
        self._send = send
        self._clock = clock
        self._listeners: list[V4Listener] = []
        self._waiting: dict[Hashable, list[asyncio.Future[object]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._armed = inf
        self._running = False

    def listen(self, listener: V4Listener) -> None:
        """Have a callback told of every event."""
        self._listeners.append(listener)

    def start(self, seeds: Iterable[Contact] = ()) -> None:
        """Begin: the core keeps its table from here on. seeds: nodes of an earlier run."""
        self._running = True
        self.core.start(self._clock.time(), seeds)
        self.flush()

    def stop(self) -> None:
        """End: no timer fires any more, and what waits is cancelled."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for futures in self._waiting.values():
            for future in futures:
                future.cancel()

    def receive(self, data: bytes, source: Endpoint) -> None:
        """Take a packet; what was wrong with it is told by an event."""
        self.core.record = self._own_record()
        self._settle(self.core.receive_packet(data, source, self._clock.time()))

    async def ping(self, to: Contact) -> Contact:
        """Ask for a proof that a node is there; returns it as the table has it. Raises NoAnswer."""
        return await self._answer(("ping", to.node_id), lambda now: self.core.ping(to, now), Contact)

    async def request_record(self, to: Contact) -> NodeRecord:
        """Ask a node for its record. Raises NoAnswer, also for one that is not to be believed."""

        def begin(now: float) -> bool:
            self.core.request_record(to, now)
            return True

        return await self._answer(("record", to.node_id), begin, NodeRecord)

    async def lookup(self, target: bytes | None = None) -> LookupDone:
        """Search for the nodes nearest to a target of 64 bytes, a random one by itself.

        Raises:
            NoAnswer: too many lookups are under way.
        """
        number = self.core.lookup(target, self._clock.time())
        if number is None:
            raise NoAnswer(Failure.BUSY)
        return await self._answer(("lookup", number), lambda _now: True, LookupDone)

    def flush(self) -> None:
        """Send what waits and set the timer anew: after any call to the core."""
        for data, to in self.core.take_packets():
            self._send(data, to)
        self._arm()

    def wake(self) -> None:
        """Do what is due now."""
        self.core.record = self._own_record()
        self._settle(self.core.poll(self._clock.time()))

    async def _answer(self, key: Hashable, begin: Callable[[float], bool], kind: type[T]) -> T:
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(key, [])
        waiting.append(future)
        try:
            if not begin(self._clock.time()):
                raise NoAnswer(Failure.BUSY)
            self.flush()
            result = await future
            assert isinstance(result, kind)
            return result
        finally:
            waiting.remove(future)
            if not waiting and self._waiting.get(key) is waiting:
                del self._waiting[key]

    def _settle(self, events: list[Event]) -> None:
        for event in events:
            self._resolve(event)
            for listener in self._listeners:
                listener(event)
        self.flush()

    def _resolve(self, event: Event) -> None:
        if not self._waiting:
            return
        match event:
            case Proved(contact):
                self._complete(("ping", contact.node_id), contact)
            case Unanswered(contact):
                self._complete(("ping", contact.node_id), None)
            case RecordAnswered(contact, record):
                self._complete(("record", contact.node_id), record)
            case LookupDone(number):
                self._complete(("lookup", number), event)

    def _complete(self, key: Hashable, result: object) -> None:
        for future in self._waiting.get(key, ()):
            if future.done():
                continue
            if result is None:
                future.set_exception(NoAnswer(Failure.TIMEOUT))
            else:
                future.set_result(result)

    def _arm(self) -> None:
        """Set the timer, unless one that is set fires no later: it then looks again."""
        due = self.core.next_deadline()
        if not self._running or due is None or (self._timer is not None and self._armed <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._armed = max(due, self._clock.time() + _SOONEST)
        self._timer = self._clock.call_at(self._armed, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self.wake()
