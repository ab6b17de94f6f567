"""How transactions spread, as the settings have it: stems, clocks of peers, padding."""

from __future__ import annotations

from typing import Final

from relay.relaying.dandelion import StemOptions
from relay.relaying.options import RelayOptions
from relay.relaying.trickle import TrickleOptions
from relay.settings import Settings

__all__ = ["own_listen_seconds", "stem_options", "trickle_options"]

INBOUND: Final = 2.5  # times as long as who was dialed: Bitcoin Core's 5 s to 2 s


def stem_options(settings: Settings) -> StemOptions:
    """Return how stems are made; a private broadcast takes our users' transactions before they get there."""
    return StemOptions(own=settings.begins_with_stems, padding=settings.tx_padding)


def trickle_options(settings: Settings) -> TrickleOptions:
    """Return how long peers wait."""
    seconds = settings.tx_trickle / 1000
    return TrickleOptions(outbound=seconds, inbound=INBOUND * seconds)


def own_listen_seconds(settings: Settings) -> float:
    """Return for how long a few peers are kept from our users' transactions.

    That tells these apart from others, so not where peers are told by their clocks.
    """
    return 0.0 if settings.tx_trickle else RelayOptions().own_listen_seconds
