"""Which identities there are, what each gets of the settings, and whose a node is that the user names."""

from __future__ import annotations

import secrets
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.app.pair import NamedNodes, share_of_peers
from relay.app.sums import sum_connections, sum_counters, sum_feeds
from relay.observe.snapshot import Connections, FeedCounts
from relay.primitives.endpoint import Endpoint
from relay.primitives.enode import Enode
from relay.primitives.enr import build_record
from relay.primitives.node import Node
from relay.primitives.onion import OnionKey
from relay.relaying.counters import RelayCounters
from relay.settings.identities import Side, clearnet_side, onion_side, side_of
from relay.transports.policy import Mode
from tests.aids.peering import key_of, rand_of

ONION = OnionKey.generate(rand_of(5)).address
TOR = {"tor_proxy": "127.0.0.1:9050", "tor_control": "127.0.0.1:9051"}


def node(*hosts: str, number: int = 1) -> Node:
    return Node(key_of(number).public_key, tuple(Endpoint.parse(host, 30303) for host in hosts))


# -- whose a node is


@pytest.mark.parametrize(
    ("hosts", "default", "prefer_tor"),
    [
        ((ONION,), Side.ONION, Side.ONION),
        (("8.8.8.8",), Side.CLEARNET, Side.CLEARNET),
        (("2606:2800:220::1",), Side.CLEARNET, Side.CLEARNET),
        (("node.example",), Side.CLEARNET, Side.CLEARNET),
        (("8.8.8.8", ONION), Side.CLEARNET, Side.ONION),
        ((ONION, "node.example"), Side.CLEARNET, Side.ONION),
        ((), None, None),
    ],
)
def test_a_node_is_for_one_of_them_by_its_addresses_and_the_mode(hosts, default, prefer_tor):
    assert side_of(Mode.DEFAULT, node(*hosts)) is default
    assert side_of(Mode.PREFER_TOR, node(*hosts)) is prefer_tor


# -- settings


def test_the_onion_side_is_an_only_onion_relay_and_the_other_one_has_no_tor(settings_of):
    whole = settings_of(**TOR, prefer_tor="true", nat="extip:1.2.3.4", discovery="v4,v5,dns,onion,dht")
    onion, clearnet = onion_side(whole, 30), clearnet_side(whole, 20)
    assert (whole.mode, onion.mode, clearnet.mode) == (Mode.PREFER_TOR, Mode.ONLY_ONION, Mode.NO_TOR)
    assert (onion.wants_onion_service, clearnet.wants_onion_service) == (True, False)
    assert (onion.sources, clearnet.sources) == ({"onion", "dht"}, {"v4", "v5", "dns"})
    assert (onion.nat.ip, clearnet.nat.ip) == (None, "1.2.3.4")
    assert (onion.maxpeers, clearnet.maxpeers) == (30, 20)
    assert not clearnet.has_tor
    assert clearnet.tor_control is None


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"eth_versions": "68,69"}, "--eth-versions"),
        ({"range_step": "64"}, "--range-step"),
        ({"tx_trickle": "2000"}, "--tx-trickle"),
        ({"tx_padding": "1024"}, "--tx-padding"),
        ({"port": "40404", "onion_port": "40404"}, "--port and --onion-port"),
        ({"tx_padding": "8", "tx_trickle": "9"}, "--tx-trickle and --tx-padding"),
    ],
)
def test_a_value_that_peers_of_both_see_and_few_others_have_is_warned_of(settings_of, flags, named):
    words = f"{named} as few others have it: both identities show it"
    assert any(words in each for each in settings_of(**TOR, **flags).warnings)
    for one in ({}, TOR | {"single_identity": "true"}, TOR | {"only_onion": "true"}):
        assert not any("as few others" in each for each in settings_of(**one, **flags).warnings)
    assert not any("as few others" in each for each in settings_of(**TOR).warnings)


def test_one_place_for_two_identities_is_warned_of(settings_of):
    words = "--maxpeers 1: there are two identities, and each has a peer; --single-identity has one"
    assert words in settings_of(**TOR, maxpeers="1").warnings
    for flags in (TOR, TOR | {"only_onion": "true"}, TOR | {"single_identity": "true"}, {}):
        for places in ("0", "1", "2"):
            if (flags, places) != (TOR, "1"):
                assert words not in settings_of(**flags, maxpeers=places).warnings


