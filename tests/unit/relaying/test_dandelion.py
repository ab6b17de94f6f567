"""The ways of stems: epochs, edges, who leaves."""

from __future__ import annotations

from collections import Counter
from statistics import fmean

import pytest

from relay.relaying.dandelion import StemOptions, StemRoutes
from tests.aids.relaying import seeded

ALWAYS = StemOptions(own=True, fluffing=0)
PEERS = ["a", "b", "c", "d", "e"]


def routes(options=ALWAYS, seed=b"routes"):
    return StemRoutes(options, seeded(seed))


def test_in_an_epoch_all_ways_are_two_and_each_source_keeps_its_own():
    ways = routes()
    first = {source: ways.carry(source, PEERS, 1.0) for source in range(20)}
    own = ways.begin(PEERS, 1.0)
    assert len(set(first.values())) == 2
    assert own in first.values()
    for now in (2.0, 599.0):
        assert {source: ways.carry(source, PEERS, now) for source in range(20)} == first
        assert ways.begin(PEERS, now) == own


def test_a_new_epoch_chooses_anew():
    ways = routes()
    found = {ways.begin(PEERS, epoch * 1000.0) for epoch in range(40)}
    assert found == set(PEERS)


def test_the_share_of_epochs_that_fluff_is_as_asked_for_and_own_ones_never_do():
    ways = routes(StemOptions(own=True, fluffing=20))
    found = []
    for epoch in range(1000):
        found.append(ways.carry("source", PEERS, epoch * 1000.0) is None)
        assert ways.begin(PEERS, epoch * 1000.0) is not None
    assert fmean(found) == pytest.approx(0.2, abs=0.05)


def test_both_ways_are_taken_by_many_sources():
    ways = routes()
    counts = Counter(ways.carry(source, PEERS, 1.0) for source in range(400))
    assert min(counts.values()) > 120


def test_nothing_goes_back_to_who_brought_it():
    for seed in range(50):
        ways = routes(seed=b"%d" % seed)
        assert all(ways.carry(source, PEERS, 1.0) != source for source in PEERS)
    assert routes().carry("a", ["a"], 1.0) is None


def test_with_nobody_there_is_no_way():
    ways = routes()
    assert ways.begin([], 1.0) is None
    assert ways.carry("a", [], 1.0) is None
    assert ways.begin(["b"], 1.0) == "b"


def test_somebody_takes_the_place_of_who_left_and_the_rest_stays():
    ways = routes()
    first = {source: ways.carry(source, PEERS, 1.0) for source in range(20)}
    gone = first[0]
    rest = [peer for peer in PEERS if peer != gone]
    second = {source: ways.carry(source, rest, 2.0) for source in range(20)}
    assert gone not in second.values()
    for source, way in first.items():
        if way != gone:
            assert second[source] == way
    assert len(set(second.values())) <= 3


def test_a_source_that_leaves_is_forgotten():
    ways = routes()
    for source in range(100):
        ways.carry(source, PEERS, 1.0)
        ways.forget(source)
    assert ways._routes == {}


def test_the_embargo_has_the_mean_that_was_asked_for():
    ways = routes(StemOptions(embargo=30.0))
    assert fmean(ways.embargo() for _ in range(5000)) == pytest.approx(30.0, rel=0.1)
