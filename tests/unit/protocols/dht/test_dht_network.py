"""Whole networks under a virtual clock: provide, find, holders that die, churn, both network classes."""

import random

import pytest

from relay.protocols.dht import DhtOptions, Ended, FindDone, ProvideDone, Status
from relay.protocols.discv5 import NodeVerified
from relay.protocols.discv5.distance import xor_distance
from tests.aids.dht import DhtNetwork, key_of, record_of
from tests.aids.discv5 import NullSuite, node_key

KEY = key_of(1)


def grown(count: int, *, onion: bool, seconds: float | None = None, **made) -> DhtNetwork:
    network = DhtNetwork(count, onion=onion, **made)
    network.run(seconds or (40.0 if onion else 15.0))
    return network


@pytest.mark.parametrize("onion", [True, False])
def test_two_of_three_holders_die_and_a_node_that_knows_nothing_leads_to_the_third(onion):
    network = grown(24, onion=onion, dht=DhtOptions(replication=3))
    provider = network.nodes[5]
    done = network.provide(provider, KEY)
    assert (done.stored, done.asked, done.refused) == (3, 3, ())
    holders = network.holders(KEY)
    assert len(holders) == 3
    # The nearest three; if the provider is one of them itself, the next one is in its place.
    assert set(holders) <= set(network.nearest(KEY, 4))
    entry = next(each for each in reversed(network.nearest(KEY, 24)) if each not in [*holders, provider])
    asker = next(each for each in network.nodes if each not in [*holders, provider, entry])
    assert not entry.dht.store.count(KEY)
    for each in holders[:2]:
        network.kill(each)
    end, found = network.find(asker, KEY, [entry])
    assert set(found) == {provider.node_id}
    assert found[provider.node_id] >= 2
    assert end.hops >= 2
    assert end.ended is Ended.ALL_ASKED


@pytest.mark.parametrize("onion", [True, False])
def test_records_go_to_the_sixteen_nearest_and_everybody_finds_all_providers(onion):
    network = grown(36, onion=onion, suite=NullSuite())
    providers = network.nodes[10:13]
    for each in providers:
        assert network.provide(each, KEY).stored == 16
    assert len(set(network.holders(KEY)) & set(network.nearest(KEY, 17))) >= 16
    for asker in (network.nodes[20], network.nodes[30], network.nearest(KEY, 1)[0]):
        end, found = network.find(asker, KEY)
        assert set(found) | {asker.node_id} >= {each.node_id for each in providers}
        assert end.found == len(found)


def test_a_key_that_nobody_provides_ends_with_nothing():
    network = grown(30, onion=True, suite=NullSuite())
    end, found = network.find(network.nodes[3], KEY)
    assert (end.found, end.ended, found) == (0, Ended.ALL_ASKED, {})
    assert end.asked >= 16


def test_a_node_without_an_onion_of_its_own_finds():
    network = grown(20, onion=True, suite=NullSuite())
    network.provide(network.nodes[5], KEY)
    from tests.aids.discv5 import udp_record

    guest = network.add(500, record=udp_record(500, ip="9.9.9.9"))
    guest.node.address = ("guest", 1)
    network.net.nodes = {each.node.address: each.node for each in network.nodes}
    _, found = network.find(guest, KEY, [network.nodes[3]])
    assert set(found) == {network.nodes[5].node_id}


def test_whom_the_user_named_may_be_nearest_hold_nothing_and_still_lead_on():
    network = grown(24, onion=True, suite=NullSuite())
    network.provide(network.nodes[5], KEY)
    number = next(each for each in range(1000, 9000) if _is_nearest(network, each))
    newest = network.add(number)
    network.run_until(lambda: len(newest.node.core.table) >= 4)
    guest = network.add(500)
    guest.node.core._refresh._bootnodes.clear()
    end, found = network.find(guest, KEY, [newest])
    assert not newest.dht.store.count(KEY)
    assert set(found) == {network.nodes[5].node_id}
    assert end.hops >= 1


def _is_nearest(network: DhtNetwork, number: int) -> bool:
    mine = xor_distance(node_key(number).node_id, KEY)
    return all(mine < xor_distance(each.node_id, KEY) for each in network.nodes)


def test_searches_and_rounds_of_many_run_at_the_same_time():
    network = grown(24, onion=True, suite=NullSuite())
    keys = [key_of(number) for number in range(12)]
    provider, asker = network.nodes[5], network.nodes[20]
    handles = [network.call(provider, lambda dht, now, k=key: dht.provide(k, now)) for key in keys]
    network.run_until(lambda: all(provider.ended(ProvideDone, each) for each in handles))
    searches = [network.call(asker, lambda dht, now, k=key: dht.find(k, now)) for key in keys]
    network.run_until(lambda: all(asker.ended(FindDone, each) for each in searches))
    for each in searches:
        assert set(asker.found(each)) == {provider.node_id}


