"""Whole networks in memory, under a virtual clock."""

import random

import pytest

from relay.protocols.discv5 import UDP, LookupDone, Refused
from relay.protocols.discv5.crypto import REAL
from relay.protocols.discv5.distance import xor_distance
from tests.aids.discv5 import NullSuite, VirtualNetwork, populate


def grown(count, seed, *, suite=None, loss=0.0, seconds=30.0):
    network = VirtualNetwork(seed, loss=loss)
    nodes = populate(network, count, UDP, suite=suite or NullSuite())
    network.run(seconds)
    return network, nodes


def lookups(network, nodes, count):
    """Look up random targets; returns how many of the 16 nearest each one missed, and the ends."""
    rand = random.Random(9)
    started = []
    for _ in range(count):
        node, target = rand.choice(nodes), rand.randbytes(32)
        started.append((node, target, network.call(node, lambda core, now, t=target: core.lookup(t, now))))
    network.run(20.0)
    missed, ends = [], []
    for node, target, request in started:
        (end,) = [event for event in node.said(LookupDone) if event.request == request]
        others = (each.core.node_id for each in nodes if each is not node and each.alive)
        nearest = sorted(others, key=lambda each: xor_distance(each, target))[:16]
        missed.append(len(set(nearest) - {contact.node_id for contact in end.contacts}))
        ends.append(end)
    return missed, ends


def test_fifty_nodes_find_each_other_with_real_cryptography():
    network, nodes = grown(50, 1, suite=REAL)

    assert min(len(node.core.table) for node in nodes) >= 16
    missed, ends = lookups(network, nodes, 30)
    assert sum(each <= 1 for each in missed) >= 29
    assert max(end.hops for end in ends) <= 4
    assert not [event for node in nodes for event in node.said(Refused)]


def test_a_hundred_nodes_find_each_other():
    network, nodes = grown(100, 2, seconds=45.0)
    missed, ends = lookups(network, nodes, 50)
    assert sum(each <= 1 for each in missed) >= 46
    assert sum(end.asked for end in ends) / len(ends) < 30


@pytest.mark.parametrize("seed", [3])
def test_swapped_encryption_changes_no_message(seed):
    real, _ = grown(20, seed, suite=REAL, seconds=10.0)
    null, _ = grown(20, seed, suite=NullSuite(), seconds=10.0)
    assert (real.packets, real.bytes, real.events) == (null.packets, null.bytes, null.events)
    assert real.traffic() == null.traffic()


def test_a_seed_repeats_itself_and_another_does_not():
    first, again, other = (grown(20, seed, seconds=10.0)[0] for seed in (5, 5, 6))
    assert (first.packets, first.bytes) == (again.packets, again.bytes)
    assert first.bytes != other.bytes


def test_network_survives_loss_and_deaths():
    network, nodes = grown(40, 7, loss=0.05, seconds=15.0)
    for node in nodes[1:14]:
        network.remove(node)
    network.run(200.0)
    alive = [node for node in nodes if node.alive]
    dead = {node.core.node_id for node in nodes if not node.alive}
    left = [sum(entry.contact.node_id in dead for entry in node.core.table) for node in alive]
    assert sum(left) / len(left) < 2
    missed, _ = lookups(network, alive, 30)
    assert sum(each <= 1 for each in missed) >= 27
