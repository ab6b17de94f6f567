"""ChainProxy: one answer to each request, from the cache or from others, checked and translated."""

from __future__ import annotations

import pytest

from relay.primitives.errors import SubprotocolError
from relay.protocols.eth import messages as m
from tests.aids.blocks import chain
from tests.aids.chain_peers import World, flip

BLOCKS = chain(64)


def hashes(*numbers):
    return tuple(BLOCKS[number].hash for number in numbers)


def raws(*numbers):
    return tuple(BLOCKS[number].raw for number in numbers)


@pytest.mark.parametrize("version", [68, 69, 70, 71])
@pytest.mark.parametrize("upstream", [68, 69, 70, 71])
def test_every_kind_is_fetched_and_then_served_from_the_cache(version, upstream):
    world = World(BLOCKS)
    geth = world.join(upstream, BLOCKS)
    asker = world.join(version, inbound=True)
    requests = [
        (m.GetBlockHeaders(7, BLOCKS[5].hash, 3), m.BlockHeaders(7, raws(5, 6, 7))),
        (m.GetBlockBodies(0, hashes(5, 6)), m.BlockBodies(0, (BLOCKS[5].body, BLOCKS[6].body))),
    ]
    for request, expected in requests:
        asker.ask(request)
        world.run()
        assert asker.answers() == [expected]
    asked = world.counters.asked.total()
    for request, expected in requests[1:]:
        asker.ask(request)
        assert asker.answers() == [expected]
    assert world.counters.asked.total() == asked
    assert geth.session.ended is None
    assert world.idle


# -- nobody to ask, nothing to be had ------------------------------------------------------------------


@pytest.mark.parametrize("version", [68, 69, 70, 71, 72])
def test_without_anybody_to_ask_each_request_gets_nothing_said_correctly(version):
    world = World(BLOCKS)
    asker = world.join(version)
    cases = [
        (m.GetBlockHeaders(7, BLOCKS[1].hash, 1), m.BlockHeaders(7, ())),
        (m.GetBlockHeaders(8, 2**64 - 1, 2**64 - 1, 2**64 - 1), m.BlockHeaders(8, ())),
        (m.GetBlockHeaders(9, 5, 0), m.BlockHeaders(9, ())),
        (m.GetBlockBodies(2**64 - 1, hashes(1, 2)), m.BlockBodies(2**64 - 1, ())),
        (m.GetReceipts(3, hashes(1), 0), m.Receipts(3, ())),
    ]
    if version >= 71:
        cases.append((m.GetBlockAccessLists(5, hashes(1, 2)), m.BlockAccessLists(5, (b"\x80", b"\x80"))))
    for request, expected in cases:
        asker.ask(request)
        assert asker.answers() == [expected]
    assert world.idle


def test_a_silent_upstream_costs_patience_and_not_the_answer():
    world = World(BLOCKS)
    geth, asker = world.join(70, BLOCKS), world.join(inbound=True)
    asker.ask(m.GetBlockHeaders(1, BLOCKS[5].hash, 1))
    asker.ask(m.GetReceipts(2, hashes(5)))
    world.run(1.49, serving=False)
    assert asker.answers() == []
    world.run(0.02, serving=False)
    assert asker.answers() == [m.BlockHeaders(1, ())]
    world.run(2.6, serving=False)
    assert asker.answers() == [m.Receipts(2, ())]
    assert world.counters.expired == 2
    assert world.proxy.waiting == 0
    assert geth.session.ended is None


# -- failures ------------------------------------------------------------------------------------------


def test_who_is_late_is_asked_nothing_more_until_it_answers_and_its_answer_is_kept():
    world = World(BLOCKS)
    slow = world.join(70, BLOCKS)
    asker = world.join(inbound=True)
    asker.ask(m.GetBlockHeaders(1, BLOCKS[5].hash, 1))
    world.run(2.0, serving=False)
    assert asker.answers() == [m.BlockHeaders(1, ())]
    (late,) = slow.asked()
    asker.ask(m.GetBlockHeaders(2, BLOCKS[6].hash, 1))
    assert (slow.asked(), asker.answers()) == ([], [m.BlockHeaders(2, ())])
    slow.say(slow.source.answer(late, 70))
    assert slow.session.ended is None
    assert world.counters.late == 1
    asker.ask(m.GetBlockHeaders(3, BLOCKS[5].hash, 1))
    assert asker.answers() == [m.BlockHeaders(3, raws(5))]
    asker.ask(m.GetBlockHeaders(4, BLOCKS[6].hash, 1))
    assert len(slow.asked()) == 1


def test_forgiveness_is_bounded():
    world = World(BLOCKS, forgiven=2)
    slow, asker = world.join(70, BLOCKS), world.join(inbound=True)
    asked = 0
    for number in range(40):
        asker.ask(m.GetBlockHeaders(1, BLOCKS[number].hash, 1))
        world.run(20.0, serving=False)
        asked += len(slow.asked())
    assert asked == 3  # at once, and twice forgiven
    assert len(asker.answers()) == 40


