"""What a core tells its driver."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from relay.primitives.keys import NodeId
from relay.protocols.discv5.contact import Contact
from relay.protocols.discv5.networks import Address
from relay.protocols.discv5.packet import Reason

__all__ = [
    "EndpointVote", "Event", "Failure", "LookupDone", "NodeDropped", "NodeSeen", "NodeVerified", "Ponged",
    "Refused", "RequestDone", "RequestFailed", "Result", "SessionEstablished", "TalkRequest",
]  # fmt: skip


class Failure(StrEnum):
    """Why a request came to nothing."""

    TIMEOUT = "timeout"
    BUSY = "busy"
    """Our bounds on requests are reached."""
    UNREACHABLE = "unreachable"
    """No address on this network, or the driver could not reach it."""
    LOST = "lost"
    """The stream ended before the answer came."""
    OVER_BUDGET = "over_budget"
    """Too many first requests to this host lately."""
    BROKEN = "broken"
    """The answer does not hold together."""


@dataclass(frozen=True, slots=True)
class Ponged:
    """What a PONG says: the sequence number of the other's record, and where it sees us."""

    enr_seq: int
    ip: bytes
    port: int


Result: TypeAlias = Ponged | tuple[Contact, ...] | bytes
"""Of ping, of findnode, of talkreq."""


@dataclass(frozen=True, slots=True)
class NodeSeen:
    """A record was heard; its signature is good, its address may be a lie.

    Attributes:
        contact: the node.
        teller: who told us of it; itself where it came by itself.
    """

    contact: Contact
    teller: NodeId


@dataclass(frozen=True, slots=True)
class NodeVerified:
    """A node answered us on the address of its record: for the first time, or with a new record."""

    contact: Contact


@dataclass(frozen=True, slots=True)
class NodeDropped:
    """A node left the table since it did not answer."""

    node_id: NodeId


@dataclass(frozen=True, slots=True)
class SessionEstablished:
    """A handshake is complete: the other side holds the key of its record.

    Attributes:
        contact: its record, with the address that the session is bound to.
        incoming: it began.
    """

    contact: Contact
    incoming: bool


@dataclass(frozen=True, slots=True)
class RequestDone:
    """A request was answered; after a loss, findnode gives what has come."""

    request: int
    contact: Contact
    result: Result


@dataclass(frozen=True, slots=True)
class RequestFailed:
    """A request will not be answered. No contact: it was a lookup."""

    request: int
    contact: Contact | None
    failure: Failure


@dataclass(frozen=True, slots=True)
class LookupDone:
    """A lookup ended.

    Attributes:
        request: the handle.
        target: what was looked for.
        contacts: up to 16 nodes that answered, the nearest first.
        asked: requests it took.
        hops: longest chain of tellers to one of the contacts; 0: it was in our table.
    """

    request: int
    target: NodeId
    contacts: tuple[Contact, ...]
    asked: int
    hops: int


@dataclass(frozen=True, slots=True)
class TalkRequest:
    """A request of a protocol that is registered; answer with `respond_talk`.

    Attributes:
        contact: who asks, with the address it asks from, which is where the answer goes.
        request_id: to be handed back.
        protocol: as registered.
        payload: the request.
    """

    contact: Contact
    request_id: bytes
    protocol: bytes
    payload: bytes


@dataclass(frozen=True, slots=True)
class EndpointVote:
    """A node states where it sees us. Count one for each host; see `votes.EndpointVotes`."""

    voter: Address
    ip: bytes
    port: int


@dataclass(frozen=True, slots=True)
class Refused:
    """Something from the network was not taken."""

    reason: Reason
    source: Address


Event: TypeAlias = (
    NodeSeen
    | NodeVerified
    | NodeDropped
    | SessionEstablished
    | RequestDone
    | RequestFailed
    | LookupDone
    | TalkRequest
    | EndpointVote
    | Refused
)
