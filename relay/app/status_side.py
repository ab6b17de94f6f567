"""What the status page sees of the daemon beyond its metrics."""

from __future__ import annotations

import asyncio

from relay.app.identity import Identity
from relay.app.views import Relay
from relay.observe.status_page.source import OwnAddress, PeerRow
from relay.peering.session import PeerSession

__all__ = ["StatusAdapter"]


class StatusAdapter:
    """`relay.observe.status_page.source.StatusSource` of a running relay."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def own_addresses(self) -> list[OwnAddress]:
        """Return each onion and I2P address that we give away, once peers can reach it."""
        return [found for each in self._relay.identities for found in _addresses(each)]

    def peers(self) -> list[PeerRow]:
        """Return the joined peers of all identities."""
        now = asyncio.get_running_loop().time()
        return [_row(session, now) for each in self._relay.identities for session in each.peers.sessions()]


def _addresses(identity: Identity) -> list[OwnAddress]:
    found = []
    if identity.onion is not None and not identity.settings.is_private:
        found.append(OwnAddress("onion", *identity.onion, up=True))
    if identity.i2p is not None:
        found.append(OwnAddress("i2p", identity.i2p, 0, up=True))
    return found


def _row(session: PeerSession, now: float) -> PeerRow:
    return PeerRow(
        client="" if session.hello is None else session.hello.client,
        network=str(session.label),
        inbound=session.inbound,
        kept=session.static or session.trusted,
        eth=0 if session.eth is None else session.eth.version,
        seconds=now - session.joined_at,
        host="" if session.endpoint is None else session.endpoint.host,
    )
