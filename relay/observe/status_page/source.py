"""What the page shows beyond the metrics, declared where it is used; `app` implements it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["OwnAddress", "PeerRow", "StatusSource"]


@dataclass(frozen=True, slots=True)
class OwnAddress:
    """An address of ours that one gives away.

    Attributes:
        network: onion or i2p.
        host: the address.
        port: of the listener behind it.
        up: peers can reach it now.
    """

    network: str
    host: str
    port: int
    up: bool


@dataclass(frozen=True, slots=True)
class PeerRow:
    """A joined peer.

    Attributes:
        client: what it calls itself: any text of at most some hundred letters.
        network: its network class.
        inbound: it dialed us.
        kept: it is static or trusted.
        eth: version that is spoken.
        seconds: since it joined.
        host: its address; "" where it is not known, as of peers through our onion service.
    """

    client: str
    network: str
    inbound: bool
    kept: bool
    eth: int
    seconds: float
    host: str


class StatusSource(Protocol):
    """Who can tell."""

    def own_addresses(self) -> Sequence[OwnAddress]:
        """Return what may be given away; not that of a service which only the chosen find."""
        ...

    def peers(self) -> Sequence[PeerRow]:
        """Return the joined peers."""
        ...
