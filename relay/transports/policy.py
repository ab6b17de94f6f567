"""Which way a peer is dialed: a table, and the plan that it gives for one peer. It does not dial."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.keys import PublicKey
from relay.primitives.node import Node

__all__ = ["POLICY", "DialPlan", "Mode", "Reach", "Target", "Way", "plan_dial"]


class Mode(StrEnum):
    """How much of this relay Tor hides."""

    NO_TOR = "no-tor"
    DEFAULT = "default"
    PREFER_TOR = "prefer-tor"
    CLEARNET_TOR = "clearnet-tor"
    ONLY_ONION = "only-onion"

    @property
    def hides_ip(self) -> bool:
        """Whether nobody but Tor may see this host: no direct connection, no look-up of a name."""
        return self in (Mode.CLEARNET_TOR, Mode.ONLY_ONION)


class Way(StrEnum):
    """How a connection leaves this host."""

    DIRECT = "direct"
    TOR_ONION = "tor-onion"
    TOR_EXIT = "tor-exit"


class Reach(StrEnum):
    """What addresses a peer has. A DNS name counts as IP."""

    ONION = "onion only"
    IP = "IP only"
    BOTH = "both"


_DIRECT: Final = (Way.DIRECT,)
_ONION: Final = (Way.TOR_ONION,)
_EXIT: Final = (Way.TOR_EXIT,)

POLICY: Final[dict[Mode, dict[Reach, tuple[Way, ...]]]] = {
    Mode.NO_TOR: {Reach.ONION: (), Reach.IP: _DIRECT, Reach.BOTH: _DIRECT},
    Mode.DEFAULT: {Reach.ONION: _ONION, Reach.IP: _DIRECT, Reach.BOTH: _DIRECT + _ONION},
    Mode.PREFER_TOR: {Reach.ONION: _ONION, Reach.IP: _DIRECT, Reach.BOTH: _ONION + _DIRECT},
    Mode.CLEARNET_TOR: {Reach.ONION: _ONION, Reach.IP: _EXIT, Reach.BOTH: _ONION + _EXIT},
    # A peer with an onion and an IP is reached by its onion and nothing else (tor.md 6).
    Mode.ONLY_ONION: {Reach.ONION: _ONION, Reach.IP: (), Reach.BOTH: _ONION},
}


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to try: a way and the address it leads to."""

    way: Way
    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class DialPlan:
    """How one peer may be dialed, fixed at its first dial and kept by every retry.

    Attributes:
        public_key: the identity that must answer.
        mode: the mode it was made in.
        ways: the ways allowed, in order; never widened. Empty: refused.
        targets: what to try, in order.
        refusal: why nothing may be tried; empty if something may.
        allow_private: loopback and private addresses are fine, since the user gave them.
    """

    public_key: PublicKey
    mode: Mode
    ways: tuple[Way, ...]
    targets: tuple[Target, ...]
    refusal: str
    allow_private: bool

    def renewed(self, node: Node) -> DialPlan:
        """Take over new addresses of the peer, for the ways that it had from the start and no other.

        A way that the new record has no address for keeps the old one: a record without onion3 never takes an
        onion away (tor.md 16). A plan that was refused was never dialed, so it is made anew.
        """
        assert node.public_key == self.public_key
        if not self.ways:
            return plan_dial(self.mode, node, allow_private=self.allow_private)
        fit = _fit(node, allow_private=self.allow_private)
        targets: list[Target] = []
        for way in self.ways:
            fresh = _targets(way, fit)
            targets += fresh or [each for each in self.targets if each.way is way]
        return replace(self, targets=tuple(targets))


def plan_dial(mode: Mode, node: Node, *, allow_private: bool = False) -> DialPlan:
    """Look a peer up in the table. allow_private: for nodes that the user gave, not for found ones."""
    fit = _fit(node, allow_private=allow_private)
    reach = _reach(fit)
    ways = POLICY[mode][reach] if reach is not None else ()
    targets = tuple(target for way in ways for target in _targets(way, fit))
    refusal = "" if ways else _refusal(mode, node, reach)
    return DialPlan(node.public_key, mode, ways, targets, refusal, allow_private)


def _fit(node: Node, *, allow_private: bool) -> tuple[Endpoint, ...]:
    return tuple(each for each in node.endpoints if is_fit(each, allow_private=allow_private))


def is_fit(endpoint: Endpoint, *, allow_private: bool) -> bool:
    """Tell whether an address may be dialed: others must not make us knock on our own network (tor.md 5)."""
    return endpoint.port != 0 and (allow_private or not endpoint.is_private)


def _reach(endpoints: tuple[Endpoint, ...]) -> Reach | None:
    onions = [each.network is Network.ONION for each in endpoints]
    if not onions:
        return None
    if all(onions):
        return Reach.ONION
    return Reach.BOTH if any(onions) else Reach.IP


def _targets(way: Way, endpoints: tuple[Endpoint, ...]) -> list[Target]:
    wants_onion = way is Way.TOR_ONION
    return [Target(way, each) for each in endpoints if (each.network is Network.ONION) is wants_onion]


def _refusal(mode: Mode, node: Node, reach: Reach | None) -> str:
    if not node.endpoints:
        return "it has no address with a TCP port"
    if reach is None:
        return "its addresses are private, or have no port, and the user did not give them"
    if reach is Reach.ONION:
        return "it has only an onion address, and no Tor is configured: give --tor-proxy or --tor-launch"
    return f"it has no onion address, and {mode.value} dials nothing else"
