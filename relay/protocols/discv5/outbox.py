"""What a core has produced and its driver has not taken yet."""

from __future__ import annotations

from collections import Counter

from relay.protocols.discv5.events import Event, Refused
from relay.protocols.discv5.messages import Kind
from relay.protocols.discv5.networks import Address
from relay.protocols.discv5.packet import Reason

__all__ = ["Outbox", "Traffic"]


class Traffic:
    """Counts since the start.

    Attributes:
        received: messages that were read, by kind.
        sent: messages by kind; what answers a WHOAREYOU counts again.
        challenges: WHOAREYOU packets sent.
        handshakes: handshake packets sent.
    """

    __slots__ = ("challenges", "handshakes", "received", "sent")

    def __init__(self) -> None:
        self.received: Counter[Kind] = Counter()
        self.sent: Counter[Kind] = Counter()
        self.challenges = 0
        self.handshakes = 0


class Outbox:
    """Packets and events, in order. Packets beyond the bound are dropped, as a full socket buffer would."""

    __slots__ = ("_bound", "_events", "_packets", "traffic")

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._events: list[Event] = []
        self._packets: list[tuple[bytes, Address]] = []
        self.traffic = Traffic()

    @property
    def has_events(self) -> bool:
        """Whether events wait."""
        return bool(self._events)

    def emit(self, event: Event) -> None:
        """Queue an event; what is queued by one packet or one deadline is bounded, and taken at once."""
        self._events.append(event)

    def send(self, data: bytes, to: Address) -> None:
        """Queue a packet."""
        if len(self._packets) < self._bound:
            self._packets.append((data, to))
        else:
            self._events.append(Refused(Reason.OVERFLOW, to))

    def take_events(self) -> list[Event]:
        """Return the events and forget them."""
        if not self._events:
            return []
        taken, self._events = self._events, []
        return taken

    def take_packets(self) -> list[tuple[bytes, Address]]:
        """Return the packets and forget them."""
        if not self._packets:
            return []
        taken, self._packets = self._packets, []
        return taken
