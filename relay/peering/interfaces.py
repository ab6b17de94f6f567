"""What peering asks of the rooms above it, and what it tells them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVarTuple

if TYPE_CHECKING:
    import asyncio

    from relay.peering.session import Departure, PeerSession
    from relay.primitives.keys import PublicKey
    from relay.primitives.node import Node
    from relay.protocols.eth.messages import Status

__all__ = ["CandidateSource", "CapabilityHandler", "EthHandler", "PeerObserver", "SilentObserver", "Timers"]

_Args = TypeVarTuple("_Args")


class CapabilityHandler(Protocol):
    """Takes the messages of one capability."""

    def message(self, session: PeerSession, code: int, payload: bytes) -> None:
        """Take a message of a joined peer. Called for each, synchronously: it must be quick.

        Args:
            session: who sent it; it may be disconnected, paused or answered from within this call.
            code: message code inside the capability.
            payload: decompressed.

        Raises:
            PeerError: the peer broke a rule; it is disconnected with that reason.
        """


class EthHandler(CapabilityHandler, Protocol):
    """The eth capability: decides who stays and takes every message after Status."""

    def status(self, version: int) -> Status:
        """Make our Status for this eth version."""

    def check_status(self, session: PeerSession, status: Status) -> None:
        """Judge the peer's Status.

        Raises:
            PeerError: another network, genesis or fork.
        """

    def joined(self, session: PeerSession) -> None:
        """Take a peer that passed every check. It has its slot until `left`."""

    def left(self, session: PeerSession, reason: int) -> None:
        """Let go of a peer that had joined; never called from within another call of this handler.

        Args:
            session: sends to it are ignored from now on; its slot is free afterwards.
            reason: devp2p Disconnect reason.
        """


class PeerObserver(Protocol):
    """Counts what happens to peers; must not raise."""

    def dialed(self, way: str, error: str | None) -> None:
        """Tell that a dial ended; `error` is None when the connection stood, else a short cause."""

    def accepted(self, label: str) -> None:
        """Tell that a connection came in, and of which network class."""

    def handshake_seconds(self, seconds: float, inbound: bool) -> None:
        """Tell how long it took from the connection to joining."""

    def joined(self, session: PeerSession) -> None:
        """Tell that a peer joined."""

    def left(self, session: PeerSession, departure: Departure) -> None:
        """Tell that a joined peer left."""

    def refused(self, inbound: bool, departure: Departure) -> None:
        """Tell that a connection ended before joining, on either side's wish."""


class SilentObserver:
    """Counts nothing."""

    def dialed(self, way: str, error: str | None) -> None:
        """Ignore it."""

    def accepted(self, label: str) -> None:
        """Ignore it."""

    def handshake_seconds(self, seconds: float, inbound: bool) -> None:
        """Ignore it."""

    def joined(self, session: PeerSession) -> None:
        """Ignore it."""

    def left(self, session: PeerSession, departure: Departure) -> None:
        """Ignore it."""

    def refused(self, inbound: bool, departure: Departure) -> None:
        """Ignore it."""


class CandidateSource(Protocol):
    """A source of nodes that might be worth a dial; pulled, so that nothing piles up."""

    def take(self, count: int) -> Sequence[Node]:
        """Give at most this many nodes, none if there are none now. Must not block."""

    def why(self, public_key: PublicKey) -> str | None:
        """Tell for the log what led to a node that was given."""


class Timers(Protocol):
    """The part of an event loop that peering needs; asyncio's loops are of this kind."""

    def call_soon(self, callback: Callable[[*_Args], object], *args: *_Args) -> asyncio.Handle:
        """Call it in the next iteration."""

    def call_later(
        self, delay: float, callback: Callable[[*_Args], object], *args: *_Args
    ) -> asyncio.TimerHandle:
        """Call it after some seconds."""
