"""Counts what happens to peers, for the metrics page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from relay.observe.snapshot import Connections
from relay.peering.session import Departure, PeerSession
from relay.protocols.devp2p.messages import DisconnectReason

GETH_NAMES: Final[dict[int, str]] = {
    DisconnectReason.NETWORK_ERROR: "rlpx_enc",
    DisconnectReason.PROTOCOL_BREACH: "rlpx_proto",
    DisconnectReason.USELESS_PEER: "useless",
    DisconnectReason.TOO_MANY_PEERS: "saturated",
    DisconnectReason.ALREADY_CONNECTED: "known",
    DisconnectReason.UNEXPECTED_IDENTITY: "id_unexpected",
    DisconnectReason.SELF_CONNECT: "self",
}
"""What geth's metrics call a handshake that ended so (p2p/metrics.go, markDialError)."""
BAD_HANDSHAKE: Final = "bad handshake"  # garbage in the RLPx handshake; its reason on the wire is a breach
STAYED_SECONDS: Final = 60.0  # geth's measure of a dial that was worth it


class PeerCounts:
    """A PeerObserver that only adds up.

    Args:
        now: monotonic seconds.
        on_joined: told of each peer that joins, for what wants to know besides.

    Attributes:
        dial_errors: causes of failed dials and of handshakes that we began.
        serve_errors: causes of failed handshakes of peers that came in.
    """

    def __init__(
        self, now: Callable[[], float], on_joined: Callable[[PeerSession], None] = lambda _: None
    ) -> None:
        self._now, self._on_joined = now, on_joined
        self.dial_errors: Counter[str] = Counter()
        self.serve_errors: Counter[str] = Counter()
        self._tried = Counter[bool]()
        self._joined = Counter[bool]()
        self._stayed = Counter[bool]()

    def connections(self, *, inbound: bool) -> Connections:
        """What happened in one direction."""
        errors = self.serve_errors if inbound else self.dial_errors
        return Connections(self._tried[inbound], self._joined[inbound], self._stayed[inbound], dict(errors))

    def dialed(self, way: str, error: str | None) -> None:
        """Count a dial."""
        self._tried[False] += 1
        if error is not None:
            self.dial_errors["connection"] += 1

    def accepted(self, label: str) -> None:
        """Count a connection that came in."""
        self._tried[True] += 1

    def handshake_seconds(self, seconds: float, inbound: bool) -> None:
        """Nothing: the number of joined peers says it."""

    def joined(self, session: PeerSession) -> None:
        """Count a peer."""
        self._joined[session.inbound] += 1
        self._on_joined(session)

    def left(self, session: PeerSession, departure: Departure) -> None:
        """Count a peer that stayed long enough."""
        if self._now() - session.joined_at >= STAYED_SECONDS:
            self._stayed[session.inbound] += 1

    def refused(self, inbound: bool, departure: Departure) -> None:
        """Count a handshake that came to nothing."""
        name = (
            "rlpx_enc" if departure.category == BAD_HANDSHAKE else GETH_NAMES.get(departure.reason, "other")
        )
        (self.serve_errors if inbound else self.dial_errors)[name] += 1
