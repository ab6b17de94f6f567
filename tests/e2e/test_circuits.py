"""Which circuits a relay's streams ride, told by a real Tor: none is shared, none is kept for too long."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from relay.localnet.client import ClientHandle
from relay.localnet.network import PrivateTor
from relay.tor.control import TorControl
from relay.tor.control_protocol import Reply, parse_keywords
from tests.aids.discv5 import onion_record
from tests.aids.dns_server import DnsServerAid
from tests.aids.dnsdisc import signed_tree
from tests.aids.lab import CHAIN_ID, OnionRelay, free_port, start_all, through
from tests.aids.tor_clients import tor_clients
from tests.aids.tor_lab import Place, RealTor, tor_lab
from tests.aids.until import until
from tests.aids.upstream import ScriptedHttp

pytestmark = [pytest.mark.tor, pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

LIST, RESOLVER, NODE = "lists.example", "198.51.100.53", "rpc.example"
SECONDS = 90.0


@dataclass(frozen=True)
class Ride:
    """A stream that reached its target.

    Attributes:
        circuit: Tor's number of it, used once in the life of a Tor process.
        run, serial: SOCKS user name and password.
    """

    circuit: int
    run: str
    serial: str
    target: str

    @property
    def purpose(self) -> str:
        return self.serial.partition("-")[0]


class Rides:
    """Those of one Tor client, in order."""

    def __init__(self) -> None:
        self.seen: list[Ride] = []

    def take(self, event: Reply) -> None:
        # STREAM <id> SUCCEEDED <circuit> <target> [SOCKS_USERNAME="..." SOCKS_PASSWORD="..."] (control-spec)
        words, told = event.text.split(), parse_keywords(event.text)
        if words[2] == "SUCCEEDED" and "SOCKS_USERNAME" in told:
            self.seen.append(Ride(int(words[3]), told["SOCKS_USERNAME"], told["SOCKS_PASSWORD"], words[4]))

    def purposes(self) -> set[str]:
        return {each.purpose for each in self.seen}

    def check_isolation(self) -> None:
        """No circuit carries two streams, and no credentials were used twice."""
        by_circuit = defaultdict(list)
        for each in self.seen:
            by_circuit[each.circuit].append((each.run, each.serial))
        shared = {circuit: used for circuit, used in by_circuit.items() if len(used) > 1}
        assert not shared
        assert len({(each.run, each.serial) for each in self.seen}) == len(self.seen)


@asynccontextmanager
async def rides_of(client: ClientHandle, **names: str) -> AsyncIterator[Rides]:
    """Watch a Tor; names and addresses given lead to loopback behind its exits."""
    rides = Rides()
    async with TorControl.connect(client.open_control) as control:
        control.listen("STREAM", rides.take)
        await control.set_events()
        for each in names.values():
            await control.command("MAPADDRESS", f"{each}=127.0.0.1")
        yield rides


def client_of(place: Place, relay: OnionRelay) -> ClientHandle:
    assert isinstance(place.proxies, RealTor)
    return place.proxies.client(relay)


async def test_every_stream_of_every_purpose_has_a_circuit_of_its_own_and_every_start_new_ones(
    private_tor: PrivateTor,
) -> None:
    tree, link = signed_tree(LIST, [onion_record(7, ip="198.51.100.70")])
    texts = {name: [text] for name, text in tree.texts(link.domain).items()}
    async with (
        tor_lab(private_tor, 1) as place,
        DnsServerAid(texts) as dns,
        ScriptedHttp(chain=CHAIN_ID, results={"eth_gasPrice": "0x5"}) as node,
    ):
        (_, far) = await tor_clients(private_tor, 2)
        port = free_port()
        onions = [place.plain("--only-onion", "--discovery", "onion", *through(far)) for _ in range(2)]
        plain = place.plain("--listen-address", "127.0.0.1", "--port", str(port), "--discovery", "off")
        relay = await place.relay(
            *("--clearnet", "tor", "--discovery", "onion,dns", "--bootnodes", onions[0].onion_enode),
            *("--dns-lists", str(link), "--dns-resolver", f"tcp://{RESOLVER}:{dns.port}"),
            *("--rpc-upstream", f"http://{NODE}:{node.port}", "--private-broadcast", "auto"),
        )
        async with rides_of(client_of(place, relay), node=NODE, resolver=RESOLVER) as rides:
            await start_all(plain, *onions)
            runs: set[str] = set()
            for _ in range(2):
                await relay.start(SECONDS)
                relay.name_static_nodes(
                    *(each.onion_enode for each in onions), plain.enode_at("127.0.0.1", port)
                )
                await relay.joined(plain, *onions)
                assert await relay.rpc("eth_gasPrice") == "0x5"
                await relay.submit(place.chain.transfers(1))
                await seen_all(relay, rides, runs)
                runs |= {each.run for each in rides.seen}
                await relay.timed_stop()
            rides.check_isolation()
            assert len({each.run for each in rides.seen}) == 2


async def seen_all(relay: OnionRelay, rides: Rides, before: set[str]) -> None:
    """Wait until a run that is none of those before has shown every purpose."""

    def of_this_run() -> set[str]:
        return {each.purpose for each in rides.seen if each.run not in before}

    await until(
        lambda: of_this_run() == {"peer", "discovery", "rpc", "dns", "broadcast"},
        lambda: f"seen: {sorted(of_this_run())}\n{relay.tail()}",
        SECONDS,
    )


async def test_circuits_are_renewed_one_peer_at_a_time(private_tor: PrivateTor) -> None:
    async with tor_lab(private_tor, 1) as place:
        (_, far) = await tor_clients(private_tor, 2)
        relay = await place.relay("--only-onion", "--discovery", "off", "--tor-rotate-circuits", "20s")
        others = [place.plain("--only-onion", "--discovery", "off", *through(far)) for _ in range(3)]
        guest = place.plain("--only-onion", "--discovery", "off", *through(far))
        await start_all(relay, guest, *others)
        guest.name_static_nodes(relay.onion_enode)
        await relay.joined(guest)
        async with rides_of(client_of(place, relay)) as rides:
            relay.name_static_nodes(*(each.onion_enode for each in others))
            await relay.joined(guest, *others)
            dials = await guest.metric("p2p_dials")
            fewest = await fewest_peers(relay, rides, targets=3, dials=3)
            rides.check_isolation()
            assert fewest == 3, "one of four is missing at the worst moment"
            assert await guest.metric("p2p_dials") == dials, "who came in was left alone"
            assert len({each.run for each in rides.seen}) > 1, "the credentials were renewed, too"


async def fewest_peers(relay: OnionRelay, rides: Rides, *, targets: int, dials: int) -> int:
    """Count peers until each target was dialed so often; return the smallest count."""
    fewest, end = len(await relay.peers()), time.monotonic() + 2 * SECONDS
    while True:
        fewest = min(fewest, len(await relay.peers()))
        count: dict[str, int] = defaultdict(int)
        for each in rides.seen:
            count[each.target] += 1
        if len(count) == targets and min(count.values()) >= dials:
            return fewest
        assert time.monotonic() < end, (count, relay.tail())
        await asyncio.sleep(0.1)
