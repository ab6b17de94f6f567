from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.node import Node
from relay.transports.policy import POLICY, DialPlan, Mode, Reach, Target, Way, plan_dial
from tests.unit.transports.conftest import ONION, OTHER_ONION, PUBLIC_KEY, node

IP = "93.184.216.34"
DIRECT, ONION_WAY, EXIT = Way.DIRECT, Way.TOR_ONION, Way.TOR_EXIT

PUBLIC_IPS = st.sampled_from(["93.184.216.34", "8.8.8.8", "2606:2800:220::1"])
PRIVATE_IPS = st.sampled_from(["127.0.0.1", "10.0.0.1", "0.0.0.0", "::1", "224.0.0.1", "64:ff9b::7f00:1"])
HOSTS = st.one_of(PUBLIC_IPS, PRIVATE_IPS, st.sampled_from([ONION, OTHER_ONION, "node.example", "localhost"]))
NODES = st.lists(st.tuples(HOSTS, st.integers(0, 3)), max_size=4).map(lambda hosts: node(*hosts))
MODES = st.sampled_from(Mode)


def tried(plan: DialPlan) -> list[tuple[Way, str]]:
    return [(each.way, each.endpoint.host) for each in plan.targets]


def test_table_has_every_cell() -> None:
    assert {(mode, reach) for mode, row in POLICY.items() for reach in row} == {
        (mode, reach) for mode in Mode for reach in Reach
    }


def test_rows_that_hide_everything_have_hidden_ways_alone() -> None:
    def ways_of(mode: Mode) -> set[Way]:
        return {way for ways in POLICY[mode].values() for way in ways}

    assert ways_of(Mode.ONLY_ONION) == {ONION_WAY, Way.I2P}
    assert ways_of(Mode.ONLY_I2P) == {Way.I2P}


def test_modes_that_hide_the_ip_have_no_direct_way() -> None:
    for mode in Mode:
        direct = any(DIRECT in ways for ways in POLICY[mode].values())
        assert direct is not mode.hides_ip


def test_only_onion_plans_nothing_but_the_onion_of_a_peer_that_has_an_ip() -> None:
    plan = plan_dial(Mode.ONLY_ONION, node((IP, 1), (ONION, 2), ("node.example", 3)))
    assert plan.targets == (Target(ONION_WAY, Endpoint(Network.ONION, ONION, 2)),)


@pytest.mark.parametrize(
    ("mode", "ways"),
    [
        (Mode.NO_TOR, [(DIRECT, "node.example")]),
        (Mode.DEFAULT, [(DIRECT, "node.example")]),
        (Mode.PREFER_TOR, [(DIRECT, "node.example")]),
        (Mode.CLEARNET_TOR, [(EXIT, "node.example")]),
        (Mode.ONLY_ONION, []),
        (Mode.ONLY_I2P, []),
    ],
)
def test_name_counts_as_ip(mode: Mode, ways: list[tuple[Way, str]]) -> None:
    assert tried(plan_dial(mode, node(("node.example", 30303)))) == ways


def test_every_ip_of_a_peer_is_tried_in_its_order() -> None:
    plan = plan_dial(Mode.DEFAULT, node((ONION, 1), ("2606:2800:220::1", 2), (IP, 3)))
    assert tried(plan) == [(DIRECT, "2606:2800:220::1"), (DIRECT, IP), (ONION_WAY, ONION)]


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "10.1.2.3", "0.0.0.0", "224.0.0.9", "::1", "fe80::1", "localhost"]
)
def test_private_address_of_others_is_refused_and_of_the_user_is_not(host: str) -> None:
    refused = plan_dial(Mode.DEFAULT, node((host, 30303)))
    assert not refused.targets
    assert "private" in refused.refusal
    assert plan_dial(Mode.DEFAULT, node((host, 30303)), allow_private=True).targets


def test_private_address_is_never_preferred_over_the_onion() -> None:
    plan = plan_dial(Mode.DEFAULT, node(("127.0.0.1", 30303), (ONION, 30303)))
    assert tried(plan) == [(ONION_WAY, ONION)]
    assert plan.ways == (ONION_WAY,)


@pytest.mark.parametrize(
    ("mode", "peer", "words"),
    [
        (Mode.NO_TOR, node((ONION, 1)), "--tor-proxy"),
        (Mode.ONLY_ONION, node((IP, 1)), "only-onion dials nothing else"),
        (Mode.DEFAULT, node(), "no address"),
        (Mode.DEFAULT, node((IP, 0)), "no port"),
    ],
)
def test_refusal_says_why(mode: Mode, peer: Node, words: str) -> None:
    plan = plan_dial(mode, peer)
    assert words in plan.refusal
    assert (plan.ways, plan.targets) == ((), ())


def test_record_that_gains_an_ip_does_not_gain_a_direct_way() -> None:
    plan = plan_dial(Mode.DEFAULT, node((ONION, 1)))
    assert tried(plan.renewed(node((ONION, 1), (IP, 1)))) == [(ONION_WAY, ONION)]


def test_record_that_loses_its_onion_keeps_it() -> None:
    plan = plan_dial(Mode.PREFER_TOR, node((ONION, 1), (IP, 1)))
    assert tried(plan.renewed(node(("8.8.8.8", 1)))) == [(ONION_WAY, ONION), (DIRECT, "8.8.8.8")]


def test_new_address_of_an_old_way_is_taken_over() -> None:
    plan = plan_dial(Mode.ONLY_ONION, node((ONION, 1)))
    assert tried(plan.renewed(node((OTHER_ONION, 1)))) == [(ONION_WAY, OTHER_ONION)]


def test_refused_peer_may_be_planned_anew() -> None:
    plan = plan_dial(Mode.ONLY_ONION, node((IP, 1)))
    assert tried(plan.renewed(node((ONION, 1)))) == [(ONION_WAY, ONION)]


def test_renewal_keeps_out_private_addresses() -> None:
    plan = plan_dial(Mode.DEFAULT, node((IP, 1)))
    assert tried(plan.renewed(node(("192.168.0.1", 1)))) == [(DIRECT, IP)]


@given(mode=MODES, peers=st.lists(NODES, min_size=1, max_size=5), allow_private=st.booleans())
def test_no_sequence_of_records_widens_a_plan(mode: Mode, peers: list[Node], allow_private: bool) -> None:
    plan = plan_dial(mode, peers[0], allow_private=allow_private)
    for peer in peers[1:]:
        before, plan = plan, plan.renewed(peer)
        assert not before.ways or plan.ways == before.ways
        assert {each.way for each in plan.targets} == set(plan.ways)
    for way, endpoint in ((each.way, each.endpoint) for each in plan.targets):
        assert (way is ONION_WAY) is (endpoint.network is Network.ONION)
        assert mode is not Mode.ONLY_ONION or way is ONION_WAY
        assert not mode.hides_ip or way is not DIRECT
        assert endpoint.port
        assert allow_private or not endpoint.is_private or endpoint.network is Network.ONION
    assert bool(plan.targets) is not bool(plan.refusal)


def test_plan_belongs_to_one_identity() -> None:
    plan = plan_dial(Mode.DEFAULT, node((IP, 1)))
    assert plan.public_key == PUBLIC_KEY
    with pytest.raises(AssertionError):
        plan.renewed(Node(type(PUBLIC_KEY)(bytes(64)), ()))
