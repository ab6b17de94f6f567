"""What nobody has: it is not asked for again and again, and who wants it is held to a rate."""

from __future__ import annotations

import pytest

from relay.protocols.eth import messages as m
from relay.protocols.pyrelay.messages import Answer
from relay.relaying.chain_data.absent import Absent
from relay.relaying.chain_data.demand import Kind
from tests.aids.blocks import chain
from tests.aids.chain_peers import World

BLOCKS = chain(64)
UNKNOWN = b"\x77" * 32


def unknown(number):
    return number.to_bytes(32, "little")


def test_what_nobody_had_is_not_asked_for_again_for_a_while():
    world = World(BLOCKS)
    geths = [world.join(70, BLOCKS) for _ in range(3)]
    asker = world.join(inbound=True)
    for request in (m.GetBlockHeaders(1, UNKNOWN, 1), m.GetBlockHeaders(2, UNKNOWN, 192)):
        asker.ask(request)
        world.run()
    asker.ask(m.GetBlockBodies(3, (UNKNOWN,)))
    world.run()
    assert asker.answers() == [m.BlockHeaders(1, ()), m.BlockHeaders(2, ()), m.BlockBodies(3, ())]
    assert world.counters.asked.total() == len(geths)
    assert world.counters.absent == 2
    world.run(3.1)
    asker.ask(m.GetBlockHeaders(4, UNKNOWN, 1))
    world.run()
    assert world.counters.asked.total() == 2 * len(geths)
    assert world.idle


@pytest.mark.parametrize("kind", [m.GetBlockBodies, m.GetReceipts])
def test_a_body_that_was_pruned_is_not_asked_for_again_either(kind):
    world = World(BLOCKS)
    geth, asker = world.join(70, BLOCKS), world.join(inbound=True)
    asker.ask(m.GetBlockHeaders(1, BLOCKS[5].hash, 1))
    world.run()
    del geth.source.by_hash[BLOCKS[5].hash]
    for number in range(3):
        asker.ask(kind(number, (BLOCKS[5].hash, BLOCKS[6].hash)))
        world.run()
    assert [len(getattr(each, "bodies", getattr(each, "blocks", ()))) for each in asker.answers()[1:]] == [
        0
    ] * 3
    assert world.counters.absent == 2


def test_a_header_that_has_come_meanwhile_is_served():
    world = World(BLOCKS)
    world.join(70, BLOCKS[:60])
    asker = world.join(inbound=True)
    asker.ask(m.GetBlockHeaders(1, BLOCKS[63].hash, 1))
    world.run()
    world.proxy.confirm([BLOCKS[63].header])
    asker.ask(m.GetBlockHeaders(2, BLOCKS[63].hash, 1))
    assert asker.answers() == [m.BlockHeaders(1, ()), m.BlockHeaders(2, (BLOCKS[63].raw,))]


def test_who_did_not_answer_said_nothing():
    world = World(BLOCKS)
    silent, asker = world.join(70, BLOCKS), world.join(inbound=True)
    asker.ask(m.GetBlockHeaders(1, BLOCKS[5].hash, 1))
    world.run(2.0, serving=False)
    for request in silent.asked():
        silent.say(silent.source.answer(request, 70))
    asker.ask(m.GetBlockHeaders(2, BLOCKS[6].hash, 1))
    world.run()
    assert len(asker.answers()[1].headers) == 1
    assert world.counters.absent == 0


def test_a_relay_that_had_nothing_in_time_proves_nothing():
    world = World(BLOCKS)
    other = world.join(70, capabilities=("pyrelay",))
    asker = world.join(inbound=True)
    for number in range(2):
        asker.ask(m.GetBlockHeaders(number, BLOCKS[5].hash, 1))
        (ask,) = other.relayed()
        request = m.GetBlockHeaders.decode(ask.message, 71)
        answer = m.BlockHeaders(request.request_id, ()).encode(71)
        world.proxy.relayed(other.relay, Answer.CODE, Answer(m.BlockHeaders.CODE, answer).encode())
    assert len(asker.answers()) == 2
    assert world.counters.absent == 0


def test_who_asks_for_what_nobody_has_may_not_have_others_asked_without_end():
    world = World(BLOCKS, requester_burst=4 * 1024 * 1024, requester_rate=1024 * 1024)
    geth, asker, other = world.join(70, BLOCKS), world.join(inbound=True), world.join(inbound=True)
    asked = 0
    for number in range(40):
        asker.ask(m.GetBlockHeaders(number, unknown(number), 1))
        asked += len(geth.serve())
    assert asked == 4
    other.ask(m.GetBlockHeaders(1, BLOCKS[5].hash, 1))
    assert len(geth.serve()) == 1  # who is honest does not wait for it
    world.run(1.6)
    assert len(asker.answers()) == 40  # with nothing, and in time
    assert asker.session.ended is None
    asker.ask(m.GetBlockBodies(1, (unknown(100),)))
    world.run(4.1)
    assert asker.answers() == [m.BlockBodies(1, ())]
    assert world.idle


def test_memory_is_bounded_and_forgets():
    now = [0.0]
    absent = Absent(3.0, 4, lambda: now[0])
    for number in range(6):
        absent.add(Kind.HEADERS, unknown(number))
    assert len(absent) == 4
    assert (Kind.HEADERS, unknown(5)) in absent
    assert (Kind.BODIES, unknown(5)) not in absent
    assert (Kind.HEADERS, unknown(1)) not in absent
    now[0] = 3.0
    assert (Kind.HEADERS, unknown(5)) not in absent
    assert len(absent) == 3


def test_access_lists_of_blocks_that_nobody_knows_are_not_sought_one_by_one():
    world = World(BLOCKS)
    geth, asker = world.join(71, BLOCKS), world.join(71, inbound=True)
    wanted = tuple(unknown(number) for number in range(900))
    asker.ask(m.GetBlockAccessLists(1, wanted))
    world.run()
    assert asker.answers() == [m.BlockAccessLists(1, (b"\x80",) * 256)]  # the rest is for another request
    assert world.counters.asked.total() == 6
    asker.ask(m.GetBlockAccessLists(2, (BLOCKS[4].hash, unknown(1000), BLOCKS[5].hash)))
    world.run()
    lists = (BLOCKS[4].access_list, b"\x80", BLOCKS[5].access_list)
    assert asker.answers() == [m.BlockAccessLists(2, lists)]
    assert geth.session.ended is None
    assert world.idle
