"""Headers by number: what is believed, of whom."""

from __future__ import annotations

import pytest

from relay.protocols.eth import messages as m
from tests.aids.blocks import chain
from tests.aids.chain_peers import World

BLOCKS = chain(64)


def raws(*numbers):
    return tuple(BLOCKS[number].raw for number in numbers)


def fork(at):
    return chain(64, seed=b"fork", fork_from=(64,), fork_at=at)


def confirmed(**options):
    """Return a world whose proxy knows the head, as the range keeper tells it."""
    world = World(BLOCKS, **options)
    world.proxy.confirm([BLOCKS[63].header])
    return world


def test_one_stranger_is_not_believed_and_two_that_agree_are():
    world = World(BLOCKS)
    world.join(70, BLOCKS)
    asker = world.join(inbound=True)
    asker.ask(m.GetBlockHeaders(1, 20, 3))
    world.run()
    assert asker.answers() == [m.BlockHeaders(1, ())]
    world.join(69, BLOCKS)
    asker.ask(m.GetBlockHeaders(2, 20, 3))
    world.run()
    assert asker.answers() == [m.BlockHeaders(2, raws(20, 21, 22))]


def test_strangers_count_as_far_as_they_agree():
    world = World(BLOCKS)
    world.join(70, BLOCKS)
    world.join(70, fork(22))
    asker = world.join(inbound=True)
    asker.ask(m.GetBlockHeaders(2, 20, 5))
    world.run()
    assert asker.answers() == [m.BlockHeaders(2, raws(20, 21))]
    assert world.dropped == []


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (m.GetBlockHeaders(2, 20, 3, 5, True), (20, 14, 8)),
        (m.GetBlockHeaders(2, 20, 3, 5), (20, 26, 32)),
        (m.GetBlockHeaders(2, 2, 9, 0, True), (2, 1, 0)),
        (m.GetBlockHeaders(2, 60, 9), (60, 61, 62, 63)),
        (m.GetBlockHeaders(2, 0, 2, 40), (0, 41)),
    ],
)
def test_a_trusted_peer_is_believed_alone(request_, expected):
    world = World(BLOCKS)
    world.join(70, BLOCKS, trusted=True)
    asker = world.join(inbound=True)
    asker.ask(request_)
    world.run()
    assert asker.answers() == [m.BlockHeaders(2, raws(*expected))]


def test_gaps_too_wide_to_fill_are_asked_for_as_they_are():
    world = World(BLOCKS, span=10)
    geth, asker = world.join(70, BLOCKS, trusted=True), world.join(inbound=True)
    asker.ask(m.GetBlockHeaders(2, BLOCKS[20].hash, 4, 5))
    (asked,) = geth.serve()
    assert (asked.amount, asked.skip) == (4, 5)
    assert asker.answers() == [m.BlockHeaders(2, raws(20, 26, 32, 38))]


def test_a_stranger_is_believed_where_its_headers_link_to_the_head():
    world = confirmed()
    stranger, asker = world.join(70, BLOCKS), world.join(inbound=True)
    asker.ask(m.GetBlockHeaders(1, 63, 30, 0, True))
    world.run()
    assert asker.answers() == [m.BlockHeaders(1, raws(*range(63, 33, -1)))]
    asker.ask(m.GetBlockHeaders(2, 40, 10))
    assert asker.answers() == [m.BlockHeaders(2, raws(*range(40, 50)))]  # known by now, and by number
    assert world.counters.asked.total() == 1
    asker.ask(m.GetBlockHeaders(3, 33, 10, 0, True))
    world.run()
    assert asker.answers() == [m.BlockHeaders(3, raws(*range(33, 23, -1)))]
    assert world.proxy.canonical.floor == 24
    assert stranger.session.ended is None


def test_what_comes_right_after_the_head_is_believed_if_it_links_to_it():
    world = World(BLOCKS)
    world.proxy.confirm([BLOCKS[60].header])
    world.join(70, BLOCKS)
    asker = world.join(inbound=True)
    asker.ask(m.GetBlockHeaders(1, 61, 9))
    world.run()
    assert asker.answers() == [m.BlockHeaders(1, raws(61, 62, 63))]
    other = World(BLOCKS)
    other.proxy.confirm([BLOCKS[60].header])
    other.join(70, fork(59))
    asker = other.join(inbound=True)
    asker.ask(m.GetBlockHeaders(1, 61, 9))
    other.run()
    assert asker.answers() == [m.BlockHeaders(1, ())]


def test_what_contradicts_the_chain_is_a_lie_far_below_its_head_and_none_near_it():
    world = confirmed(reorg_depth=10)
    known = world.join(70, BLOCKS)
    asker = world.join(inbound=True)
    asker.ask(m.GetBlockHeaders(1, 63, 63, 0, True))
    world.run()
    asker.answers()
    known.leave()
    liar = world.join(70, fork(22))
    asker.ask(m.GetBlockHeaders(2, 62, 9))  # beyond the head, so that somebody is asked
    world.run()
    assert asker.answers() == [m.BlockHeaders(2, raws(62, 63))]
    assert liar.session.ended is None  # the chain may have taken another way there
    assert world.counters.disagreements == 1
    world.proxy.cache.headers._items.clear()
    asker.ask(m.GetBlockHeaders(3, 30, 3))
    world.run()
    assert asker.answers() == [m.BlockHeaders(3, ())]
    assert liar.session.ended


def test_a_vote_that_a_trusted_peer_contradicts_far_below_the_head_is_a_lie():
    blocks = chain(200)
    world = World(blocks)
    world.proxy.confirm([blocks[199].header])
    other = chain(200, seed=b"fork", fork_from=(200,), fork_at=22)
    liar, asker = world.join(70, other), world.join(inbound=True)
    asker.ask(m.GetBlockHeaders(1, 30, 3))
    (request,) = liar.asked()
    world.join(70, blocks, trusted=True)
    liar.say(liar.source.answer(request, 70))
    world.run()
    assert asker.answers() == [m.BlockHeaders(1, tuple(block.raw for block in blocks[30:33]))]
    assert liar.session.ended
    asker.ask(m.GetBlockHeaders(2, 31, 2))
    assert asker.answers() == [m.BlockHeaders(2, tuple(block.raw for block in blocks[31:33]))]
