"""Two identities: nothing that they send tells that they are one relay; with one identity everything does."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from relay.app.networks import load_network
from relay.primitives.enr import NodeRecord
from tests.aids.lab import OnionRelay, free_port, start_all, trap
from tests.aids.linking import TRIES, Trace, glance, links, look
from tests.aids.tor_lab import Place, scripted_lab, tor_lab
from tests.aids.until import until

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

Lab = Callable[[], AbstractAsyncContextManager[Place]]
CLEARNET = ("--listen-address", "127.0.0.1", "--discovery", "v5,onion,dht", "--bootnodes", "", "--port")
READY = 60.0  # seconds
BROUGHT = 30  # transactions: their order is not the same by chance
OF_ONE = TRIES.keys() - {"height of the number", "hello"}
"""What gives one identity away; the others are for what could become of two."""


@pytest.fixture(params=["scripted", pytest.param("tor", marks=pytest.mark.tor)])
def lab(request: pytest.FixtureRequest) -> Lab:
    if request.param == "scripted":
        return scripted_lab
    network = request.getfixturevalue("private_tor")
    return lambda: tor_lab(network)


async def watched(place: Place, *flags: str) -> tuple[Trace, Trace, Trace]:
    """What a relay shows on both networks, and another one on the onion network."""
    port = free_port()
    onion_port = port if flags else 30303  # with one identity the record has both where they have one port
    relay = await place.relay(*CLEARNET, str(port), *flags, onion_port=onion_port)
    stranger = await place.relay(*CLEARNET, "0")
    chain = load_network(str(place.chain.path))
    await start_all(relay, stranger)
    for each in (relay, stranger):
        await each.until_metric("pyrelay_onion_service_up", 1, READY)

    async def lose_the_onion() -> None:
        await place.proxies.lose_control(relay)
        await until(lambda: is_withdrawn(relay), "a record without onion", READY)

    raws = [bytes.fromhex(raw[2:]) for raw in place.chain.transfers(BROUGHT).values()]
    other = await glance(stranger, chain)
    return *await look(relay, chain, raws, lose_the_onion), other


async def is_withdrawn(relay: OnionRelay) -> bool:
    return NodeRecord.from_text(await relay.own_record()).onion3 is None


async def test_nothing_links_two_identities(lab: Lab) -> None:
    async with lab() as place:
        onion, clearnet, stranger = await watched(place)

    assert links(onion, clearnet, stranger) == set()
    assert clearnet.status.latest == 50  # each follows its own peers
    assert onion.status.latest == 0
    assert (clearnet.records[0].ip, clearnet.records[0].onion3) == ("127.0.0.1", None)
    assert (onion.records[0].ip, onion.records[0].udp) == (None, None)
    assert onion.records[0].onion3 is not None


async def test_everything_links_a_single_identity(lab: Lab) -> None:
    async with lab() as place:
        onion, clearnet, stranger = await watched(place, "--single-identity")

    assert links(onion, clearnet, stranger) == OF_ONE


@pytest.mark.parametrize("mode", [(), ("--prefer-tor",)])
async def test_a_node_with_both_addresses_is_dialed_by_one_identity_alone(
    lab: Lab, mode: tuple[str, ...]
) -> None:
    """And not by the other one when that fails: who made it fail would learn that they are one."""
    async with lab() as place, trap() as direct:
        target = await place.relay("--only-onion", onion_port=direct.port)
        dialer = await place.relay(*mode, "--listen-address", "127.0.0.1", "--port", "0")
        await start_all(target, dialer)
        asked = await place.watch(dialer)
        dialer.name_static_nodes(target.record(ip="127.0.0.1", onion=target.onion, tcp=direct.port))

        if mode:
            (peer,) = (await dialer.joined(target)).values()
            assert peer["identity"] == "onion"
            assert direct.connections == 0
        else:
            await until(lambda: direct.connections >= 2, "it is dialed, and again", READY)
            assert asked() == []
            assert await dialer.peers() == []
