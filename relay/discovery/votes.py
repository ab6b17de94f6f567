"""Where others see us: their statements of discv4 and discv5, counted for each address family. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from relay.primitives.endpoint import Endpoint, Network
from relay.protocols.discv4.contact import endpoint_of
from relay.protocols.discv5 import EndpointVotes, UdpNetwork

__all__ = ["OwnEndpoint"]

RECOUNT: Final = 5.0  # seconds; a statement that only repeats itself is counted no more often


class OwnEndpoint:
    """Our UDP endpoint as enough hosts agree on it.

    Args:
        network: says which statements a host can know to be true.
        agreed: told of each new result; once for the same one in a row.
    """

    def __init__(self, network: UdpNetwork, agreed: Callable[[Endpoint], None]) -> None:
        self._network = network
        self._agreed = agreed
        self._votes = {Network.IPV4: EndpointVotes(), Network.IPV6: EndpointVotes()}
        self._told: dict[Network, tuple[bytes, int]] = {}
        self._counted = float("-inf")

    def add(self, voter: Endpoint, ip: bytes, port: int, now: float) -> None:
        """Take a statement.

        A host that sees us by one family knows nothing of the other; and one on the internet that names an
        address of a LAN, or of this machine, is wrong or worse.
        """
        stated = endpoint_of(ip, port) if port else None
        if stated is None or stated.network is not voter.network or not self._network.may_hear(stated, voter):
            return
        packed, _ = self._network.seen_as(stated)  # a mapped IPv4 address has two forms
        is_news = self._votes[voter.network].add(self._network.host_of(voter), packed, port, now)
        if is_news or now - self._counted >= RECOUNT:
            self._count(voter.network, now)

    def _count(self, family: Network, now: float) -> None:
        self._counted = now
        winner = self._votes[family].winner(now)
        if winner is None or self._told.get(family) == winner:
            return
        self._told[family] = winner
        endpoint = endpoint_of(*winner)
        assert endpoint is not None  # only such were taken
        self._agreed(endpoint)
