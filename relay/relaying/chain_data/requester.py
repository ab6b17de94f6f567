"""What one peer asks for, shared out fairly: so many requests at a time, and so many bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from relay.relaying.chain_data.counters import ProxyCounters
    from relay.relaying.chain_data.options import ProxyOptions
    from relay.relaying.roster import RelayPeer
    from relay.relaying.seams import Handle, Loop

__all__ = ["Requester", "Serving"]

_BREATH: Final = 1 / 16  # seconds for which bytes are saved up before the next request (our choice)


class Serving(Protocol):
    """A request that could not be answered at once."""

    @property
    def deadline(self) -> float:
        """When it is answered in any case, monotonic seconds."""

    @property
    def over(self) -> bool:
        """Whether it was answered, or never will be."""

    @property
    def fetched(self) -> int:
        """Bytes that came from others, or what stands for them."""

    def start(self, told: Callable[[], None]) -> None:
        """Have fetched what is missing; told is called once it is sent on, maybe from within this call."""

    def finish(self) -> None:
        """Answer with what there is."""

    def cancel(self) -> None:
        """Never answer."""


class Requester:
    """A peer's requests that are not answered from the cache: so many at a time, the others wait in order.

    Attributes:
        peer: whose they are.
    """

    __slots__ = (
        "_active",
        "_counters",
        "_loop",
        "_options",
        "_pumping",
        "_queue",
        "_refill",
        "_since",
        "_timers",
        "_tokens",
        "peer",
    )

    def __init__(self, peer: RelayPeer, options: ProxyOptions, counters: ProxyCounters, loop: Loop) -> None:
        self.peer = peer
        self._options = options
        self._counters = counters
        self._loop = loop
        self._active: set[Serving] = set()
        self._queue: deque[Serving] = deque()
        self._timers: dict[Serving, Handle] = {}
        self._tokens = options.requester_burst  # bytes; below zero where more came than was left
        self._since = loop.time()
        self._refill: Handle | None = None
        self._pumping = False

    def __len__(self) -> int:
        return len(self._timers)

    def admit(self, serving: Serving) -> None:
        """Take a request: it is answered by its deadline at the latest."""
        if len(self._queue) >= self._options.requester_queue:
            self._counters.refused["requester"] += 1
            serving.finish()
            return
        delay = max(0.0, serving.deadline - self._loop.time())
        self._timers[serving] = self._loop.call_later(delay, lambda: self._expire(serving))
        self._queue.append(serving)
        self.pump()

    def done(self, serving: Serving) -> None:
        """Take note that a request was answered."""
        timer = self._timers.pop(serving, None)
        if timer is None:
            return
        timer.cancel()
        self._active.discard(serving)
        self._tokens -= serving.fetched
        self.pump()

    def leave(self) -> None:
        """Forget all requests of a peer that is gone."""
        for timer in self._timers.values():
            timer.cancel()
        if self._refill is not None:
            self._refill.cancel()
        servings = list(self._timers)
        self._timers.clear()
        self._queue.clear()
        self._active.clear()
        self._counters.cancelled += len(servings)
        for serving in servings:
            serving.cancel()

    def pump(self) -> None:
        """Begin with as many as may be under way."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while self._queue and len(self._active) < self._options.requester_active and self._may_fetch():
                serving = self._queue.popleft()
                if not serving.over:
                    self._active.add(serving)
                    serving.start(partial(self.done, serving))
        finally:
            self._pumping = False

    def _may_fetch(self) -> bool:
        now, rate = self._loop.time(), self._options.requester_rate
        self._tokens = min(self._options.requester_burst, self._tokens + (now - self._since) * rate)
        self._since = now
        if self._tokens > 0:
            return True
        if self._refill is None:
            self._refill = self._loop.call_later(_BREATH - self._tokens / rate, self._refilled)
        return False

    def _refilled(self) -> None:
        self._refill = None
        self.pump()

    def _expire(self, serving: Serving) -> None:
        self._counters.expired += 1
        serving.finish()
        self.done(serving)
