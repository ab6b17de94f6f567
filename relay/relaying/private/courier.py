"""What a private broadcast needs from others: somebody who knows peers and makes the short connections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from relay.relaying.private.letters import Letter
    from relay.relaying.seams import Handle

__all__ = ["Addressee", "Courier", "Receipt"]


@dataclass(frozen=True, slots=True)
class Addressee:
    """A peer that a short connection can be made to.

    Attributes:
        key: of the node, 64 bytes.
        onion: whether it is reached without an exit.
        is_peer: whether it is one of our ordinary peers at this time.
    """

    key: bytes
    onion: bool = True
    is_peer: bool = False


@dataclass(frozen=True, slots=True)
class Receipt:
    """What came of a short connection.

    Attributes:
        delivered: the other side answered the ping that followed the transaction.
        cause: why not, in a few words of a small set; empty when delivered.
    """

    delivered: bool
    cause: str = ""


class Courier(Protocol):
    """Makes the short connections (`relay.app.private_broadcast`)."""

    def addressees(self) -> Sequence[Addressee]:
        """Return all who can be reached without showing who we are, in any order, each once."""
        ...

    def carry(self, to: Addressee, letter: Letter, done: Callable[[Receipt], None], /) -> Handle:
        """Bring a transaction to a peer on a connection of its own, with a key and circuit of its own.

        Args:
            to: one of `addressees`.
            letter: the transaction.
            done: called once, in a later turn; not after the handle was cancelled, which ends the connection.
        """
        ...
