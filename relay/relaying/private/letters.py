"""A transaction on its way out, and how far it has come."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from relay.chain.transactions import BLOB

if TYPE_CHECKING:
    from relay.relaying.pool import PooledTx
    from relay.relaying.private.courier import Addressee
    from relay.relaying.seams import Handle

__all__ = ["Letter", "State"]


class State(StrEnum):
    """What a transaction does at this time; the values are for people."""

    QUEUED = "waits for an earlier nonce"
    SENDING = "is being sent"
    UNSENT = "was taken by nobody yet"
    LISTENING = "waits for its echo"


class Letter:
    """A transaction that is in no pool of ours.

    Attributes:
        tx: what the pool would hold.
        item: whole, as it stands in a message of eth/68 to eth/71.
        raw: the same in canonical form.
        submitted: monotonic seconds; begun: when its first round began, None before.
        state: see there.
        rounds: that were ended.
        confirmed: keys of all peers that have confirmed it.
        waiting: who may be asked in this round, the last first.
        under_way: connections of this round by key of the peer.
        copies: deliveries that were confirmed in this round.
        dials: connections begun in this round.
        timer: when something happens next; None while it is sent or queued.
    """

    __slots__ = (
        "begun",
        "confirmed",
        "copies",
        "dials",
        "item",
        "raw",
        "rounds",
        "state",
        "submitted",
        "timer",
        "tx",
        "under_way",
        "waiting",
    )

    def __init__(
        self, tx: PooledTx, raw: bytes, item: bytes, submitted: float, begun: float | None = None
    ) -> None:
        self.tx = tx
        self.raw = raw
        self.item = item
        self.submitted = submitted
        self.begun = begun
        self.state = State.QUEUED
        self.rounds = 0
        self.confirmed: set[bytes] = set()
        self.waiting: list[Addressee] = []
        self.under_way: dict[bytes, Handle] = {}
        self.copies = 0
        self.dials = 0
        self.timer: Handle | None = None

    @property
    def is_asked_for(self) -> bool:
        """Whether it is announced first: blobs are never pushed."""
        return self.tx.type == BLOB

    def begin_round(self, waiting: list[Addressee], now: float) -> None:
        """Be sent, to some of these."""
        self.state = State.SENDING
        self.begun = now if self.begun is None else self.begun
        self.waiting = waiting
        self.copies = self.dials = 0

    def lacks(self, copies: int) -> bool:
        """Tell whether another connection is needed for so many receivers."""
        return self.copies + len(self.under_way) < copies
