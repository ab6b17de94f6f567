"""The integration tests that the Tor transport's ADR names, each with scripted proxies and with real Tor."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from relay.primitives.enr import NodeRecord
from relay.primitives.onion import OnionKey
from tests.aids.daemon import ROOT
from tests.aids.lab import OnionRelay, free_port, listening, start_all, trap
from tests.aids.tor_lab import Place, scripted_lab, tor_lab
from tests.aids.until import until

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

Lab = Callable[[], AbstractAsyncContextManager[Place]]
NOBODY = str(OnionKey.from_seed(b"nobody publishes this service...").address)
CLEARNET = ("--listen-address", "127.0.0.1", "--port")
READY = 60.0  # seconds


@pytest.fixture(params=["scripted", pytest.param("tor", marks=pytest.mark.tor)])
def lab(request: pytest.FixtureRequest) -> Lab:
    if request.param == "scripted":
        return scripted_lab
    network = request.getfixturevalue("private_tor")
    return lambda: tor_lab(network)


async def test_tor_integration_two_nodes_discover_and_connect(lab: Lab) -> None:
    """By discovery over onion streams, both only-onion; afterwards a restart needs no bootnode."""
    async with lab() as place:
        flags = ("--only-onion", "--discovery", "onion,dht")
        target, dialer = await place.relay(*flags), await place.relay(*flags)
        without_bootnode = list(dialer.arguments)
        dialer.arguments += ["--bootnodes", target.onion_enode]
        await target.start(READY)
        await dialer.start(READY)

        await they_meet(dialer, target, place)
        record = (await dialer.rpc("admin_nodeInfo"))["discovery"]["onion"]
        assert (record["table"], record["live"]) == (1, 1)

        await dialer.stop()
        (dialer.directory / "peers.json").unlink()  # the node database alone shall do
        dialer.arguments = without_bootnode
        await dialer.start(READY)
        await they_meet(dialer, target, place)


async def they_meet(one: OnionRelay, other: OnionRelay, place: Place) -> None:
    """Each may have found the other; one connection remains, and carries transactions both ways."""
    await one.joined(other)
    await other.joined(one)
    (count,) = (await one.networks()).values()
    assert count == 1
    await passes(one, other, place)
    await passes(other, one, place)


async def test_tor_integration_enr_propagation(lab: Lab) -> None:
    """The record leads others to the onion, and shows it only while the service is there."""
    async with lab() as place:
        target, dialer = await place.relay("--only-onion"), await place.relay("--only-onion")
        await start_all(target, dialer)

        text = await target.own_record()

        record = NodeRecord.from_text(text)
        assert record.public_key == target.key.public_key
        assert (record.onion3, record.tcp) == (target.onion, target.onion_port)
        assert not {"ip", "ip6", "udp", "udp6", "tcp6"} & record.pairs.keys()
        assert decoded_by_command(text)["onion3"] == target.onion

        asked = await place.watch(dialer)
        dialer.name_static_nodes(text)
        await dialer.joined(target)
        assert asked() == [(target.onion, target.onion_port)]

        await place.proxies.lose_control(target)
        gone = await until(lambda: record_without_onion(target), "a record without onion", READY)
        assert gone.seq == record.seq + 1


async def test_tor_integration_dual_stack_connectivity(lab: Lab) -> None:
    """A node with IP and onion joins an IP peer with an onion peer, who can't reach each other."""
    async with lab() as place:
        port = free_port()
        both = await place.relay(*CLEARNET, str(port))
        by_ip = place.plain(*CLEARNET, "0")
        by_onion = await place.relay("--only-onion")
        await start_all(both, by_ip, by_onion)
        await both.until_metric("pyrelay_onion_service_up", 1, READY)
        by_ip.name_static_nodes(both.clearnet_enode("127.0.0.1", port))
        by_onion.name_static_nodes(both.onion_enode)

        await both.joined(by_ip, by_onion)
        (seen,) = await by_ip.until_peers(1)
        (hidden,) = (await by_onion.joined(both)).values()
        assert seen["id"] != hidden["id"]  # who has two identities is another node on each network

        assert await both.networks() == {("ipv4", "inbound"): 1, ("onion", "inbound"): 1}
        assert await by_ip.networks() == {("ipv4", "outbound"): 1}
        assert await by_onion.networks() == {("onion", "outbound"): 1}
        await passes(by_ip, by_onion, place)
        await passes(by_onion, by_ip, place)


