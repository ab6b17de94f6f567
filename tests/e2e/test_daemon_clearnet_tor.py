"""--clearnet tor: IP peers are dialed through exits, and this host shows itself to nobody but Tor."""

from __future__ import annotations

import os

import pytest

from relay.localnet.client import ClientHandle
from relay.localnet.network import PrivateTor
from tests.aids.kernel import (
    children,
    command,
    far_ends,
    needs_proc,
    socket_inodes,
    sockets_of,
    speaks_only_to,
)
from tests.aids.lab import OnionRelay, free_port, start_all
from tests.aids.socks_server import ATYP_IPV4, ATYP_NAME
from tests.aids.tor_lab import Place, RealTor, ScriptedTor, scripted_lab, tor_lab

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

CLEARNET_TOR = ("--clearnet", "tor")


def clearnet_peer(place: Place) -> tuple[OnionRelay, int]:
    """A relay without Tor, and its port on loopback."""
    port = free_port()
    return place.plain("--listen-address", "127.0.0.1", "--port", str(port)), port


@pytest.mark.tor
@needs_proc
async def test_ip_peer_is_dialed_through_an_exit(private_tor: PrivateTor) -> None:
    async with tor_lab(private_tor, 1) as place:
        dialer = await place.relay(*CLEARNET_TOR)
        target, port = clearnet_peer(place)
        await start_all(dialer, target)
        asked = await place.watch(dialer)

        dialer.name_static_nodes(target.enode_at("127.0.0.1", port))
        await dialer.joined(target)
        await target.joined(dialer)

        assert asked() == [("127.0.0.1", port)]
        assert await dialer.networks() == {("ipv4", "outbound"): 1}
        assert isinstance(place.proxies, RealTor)
        client = place.proxies.client(dialer)
        assert speaks_only_to(dialer, client.process.pid)
        peers = [each for each in sockets_of(target.pid).connections if each.local == ("127.0.0.1", port)]
        assert [far in relays_sockets(client) for far in far_ends(peers).values()] == [True]


def relays_sockets(client: ClientHandle) -> set[int]:
    """Sockets of every tor that this process started but one."""
    tors = (pid for pid in children(os.getpid()) if command(pid) == "tor" and pid != client.process.pid)
    return set().union(*map(socket_inodes, tors))


async def test_names_go_to_the_proxy_unresolved() -> None:
    """No resolver knows the name, and the peer is joined: only the proxy was asked."""
    async with scripted_lab() as place:
        dialer = await place.relay(*CLEARNET_TOR)
        (named, named_port), (numbered, port) = clearnet_peer(place), clearnet_peer(place)
        assert isinstance(place.proxies, ScriptedTor)
        place.proxies.routes["relay.invalid", named_port] = ("127.0.0.1", named_port)
        place.proxies.routes["127.0.0.1", port] = ("127.0.0.1", port)
        await start_all(dialer, named, numbered)

        dialer.name_static_nodes(
            named.enode_at("relay.invalid", named_port), numbered.enode_at("127.0.0.1", port)
        )
        await dialer.joined(named, numbered)

        asked = {(each.address_type, each.host, each.port) for each in place.proxies.server.asked}
        assert asked == {(ATYP_NAME, "relay.invalid", named_port), (ATYP_IPV4, "127.0.0.1", port)}


async def test_onion_is_tried_before_the_exit() -> None:
    async with scripted_lab() as place:
        dialer = await place.relay(*CLEARNET_TOR)
        target, port = clearnet_peer(place)
        assert isinstance(place.proxies, ScriptedTor)
        place.proxies.routes["127.0.0.1", port] = ("127.0.0.1", port)
        await start_all(dialer, target)

        dialer.name_static_nodes(target.record(ip="127.0.0.1", onion=target.onion, tcp=port))
        await dialer.joined(target)

        assert [each.host for each in place.proxies.server.asked] == [target.onion, "127.0.0.1"]
        assert await dialer.networks() == {("ipv4", "outbound"): 1}
