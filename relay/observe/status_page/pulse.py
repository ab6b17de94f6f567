"""Looks at the metrics every few seconds: rates for a graph, and events, which are differences of metrics.

So both tell nothing that a reader of the metrics could not have noted down; no event names a peer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from relay.observe.loop_stall import LoopClock, Timer
from relay.observe.snapshot import MetricsSnapshot

__all__ = ["Event", "Pulse", "Rate"]

INTERVAL: Final = 5.0  # seconds between two looks
MAX_RATES: Final = 60  # five minutes
MAX_EVENTS: Final = 30


@dataclass(frozen=True, slots=True)
class Rate:
    """Transactions a second between two looks.

    Attributes:
        seen: that came in.
        relayed: that went out.
    """

    seen: float
    relayed: float


@dataclass(frozen=True, slots=True)
class Event:
    """Something that changed.

    Attributes:
        number: one more than the event before.
        at: monotonic seconds.
        words: for a person.
    """

    number: int
    at: float
    words: str


class Pulse:
    """Looks while it is started.

    Args:
        loop: clock and timers.
        read: the metrics.

    Attributes:
        rates: oldest first.
        events: oldest first.
    """

    def __init__(self, loop: LoopClock, read: Callable[[], MetricsSnapshot]) -> None:
        self._loop, self._read = loop, read
        self._timer: Timer | None = None
        self._before: tuple[float, _Facts] | None = None
        self._number = 0
        self.rates: deque[Rate] = deque(maxlen=MAX_RATES)
        self.events: deque[Event] = deque(maxlen=MAX_EVENTS)

    def start(self) -> None:
        """Look from now on."""
        self._note(["this relay started"], self._loop.time())
        self._beat()

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _beat(self) -> None:
        now, facts = self._loop.time(), _facts(self._read())
        if self._before is not None:
            at, before = self._before
            seconds = max(now - at, 1e-3)
            self.rates.append(
                Rate((facts.seen - before.seen) / seconds, (facts.relayed - before.relayed) / seconds)
            )
            self._note(_changes(before, facts), now)
        self._before = (now, facts)
        self._timer = self._loop.call_later(INTERVAL, self._beat)

    def _note(self, words: Iterator[str] | list[str], now: float) -> None:
        for each in words:
            self._number += 1
            self.events.append(Event(self._number, now, each))


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is compared."""

    seen: int
    relayed: int
    peers: dict[str, int]
    bootstrap: int
    control: bool
    service: bool
    reorgs: int
    breaches: int


def _facts(now: MetricsSnapshot) -> _Facts:
    peers: dict[str, int] = {}
    for kind, count in now.peers.items():
        peers[kind.network] = peers.get(kind.network, 0) + count
    tor, counts = now.tor, now.transactions
    return _Facts(
        counts.seen, counts.relayed, peers, tor.bootstrap_percent, tor.control_connected, tor.service_up,
        counts.reorgs, now.breaches or 0,
    )  # fmt: skip


def _changes(before: _Facts, now: _Facts) -> Iterator[str]:
    for network in sorted({*before.peers, *now.peers}):
        had, has = before.peers.get(network, 0), now.peers.get(network, 0)
        if had != has:
            yield f"{network} peers: {has}, {'up' if has > had else 'down'} from {had}"
    if before.bootstrap != now.bootstrap:
        yield f"Tor's start: {now.bootstrap} %"
    if before.control != now.control:
        yield "Tor's control port answers" if now.control else "Tor's control port does not answer"
    if before.service != now.service:
        yield "peers can reach the onion service" if now.service else "peers can not reach the onion service"
    if before.reorgs < now.reorgs:
        yield "the head of the chain moved to another branch"
    if before.breaches < now.breaches:
        yield "the tripwire stopped a call that would have got outside of Tor"
