"""The ways out of this host: what the socket factory allows, and the dialers of the mode."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection

from relay.app.torside import control_addresses
from relay.primitives.address import Address
from relay.settings import Settings
from relay.tor.launched import LaunchedTor
from relay.transports.dialer import NodeDialer, dialers_of
from relay.transports.pacing import EXIT_PACE, ONION_PACE, DialPacer, Pace
from relay.transports.policy import Mode, Way
from relay.transports.sockets import SocketFactory, SocketRules
from relay.transports.socks_dialer import Isolation, SocksDialer


def socket_rules(settings: Settings, launched: LaunchedTor | None) -> SocketRules:
    """What this process may connect to: anything, or nothing but Tor's own ports."""
    if launched is not None:
        return SocketRules.of_mode(settings.mode, launched.socks, launched.control)
    proxy = () if settings.tor_proxy is None else (settings.tor_proxy, *control_addresses(settings))
    return SocketRules.of_mode(settings.mode, *proxy)


def proxy_address(settings: Settings, launched: LaunchedTor | None) -> Address | None:
    """Where Tor's SOCKS proxy listens."""
    return launched.socks if launched is not None else settings.tor_proxy


def make_dialer(
    mode: Mode, sockets: SocketFactory, proxy: Address | None, own_onions: Callable[[], Collection[str]]
) -> NodeDialer:
    """Give a mode the dialers that it may use, and no other: only-onion has no direct one to fall back to."""
    socks = None
    if proxy is not None:
        exits = mode is Mode.CLEARNET_TOR
        isolation = Isolation(secrets.token_bytes)
        socks = SocksDialer(sockets, proxy, isolation, exits=exits, own_onions=own_onions)
    return NodeDialer(
        mode,
        dialers_of(mode, sockets, socks),
        resolver=None if mode.hides_ip else sockets,
        pacers={Way.TOR_ONION: _pacer(ONION_PACE), Way.TOR_EXIT: _pacer(EXIT_PACE)},
    )


def _pacer(pace: Pace) -> DialPacer:
    loop = asyncio.get_running_loop()
    return DialPacer(pace, rand=secrets.token_bytes, now=loop.time, sleep=asyncio.sleep)
