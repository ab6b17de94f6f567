"""Who got which transaction, and when. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from relay.localnet.result import percentile

__all__ = ["Delivery", "Ledger"]

SAMPLES: Final = 20_000  # latest latencies that percentiles are made of
RATE_WINDOW: Final = 5.0  # seconds


@dataclass(slots=True)
class Delivery:
    """A transaction on its way.

    Attributes:
        hash: 32 bytes.
        sent_at: monotonic seconds, before the request was written.
        accepted: relay 1 said yes.
        latencies: seconds by the number of the relay that told of it.
        overdue: given up on.
    """

    hash: bytes
    sent_at: float
    accepted: bool = False
    latencies: dict[int, float] = field(default_factory=dict)
    overdue: bool = False


class Ledger:
    """Books transactions and arrivals; holds only those on their way.

    Args:
        receivers: numbers of the relays that shall tell of each transaction.
        patience: seconds after which a transaction counts as lost.

    Attributes:
        sent: accepted by relay 1.
        arrived: told of by every receiver in time.
        overdue: not, within patience.
        waiting: by hash, on their way.
        first_arrival: monotonic seconds at which the first transaction was everywhere.
    """

    def __init__(self, receivers: frozenset[int], patience: float) -> None:
        self._receivers = receivers
        self._patience = patience
        self.sent = 0
        self.arrived = 0
        self.overdue = 0
        self.waiting: dict[bytes, Delivery] = {}
        self.first_arrival: float | None = None
        self._latencies: deque[float] = deque(maxlen=SAMPLES)  # seconds; the oldest fall out
        self._times: deque[float] = deque(maxlen=SAMPLES)  # of complete deliveries; the oldest fall out

    def submit(self, tx_hash: bytes, now: float) -> None:
        """A transaction is about to be handed to relay 1."""
        self.waiting[tx_hash] = Delivery(tx_hash, now)

    def accept(self, tx_hash: bytes) -> Delivery | None:
        """Relay 1 took it, which a fast receiver may have told before; returns it if that completes it."""
        self.sent += 1
        delivery = self.waiting.get(tx_hash)
        if delivery is None:
            return None
        delivery.accepted = True
        return self._settle(delivery, delivery.sent_at + max(delivery.latencies.values(), default=0.0))

    def arrive(self, receiver: int, tx_hash: bytes, now: float) -> Delivery | None:
        """A receiver tells of a transaction; returns it if it now is everywhere. Unknown ones are none."""
        delivery = self.waiting.get(tx_hash)
        if delivery is None or receiver in delivery.latencies or receiver not in self._receivers:
            return None
        delivery.latencies[receiver] = now - delivery.sent_at
        self._latencies.append(now - delivery.sent_at)
        return self._settle(delivery, now)

    def expire(self, now: float) -> list[Delivery]:
        """Give up on what is late, and return it."""
        late = []
        for delivery in self.waiting.values():  # in the order in which they were sent
            if now - delivery.sent_at < self._patience:
                break
            delivery.overdue = True
            late.append(delivery)
        for delivery in late:
            del self.waiting[delivery.hash]
        self.overdue += len(late)
        return late

    def latency_ms(self, percent: float) -> float | None:
        """Percentile of the latest latencies."""
        found = percentile(self._latencies, percent)
        return None if found is None else found * 1000

    def rate(self, now: float) -> float:
        """Transactions a second that arrived everywhere, over the last seconds."""
        while self._times and self._times[0] < now - RATE_WINDOW:
            self._times.popleft()
        return len(self._times) / RATE_WINDOW

    def _settle(self, delivery: Delivery, now: float) -> Delivery | None:
        if not delivery.accepted or len(delivery.latencies) < len(self._receivers):
            return None
        del self.waiting[delivery.hash]
        self.arrived += 1
        self._times.append(now)
        if self.first_arrival is None:
            self.first_arrival = now
        return delivery
