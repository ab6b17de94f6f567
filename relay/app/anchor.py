"""A consensus node as anchor of our block range, where one is configured."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from relay.app.outward import WaysOut
from relay.app.rpc_upstreams import host_dialer
from relay.relaying.blockrange import RangeKeeper
from relay.rpc.upstream.faults import UpstreamFault
from relay.settings import Settings
from relay.transports.sockets import SocketFactory
from relay.transports.socks_dialer import Purpose

__all__ = ["follow_beacon"]

PAUSE: Final = 6.0  # seconds between two questions: half a slot
log = structlog.get_logger("relay.app")


async def follow_beacon(
    settings: Settings, sockets: SocketFactory, ways: WaysOut, ranges: RangeKeeper, pause: float = PAUSE
) -> None:
    """Tell our block range what a consensus node says, until cancelled; returns at once without one.

    Args:
        settings: name it.
        sockets: of the process.
        ways: out of this host.
        ranges: told of each head.
        pause: seconds between two questions.
    """
    url = settings.beacon_api
    if url is None:
        return
    # Imported when asked for: h11 is memory that a relay without upstreams need not hold.
    from relay.rpc.beacon import BeaconNode  # noqa: PLC0415
    from relay.rpc.upstream.options import UpstreamOptions  # noqa: PLC0415

    hidden = settings.mode.hides_ip
    options = UpstreamOptions.through_tor() if hidden or url.is_onion else UpstreamOptions()
    dialer = host_dialer(sockets, ways, Purpose.RPC, hidden=hidden)
    node = BeaconNode(url, dialer, sockets, options)
    if ways.rpc is not None:
        ways.rpc.isolation.on_renewed(node.close)  # what it keeps for the next question
    clock = asyncio.get_running_loop().time
    works: bool | None = None
    try:
        while True:
            try:
                number, block_hash = await node.head()
            except UpstreamFault as fault:
                if works is not False:
                    log.warning("the consensus node does not tell its head", why=str(fault))
                works = False
            else:
                if not works:
                    log.info("following a consensus node", block=number)
                works = True
                ranges.anchor(number, block_hash, clock())
            await asyncio.sleep(pause)
    finally:
        node.close()
