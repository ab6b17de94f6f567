"""relay_* methods about private broadcast, for the unix socket alone: who asks them learns who sent what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from relay.rpc.errors import server_error
from relay.rpc.methods import Method
from relay.rpc.params import HASH, quantity

__all__ = ["PrivateEntry", "PrivateView", "private_methods"]


@dataclass(frozen=True, slots=True)
class PrivateEntry:
    """A transaction that waits for its echo.

    Attributes:
        hash, sender, nonce, type, size: of it.
        state: what it does, in words.
        rounds: of short connections that have ended.
        dials: connections of this round.
        confirmed: peers that have confirmed it.
        age_seconds: since it was submitted.
    """

    hash: bytes
    sender: bytes
    nonce: int
    type: int
    size: int
    state: str
    rounds: int
    dials: int
    confirmed: int
    age_seconds: float

    def to_json(self) -> Mapping[str, object]:
        """Return it as JSON-RPC shows it."""
        return {
            "hash": "0x" + self.hash.hex(),
            "from": "0x" + self.sender.hex(),
            "nonce": quantity(self.nonce),
            "type": quantity(self.type),
            "size": quantity(self.size),
            "state": self.state,
            "rounds": self.rounds,
            "dials": self.dials,
            "confirmed": self.confirmed,
            "age_seconds": round(self.age_seconds, 3),
        }


class PrivateView(Protocol):
    """Private broadcast, as far as RPC looks (`relay.app.private_view`)."""

    def entries(self) -> Sequence[PrivateEntry]:
        """Return what waits, the oldest first."""
        ...

    def abort(self, tx_hash: bytes, /) -> bool:
        """Send it no more; False where it is not known."""
        ...


def private_methods(view: PrivateView | None) -> tuple[Method, ...]:
    """Return the methods; without a view they say that private broadcast is off."""

    def needed() -> PrivateView:
        if view is None:
            raise server_error("private broadcast is off: it needs Tor, and --private-broadcast on or auto")
        return view

    def abort(tx_hash: bytes) -> bool:
        if not needed().abort(tx_hash):
            raise server_error("no transaction that waits for its private broadcast")
        return True

    return (
        Method("relay_privateTransactions", lambda: [each.to_json() for each in needed().entries()]),
        Method("relay_abortPrivateTransaction", abort, (HASH,)),
    )