def test_what_both_hold_adds_up_to_what_was_asked_for(settings_of):
    whole = settings_of(**TOR, blob_pool="101", chain_cache="7")
    sides = onion_side(whole, 1), clearnet_side(whole, 1)
    assert 101 <= sum(each.blob_pool for each in sides) <= 102
    assert 7 <= sum(each.chain_cache for each in sides) <= 8
    none = settings_of(**TOR, blob_pool="0")
    assert onion_side(none, 1).blob_pool == clearnet_side(none, 1).blob_pool == 0


def test_every_tor_flag_leaves_the_clearnet_side_as_if_it_were_not_there(settings_of, tmp_path):
    plain = clearnet_side(settings_of(tor_proxy="127.0.0.1:9050"), 5)
    flags = {
        "tor_launch": "true",
        "onion_listen": "127.0.0.1:7",
        "onion_auth_keys": str(tmp_path / "keys"),
        "onion_max_streams": "3",
        "tor_vanguards": "lite",
        "private_broadcast": "on",
        "private_broadcast_journal": "encrypted",
        "rpc_upstream": f"http://{ONION}:8545",
        "verdict": "upstream",
    }
    assert clearnet_side(settings_of(**flags), 5) == plain
    onion = onion_side(settings_of(**flags), 5)
    assert (onion.onion_max_streams, onion.private_broadcast) == (3, "on")


def test_the_key_that_was_given_is_the_onion_s(settings_of, tmp_path):
    whole = settings_of(**TOR, nodekey=tmp_path / "key", onion_key=tmp_path / "onion")
    assert onion_side(whole, 1).nodekey == tmp_path / "key"
    assert clearnet_side(whole, 1).nodekey is None


def test_a_bootnode_hears_of_one_identity_alone(settings_of):
    by_onion = Enode(key_of(1).public_key, ONION, 30303, 0).url
    by_ip = Enode(key_of(2).public_key, "8.8.8.8", 30303, 30303).url
    both = build_record(key_of(3), 1, ip="8.8.4.4", udp=1, tcp=30303, onion3=ONION).to_text()
    for more, of_onion, of_clearnet in (
        ({}, (by_onion,), (by_ip, both)),
        ({"prefer_tor": "true"}, (by_onion, both), (by_ip,)),
    ):
        whole = settings_of(**TOR, **more, bootnodes=f"{by_onion},{by_ip},{both}", discovery="v5,onion")
        assert onion_side(whole, 1).bootnodes == of_onion
        assert clearnet_side(whole, 1).bootnodes == of_clearnet
    assert onion_side(settings_of(**TOR), 1).bootnodes is None


def test_lists_that_the_user_named_are_read_by_both_each_its_own_way(settings_of):
    url = "enrtree://AM5FCQLWIZX2QFPNJAP7VUERCCRNGRHWZG3YYHIUV7BVDQ5FDPRT2@nodes.example.org"
    whole = settings_of(**TOR, dns_lists=url, discovery="dns,onion")
    assert onion_side(whole, 1).sources == {"dns", "onion"}
    assert clearnet_side(whole, 1).sources == {"dns"}
    assert onion_side(settings_of(**TOR, discovery="dns"), 1).sources == frozenset()


def test_a_private_onion_service_is_told_to_nobody_as_ever(settings_of, tmp_path):
    whole = settings_of(**TOR, onion_auth_clients=tmp_path / "clients", discovery="v5")
    assert onion_side(whole, 1).is_private
    assert onion_side(whole, 1).sources == frozenset()


# -- places for peers


