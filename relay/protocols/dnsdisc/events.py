"""What following trees asks for and tells."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from relay.primitives.enr import NodeRecord

__all__ = ["Event", "Query", "Reason", "RecordFound", "Refused", "TreeSynced"]


class Reason(StrEnum):
    """Why an answer is refused, for counters."""

    NOT_ASKED = "not asked"
    NOT_RESOLVED = "not resolved"
    NO_ROOT = "no root"
    BAD_ROOT = "bad root"
    BAD_SIGNATURE = "bad signature"
    REPLAY = "older root"
    WRONG_HASH = "wrong hash"
    BAD_ENTRY = "bad entry"
    TOO_LARGE = "tree too large"
    TOO_MANY_TREES = "too many trees"


@dataclass(frozen=True, slots=True)
class Query:
    """Ask for the TXT records of this name."""

    name: str


@dataclass(frozen=True, slots=True)
class RecordFound:
    """A record that its tree vouches for; its own signature is checked as well.

    Attributes:
        record: of a node.
        domain: of the tree.
    """

    record: NodeRecord
    domain: str


@dataclass(frozen=True, slots=True)
class TreeSynced:
    """Everything below the present root has been read, or given up.

    Attributes:
        domain: of the tree.
        seq: its sequence number.
        records: how many it holds.
        links: how many it holds.
    """

    domain: str
    seq: int
    records: int
    links: int


@dataclass(frozen=True, slots=True)
class Refused:
    """An answer that was none, or not believed.

    Attributes:
        domain: of the tree; empty when it belongs to none.
        name: what was asked.
        why: for people.
        reason: for counters.
    """

    domain: str
    name: str
    why: str
    reason: Reason


Event: TypeAlias = RecordFound | TreeSynced | Refused
