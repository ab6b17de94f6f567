"""Single-hop onion services, which hide nobody: refused wherever Tor can be asked.

Spec: tor(1), "HiddenServiceSingleHopMode", "HiddenServiceNonAnonymousMode".
"""

from __future__ import annotations

from typing import Final

from relay.primitives.errors import TorControlError
from relay.tor.control import TorControl

_MODES: Final = ("HiddenServiceSingleHopMode", "HiddenServiceNonAnonymousMode")


class SingleHopTor(TorControlError):
    """This Tor tells everybody where its onion services are."""


async def refuse_single_hop(control: TorControl) -> None:
    """Refuse a Tor whose onion services are one hop from their introduction points.

    Raises:
        SingleHopTor: it is one; names the lines of torrc.
        TorControlError: the connection is gone.
    """
    values = (await control.command("GETCONF", *_MODES)).keyword_lines()
    on = [name for name in _MODES if values.get(name, "0") not in ("0", "")]
    if on:
        raise SingleHopTor(
            f"this Tor runs onion services in single-hop mode ({' and '.join(on)} in its torrc), which shows"
            " this host's IP address to every introduction point: take these lines out and restart Tor,"
            " or let pyrelay start its own by --tor-launch"
        )
