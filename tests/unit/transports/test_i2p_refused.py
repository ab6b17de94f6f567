"""Names of I2P never reach a resolver, an exit of Tor, or a direct connection."""

from __future__ import annotations

import pytest

from relay.discovery.dns.messages import make_question
from relay.primitives.address import TcpAddress
from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.errors import DecodeError, DialRefused
from relay.primitives.i2p import i2p_from_hash
from relay.rpc.upstream.urls import parse_upstream
from relay.transports.dialer import TcpDialer
from relay.transports.sockets import SocketFactory, SocketRules
from relay.transports.socks_dialer import Isolation, SocksDialer

pytestmark = pytest.mark.asyncio

ADDRESS = str(i2p_from_hash(bytes(32)))
NAMES = ["stats.i2p", "STATS.I2P.", ADDRESS]


def never(*_: object) -> list[object]:
    raise AssertionError("asked")


@pytest.mark.parametrize("name", NAMES)
async def test_system_s_resolver_is_not_asked(name: str) -> None:
    sockets = SocketFactory(SocketRules.anywhere(), lookup=never)
    with pytest.raises(DialRefused, match="only an I2P router can reach it"):
        await sockets.resolve(name, 80)


@pytest.mark.parametrize("name", NAMES)
async def test_no_question_is_made_of_it(name: str) -> None:
    with pytest.raises(DecodeError, match="only an I2P router can reach it"):
        make_question(name, 1, padded=False)


@pytest.mark.parametrize("network", [Network.I2P, Network.DNS])
@pytest.mark.parametrize("name", NAMES)
async def test_proxy_of_tor_is_not_asked(name: str, network: Network) -> None:
    sockets = SocketFactory(SocketRules.only())
    dialer = SocksDialer(sockets, TcpAddress("127.0.0.1", 9), Isolation(bytes), exits=True)
    with pytest.raises(DialRefused, match="nothing that Tor can reach"):
        await dialer.dial(Endpoint(network, name, 80), never)


async def test_it_is_not_connected_directly() -> None:
    with pytest.raises(DialRefused):
        await TcpDialer(SocketFactory(SocketRules.anywhere())).dial(Endpoint(Network.I2P, ADDRESS, 0), never)


async def test_it_is_no_upstream() -> None:
    with pytest.raises(DecodeError, match="no port"):
        parse_upstream(f"http://{ADDRESS}:8545")
