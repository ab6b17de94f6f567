"""What admin_peers tells: geth's shape."""

from __future__ import annotations

import json

from relay.peering.info import peer_info
from relay.primitives.keys import node_id
from relay.transports.listener import Label
from tests.aids.peering import connect, key_of, make_end, settle


def test_clearnet_peer_is_described_as_geth_does() -> None:
    near = make_end(key_of(1))
    far = make_end(key_of(2), near.loop)
    link = connect(near, far, static=True)
    settle([near.loop], [link])
    key = near.key.public_key
    assert peer_info(link.listener).to_json() == {
        "enode": f"enode://{key.hex()}@127.0.0.1:40000",
        "id": node_id(key).hex(),
        "name": "pyrelay/test",
        "caps": ["eth/69", "eth/70"],
        "network": {
            "localAddress": "127.0.0.1:30303",
            "remoteAddress": "127.0.0.1:40000",
            "inbound": True,
            "trusted": False,
            "static": False,
        },
        "protocols": {
            "eth": {
                "version": 70,
                "earliestBlock": 0,
                "latestBlock": 1,
                "latestBlockHash": "0x" + b"h".hex() * 32,
            }
        },
    }
    told = peer_info(link.listener, included=1 / 3).to_json()["protocols"]["eth"]  # type: ignore[index]
    assert told["included"] == 0.3333
    assert peer_info(link.dialer).static
    json.dumps(peer_info(link.dialer).to_json())


def test_peer_of_the_onion_service_has_no_address_and_eth68_no_range() -> None:
    near = make_end(key_of(1), versions=(68,))
    far = make_end(key_of(2), near.loop, versions=(68,))
    link = connect(near, far, label=Label.ONION)
    settle([near.loop], [link])
    info = peer_info(link.listener)
    assert info.remote_address == ""
    assert info.network == "onion"
    assert info.enode == f"enode://{near.key.public_key.hex()}"
    assert info.to_json()["protocols"] == {"eth": {"version": 68}}
    link.listener.transport._extra = {"sockname": "/run/pyrelay.sock"}  # type: ignore[union-attr]
    assert peer_info(link.listener).local_address == "/run/pyrelay.sock"
    link.listener.transport._extra = {}  # type: ignore[union-attr]
    assert peer_info(link.listener).local_address == ""
