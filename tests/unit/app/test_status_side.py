"""What the status page is told of a relay: addresses that it gives away, and its peers, of all identities."""

import asyncio
from types import SimpleNamespace

from relay.app.status_side import StatusAdapter
from relay.observe.status_page.source import OwnAddress, PeerRow
from relay.primitives.endpoint import Endpoint, Network

ONION = "vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd.onion"


def identity(onion=None, *, private=False, i2p=None, sessions=()):
    return SimpleNamespace(
        onion=onion,
        i2p=i2p,
        settings=SimpleNamespace(is_private=private),
        peers=SimpleNamespace(sessions=lambda: list(sessions)),
    )


def session(**changes):
    said = {
        "hello": SimpleNamespace(client="Geth/v1"), "eth": SimpleNamespace(version=70), "label": Network.IPV4,
        "inbound": True, "static": False, "trusted": False, "joined_at": 0.0,
        "endpoint": Endpoint(Network.IPV4, "93.184.216.34", 30303),
    }  # fmt: skip
    return SimpleNamespace(**said | changes)


def adapter(*identities) -> StatusAdapter:
    return StatusAdapter(SimpleNamespace(identities=identities))


def test_address_is_told_once_peers_can_reach_it() -> None:
    assert adapter(identity(), identity(("x", 1), private=True)).own_addresses() == []
    assert adapter(identity((ONION, 30303), i2p="a.b32.i2p")).own_addresses() == [
        OwnAddress("onion", ONION, 30303, True),
        OwnAddress("i2p", "a.b32.i2p", 0, True),
    ]


async def test_peers_of_all_identities_are_told() -> None:
    now = asyncio.get_running_loop().time()
    first = session(joined_at=now - 60, trusted=True)
    second = session(endpoint=None, label=Network.ONION, inbound=False, hello=None, eth=None)

    rows = adapter(identity(sessions=[first]), identity(sessions=[second])).peers()

    assert rows[0] == PeerRow("Geth/v1", "ipv4", True, True, 70, rows[0].seconds, "93.184.216.34")
    assert rows[0].seconds >= 60
    assert (rows[1].network, rows[1].host, rows[1].client, rows[1].eth) == ("onion", "", "", 0)
