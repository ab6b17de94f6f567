"""A dialer that has some of the ways of another."""

from __future__ import annotations

import pytest

from relay.primitives.endpoint import Endpoint
from relay.primitives.errors import DialRefused
from relay.primitives.node import Node
from relay.primitives.onion import OnionKey
from relay.transports.dialer import NodeDialer
from relay.transports.policy import Mode, Way
from tests.aids.peering import key_of, rand_of

ONION = OnionKey.generate(rand_of(5)).address


class Never:
    async def dial(self, to, protocol_factory):
        raise AssertionError("it is dialed")

    async def resolve(self, name, port):
        raise AssertionError("it is looked up")


@pytest.mark.parametrize(
    ("mode", "ways", "host"),
    [
        (Mode.ONLY_ONION, {Way.TOR_ONION, Way.I2P}, "8.8.8.8"),
        (Mode.ONLY_ONION, {Way.TOR_ONION, Way.I2P}, "node.example"),
        (Mode.NO_TOR, {Way.DIRECT}, ONION),
    ],
)
async def test_what_it_lacks_it_does_not_dial(mode, ways, host):
    whole = NodeDialer(
        Mode.DEFAULT, {Way.DIRECT: Never(), Way.TOR_ONION: Never()}, resolver=Never()
    ).narrowed(mode, ways)
    plan = whole.plan(Node(key_of(1).public_key, (Endpoint.parse(host, 30303),)))
    assert plan.targets == ()
    with pytest.raises(DialRefused):
        await whole.dial_node(plan, lambda: None)
    assert whole._dialers.keys() == ways - {Way.I2P}
    assert (whole._resolver is None) == mode.hides_ip
