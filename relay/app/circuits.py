"""New circuits after a while, where the user wants it: those of peers one by one, all others as they end."""

from __future__ import annotations

import asyncio
import secrets
from typing import Final

import structlog

from relay.app.outward import WaysOut
from relay.peering.peers import PeerSet
from relay.peering.rotation import CircuitRotation, RotationOptions, jittered
from relay.peering.scheduler import DialScheduler
from relay.settings import Settings

__all__ = ["renew_credentials", "rotate_peers"]

JITTER: Final = 0.5
log = structlog.get_logger("relay.app")


async def rotate_peers(settings: Settings, ways: WaysOut, peers: PeerSet, scheduler: DialScheduler) -> None:
    """Make one identity's outbound connections anew, until cancelled; returns at once where that is off."""
    if not settings.tor_rotate_circuits or ways.socks is None:
        return
    loop = asyncio.get_running_loop()
    rotation = CircuitRotation(
        peers,
        scheduler,
        options=RotationOptions(settings.tor_rotate_circuits, JITTER),
        now=loop.time,
        rand=secrets.token_bytes,
    )
    await rotation.run()


async def renew_credentials(settings: Settings, ways: WaysOut) -> None:
    """Have no connection of discovery or JSON-RPC outlive its credentials by much; all others are short.

    Each connection has credentials of its own in any case; what this ends is connections that are kept for
    the next question. Runs until cancelled; returns at once where it is off.
    """
    if not settings.tor_rotate_circuits or ways.socks is None:
        return
    while True:
        await asyncio.sleep(jittered(settings.tor_rotate_circuits, JITTER, secrets.token_bytes))
        ways.socks.isolation.renew()
        log.debug("new credentials for tor")
