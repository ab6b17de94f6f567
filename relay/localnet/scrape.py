"""Reads a daemon's metrics page and makes of it what is shown."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from relay.primitives.address import TcpAddress
from relay.primitives.errors import TransportError
from relay.transports.sockets import SocketFactory

__all__ = ["Reading", "read_metrics", "reading_of"]

PAGE_SECONDS: Final = 5.0
MAX_PAGE: Final = 1 << 20  # bytes; the page has some 20,000


@dataclass(frozen=True, slots=True)
class Reading:
    """What one relay tells of itself.

    Attributes:
        tor_percent: of its Tor client's start.
        service_up: its onion service is published.
        onion_peers: joined peers by onion.
        inbound: joined peers that dialed it.
        outbound: joined peers that it dialed.
        seen: different transactions that it took, from peers or from users.
        relayed: transactions sent or announced to a peer at least.
        received: bytes from peers.
        sent: bytes to peers.
    """

    tor_percent: int = 0
    service_up: bool = False
    onion_peers: int = 0
    inbound: int = 0
    outbound: int = 0
    seen: int = 0
    relayed: int = 0
    received: int = 0
    sent: int = 0


async def read_metrics(sockets: SocketFactory, port: int) -> Reading | None:
    """Ask the page on a port of this machine; None while nobody serves it.

    The request is HTTP/1.0 by hand: an HTTP library would cost more than all the rest of this command.
    """
    try:
        async with asyncio.timeout(PAGE_SECONDS):
            reader, writer = await sockets.open_stream(TcpAddress("127.0.0.1", port), limit=MAX_PAGE)
            try:
                writer.write(
                    b"GET /debug/metrics HTTP/1.0\r\nHost: localhost\r\nAccept: application/json\r\n\r\n"
                )
                answer = await reader.read(MAX_PAGE) + await reader.read(MAX_PAGE)
                while more := await reader.read(MAX_PAGE):
                    answer += more
            finally:
                writer.close()
    except (TransportError, OSError, TimeoutError):
        return None
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head.partition(b"\r\n")[0]:
        return None
    try:
        values = json.loads(body)
    except ValueError:
        return None
    return reading_of(values) if isinstance(values, dict) else None


def reading_of(values: Mapping[str, Any]) -> Reading:
    """Pick from the page's JSON; what is missing counts as zero."""

    def number(name: str) -> int:
        value = values.get(name, 0)
        return int(value) if isinstance(value, int | float) else 0

    return Reading(
        tor_percent=number("pyrelay_tor_bootstrap_percent"),
        service_up=bool(number("pyrelay_onion_service_up")),
        onion_peers=_labelled(values.get("pyrelay_peers"), "network", "onion"),
        inbound=number("p2p_peers_inbound"),
        outbound=number("p2p_peers_outbound"),
        seen=number("pyrelay_transactions_accepted_total") + number("pyrelay_transactions_submitted_total"),
        relayed=number("pyrelay_transactions_relayed_total"),
        received=number("p2p_ingress"),
        sent=number("p2p_egress"),
    )


def _labelled(entries: object, label: str, wanted: str) -> int:
    """Sum the values of a metric whose label has the wanted value."""
    if not isinstance(entries, list):
        return 0
    return sum(int(entry["value"]) for entry in entries if entry["labels"].get(label) == wanted)
