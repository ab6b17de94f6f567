"""I2P in the table of ways: with a router, without one, and in every mode."""

from __future__ import annotations

import asyncio
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.primitives.address import parse_address
from relay.primitives.errors import DialRefused
from relay.primitives.i2p import i2p_from_hash
from relay.primitives.node import Node
from relay.transports.dialer import DialFailed, NodeDialer, dialers_of
from relay.transports.policy import POLICY, Mode, Reach, Way, plan_dial
from relay.transports.sockets import SocketFactory, SocketRules
from relay.transports.socks_dialer import Isolation, SocksDialer
from tests.unit.transports.conftest import ONION, node

IP = ("93.184.216.34", 30303)
I2P = (str(i2p_from_hash(bytes(32))), 0)
OTHER_I2P = (str(i2p_from_hash(bytes(31) + b"\x01")), 0)
TOR = (ONION, 30303)
DIRECT, ONION_WAY, EXIT, OVER_I2P = Way.DIRECT, Way.TOR_ONION, Way.TOR_EXIT, Way.I2P


@pytest.mark.parametrize(
    ("mode", "i2p_only", "ip_too", "onion_too", "everything"),
    [
        (Mode.NO_TOR, [OVER_I2P], [DIRECT, OVER_I2P], [OVER_I2P], [DIRECT, OVER_I2P]),
        (Mode.DEFAULT, [OVER_I2P], [DIRECT, OVER_I2P], [ONION_WAY, OVER_I2P], [DIRECT, ONION_WAY, OVER_I2P]),
        (
            Mode.PREFER_TOR,
            [OVER_I2P],
            [OVER_I2P, DIRECT],
            [ONION_WAY, OVER_I2P],
            [ONION_WAY, OVER_I2P, DIRECT],
        ),
        (Mode.CLEARNET_TOR, [OVER_I2P], [OVER_I2P, EXIT], [ONION_WAY, OVER_I2P], [ONION_WAY, OVER_I2P, EXIT]),
        (Mode.ONLY_ONION, [OVER_I2P], [OVER_I2P], [ONION_WAY, OVER_I2P], [ONION_WAY, OVER_I2P]),
        (Mode.ONLY_I2P, [OVER_I2P], [OVER_I2P], [OVER_I2P], [OVER_I2P]),
    ],
)  # fmt: skip
def test_table(
    mode: Mode, i2p_only: list[Way], ip_too: list[Way], onion_too: list[Way], everything: list[Way]
) -> None:
    def ways(*hosts: tuple[str, int]) -> list[Way]:
        return [each.way for each in plan_dial(mode, node(*hosts), i2p=True).targets]

    assert ways(I2P) == i2p_only
    assert ways(IP, I2P) == ip_too
    assert ways(I2P, TOR) == onion_too
    assert ways(I2P, IP, TOR) == everything


@given(
    mode=st.sampled_from([each for each in Mode if each is not Mode.ONLY_I2P]),
    hosts=st.lists(st.sampled_from([IP, TOR, ("node.example", 1)]), max_size=3, unique=True),
)
def test_without_a_router_an_i2p_address_is_as_if_it_were_not_there(
    mode: Mode, hosts: list[tuple[str, int]]
) -> None:
    with_it, without = plan_dial(mode, node(*hosts, I2P)), plan_dial(mode, node(*hosts))
    assert (with_it.ways, with_it.targets) == (without.ways, without.targets)


def test_refusals_say_what_is_missing() -> None:
    assert "give --i2p-sam" in plan_dial(Mode.DEFAULT, node(I2P)).refusal
    for hosts in ((IP,), (TOR,), (IP, TOR)):
        refusal = plan_dial(Mode.ONLY_I2P, node(*hosts), i2p=True).refusal
        assert refusal == "it has no I2P address, and only-i2p dials nothing else"


def test_record_that_gains_an_i2p_address_does_not_gain_the_way() -> None:
    plan = plan_dial(Mode.ONLY_ONION, node(TOR), i2p=True)
    assert [each.way for each in plan.renewed(node(TOR, I2P)).targets] == [ONION_WAY]


def test_renewal_takes_a_new_i2p_address_over_and_keeps_one_that_is_left_out() -> None:
    plan = plan_dial(Mode.ONLY_I2P, node(I2P), i2p=True)
    assert [each.endpoint.host for each in plan.renewed(node(OTHER_I2P)).targets] == [OTHER_I2P[0]]
    assert [each.endpoint.host for each in plan.renewed(node(IP)).targets] == [I2P[0]]


def test_refused_peer_is_planned_anew_with_the_router() -> None:
    plan = plan_dial(Mode.ONLY_I2P, node(IP), i2p=True)
    assert [each.way for each in plan.renewed(node(I2P)).targets] == [OVER_I2P]


def test_dialers_of_each_mode_with_a_router() -> None:
    sockets = SocketFactory(SocketRules.anywhere())
    socks = SocksDialer(sockets, parse_address("127.0.0.1:9050"), Isolation(os.urandom), exits=True)
    for mode in Mode:
        ways = {way for row in POLICY[mode].values() for way in row}
        assert set(dialers_of(mode, sockets, socks, socks)) == ways
        assert OVER_I2P not in dialers_of(mode, sockets, socks)


@pytest.mark.asyncio
async def test_dialer_without_a_router_plans_and_dials_nothing_over_i2p() -> None:
    dialer = NodeDialer(Mode.ONLY_I2P, {})
    plan = dialer.plan(node(I2P))
    assert plan.targets == ()
    with pytest.raises(DialFailed) as caught:
        await dialer.dial_node(plan_dial(Mode.ONLY_I2P, node(I2P), i2p=True), asyncio.Protocol)
    assert isinstance(caught.value.failures[0][1], DialRefused)


def test_every_reach_is_met() -> None:
    kinds: dict[Reach, tuple[tuple[str, int], ...]] = {
        Reach.IP: (IP,), Reach.ONION: (TOR,), Reach.I2P: (I2P,), Reach.BOTH: (IP, TOR),
        Reach.IP_I2P: (IP, I2P), Reach.ONION_I2P: (TOR, I2P), Reach.ALL: (IP, TOR, I2P),
    }  # fmt: skip
    assert set(kinds) == set(Reach)
    for mode in Mode:
        for reach, hosts in kinds.items():
            peer: Node = node(*hosts)
            assert plan_dial(mode, peer, i2p=True).ways == POLICY[mode][reach]
