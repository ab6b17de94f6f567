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
    """How much of this relay Tor or I2P hides."""

    NO_TOR = "no-tor"
    DEFAULT = "default"
    PREFER_TOR = "prefer-tor"
    CLEARNET_TOR = "clearnet-tor"
    ONLY_ONION = "only-onion"
    ONLY_I2P = "only-i2p"

    @property
    def hides_ip(self) -> bool:
        """Whether nobody but Tor and I2P may see this host: no direct connection, no look-up of a name."""
        return self in (Mode.CLEARNET_TOR, Mode.ONLY_ONION, Mode.ONLY_I2P)

    @property
    def hides_peers(self) -> bool:
        """Whether all that is dialed is hidden itself, so that no log line shows where a peer is."""
        return self in (Mode.ONLY_ONION, Mode.ONLY_I2P)


class Way(StrEnum):
    """How a connection leaves this host."""

    DIRECT = "direct"
    TOR_ONION = "tor-onion"
    TOR_EXIT = "tor-exit"
    I2P = "i2p"


class Reach(StrEnum):
    """What addresses a peer has. A DNS name counts as IP."""

    ONION = "onion only"
    IP = "IP only"
    BOTH = "both"
    I2P = "I2P only"
    ONION_I2P = "onion and I2P"
    IP_I2P = "IP and I2P"
    ALL = "onion, IP and I2P"


_DIRECT: Final = (Way.DIRECT,)
_ONION: Final = (Way.TOR_ONION,)
_EXIT: Final = (Way.TOR_EXIT,)
_I2P: Final = (Way.I2P,)

