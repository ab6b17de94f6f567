"""The lane of bulk data from the clearnet identity to the onion one, where the user wants it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING

from relay.relaying.adaptive import BulkLane
from relay.settings import Settings
from relay.settings.identities import Side

if TYPE_CHECKING:
    from relay.app.identity import Identity

__all__ = ["carry_bulk"]


async def carry_bulk(settings: Settings, identities: Sequence[Identity]) -> None:
    """Have clearnet fetch new blocks for both, until cancelled; returns at once where that is off."""
    if not settings.adaptive_transport:
        return
    by_side = {identity.side: identity.eth.chain for identity in identities}
    lane = BulkLane(
        by_side[Side.CLEARNET], by_side[Side.ONION], asyncio.get_running_loop(), secrets.token_bytes
    )
    lane.begin()
    try:
        await asyncio.Event().wait()
    finally:
        lane.stop()
