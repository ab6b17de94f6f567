"""Sources of peers: which there are, and which a mode has by itself or can't have."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from relay.primitives.errors import UsageError
from relay.transports.policy import Mode

ALL: Final = ("v4", "v5", "dns", "onion", "dht", "i2p")

_UDP: Final = frozenset({"v4", "v5"})
_CLEARNET: Final = frozenset({"v4", "v5", "dns"})
TOR: Final = frozenset({"onion", "dht"})
I2P: Final = frozenset({"i2p"})

BY_MODE: Final[dict[Mode, frozenset[str]]] = {
    Mode.NO_TOR: _CLEARNET,
    Mode.DEFAULT: _CLEARNET | TOR,
    Mode.PREFER_TOR: _CLEARNET | TOR,
    Mode.CLEARNET_TOR: TOR | {"dns"},
    Mode.ONLY_ONION: TOR,
    Mode.ONLY_I2P: I2P,
}
"""What is on when nobody says otherwise; a list that is given adds dns to only-onion, a router i2p."""


def check(chosen: Collection[str], mode: Mode, *, has_lists: bool, has_i2p: bool = False) -> None:
    """Refuse what a mode can't have.

    Raises:
        UsageError: names the source and the way out.
    """
    names = set(chosen)
    if "off" in names and len(names) > 1:
        raise UsageError("--discovery off stands alone: leave off out, or the others")
    if mode is Mode.ONLY_I2P and (outside := names - I2P - {"off"}):
        raise UsageError(
            f"--discovery {','.join(sorted(outside))} is outside I2P,"
            " and only-i2p reaches nothing else: use i2p"
        )
    if names & I2P and not has_i2p:
        raise UsageError("--discovery i2p needs an I2P router: add --i2p-sam 127.0.0.1:7656")
    if mode.hides_ip and names & _UDP:
        which = ",".join(sorted(names & _UDP))
        raise UsageError(
            f"--discovery {which} sends UDP from this host's own address, which {mode.value} hides:"
            " UDP does not go through Tor. Use onion,dht"
        )
    if mode is Mode.NO_TOR and names & TOR:
        which = ",".join(sorted(names & TOR))
        raise UsageError(f"--discovery {which} needs Tor: add --tor-proxy 127.0.0.1:9050, or --tor-launch")
    if "dht" in names and "onion" not in names:
        raise UsageError("--discovery dht stands on the onion nodes: use onion,dht")
    if mode is Mode.ONLY_ONION and "dns" in names and not has_lists:
        raise UsageError(
            "--discovery dns with only-onion needs a list of onion nodes: the public networks' lists have"
            " none. Name one by --dns-lists enrtree://..."
        )