POLICY: Final[dict[Mode, dict[Reach, tuple[Way, ...]]]] = {
    Mode.NO_TOR: {
        Reach.ONION: (),
        Reach.IP: _DIRECT,
        Reach.BOTH: _DIRECT,
        Reach.I2P: _I2P,
        Reach.ONION_I2P: _I2P,
        Reach.IP_I2P: _DIRECT + _I2P,
        Reach.ALL: _DIRECT + _I2P,
    },
    Mode.DEFAULT: {
        Reach.ONION: _ONION,
        Reach.IP: _DIRECT,
        Reach.BOTH: _DIRECT + _ONION,
        Reach.I2P: _I2P,
        Reach.ONION_I2P: _ONION + _I2P,
        Reach.IP_I2P: _DIRECT + _I2P,
        Reach.ALL: _DIRECT + _ONION + _I2P,
    },
    Mode.PREFER_TOR: {
        Reach.ONION: _ONION,
        Reach.IP: _DIRECT,
        Reach.BOTH: _ONION + _DIRECT,
        Reach.I2P: _I2P,
        Reach.ONION_I2P: _ONION + _I2P,
        Reach.IP_I2P: _I2P + _DIRECT,
        Reach.ALL: _ONION + _I2P + _DIRECT,
    },
    Mode.CLEARNET_TOR: {
        Reach.ONION: _ONION,
        Reach.IP: _EXIT,
        Reach.BOTH: _ONION + _EXIT,
        Reach.I2P: _I2P,
        Reach.ONION_I2P: _ONION + _I2P,
        Reach.IP_I2P: _I2P + _EXIT,
        Reach.ALL: _ONION + _I2P + _EXIT,
    },
    # A peer with an onion and an IP is reached by its onion and nothing else (tor.md 6).
    Mode.ONLY_ONION: {
        Reach.ONION: _ONION,
        Reach.IP: (),
        Reach.BOTH: _ONION,
        Reach.I2P: _I2P,
        Reach.ONION_I2P: _ONION + _I2P,
        Reach.IP_I2P: _I2P,
        Reach.ALL: _ONION + _I2P,
    },
    Mode.ONLY_I2P: {
        Reach.ONION: (),
        Reach.IP: (),
        Reach.BOTH: (),
        Reach.I2P: _I2P,
        Reach.ONION_I2P: _I2P,
        Reach.IP_I2P: _I2P,
        Reach.ALL: _I2P,
    },
}
"""With --i2p-sam. Without one an I2P address is none: see `plan_dial`."""


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
        i2p: there is a SAM bridge.
    """

    public_key: PublicKey
    mode: Mode
    ways: tuple[Way, ...]
    targets: tuple[Target, ...]
    refusal: str
    allow_private: bool
    i2p: bool = False

    def renewed(self, node: Node) -> DialPlan:
        """Take over new addresses of the peer, for the ways that it had from the start and no other.

        A way that the new record has no address for keeps the old one: a record without onion3 never takes an
        onion away (tor.md 16). A plan that was refused was never dialed, so it is made anew.
        """
        assert node.public_key == self.public_key
        if not self.ways:
            return plan_dial(self.mode, node, allow_private=self.allow_private, i2p=self.i2p)
        fit = _fit(node, allow_private=self.allow_private, i2p=self.i2p)
        targets: list[Target] = []
        for way in self.ways:
            fresh = _targets(way, fit)
            targets += fresh or [each for each in self.targets if each.way is way]
        return replace(self, targets=tuple(targets))


def plan_dial(mode: Mode, node: Node, *, allow_private: bool = False, i2p: bool = False) -> DialPlan:
    """Look a peer up in the table.

    Args:
        mode: of the process.
        node: the peer.
        allow_private: for nodes that the user gave, not for found ones.
        i2p: there is a SAM bridge; without one I2P addresses are as if they were not there.
    """
    fit = _fit(node, allow_private=allow_private, i2p=i2p)
    reach = _reach(fit)
    ways = POLICY[mode][reach] if reach is not None else ()
    targets = tuple(target for way in ways for target in _targets(way, fit))
    refusal = "" if ways else _refusal(mode, node, reach)
    return DialPlan(node.public_key, mode, ways, targets, refusal, allow_private, i2p)


def _fit(node: Node, *, allow_private: bool, i2p: bool) -> tuple[Endpoint, ...]:
    fit = (each for each in node.endpoints if is_fit(each, allow_private=allow_private))
    return tuple(each for each in fit if i2p or each.network is not Network.I2P)


def is_fit(endpoint: Endpoint, *, allow_private: bool) -> bool:
    """Tell whether an address may be dialed: others must not make us knock on our own network (tor.md 5)."""
    return endpoint.can_be_dialed and (allow_private or not endpoint.is_private)


def _reach(endpoints: tuple[Endpoint, ...]) -> Reach | None:
    return _REACHES[frozenset(_KINDS.get(each.network, Reach.IP) for each in endpoints)]


_KINDS: Final = {Network.ONION: Reach.ONION, Network.I2P: Reach.I2P}
_REACHES: Final[dict[frozenset[Reach], Reach | None]] = {
    frozenset(): None,
    frozenset({Reach.ONION}): Reach.ONION,
    frozenset({Reach.IP}): Reach.IP,
    frozenset({Reach.I2P}): Reach.I2P,
    frozenset({Reach.ONION, Reach.IP}): Reach.BOTH,
    frozenset({Reach.ONION, Reach.I2P}): Reach.ONION_I2P,
    frozenset({Reach.IP, Reach.I2P}): Reach.IP_I2P,
    frozenset({Reach.ONION, Reach.IP, Reach.I2P}): Reach.ALL,
}
_LEADS_TO: Final = {
    Way.DIRECT: Reach.IP,
    Way.TOR_EXIT: Reach.IP,
    Way.TOR_ONION: Reach.ONION,
    Way.I2P: Reach.I2P,
}


def _targets(way: Way, endpoints: tuple[Endpoint, ...]) -> list[Target]:
    wanted = _LEADS_TO[way]
    return [Target(way, each) for each in endpoints if _KINDS.get(each.network, Reach.IP) is wanted]


def _refusal(mode: Mode, node: Node, reach: Reach | None) -> str:
    if not node.endpoints:
        return "it has no address with a TCP port"
    if reach is None and node.i2p is not None and mode is not Mode.ONLY_I2P:
        return "it has only an I2P address, and no I2P router is configured: give --i2p-sam"
    if reach is None:
        return "its addresses are private, or have no port, and the user did not give them"
    if reach is Reach.ONION and mode is not Mode.ONLY_I2P:
        return "it has only an onion address, and no Tor is configured: give --tor-proxy or --tor-launch"
    if mode is Mode.ONLY_I2P:
        return f"it has no I2P address, and {mode.value} dials nothing else"
    return f"it has no onion address, and {mode.value} dials nothing else"
