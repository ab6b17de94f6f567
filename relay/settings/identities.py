"""What each of two identities has of the settings: one is an only-onion relay, the other one without Tor.

Nothing here is a mode of its own: both get the settings that a relay of that kind would be started with, so
what holds for those relays holds for them.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import Any, Final

from relay.discovery.nat import parse_nat
from relay.primitives.endpoint import Network
from relay.primitives.errors import DecodeError
from relay.primitives.node import Node
from relay.settings import sources
from relay.settings.model import Settings
from relay.settings.options import OPTIONS, Option
from relay.transports.policy import Mode

__all__ = ["Side", "clearnet_side", "onion_side", "side_of"]

_HIDDEN_GROUPS: Final = frozenset({"Tor", "I2P"})
_OPEN: Final = frozenset({Network.IPV4, Network.IPV6, Network.DNS})
_SHARED: Final[dict[str, Any]] = {
    "rpc_upstream": (),
    "beacon_api": None,
    "verdict": "none",
    "also_submit_upstream": False,
}
"""What is the whole relay's, not an identity's."""
_OF_USERS: Final[dict[str, Any]] = {"private_broadcast": "auto", "private_broadcast_journal": "off"}
"""How our users' transactions leave: not by clearnet."""


class Side(StrEnum):
    """One of two identities."""

    ONION = "onion"
    CLEARNET = "clearnet"


def side_of(mode: Mode, node: Node) -> Side | None:
    """Tell which identity a node is for, by its addresses alone; None for one without any.

    A node with both kinds is for one of them, and for that one only: by default for clearnet, with prefer-tor
    for the onion. What the other identity knows or has tried has no say: a node that is dialed by one right
    after it did not answer the other has been told that they are one.
    """
    open_ones = [each for each in node.endpoints if each.network in _OPEN]
    if len(node.endpoints) > len(open_ones) and (mode is Mode.PREFER_TOR or not open_ones):
        return Side.ONION
    return Side.CLEARNET if open_ones else None


def onion_side(given: Settings, maxpeers: int) -> Settings:
    """Return the settings of the identity that nobody sees but through Tor.

    Raises:
        UsageError: what was given would show this host; the text names the flag.
    """
    names = given.sources & (sources.TOR | sources.I2P | ({"dns"} if given.dns_lists else frozenset()))
    return replace(
        given,
        **_SHARED,
        only_onion=True,
        prefer_tor=False,
        adaptive_transport=False,
        clearnet=None,
        tor_proxy_remote_ok=True,  # a warning has told of it
        nat=parse_nat("none"),
        discovery=tuple(sorted(names)) or ("off",),
        bootnodes=_bootnodes(given, Side.ONION),
        maxpeers=maxpeers,
        blob_pool=_half(given.blob_pool),
        chain_cache=_half(given.chain_cache),
    )


def clearnet_side(given: Settings, maxpeers: int) -> Settings:
    """Return the settings of the identity that has no Tor."""
    without_tor = {each.attribute: _default(each) for each in OPTIONS if each.group in _HIDDEN_GROUPS}
    names = given.sources - sources.TOR - sources.I2P
    return replace(
        given,
        **without_tor,
        **_SHARED,
        **_OF_USERS,
        nodekey=None,  # the key that was given is the onion's: it is the one that `enode` shows
        discovery=tuple(sorted(names)) or ("off",),
        bootnodes=_bootnodes(given, Side.CLEARNET),
        maxpeers=maxpeers,
        blob_pool=_half(given.blob_pool),
        chain_cache=_half(given.chain_cache),
    )


def _bootnodes(given: Settings, side: Side) -> tuple[str, ...] | None:
    if given.bootnodes is None:
        return None
    return tuple(each for each in given.bootnodes if _side_of_text(given.mode, each) is side)


def _side_of_text(mode: Mode, text: str) -> Side | None:
    try:
        return side_of(mode, Node.parse(text))
    except DecodeError:  # refused when the settings were made
        return None


def _half(amount: int) -> int:
    return -(-amount // 2)


def _default(option: Option) -> Any:  # noqa: ANN401 - the option's own type
    return None if option.default is None else option.parse(option.default)