@given(st.integers(0, 1000), st.binary(min_size=8, max_size=8))
def test_places_are_shared_out_whole_and_nobody_is_left_without(total, drawn):
    one, other = share_of_peers(total, lambda _: drawn)
    if total < 2:
        assert one == other == total
    else:
        assert one + other == total
        assert min(one, other) >= max(1, total * 2 // 5)


def test_places_are_shared_out_at_random():
    assert len({share_of_peers(50, secrets.token_bytes) for _ in range(200)}) > 5


# -- nodes that the user names


class Scheduler:
    def __init__(self):
        self.by_file, self.by_admin, self.trusted_by_file, self.trusted = {}, {}, set(), set()

    @property
    def static(self):
        return self.by_file | self.by_admin

    def replace_static(self, nodes):
        self.by_file = {each.public_key: each for each in nodes}

    def replace_trusted(self, nodes):
        self.trusted_by_file = {each.public_key for each in nodes}

    def add_static(self, named):
        self.by_admin[named.public_key] = named

    def is_static(self, key):
        return key in self.static

    def remove_peer(self, key):
        self.by_file.pop(key, None)
        self.by_admin.pop(key, None)

    def trust(self, key):
        self.trusted.add(key)

    def distrust(self, key):
        self.trusted.discard(key)

    @property
    def static_loaded(self):
        return len(self.static)

    static_connected = static_loaded


def named_nodes(mode, *sides):
    schedulers = [Scheduler() for _ in sides]
    identities = [
        SimpleNamespace(side=side, scheduler=each, peers=each)
        for side, each in zip(sides, schedulers, strict=True)
    ]
    return NamedNodes(mode, identities), *schedulers


def keys(*nodes):
    return {each.public_key for each in nodes}


def test_the_files_nodes_go_to_who_can_reach_them():
    hidden, seen, both, bare = (
        node(ONION),
        node("8.8.8.8", number=2),
        node("8.8.4.4", ONION, number=3),
        node(number=4),
    )
    for mode, of_onion in ((Mode.DEFAULT, (hidden, bare)), (Mode.PREFER_TOR, (hidden, both, bare))):
        named, onion, clearnet = named_nodes(mode, Side.ONION, Side.CLEARNET)
        named.replace_static([hidden, seen, both, bare])
        named.replace_trusted([hidden, seen, both, bare])
        rest = keys(hidden, seen, both, bare) - keys(*of_onion)
        assert (onion.static.keys(), clearnet.static.keys()) == (keys(*of_onion), rest)
        assert (onion.trusted_by_file, clearnet.trusted_by_file) == (keys(*of_onion), rest)
        assert (named.static_loaded, named.static_connected) == (4, 4)


def test_a_node_that_is_named_twice_is_one_s_by_the_last_word():
    named, onion, clearnet = named_nodes(Mode.DEFAULT, Side.ONION, Side.CLEARNET)
    named.replace_static([node(ONION), node("8.8.8.8")])
    assert (len(onion.static), len(clearnet.static)) == (0, 1)
    named.add_peer(node(ONION))
    assert (len(onion.static), len(clearnet.static)) == (1, 0)


def test_the_file_read_again_does_not_name_to_one_what_the_other_was_told_to_keep():
    named, onion, clearnet = named_nodes(Mode.DEFAULT, Side.ONION, Side.CLEARNET)
    named.replace_static([node(ONION)])
    named.add_peer(node("8.8.8.8"))
    named.replace_static([node(ONION)])  # SIGHUP, or another node of the file has changed
    assert (len(onion.static), len(clearnet.static)) == (0, 1)
    named.remove_peer(key_of(1).public_key)
    named.replace_static([node(ONION)])
    assert (len(onion.static), len(clearnet.static)) == (1, 0)


def test_what_is_removed_is_removed_wherever_it_is():
    named, onion, clearnet = named_nodes(Mode.DEFAULT, Side.ONION, Side.CLEARNET)
    named.add_peer(node("8.8.8.8"))
    named.trust(node(ONION))
    assert (onion.trusted, clearnet.trusted) == (keys(node()), set())
    named.remove_peer(key_of(1).public_key)
    named.distrust(key_of(1).public_key)
    assert not onion.trusted | clearnet.static.keys()


def test_an_only_identity_has_them_all():
    named, only = named_nodes(Mode.DEFAULT, None)
    named.replace_static([node(ONION), node("8.8.8.8", number=2), node(number=3)])
    assert len(only.static) == 3


# -- sums


def test_counters_are_added_up_but_for_the_highest():
    one, other = RelayCounters(), RelayCounters()
    one.seen, other.seen = 2, 3
    one.longest_slice, other.longest_slice = 0.5, 0.25
    one.dropped["fee"], other.dropped["fee"], other.dropped["type"] = 1, 2, 4
    one.chain.requests["headers"] = other.chain.requests["headers"] = 1
    total = sum_counters([one, other])
    assert (total.seen, total.longest_slice) == (5, 0.5)
    assert total.dropped == {"fee": 3, "type": 4}
    assert total.chain.requests == {"headers": 2}
    assert sum_counters([one]) is one
    assert (one.seen, one.dropped) == (2, {"fee": 1})


def test_connections_and_sources_are_added_up():
    found = sum_connections([Connections(1, 1, 0, {"useless": 1}), Connections(2, 0, 0, {"useless": 2})])
    assert found == Connections(3, 1, 0, {"useless": 3})
    feeds = sum_feeds(
        [{"dns": FeedCounts(1, 2, {"x": 1})}, {"dns": FeedCounts(1, 1, {"x": 1}), "v4": FeedCounts(7)}]
    )
    assert feeds == {"dns": FeedCounts(2, 3, {"x": 2}), "v4": FeedCounts(7, 0, {})}
