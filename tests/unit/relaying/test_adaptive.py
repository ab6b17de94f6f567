"""Blocks that clearnet fetched for the onion side: which, when, and that no request has any say in it."""

from __future__ import annotations

import pytest

from relay.protocols.eth import messages as m
from relay.relaying.adaptive import BulkLane, LaneOptions
from tests.aids.blocks import chain
from tests.aids.chain_peers import World
from tests.aids.relaying import VirtualLoop, seeded

BLOCKS = chain(64)
OPTIONS = LaneOptions()


class Two:
    """Both sides on one clock, a lane between them unless it is off.

    Attributes:
        said: what the clearnet side asked its peer, with the time.
    """

    def __init__(self, *, lane=True, seed=b"lane", serving=True):
        self.loop = VirtualLoop()
        self.clearnet, self.onion = (World(BLOCKS, loop=self.loop) for _ in range(2))
        self.node = self.clearnet.join(blocks=BLOCKS)
        self.friend = self.onion.join(blocks=BLOCKS)
        self.stranger = self.onion.join()
        self.serving = serving
        self.said = []
        self.lane = BulkLane(self.clearnet.proxy, self.onion.proxy, self.loop, seeded(seed), OPTIONS)
        if lane:
            self.lane.begin()

    def confirm(self, *sides, first=41, last=48, blocks=BLOCKS):
        for side in sides or (self.clearnet, self.onion):
            side.proxy.confirm([each.header for each in blocks[first : last + 1]])

    def run(self, seconds, step=0.25):
        for _ in range(int(seconds / step)):
            self.loop.advance(step)
            for _ in range(4):
                asked = self.node.asked()
                self.said += [(self.loop.time(), each) for each in asked]
                if self.serving:
                    for request in asked:
                        self.node.say(self.node.source.answer(request, 70))
                self.friend.serve()
                self.loop.settle()

    def held(self):
        cache = self.onion.proxy.cache
        return {
            block.number for block in BLOCKS if block.hash in cache.bodies and block.hash in cache.receipts
        }


def test_newest_blocks_of_the_chain_are_there_before_anybody_asks():
    two = Two()
    two.confirm()
    two.run(40)
    assert two.held() == set(range(41, 49))
    assert two.lane.given == 16
    two.stranger.ask(m.GetReceipts(7, (BLOCKS[48].hash,), 0))
    two.loop.settle()
    assert two.stranger.answers() == [m.Receipts(7, (BLOCKS[48].receipts,))]
    two.stranger.ask(m.GetBlockBodies(8, (BLOCKS[45].hash,)))
    two.loop.settle()
    assert two.stranger.answers() == [m.BlockBodies(8, (BLOCKS[45].body,))]


def test_without_the_lane_nothing_crosses():
    two = Two(lane=False)
    two.confirm()
    two.run(40)
    assert two.held() == set()
    assert two.said == []


def test_each_block_is_fetched_once_and_new_ones_as_they_come():
    two = Two()
    two.confirm()
    two.run(40)
    before = len(two.said)
    two.run(60)
    assert len(two.said) == before
    two.confirm(first=49, last=50)
    two.run(40)
    assert two.held() == set(range(41, 51))
    hashes = [block_hash for _, each in two.said for block_hash in each.hashes]
    assert len(hashes) == len(set(hashes)) * 2  # bodies and receipts


def requests_of_onions(two, kind):
    """What peers of the onion side ask for: the newest, the old, and what no block has."""
    for number in (3, 12, 44, 48):
        two.stranger.ask(kind(number + 1, (BLOCKS[number].hash,)))
    two.stranger.ask(kind(99, (b"canary".ljust(32, b"!"),)))


@pytest.mark.parametrize("kind", [m.GetBlockBodies, lambda number, hashes: m.GetReceipts(number, hashes, 0)])
@pytest.mark.parametrize("lane", [True, False])
def test_clearnet_says_the_same_at_the_same_times_whatever_onions_ask_for(kind, lane):
    """The clearnet side can not tell what the onion side is asked, nor even whether it knows the chain."""
    runs = []
    for asking, knowing in ((False, True), (True, True), (True, False)):
        two = Two(lane=lane)
        two.confirm(two.clearnet)
        if knowing:
            two.confirm(two.onion)
        for _ in range(5):
            if asking:
                requests_of_onions(two, kind)
            two.run(8)
        runs.append([(at, each.hashes, type(each)) for at, each in two.said])
    assert runs[0] == runs[1] == runs[2]
    assert bool(runs[0]) is lane
    assert {block_hash for _, hashes, _ in runs[0] for block_hash in hashes} <= {
        each.hash for each in BLOCKS[41:49]
    }


def test_onion_side_is_given_only_what_it_holds_for_the_chain_by_itself():
    fork = chain(64, b"fork", fork_from=(64,), fork_at=46)
    two = Two()
    two.node.source = type(two.node.source)(fork)
    two.confirm(two.onion)
    two.confirm(two.clearnet, blocks=fork)
    two.run(120)
    assert two.held() == set(range(41, 46))
    assert two.lane.strange == 6
    cache = two.onion.proxy.cache
    assert not any(block.hash in cache.bodies or block.hash in cache.receipts for block in fork[46:])


def test_block_that_the_onion_side_learns_of_later_is_given_then():
    two = Two()
    two.confirm(two.clearnet)
    two.run(20)
    assert two.held() == set()
    two.confirm(two.onion)
    two.run(20)
    assert two.held() == set(range(41, 49))


def test_when_a_block_arrives_is_drawn_for_each_and_tells_not_when_it_was_fetched():
    arrived: dict[int, float] = {}
    two = Two()
    two.confirm()
    for _ in range(200):
        two.run(0.25)
        for number in two.held():
            arrived.setdefault(number, two.loop.time())
    fetched = max(at for at, _ in two.said)
    waits = [at - fetched for at in arrived.values()]
    assert len({round(each, 1) for each in waits}) > 3
    assert max(waits) <= OPTIONS.longest + 1


def test_nothing_comes_after_the_end():
    two = Two()
    two.confirm()
    two.run(3)
    two.lane.stop()
    held = two.held()
    two.confirm(first=49, last=60)
    two.run(60)
    assert two.held() == held


def test_peers_of_clearnet_that_give_nothing_leave_the_onion_side_as_it_was():
    two = Two(serving=False)
    two.confirm()
    two.run(60)
    assert two.held() == set()
    two.stranger.ask(m.GetReceipts(7, (BLOCKS[48].hash,), 0))
    two.run(2)
    assert two.stranger.answers() == [m.Receipts(7, (BLOCKS[48].receipts,))]
