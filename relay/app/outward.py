"""The ways out of this host: what the socket factory allows, and the dialers of the mode."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from relay.app.torside import control_addresses
from relay.primitives.address import Address
from relay.settings import Settings
from relay.tor.launched import LaunchedTor
from relay.transports.dialer import Dialer, NodeDialer, dialers_of
from relay.transports.pacing import EXIT_PACE, I2P_PACE, ONION_PACE, DialPacer, Pace
from relay.transports.policy import Mode, Way
from relay.transports.sockets import SocketFactory, SocketRules
from relay.transports.socks_dialer import Isolation, Purpose, SocksDialer


def socket_rules(settings: Settings, launched: LaunchedTor | None) -> SocketRules:
    """What this process may connect to: anything, or nothing but Tor, the I2P router, nodes' unix sockets."""
    nodes: tuple[Address, ...] = tuple(url.socket for url in settings.rpc_upstream if url.socket is not None)
    if settings.i2p_sam is not None:
        nodes += (settings.i2p_sam,)
    if launched is not None:
        return SocketRules.of_mode(settings.mode, launched.socks, launched.control, *nodes)
    proxy = () if settings.tor_proxy is None else (settings.tor_proxy, *control_addresses(settings))
    return SocketRules.of_mode(settings.mode, *proxy, *nodes)


def proxy_address(settings: Settings, launched: LaunchedTor | None) -> Address | None:
    """Where Tor's SOCKS proxy listens."""
    return launched.socks if launched is not None else settings.tor_proxy


@dataclass(frozen=True, slots=True)
class WaysOut:
    """What a mode may use to get out of this host.

    Attributes:
        nodes: dials peers as the policy says.
        socks: dials through Tor; None without Tor.
        onion_pacer: shared by all dials of onions: what Tor's guards count is circuits, whatever for.
        lists: dials through Tor's exits, for the resolvers of node lists only; None without Tor.
        rpc: dials through Tor's exits, for JSON-RPC's upstreams only; None without Tor.
        private: dials receivers of private broadcast, through Tor in every mode; None without Tor.
        i2p: dials over I2P; None without a router.
        i2p_pacer: shared by all dials over I2P.
    """

    nodes: NodeDialer
    socks: SocksDialer | None
    onion_pacer: DialPacer
    lists: SocksDialer | None
    rpc: SocksDialer | None = None
    private: NodeDialer | None = None
    i2p: Dialer | None = None
    i2p_pacer: DialPacer | None = None


def ways_out(
    mode: Mode,
    sockets: SocketFactory,
    proxy: Address | None,
    own_onions: Callable[[], Collection[str]],
    i2p: Dialer | None = None,
) -> WaysOut:
    """Give a mode the dialers that it may use, and no other: only-onion has no direct one to fall back to."""
    socks = lists = rpc = private = None
    if proxy is not None:
        isolation = Isolation(secrets.token_bytes)
        exits = mode is Mode.CLEARNET_TOR
        socks = SocksDialer(sockets, proxy, isolation, exits=exits, own_onions=own_onions)
        lists = SocksDialer(sockets, proxy, isolation, purpose=Purpose.DNS, exits=True, own_onions=own_onions)
        rpc = lists.for_purpose(Purpose.RPC)
        private = SocksDialer(
            sockets,
            proxy,
            isolation,
            purpose=Purpose.BROADCAST,
            exits=mode is not Mode.ONLY_ONION,
            own_onions=own_onions,
        )
    onion_pacer, exit_pacer, i2p_pacer = _pacer(ONION_PACE), _pacer(EXIT_PACE), _pacer(I2P_PACE)
    pacers = {Way.TOR_ONION: onion_pacer, Way.TOR_EXIT: exit_pacer, Way.I2P: i2p_pacer}
    nodes = NodeDialer(
        mode,
        dialers_of(mode, sockets, socks, i2p),
        resolver=None if mode.hides_ip else sockets,
        pacers=pacers,
    )
    hidden = _private(mode, sockets, private, pacers)
    return WaysOut(nodes, socks, onion_pacer, lists, rpc, hidden, i2p, i2p_pacer)


def _private(
    mode: Mode, sockets: SocketFactory, socks: SocksDialer | None, pacers: Mapping[Way, DialPacer]
) -> NodeDialer | None:
    """Return the dialer of private broadcast: it has no direct way, whatever the mode has."""
    if socks is None:
        return None
    row = mode if mode is Mode.ONLY_ONION else Mode.CLEARNET_TOR
    return NodeDialer(row, dialers_of(row, sockets, socks), pacers=pacers)


def make_dialer(
    mode: Mode, sockets: SocketFactory, proxy: Address | None, own_onions: Callable[[], Collection[str]]
) -> NodeDialer:
    """Return the dialer of peers alone."""
    return ways_out(mode, sockets, proxy, own_onions).nodes


def _pacer(pace: Pace) -> DialPacer:
    loop = asyncio.get_running_loop()
    return DialPacer(pace, rand=secrets.token_bytes, now=loop.time, sleep=asyncio.sleep)