@pytest.mark.parametrize("onion", [True, False])
def test_a_hundred_nodes_find_after_a_third_was_exchanged(onion):
    network = grown(100, onion=onion, suite=NullSuite(), seed=3, seconds=60.0 if onion else 15.0)
    rand = random.Random(7)
    keys = [key_of(number) for number in range(8)]
    providers = rand.sample(network.nodes[1:], 8)
    for each, key in zip(providers, keys, strict=True):
        assert network.provide(each, key).stored == 16
    living = [each for each in network.nodes[1:] if each not in providers]
    for each in rand.sample(living, 33):
        network.kill(each)
    for number in range(33):
        network.add(5000 + number)
    network.run(30.0 if onion else 15.0)
    askers = [each for each in network.nodes if each.node.alive]
    for each, key in zip(providers, keys, strict=True):
        asker = rand.choice([one for one in askers if one is not each])
        _, found = network.find(asker, key)
        assert each.node_id in found


def test_under_steady_churn_republishing_keeps_a_key_found():
    """Nearly all nodes are exchanged, a seventh in each interval: of the first holders few are left."""
    network = grown(
        36, onion=True, suite=NullSuite(), dht=DhtOptions(republish=300.0, topup=60.0), seconds=60.0
    )
    rand = random.Random(3)
    provider = network.nodes[1]
    network.provide(provider, KEY)
    first = set(network.holders(KEY))
    for number in range(8):
        living = [each for each in network.nodes[2:] if each.node.alive]
        for place, each in enumerate(rand.sample(living, 5)):
            network.kill(each)
            network.add(7000 + 10 * number + place)
        network.run(300.0)
    assert len(first & set(network.holders(KEY))) <= 9
    assert len(network.holders(KEY)) >= 14
    asker = next(each for each in reversed(network.nodes) if each.node.alive)
    _, found = network.find(asker, KEY)
    assert provider.node_id in found


def test_the_same_seed_gives_the_same_messages():
    def run():
        network = grown(16, onion=True, suite=NullSuite(), seed=5, seconds=20.0)
        network.provide(network.nodes[4], KEY)
        network.find(network.nodes[9], KEY)
        return network.net.packets, network.net.bytes

    assert run() == run()


def test_ten_percent_loss_does_not_hide_a_provider():
    network = grown(40, onion=False, suite=NullSuite(), loss=0.1, dht=DhtOptions(lossy=True, retries=2))
    done = network.provide(network.nodes[5], KEY)
    assert done.stored >= 10
    _, found = network.find(network.nodes[20], KEY)
    assert set(found) == {network.nodes[5].node_id}


def test_a_search_stops_when_enough_was_found():
    network = grown(24, onion=True, suite=NullSuite())
    for each in network.nodes[5:15]:
        network.provide(each, KEY)
    asker = network.nodes[20]
    handle = network.call(asker, lambda dht, now: dht.find(KEY, now, enough=4))
    end = network.run_until(lambda: asker.ended(FindDone, handle))
    assert end.ended is Ended.ENOUGH
    assert 4 <= end.found <= 10
    everything, _ = network.find(asker, KEY)
    assert end.asked < everything.asked


def test_two_hundred_providers_at_one_holder_are_all_found_over_its_pages():
    options = DhtOptions(per_key=256, per_source=500, pages=100, enough=500)
    network = DhtNetwork(6, onion=True, suite=NullSuite(), dht=options)
    network.run(15.0)
    holder = network.nodes[3]
    records = [record_of(number, KEY) for number in range(1000, 1200)]
    for each in records:
        assert holder.dht.store.add(each, None) is Status.STORED
    end, found = network.find(network.nodes[1], KEY, [network.nodes[3]])
    assert set(found) == {each.node_id for each in records}
    assert end.ended is Ended.ALL_ASKED


def test_nodes_that_do_not_speak_the_protocol_are_passed_by():
    network = grown(40, onion=True, suite=NullSuite(), dht=DhtOptions(replication=8))
    mute = [each for each in network.nearest(KEY, 20) if each is not network.nodes[0]][::2]
    for each in mute:
        each.node.core._answers.protocols.clear()
    provider = next(each for each in network.nodes[1:] if each not in mute)
    done = network.provide(provider, KEY)
    assert done.stored >= 6
    assert dict(done.refused)["does not speak the protocol"] >= 4
    asker = next(each for each in reversed(network.nodes) if each not in mute)
    _, found = network.find(asker, KEY)
    assert set(found) == {provider.node_id}
    assert asker.dht.unsupported


def test_providers_of_a_key_that_fills_up_are_called_and_proved():
    network = grown(
        30, onion=True, suite=NullSuite(), dht=DhtOptions(per_key=8, replication=2, probe_interval=5.0)
    )
    for each in network.nodes[1:12]:
        network.provide(each, KEY)
    network.run(120.0)
    holder = max(network.nodes, key=lambda each: each.dht.store.count(KEY))
    entries = list(holder.dht.store.walk(KEY, b""))
    assert len(entries) == 8
    assert all(each.proved is not None for each in entries)


def test_a_node_of_the_table_that_answers_proves_its_record():
    network = grown(4, onion=True, suite=NullSuite())
    network.provide(network.nodes[1], KEY)
    holder = network.nodes[2]
    entry = holder.dht.store.get(KEY, network.nodes[1].node_id)
    assert entry.proved is not None
    holder.dht.proofs.doubted(network.nodes[1].node_id)
    assert entry.proved is None
    contact = holder.node.core.contact(network.nodes[1].node.record)
    holder.dht.receive(NodeVerified(contact), network.net.now)
    assert entry.proved == network.net.now