async def test_tor_integration_only_onion_mode(lab: Lab) -> None:
    """A peer with IP and onion is dialed by its onion and nothing else; one without an onion not at all."""
    async with lab() as place, trap() as direct:
        target = await place.relay("--only-onion", onion_port=direct.port)
        by_ip, by_name = place.plain(), place.plain()
        dialer = await place.relay("--only-onion")
        await start_all(target, dialer)
        asked = await place.watch(dialer)
        dialer.name_static_nodes(
            by_ip.enode_at("127.0.0.1", direct.port),
            by_name.enode_at("localhost", direct.port),
            target.record(ip="127.0.0.1", onion=target.onion, tcp=direct.port),
        )

        await dialer.joined(target)
        for refused in (by_ip, by_name):
            parked = "static node is not dialed until the nodes change"
            entry = await dialer.until_event(parked, peer=refused.id[:16])
            assert "no onion address" in entry["why"]

        assert asked() == [(target.onion, direct.port)]
        assert direct.connections == 0


async def test_tor_integration_fallback_to_clearnet(lab: Lab) -> None:
    """prefer-tor with one identity: where Tor fails, direct."""
    async with lab() as place:
        port = free_port()
        target = place.plain(*CLEARNET, str(port))
        dialer = await place.relay("--prefer-tor", "--single-identity", *CLEARNET, "0")
        await start_all(target, dialer)
        await dialer.until_metric("pyrelay_tor_bootstrap_percent", 100, READY)
        asked = await place.watch(dialer)
        dialer.name_static_nodes(target.record(ip="127.0.0.1", onion=NOBODY, tcp=port))

        await dialer.joined(target)

        assert await dialer.networks() == {("ipv4", "outbound"): 1}
        assert asked() == [(NOBODY, port)]


async def test_tor_integration_fallback_to_clearnet_only_where_tor_fails(lab: Lab) -> None:
    """prefer-tor: who answers by onion is not dialed by IP."""
    async with lab() as place, trap() as direct:
        target = await place.relay("--only-onion", onion_port=direct.port)
        dialer = await place.relay("--prefer-tor", *CLEARNET, "0")
        await start_all(target, dialer)
        dialer.name_static_nodes(target.record(ip="127.0.0.1", onion=target.onion, tcp=direct.port))

        await dialer.joined(target)

        assert await dialer.networks() == {("onion", "outbound"): 1}
        assert direct.connections == 0


async def test_tor_integration_fallback_to_clearnet_the_other_way_by_default(lab: Lab) -> None:
    """Default with one identity: direct first, then Tor."""
    async with lab() as place:
        port = free_port()
        target = await place.relay("--single-identity", *CLEARNET, str(port), onion_port=port)
        dead_end = await place.relay("--only-onion", onion_port=free_port())  # nobody is at its IP
        dialer = await place.relay("--single-identity", *CLEARNET, "0")
        await start_all(target, dead_end, dialer)
        asked = await place.watch(dialer)
        dialer.name_static_nodes(
            target.record(ip="127.0.0.1", onion=target.onion, tcp=port),
            dead_end.record(ip="127.0.0.1", onion=dead_end.onion, tcp=dead_end.onion_port),
        )

        await dialer.joined(target, dead_end)

        assert await dialer.networks() == {("ipv4", "outbound"): 1, ("onion", "outbound"): 1}
        assert asked() == [(dead_end.onion, dead_end.onion_port)]


async def test_tor_integration_fallback_to_clearnet_never_in_only_onion(lab: Lab) -> None:
    """The first dial fails and the retries too: the IP is never tried, though it would answer."""
    async with lab() as place, trap() as direct:
        dialer, target = await place.relay("--only-onion"), place.plain()
        await dialer.start(READY)
        asked = await place.watch(dialer)
        dialer.name_static_nodes(target.record(ip="127.0.0.1", onion=NOBODY, tcp=direct.port))

        await until(asked, "a dial by onion", READY)
        await dialer.until_metric("p2p_dials_error_connection", 1, READY)
        # a node that is named again is dialed anew, without the wait that its failure brought
        await dialer.rpc("admin_removePeer", target.enode_at(NOBODY, direct.port))
        await dialer.rpc("admin_addPeer", target.record(ip="127.0.0.1", onion=NOBODY, tcp=direct.port))
        await dialer.until_metric("p2p_dials_error_connection", 2, READY)

        assert asked() == [(NOBODY, direct.port)] * 2
        assert direct.connections == 0


async def passes(sender: OnionRelay, receiver: OnionRelay, place: Place) -> None:
    """A transaction given to one arrives at the other."""
    transaction = place.chain.transfers(1)
    async with listening(receiver) as ear:
        await sender.submit(transaction)
        await ear.until_heard(transaction)


async def record_without_onion(relay: OnionRelay) -> NodeRecord | None:
    record = NodeRecord.from_text(await relay.own_record())
    return record if record.onion3 is None else None


def decoded_by_command(text: str) -> dict[str, object]:
    command = [sys.executable, "-m", "relay.cli.main", "enr", "decode", text]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    found: dict[str, object] = json.loads(done.stdout)
    return found