def test_another_is_asked_when_one_is_late_and_the_first_answer_counts():
    world = World(BLOCKS)
    one, other, asker = world.join(70, BLOCKS), world.join(70, BLOCKS), world.join(inbound=True)
    asker.ask(m.GetBlockHeaders(1, BLOCKS[5].hash, 1))
    first = one.asked() + other.asked()
    world.run(0.7, serving=False)
    second = one.asked() + other.asked()
    assert (len(first), len(second)) == (1, 1)
    one.say(one.source.answer(first[0], 70))
    other.say(other.source.answer(second[0], 70))
    assert asker.answers() == [m.BlockHeaders(1, raws(5))]
    assert one.session.ended is None
    assert other.session.ended is None
    assert world.idle


@pytest.mark.parametrize("how", ["leaves", "has nothing"])
def test_another_is_asked_when_one(how):
    world = World(BLOCKS)
    one, other, asker = world.join(70, BLOCKS), world.join(70, BLOCKS), world.join(inbound=True)
    asker.ask(m.GetBlockHeaders(1, BLOCKS[5].hash, 1))
    (request,) = one.asked()
    if how == "leaves":
        one.leave()
    else:
        one.say(m.BlockHeaders(request.request_id, ()))
    world.run()
    assert asker.answers() == [m.BlockHeaders(1, raws(5))]
    assert other.session.ended is None


def test_what_a_peer_asked_for_is_forgotten_when_it_leaves():
    world = World(BLOCKS)
    geth, asker, other = world.join(70, BLOCKS), world.join(inbound=True), world.join(inbound=True)
    for _ in range(3):
        asker.ask(m.GetBlockBodies(1, hashes(5, 6)))
    other.ask(m.GetBlockBodies(9, hashes(5, 6)))
    asker.leave()
    world.run()
    assert asker.answers() == []
    assert other.answers() == [m.BlockBodies(9, (BLOCKS[5].body, BLOCKS[6].body))]
    assert world.counters.cancelled == 3
    assert geth.session.ended is None
    assert world.idle


# -- lies ----------------------------------------------------------------------------------------------

REQUESTS = [
    m.GetBlockHeaders(1, BLOCKS[20].hash, 5),
    m.GetBlockHeaders(1, BLOCKS[20].hash, 5, 0, True),
    m.GetBlockHeaders(1, BLOCKS[20].hash, 5, 1),
    m.GetBlockBodies(1, hashes(20, 21, 22)),
    m.GetReceipts(1, hashes(20, 21, 22)),
    m.GetBlockAccessLists(1, hashes(20, 21, 22)),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("item", [0, 2])
@pytest.mark.parametrize("at", [10, -1])
def test_who_lies_in_one_bit_is_dropped_and_another_asked(request_, item, at):
    world = World(BLOCKS)
    liar, asker = world.join(71, BLOCKS), world.join(71, inbound=True)
    if not isinstance(request_, m.GetBlockHeaders):
        asker.ask(m.GetBlockHeaders(0, BLOCKS[20].hash, 3))
        world.run()
        asker.answers()
    asker.ask(request_)
    honest = world.join(71, BLOCKS)
    liar.serve(lambda answer: flip(answer, item, at))
    assert liar.session.ended
    assert [peer for peer, _ in world.dropped] == [liar.relay]
    world.run()
    assert asker.answers() == [honest.source.answer(request_, 71)]
    assert honest.session.ended is None
    assert world.idle


def test_more_than_was_asked_for_is_a_lie():
    world = World(BLOCKS)
    liar, asker = world.join(71, BLOCKS), world.join(71, inbound=True)
    asker.ask(m.GetBlockHeaders(1, BLOCKS[20].hash, 2))
    (request,) = liar.asked()
    liar.say(m.BlockHeaders(request.request_id, raws(20, 21, 22)))
    assert liar.session.ended
    assert asker.answers() == [m.BlockHeaders(1, ())]


@pytest.mark.parametrize("message", [m.BlockHeaders(99, ()), m.BlockBodies(99, ()), m.Receipts(99, ())])
def test_answers_that_nobody_asked_for_end_the_peer(message):
    world = World(BLOCKS)
    peer = world.join(71, BLOCKS)
    peer.say(message)
    assert peer.session.ended[0] == SubprotocolError.default_reason


def test_an_answer_of_another_kind_ends_the_peer():
    world = World(BLOCKS)
    geth, asker = world.join(71, BLOCKS), world.join(inbound=True)
    asker.ask(m.GetBlockHeaders(1, BLOCKS[20].hash, 2))
    (request,) = geth.asked()
    geth.say(m.BlockBodies(request.request_id, ()))
    assert geth.session.ended[0] == SubprotocolError.default_reason
    assert asker.answers() == [m.BlockHeaders(1, ())]


def test_the_same_answer_twice_ends_the_peer_and_not_the_requester():
    world = World(BLOCKS)
    geth, asker = world.join(71, BLOCKS), world.join(inbound=True)
    asker.ask(m.GetBlockHeaders(1, BLOCKS[20].hash, 1))
    (request,) = geth.asked()
    answer = geth.source.answer(request, 71)
    geth.say(answer)
    geth.say(answer)
    assert geth.session.ended
    assert asker.answers() == [m.BlockHeaders(1, raws(20))]
