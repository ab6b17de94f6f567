"""Keys that are provided over time: waiting, rounds, refreshes, and the end."""

import pytest

from relay.protocols.dht import DhtOptions, ProvideDone, ProvideWaiting, Waiting
from relay.protocols.dht.record import HOUR
from tests.aids.dht import HOURS, DhtNetwork, key_of
from tests.aids.discv5 import NullSuite, onion_record, udp_record

KEY = key_of(1)


def network(count: int = 12, *, seconds: float = 15.0, **options) -> DhtNetwork:
    made = DhtNetwork(count, onion=True, suite=NullSuite(), dht=DhtOptions(**options))
    made.run(seconds)
    return made


def provide(net: DhtNetwork, node, key=KEY) -> int:
    return net.call(node, lambda dht, now: dht.provide(key, now))


def test_without_a_peer_a_key_waits_and_says_so_once_and_is_written_when_one_comes():
    net = DhtNetwork(1, onion=True, suite=NullSuite())
    node = net.nodes[0]
    provide(net, node)
    net.run(60.0)
    (waiting,) = node.said(ProvideWaiting)
    assert (waiting.key, waiting.reason) == (KEY, Waiting.PEERS)
    assert node.said(ProvideDone) == []
    net.add()
    net.run_until(lambda: node.said(ProvideDone))
    assert node.said(ProvideDone)[0].stored == 1
    assert net.nodes[1].dht.store.count(KEY) == 1


def test_without_an_address_a_key_waits_until_there_is_one():
    net = network()
    node = net.add(500, record=onion_record(500))
    published, node.node.record = node.node.record, udp_record(500)
    net.run(30.0)
    assert len(node.node.core.table)
    provide(net, node)
    net.run(30.0)
    assert [each.reason for each in node.said(ProvideWaiting)] == [Waiting.ADDRESS]
    node.node.record = published
    net.run_until(lambda: node.said(ProvideDone))
    assert node.said(ProvideDone)[0].stored == 12


def test_a_key_is_written_again_before_it_expires_with_a_later_hour():
    net = network(count=4, republish=1200.0)
    node = net.nodes[3]
    net.provide(node, KEY)
    assert {each.dht.store.get(KEY, node.node_id).record.hour for each in net.holders(KEY)} == {HOURS + 24}
    net.run(2.5 * HOUR)
    assert len(node.said(ProvideDone)) >= 3
    assert {each.dht.store.get(KEY, node.node_id).record.hour for each in net.holders(KEY)} == {HOURS + 26}


def test_who_stops_providing_is_forgotten_within_a_day():
    net = network(count=4)
    node = net.nodes[3]
    net.provide(node, KEY)
    assert node.dht.stop_providing(KEY)
    assert not node.dht.stop_providing(KEY)
    assert node.dht.providing == 0
    assert KEY not in node.dht.serving.own
    net.run(24 * HOUR)
    _, found = net.find(net.nodes[1], KEY)
    assert found == {}


def test_stopping_in_the_middle_of_a_round_leaves_nothing_behind():
    net = network()
    node = net.nodes[3]
    provide(net, node)
    net.run(0.05)
    assert node.dht.stop_providing(KEY)
    net.run(30.0)
    assert node.said(ProvideDone) == []
    assert len(node.dht._asking) == 0
    assert net.provide(node, KEY).stored == 11


def test_providing_twice_is_one_handle_and_writes_anew():
    net = network()
    node = net.nodes[3]
    first = provide(net, node)
    assert provide(net, node) == first
    net.run_until(lambda: node.said(ProvideDone))
    assert provide(net, node) == first
    net.run(10.0)
    assert [each.provide for each in node.said(ProvideDone)] == [first, first]
    assert node.dht.providing == 1


def test_a_node_that_joins_near_the_key_gets_the_record_soon():
    net = network(count=6, republish=50_000.0, topup=120.0)
    node = net.nodes[3]
    net.provide(node, KEY)
    fresh = net.add(600)
    net.run(400.0)
    assert fresh.dht.store.count(KEY) == 1


def test_a_holder_that_left_is_replaced_soon():
    net = network(count=14, replication=4, republish=50_000.0, topup=120.0)
    node = next(each for each in net.nodes if each not in net.nearest(KEY, 8))
    net.provide(node, KEY)
    holders = net.holders(KEY)
    net.kill(holders[0])
    net.run(3000.0)
    assert len(net.holders(KEY)) == 4


def test_rounds_that_store_nothing_come_again_later_and_later():
    net = network(count=3, retry=30.0)
    for each in net.nodes:
        each.node.core._answers.protocols.clear()
    node = net.nodes[1]
    provide(net, node)
    net.run(500.0)
    pauses = [each.next for each in node.said(ProvideDone)]
    assert pauses[:4] == [30.0, 60.0, 120.0, 240.0]


def test_a_round_that_reached_less_than_half_is_followed_soon():
    net = network(count=12, topup=90.0, republish=5000.0)
    node = net.nodes[1]
    for each in net.nodes[2:10]:
        each.node.core._answers.protocols.clear()
    done = net.provide(node, KEY)
    assert (done.stored, done.next) == (3, 90.0)


def test_a_new_record_of_our_own_is_written_soon():
    net = network(count=4, topup=60.0)
    node = net.nodes[2]
    net.provide(node, KEY)
    node.node.record = onion_record(2, seq=2)
    net.call(node, lambda dht, now: dht.renew(now))
    net.run(120.0)
    assert {each.dht.store.get(KEY, node.node_id).record.enr.seq for each in net.holders(KEY)} == {2}


def test_many_keys_take_turns_and_too_many_are_refused():
    net = network(provides=10, rounds=2)
    node = net.nodes[3]
    for number in range(10):
        provide(net, node, key_of(number))
    with pytest.raises(ValueError, match="at most 10"):
        node.dht.provide(key_of(11), net.net.now)
    assert node.dht.provide(key_of(3), net.net.now)
    assert len(node.dht._asking) <= 2
    net.run(60.0)
    assert {each.key for each in node.said(ProvideDone)} == {key_of(number) for number in range(10)}


def test_searches_beyond_the_bound_end_as_busy():
    from relay.protocols.dht import Ended, FindDone

    net = network(finds=2)
    node = net.nodes[3]
    handles = [net.call(node, lambda dht, now, n=number: dht.find(key_of(n), now)) for number in range(3)]
    assert node.ended(FindDone, handles[2]).ended is Ended.BUSY
    assert node.dht.finding == 2
    node.dht.cancel(handles[0])
    net.run(60.0)
    assert node.ended(FindDone, handles[0]) is None
    assert node.ended(FindDone, handles[1]).ended is Ended.ALL_ASKED
    assert node.dht.finding == 0


def test_a_search_without_anybody_to_ask_ends_at_once():
    from relay.protocols.dht import Ended

    net = DhtNetwork(1, onion=True, suite=NullSuite())
    end, found = net.find(net.nodes[0], KEY)
    assert (end.ended, end.asked, found) == (Ended.NO_PEERS, 0, {})
