"""Takes the messages of `pyrelay/1`, as peering delivers them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.primitives.errors import PeerError
from relay.protocols.pyrelay.messages import NAME
from relay.protocols.pyrelay.stems import Padding, Stem

if TYPE_CHECKING:
    from relay.relaying.handler import EthRelay
    from relay.relaying.seams import Session

__all__ = ["RelayCapability"]


class RelayCapability:
    """Handler of what relays have among them (`relay.peering.interfaces.CapabilityHandler`)."""

    __slots__ = ("_eth",)

    def __init__(self, eth: EthRelay) -> None:
        self._eth = eth

    def message(self, session: Session, code: int, payload: bytes) -> None:
        """Take a message of a joined peer.

        Raises:
            PeerError: it broke a rule.
        """
        peer = self._eth.roster.get(session)
        if peer is None:
            return
        try:
            if code == Stem.CODE:
                self._eth.stems.message(peer, payload)
            elif code == Padding.CODE:
                Padding.decode(payload)
            else:
                self._eth.chain.relayed(peer, code, payload)
        except PeerError:
            self._eth.counters.offences[NAME] += 1
            raise
