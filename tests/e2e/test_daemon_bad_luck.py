"""Tor is missing, dies or comes back: the daemon waits and tries again, and only-onion never falls back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from relay.localnet.network import PrivateTor
from tests.aids.lab import OnionRelay, Trap, free_port, start_all, trap
from tests.aids.socks_server import Act, Script
from tests.aids.tor_lab import Place, RealTor, ScriptedTor, scripted_lab, tor_lab

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

READY = 60.0  # seconds
STOP_SECONDS = 5.0


class Bad:
    """A target that has an onion, and an IP at which a trap lies; and one that dials it, only-onion."""

    def __init__(self, place: Place, target: OnionRelay, dialer: OnionRelay, direct: Trap) -> None:
        assert isinstance(place.proxies, ScriptedTor)
        self.tor, self.target, self.dialer, self.direct = place.proxies, target, dialer, direct
        self.proxy = self.tor.server

    def name_target(self) -> None:
        both = self.target.record(ip="127.0.0.1", onion=self.target.onion, tcp=self.direct.port)
        self.dialer.name_static_nodes(both)


@pytest_asyncio.fixture(loop_scope="session")
async def bad() -> AsyncIterator[Bad]:
    async with scripted_lab() as place, trap() as direct:
        target = await place.relay("--only-onion", onion_port=direct.port)
        dialer = await place.relay("--only-onion")
        await start_all(target, dialer)
        yield Bad(place, target, dialer, direct)
        assert direct.connections == 0


async def test_proxy_that_is_dead_at_first_is_used_once_it_is_there(bad: Bad) -> None:
    await bad.proxy.stop()
    bad.name_target()
    await bad.dialer.until_metric("p2p_dials_error_connection", 1, READY)

    await bad.proxy.start()

    await bad.dialer.joined(bad.target)
    assert [(each.host, each.port) for each in bad.proxy.asked] == [(bad.target.onion, bad.direct.port)]


async def test_proxy_that_dies_in_the_middle_of_a_dial_is_asked_again(bad: Bad) -> None:
    bad.proxy.script = Script(Act.SILENT_REPLY)
    bad.name_target()
    await bad.proxy.wait_asked(1)

    await bad.proxy.stop()
    bad.proxy.script = Script()
    await bad.proxy.start()

    await bad.dialer.joined(bad.target)
    first, second = bad.proxy.asked
    assert (first.host, first.port) == (second.host, second.port) == (bad.target.onion, bad.direct.port)
    assert (first.username, first.password) != (second.username, second.password)  # a circuit of its own


async def test_peers_are_lost_with_the_proxy_and_come_back_with_it(bad: Bad) -> None:
    bad.name_target()
    await bad.dialer.joined(bad.target)

    await bad.proxy.stop()
    await bad.dialer.joined()
    await bad.target.joined()
    await bad.proxy.start()

    await bad.dialer.joined(bad.target)


async def test_control_port_that_dies_takes_the_service_and_no_peer(bad: Bad) -> None:
    """The peers' connections run through the proxy: Tor itself may be well."""
    bad.name_target()
    await bad.dialer.joined(bad.target)
    control = bad.tor.control(bad.target)

    await bad.tor.lose_control(bad.target)
    await bad.target.until_metric("pyrelay_onion_service_up", 0)
    assert (await bad.target.page("/healthz"))[0] == 200
    assert (await bad.target.page("/readyz"))[0] == 503
    await bad.target.joined(bad.dialer)

    control.answers.clear()
    await bad.target.wait_ready(READY)
    assert control.services == [bad.target.onion.removesuffix(".onion")]
    await bad.target.joined(bad.dialer)


async def test_onion_that_torrc_serves_needs_no_control_port() -> None:
    async with scripted_lab() as place:
        served, dialer = await place.relay("--only-onion"), await place.relay("--only-onion")
        assert isinstance(place.proxies, ScriptedTor)
        listener = ("127.0.0.1", free_port())
        served.arguments += ["--onion-address", served.onion, "--onion-listen", "{}:{}".format(*listener)]
        place.proxies.routes[served.onion, served.onion_port] = listener
        await place.proxies.lose_control(served)
        await start_all(served, dialer)

        dialer.name_static_nodes(await served.own_record())

        await dialer.joined(served)
        assert await served.metric("pyrelay_onion_service_up") == 1


@pytest.mark.tor
async def test_daemon_that_starts_before_tor_waits_for_it(private_tor: PrivateTor) -> None:
    async with tor_lab(private_tor, 1) as place:
        relay = await place.relay("--only-onion")
        assert isinstance(place.proxies, RealTor)
        client = place.proxies.client(relay)
        await client.kill()
        relay.launch()

        await relay.until_event("waiting for tor's control port", READY)
        assert (await relay.page("/healthz"))[0] == 200
        assert (await relay.page("/readyz"))[0] == 503
        assert await relay.metric("pyrelay_tor_bootstrap_percent") == 0
        assert await relay.rpc("net_peerCount") == "0x0"

        await asyncio.gather(client.start(), relay.wait_ready(READY))
        assert await relay.metric("pyrelay_tor_bootstrap_percent") == 100


async def test_daemon_that_waits_for_tor_stops_when_told() -> None:
    async with scripted_lab() as place:
        relay = await place.relay("--only-onion")
        await place.proxies.lose_control(relay)
        relay.launch()

        await relay.until_event("waiting for tor's control port", READY)

        assert await relay.timed_stop() < STOP_SECONDS
