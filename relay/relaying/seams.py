"""What relaying needs from others, declared where it is used: a session, an event loop, a way to publish."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from relay.primitives.endpoint import Endpoint
    from relay.protocols.eth.messages import Status
    from relay.relaying.pool import PooledTx

__all__ = ["Handle", "Loop", "Publisher", "Session", "SpokenVersion"]


class SpokenVersion(Protocol):
    """The eth version agreed with a peer."""

    @property
    def version(self) -> int:
        """68 to 72."""
        ...


class Session(Protocol):
    """A connected peer, as far as relaying looks (`relay.peering` implements it)."""

    status: Status | None
    """Its Status, with the block range it told last."""

    @property
    def eth(self) -> SpokenVersion | None:
        """The eth version agreed; never None once it has joined."""
        ...

    @property
    def trusted(self) -> bool:
        """Whether our user trusts it."""
        ...

    @property
    def inbound(self) -> bool:
        """Whether it dialed us."""
        ...

    @property
    def endpoint(self) -> Endpoint | None:
        """Where it was dialed or came from; None for who came in by our onion service."""
        ...

    @property
    def writable(self) -> bool:
        """Whether its outgoing buffer has room."""
        ...

    def send(self, code: int, payload: bytes, /) -> None:
        """Send an eth message: relative code, RLP payload."""
        ...

    def send_packed(self, code: int, body: bytes, /) -> None:
        """Send an eth message whose payload is snappy-compressed already, because many peers get the same."""
        ...

    def speaks(self, name: str, /) -> bool:
        """Tell whether a capability is shared with the peer."""
        ...

    def send_to(self, name: str, code: int, payload: bytes, /) -> None:
        """Send a message of another capability than eth, which must be shared."""
        ...

    def disconnect(self, reason: int, cause: str = "", /) -> None:
        """End this peer, telling it the devp2p reason; the cause is for our log."""
        ...

    def pause_reading(self) -> None:
        """Stop reading its socket."""
        ...

    def resume_reading(self) -> None:
        """Read on."""
        ...


class Handle(Protocol):
    """A callback that is scheduled."""

    def cancel(self) -> None:
        """Never run it."""
        ...


class Loop(Protocol):
    """The part of an asyncio event loop that relaying uses; tests hand in one with a virtual clock."""

    def time(self) -> float:
        """Monotonic seconds."""
        ...

    def call_soon(self, callback: Callable[[], None], /) -> Handle:
        """Run callback in the next turn."""
        ...

    def call_later(self, delay: float, callback: Callable[[], None], /) -> Handle:
        """Run callback after delay seconds."""
        ...


class Publisher(Protocol):
    """Brings transactions of our own users out that are in the pool: by gossip.

    Private broadcast (`relay.relaying.private`) takes them before they get there.
    """

    def publish(self, batch: Sequence[PooledTx], /) -> None:
        """Send each of batch to peers that do not know it."""
        ...
