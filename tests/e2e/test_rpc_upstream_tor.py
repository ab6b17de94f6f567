"""JSON-RPC of a hidden relay beside a scripted Tor: upstreams are asked through the proxy and no other way.

The relay is a process of its own; its sockets are read from the kernel.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.aids.kernel import needs_proc, speaks_only_to
from tests.aids.lab import CHAIN_ID, OnionRelay, start_all
from tests.aids.socks_server import ATYP_NAME, SocksServer
from tests.aids.tor_lab import Place, ScriptedTor, scripted_lab
from tests.aids.upstream import Act, Script, ScriptedHttp

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

NAME = "rpc.example"
ONION = "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion"


@pytest_asyncio.fixture(loop_scope="session")
async def place() -> AsyncIterator[Place]:
    async with scripted_lab() as found:
        yield found


def proxy_of(place: Place) -> SocksServer:
    assert isinstance(place.proxies, ScriptedTor)
    return place.proxies.server


async def hidden(place: Place, first: ScriptedHttp, second: ScriptedHttp) -> OnionRelay:
    assert isinstance(place.proxies, ScriptedTor)
    place.proxies.routes[(NAME, 8545)] = ("127.0.0.1", first.port)
    place.proxies.routes[(ONION, 80)] = ("127.0.0.1", second.port)
    relay = await place.relay("--only-onion", "--rpc-upstream", f"http://{NAME}:8545,http://{ONION}")
    await start_all(relay)
    return relay


@needs_proc
async def test_upstreams_are_reached_by_name_through_the_proxy_alone(place: Place) -> None:
    async with ScriptedHttp(chain=CHAIN_ID) as first, ScriptedHttp(chain=CHAIN_ID) as second:
        relay = await hidden(place, first, second)
        peer = await place.relay("--only-onion")
        await start_all(peer)
        relay.name_static_nodes(peer.record(onion=peer.onion, tcp=peer.onion_port))
        await relay.joined(peer)
        first.results["eth_gasPrice"] = second.results["eth_gasPrice"] = "0x5"

        assert await relay.rpc("eth_gasPrice") == "0x5"
        speaks_only_to(relay, os.getpid())
        first.script = Script(Act.STATUS, status=500)
        assert await relay.rpc("eth_gasPrice") == "0x5"
        speaks_only_to(relay, os.getpid())

        asked = {(each.host, each.port): each for each in proxy_of(place).asked}
        named, onion, of_peer = asked[(NAME, 8545)], asked[(ONION, 80)], asked[(peer.onion, 30303)]
        assert {named.address_type, onion.address_type} == {ATYP_NAME}
        # Credentials of their own: Tor puts no two of these streams on one circuit.
        assert len({each.password for each in (named, onion, of_peer)}) == 3
        assert named.password is not None
        assert named.password.startswith(b"rpc-")
        for node in (first, second):
            told = {line.partition(":")[0].lower() for line in node.heads[0].strip().splitlines()[1:]}
            assert told == {"host", "user-agent", "accept", "content-type", "content-length"}
            assert "User-Agent: pyrelay\r\n" in node.heads[0]


async def test_dead_proxy_means_no_answer_and_never_another_way(place: Place) -> None:
    async with ScriptedHttp(chain=CHAIN_ID) as first, ScriptedHttp(chain=CHAIN_ID) as second:
        relay = await hidden(place, first, second)
        await proxy_of(place).stop()
        with pytest.raises(Exception, match="no upstream answers"):
            await relay.rpc("eth_gasPrice")
        assert first.calls == second.calls == []
        speaks_only_to(relay, os.getpid())
