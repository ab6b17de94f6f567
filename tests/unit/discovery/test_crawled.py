"""Nodes of a crawl: what of several sources counts, and geth's file."""

from __future__ import annotations

import json

from relay.discovery.crawled import CrawledNode, Found, NodeSet
from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.enr import NodeRecord, build_record
from relay.primitives.node import Node
from tests.aids.discv5 import node_key, onion_record, udp_record

KEY = node_key(1)
PLACE = Endpoint(Network.IPV4, "20.0.0.9", 40404)


def of(record: NodeRecord | None, endpoint: Endpoint | None = None, tcp: int = 0) -> Found:
    return Found(KEY.public_key, KEY.node_id, record, endpoint, tcp)


def test_the_newest_record_counts_in_whatever_order_they_come():
    node = CrawledNode(KEY.public_key, KEY.node_id)
    for seq in (3, 7, 5, 7):
        node.adopt(of(udp_record(1, seq=seq, ip=f"20.0.0.{seq}")))
    assert (node.seq, node.addresses) == (7, {Network.IPV4: "20.0.0.7"})
    assert node.node == Node.from_record(udp_record(1, seq=7, ip="20.0.0.7"))


def test_a_record_that_names_no_address_any_more_takes_the_old_one_along():
    node = CrawledNode(KEY.public_key, KEY.node_id)
    node.adopt(of(onion_record(1, ip="20.0.0.1", ip6="2a00::1")))
    assert set(node.addresses) == {Network.IPV4, Network.IPV6, Network.ONION}
    node.adopt(of(build_record(KEY, 2)))
    assert (node.addresses, node.node.endpoints) == ({}, ())


def test_a_node_without_record_is_where_it_answers():
    node = CrawledNode(KEY.public_key, KEY.node_id)
    node.adopt(of(None, PLACE))
    assert (node.addresses, node.node.endpoints) == ({Network.IPV4: "20.0.0.9"}, ())
    assert node.text == f"enode://{KEY.public_key.hex()}@20.0.0.9:0?discport=40404"
    other = CrawledNode(KEY.public_key, KEY.node_id)
    other.adopt(of(None, PLACE, 30303))
    assert other.node.endpoints == (Endpoint(Network.IPV4, "20.0.0.9", 30303),)
    other.adopt(of(udp_record(1)))
    assert other.text == udp_record(1).to_text()


def test_a_record_of_the_consensus_layer_is_known_as_such():
    node = CrawledNode(KEY.public_key, KEY.node_id)
    node.adopt(of(udp_record(1, extra={"eth2": b"\0" * 16})))
    assert (node.is_consensus, node.fork_id) == (True, None)


def test_geths_file_holds_those_that_answered_with_their_times():
    times = iter([1_700_000_000.9, 1_700_000_100.0, 1_700_000_200.0, 1_700_000_300.0])
    nodes = NodeSet(lambda: next(times))
    nodes.hear(of(udp_record(1)))
    for number in (2, 3):
        key = node_key(number)
        nodes.hear(Found(key.public_key, key.node_id, udp_record(number), None))
    nodes.answer(KEY.node_id, "v5")
    nodes.answer(KEY.node_id, "v4")
    nodes.silence(KEY.node_id)  # 2 // 2
    nodes.answer(node_key(2).node_id, "v4")
    wanted = {
        KEY.node_id.hex(): {
            "seq": 1,
            "record": udp_record(1).to_text(),
            "score": 1,
            "firstResponse": "2023-11-14T22:13:20Z",
            "lastResponse": "2023-11-14T22:15:00Z",
            "lastCheck": "2023-11-14T22:16:40Z",
        }
    }
    found = json.loads(json.dumps(nodes.to_geth()))
    assert set(found) == {KEY.node_id.hex(), node_key(2).node_id.hex()}
    assert {name: found[name] for name in wanted} == wanted


def test_a_node_that_fell_silent_for_good_is_not_in_geths_file():
    nodes = NodeSet(lambda: 0.0)
    nodes.hear(of(udp_record(1)))
    nodes.answer(KEY.node_id, "v5")
    nodes.silence(KEY.node_id)
    assert (nodes.to_geth(), nodes.alive) == ({}, 1)
    nodes.give_up(KEY.node_id)  # has answered: stays
    assert nodes.get(KEY.node_id) is not None
