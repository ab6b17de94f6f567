"""What the layer tells of searches and of keys that are provided."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from relay.protocols.dht.keys import Key
from relay.protocols.dht.record import ProviderRecord

__all__ = ["DhtEvent", "Ended", "FindDone", "ProvideDone", "ProvideWaiting", "ProviderFound", "Waiting"]


class Ended(StrEnum):
    """Why a search ended."""

    ALL_ASKED = "all asked"
    """Every node near the key that answers was asked."""
    ENOUGH = "enough found"
    NO_PEERS = "no peers"
    """There was nobody to ask."""
    BUSY = "busy"
    """Too many searches at one time."""
    LIMIT = "limit"
    """It took too many nodes, or too long."""


class Waiting(StrEnum):
    """What a key that is to be provided waits for."""

    PEERS = "no peers yet"
    ADDRESS = "no address of our own yet"


@dataclass(frozen=True, slots=True)
class ProviderFound:
    """A provider, once in each search.

    Attributes:
        find: the handle.
        record: verified and current; that the provider is there, only a dial proves.
        hops: nodes in the chain that led to it, who named it included; 0: it was in our own store.
    """

    find: int
    record: ProviderRecord
    hops: int


@dataclass(frozen=True, slots=True)
class FindDone:
    """A search ended.

    Attributes:
        find: the handle.
        key: what was looked for.
        found: providers.
        asked: nodes that were asked.
        hops: of the nearest provider; 0 without any.
        ended: why.
    """

    find: int
    key: Key
    found: int
    asked: int
    hops: int
    ended: Ended


@dataclass(frozen=True, slots=True)
class ProvideWaiting:
    """A key can't be provided yet; told once, and again when the reason changes."""

    provide: int
    key: Key
    reason: Waiting


@dataclass(frozen=True, slots=True)
class ProvideDone:
    """A round of writing ended; the first one, or one that renews.

    Attributes:
        provide: the handle.
        key: what is provided.
        stored: nodes that keep the record now.
        asked: nodes that were asked to.
        refused: why others do not, with their number: a status of theirs, or what became of the request.
        next: seconds until the next round.
    """

    provide: int
    key: Key
    stored: int
    asked: int
    refused: tuple[tuple[str, int], ...]
    next: float


DhtEvent: TypeAlias = ProviderFound | FindDone | ProvideWaiting | ProvideDone
