"""What the core tells its driver."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from relay.primitives.endpoint import Endpoint
from relay.primitives.enr import NodeRecord
from relay.protocols.discv4.contact import Contact

__all__ = [
    "EndpointStated",
    "Event",
    "Left",
    "LookupDone",
    "Proved",
    "RecordAnswered",
    "RecordReceived",
    "Refusal",
    "Refused",
    "Unanswered",
]


class Refusal(StrEnum):
    """Why a packet, or a part of it, was not believed; the label of a counter."""

    MALFORMED = "malformed"
    EXPIRED = "expired"
    OWN = "own key"
    UNPROVED = "no endpoint proof"
    UNSOLICITED = "unsolicited"
    TOO_MANY = "too many packets"
    BAD_RECORD = "bad record"
    BAD_NEIGHBOR = "bad neighbour"
    BUSY = "too many pings unanswered"


@dataclass(frozen=True, slots=True)
class Refused:
    """Something hostile, broken or late arrived.

    Attributes:
        reason: for counting.
        source: where it came from, which may be forged.
        detail: for people.
    """

    reason: Refusal
    source: Endpoint
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Proved:
    """A node has answered our ping at this endpoint."""

    contact: Contact


@dataclass(frozen=True, slots=True)
class RecordReceived:
    """A node has given its record, newer than the one we had: a candidate.

    Attributes:
        contact: proved, and with the record.
        record: the same record.
    """

    contact: Contact
    record: NodeRecord


@dataclass(frozen=True, slots=True)
class RecordAnswered:
    """A request for a record has ended.

    Attributes:
        contact: who was asked.
        record: what it gave, new or not; None: nothing, or nothing to believe.
    """

    contact: Contact
    record: NodeRecord | None


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A node did not answer a ping of ours in time."""

    contact: Contact


@dataclass(frozen=True, slots=True)
class Left:
    """A node was taken from the table: it is silent."""

    contact: Contact


@dataclass(frozen=True, slots=True)
class EndpointStated:
    """A node with an endpoint proof says which address our packets come from.

    Attributes:
        by: who says it.
        stated: what it says.
    """

    by: Endpoint
    stated: Endpoint


@dataclass(frozen=True, slots=True)
class LookupDone:
    """A lookup has ended.

    Attributes:
        number: as `Discv4.lookup` returned it; 0 for the table's own.
        target: 64 bytes that were looked for.
        found: up to 16 nodes nearest to the target that answered, the nearest first.
        asked: how many nodes were asked.
    """

    number: int
    target: bytes
    found: tuple[Contact, ...]
    asked: int


Event: TypeAlias = (
    Refused | Proved | RecordReceived | RecordAnswered | Unanswered | Left | EndpointStated | LookupDone
)
