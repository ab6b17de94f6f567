"""Who is asked, how often, for whom: sharing of questions, receipts in parts, bounds, relays, our own use."""

from __future__ import annotations

import pytest

from relay.chain.receipts import join_receipts, split_receipts, with_blooms
from relay.primitives.errors import PeerError
from relay.protocols.eth import messages as m
from relay.protocols.pyrelay.messages import Answer, Ask
from tests.aids.blocks import chain
from tests.aids.chain_peers import World

BLOCKS = chain(64)
UNKNOWN = b"\x77" * 32


def hashes(*numbers):
    return tuple(BLOCKS[number].hash for number in numbers)


def raws(*numbers):
    return tuple(BLOCKS[number].raw for number in numbers)


def bodies(*numbers):
    return tuple(BLOCKS[number].body for number in numbers)


def test_the_same_question_of_many_is_asked_once_and_each_gets_its_own_id():
    world = World(BLOCKS)
    geth = world.join(70, BLOCKS)
    askers = [world.join(version, inbound=True) for version in (69, 70, 71)]
    for number, asker in enumerate(askers):
        asker.ask(m.GetBlockHeaders(number, BLOCKS[3].hash, 4))
        asker.ask(m.GetBlockHeaders(number, BLOCKS[3].hash, 4))
    assert len(geth.serve()) == 1
    for number, asker in enumerate(askers):
        assert asker.answers() == [m.BlockHeaders(number, raws(3, 4, 5, 6))] * 2


def test_bodies_in_flight_are_not_asked_for_again_and_held_ones_not_at_all():
    world = World(BLOCKS)
    geth = world.join(70, BLOCKS)
    one, other = world.join(inbound=True), world.join(inbound=True)
    one.ask(m.GetBlockBodies(0, hashes(9)))
    one.ask(m.GetBlockHeaders(0, BLOCKS[1].hash, 20))
    world.run()
    one.answers()
    one.ask(m.GetBlockBodies(1, hashes(8, 9, 10)))
    other.ask(m.GetBlockBodies(2, hashes(10, 11)))
    assert [request.hashes for request in geth.serve()] == [hashes(8, 10), hashes(11)]
    assert one.answers() == [m.BlockBodies(1, bodies(8, 9, 10))]
    assert other.answers() == [m.BlockBodies(2, bodies(10, 11))]


def test_an_answer_ends_at_the_first_block_that_nobody_has():
    world = World(BLOCKS)
    world.join(70, BLOCKS)
    asker = world.join(71, inbound=True)
    asker.ask(m.GetBlockBodies(1, (*hashes(1, 2), UNKNOWN, *hashes(3))))
    world.run()
    assert asker.answers() == [m.BlockBodies(1, bodies(1, 2))]
    assert world.idle


def test_access_lists_have_a_place_for_each_block():
    world = World(BLOCKS)
    world.join(71, BLOCKS)
    asker = world.join(71, inbound=True)
    asker.ask(m.GetBlockAccessLists(1, (BLOCKS[1].hash, UNKNOWN, BLOCKS[3].hash)))
    world.run()
    expected = (BLOCKS[1].access_list, b"\x80", BLOCKS[3].access_list)
    assert asker.answers() == [m.BlockAccessLists(1, expected)]


def test_a_thousand_unknown_blocks_cost_few_questions():
    world = World(BLOCKS)
    world.join(71, BLOCKS)
    asker = world.join(71, inbound=True)
    unknown = tuple(number.to_bytes(32, "big") for number in range(1024))
    asker.ask(m.GetBlockBodies(1, unknown))
    world.run()
    assert asker.answers() == [m.BlockBodies(1, ())]
    assert world.counters.asked.total() == 1


def test_what_others_leave_out_is_no_lie_of_who_goes_on():
    world = World(BLOCKS)
    geth, asker = world.join(70, BLOCKS), world.join(inbound=True)
    asker.ask(m.GetBlockHeaders(0, BLOCKS[1].hash, 9))
    world.run()
    asker.answers()
    asker.ask(m.GetBlockBodies(1, hashes(1, 2, 3)))
    (request,) = geth.asked()
    geth.say(m.BlockBodies(request.request_id, bodies(1, 3)))
    assert geth.session.ended is None
    world.run()
    assert asker.answers() == [m.BlockBodies(1, bodies(1, 2, 3))]


# -- receipts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("upstream", [68, 69, 70])
def test_a_70_requester_gets_the_rest_of_a_block_whatever_the_upstream(upstream):
    blocks = chain(8, txs=5)
    world = World(blocks)
    world.join(upstream, blocks)
    asker = world.join(70, inbound=True)
    asker.ask(m.GetReceipts(1, (blocks[3].hash, blocks[4].hash), 3))
    world.run()
    rest = join_receipts(split_receipts(blocks[3].receipts)[3:])
    assert asker.answers() == [m.Receipts(1, (rest, blocks[4].receipts))]


@pytest.mark.parametrize("version", [68, 69, 70])
def test_receipts_that_come_in_parts_are_passed_on_whole(version):
    blocks = chain(8, txs=5)
    world = World(blocks)
    geth, asker = world.join(70, blocks), world.join(version, inbound=True)
    asker.ask(m.GetBlockHeaders(0, blocks[3].hash, 2))
    world.run()
    asker.answers()
    asker.ask(m.GetReceipts(1, (blocks[3].hash, blocks[4].hash)))
    while asked := geth.asked():
        (request,) = asked
        at = request.first_index
        receipts = split_receipts(blocks[4].receipts)
        found = [join_receipts(receipts[at : at + 2])]
        if not at:
            found.insert(0, blocks[3].receipts)
        geth.say(m.Receipts(request.request_id, tuple(found), at + 2 < len(receipts)))
    (answer,) = asker.answers()
    whole = (blocks[3].receipts, blocks[4].receipts)
    assert answer == m.Receipts(1, tuple(map(with_blooms, whole)) if version == 68 else whole)
    assert geth.session.ended is None
    assert world.idle


def test_parts_of_receipts_that_do_not_go_on_or_do_not_fit_are_lies():
    blocks = chain(8, txs=5)
    for part in (b"\xc0", blocks[5].receipts):
        world = World(blocks)
        liar, asker = world.join(70, blocks), world.join(70, inbound=True)
        asker.ask(m.GetBlockHeaders(0, blocks[4].hash, 1))
        world.run()
        asker.ask(m.GetReceipts(1, (blocks[4].hash,)))
        while asked := liar.asked():
            (request,) = asked
            liar.say(m.Receipts(request.request_id, (part,), not request.first_index))
        assert liar.session.ended
        assert asker.answers()[-1] == m.Receipts(1, ())


def test_who_leaves_amid_parts_is_replaced_from_the_start():
    blocks = chain(8, txs=5)
    world = World(blocks)
    one, asker = world.join(70, blocks), world.join(69, inbound=True)
    asker.ask(m.GetBlockHeaders(0, blocks[4].hash, 1))
    world.run()
    asker.answers()
    asker.ask(m.GetReceipts(1, (blocks[4].hash,)))
    world.join(70, blocks)
    (request,) = one.asked()
    part = join_receipts(split_receipts(blocks[4].receipts)[:2])
    one.say(m.Receipts(request.request_id, (part,), last_block_incomplete=True))
    one.leave()
    world.run()
    assert asker.answers() == [m.Receipts(1, (blocks[4].receipts,))]


def test_a_block_too_large_for_one_message_is_cut_for_70_and_left_out_for_69():
    blocks = chain(3, txs=12, logs=1 << 20)
    for version in (69, 70):
        world = World(blocks, cache_bytes=1 << 30)
        world.join(71, blocks)
        asker = world.join(version, inbound=True)
        asker.ask(m.GetReceipts(1, (blocks[2].hash,)))
        world.run()
        (answer,) = asker.answers()
        if version == 69:
            assert answer == m.Receipts(1, ())
            continue
        gathered = split_receipts(answer.blocks[0])
        assert answer.last_block_incomplete
        asker.ask(m.GetReceipts(2, (blocks[2].hash,), len(gathered)))
        (answer,) = asker.answers()
        assert not answer.last_block_incomplete
        assert join_receipts(gathered + split_receipts(answer.blocks[0])) == blocks[2].receipts


# -- bounds --------------------------------------------------------------------------------------------


def test_answers_stop_at_two_mebibytes():
    blocks = chain(30, txs=1, weight=300_000)
    world = World(blocks, cache_bytes=1 << 30)
    world.join(70, blocks)
    asker = world.join(inbound=True)
    asker.ask(m.GetBlockBodies(1, tuple(block.hash for block in blocks)))
    world.run()
    (answer,) = asker.answers()
    assert len(answer.bodies) == 7
    assert world.idle


def test_one_peer_has_so_many_requests_under_way_and_the_rest_wait_or_get_nothing():
    world = World(BLOCKS, requester_active=2, requester_queue=3)
    geth, asker = world.join(70, BLOCKS), world.join(inbound=True)
    for number in range(8):
        asker.ask(m.GetBlockHeaders(number, BLOCKS[number].hash, 1))
    assert asker.answers() == [m.BlockHeaders(number, ()) for number in (5, 6, 7)]
    assert world.counters.refused["requester"] == 3
    assert len(geth.serve()) == 2
    world.run()
    assert asker.answers() == [m.BlockHeaders(number, raws(number)) for number in range(5)]


def test_who_has_used_up_its_bytes_waits():
    world = World(BLOCKS, requester_rate=1200.0, requester_burst=600.0)
    geth, asker = world.join(70, BLOCKS), world.join(inbound=True)
    asker.ask(m.GetBlockHeaders(1, BLOCKS[1].hash, 2))  # twice as much as it has left
    world.run()
    asker.ask(m.GetBlockHeaders(2, BLOCKS[5].hash, 1))
    assert geth.asked() == []
    world.run(1.0)
    assert asker.answers() == [m.BlockHeaders(1, raws(1, 2)), m.BlockHeaders(2, raws(5))]


def test_one_upstream_has_so_many_questions_and_the_rest_wait():
    world = World(BLOCKS, per_upstream=2, queue=2)
    geth = world.join(70, BLOCKS)
    asker = world.join(inbound=True)
    for number in range(6):
        asker.ask(m.GetBlockHeaders(number, BLOCKS[number].hash, 1))
    assert world.counters.refused["queue"] == 2
    assert asker.answers() == [m.BlockHeaders(number, ()) for number in (4, 5)]
    assert len(geth.serve()) == 2
    world.run()
    assert asker.answers() == [m.BlockHeaders(number, raws(number)) for number in range(4)]


# -- who is asked --------------------------------------------------------------------------------------


def test_who_came_in_by_himself_is_not_asked_before_he_has_followed_the_head_for_a_while():
    world = World(BLOCKS)
    world.proxy.confirm([BLOCKS[63].header])
    newcomer, asker = world.join(70, BLOCKS, inbound=True), world.join(inbound=True)
    asker.ask(m.GetBlockHeaders(1, BLOCKS[1].hash, 1))
    assert newcomer.asked() == []
    world.run(31.0, serving=False)
    asker.ask(m.GetBlockHeaders(2, BLOCKS[1].hash, 1))
    assert len(newcomer.asked()) == 1


def test_nobody_is_asked_what_he_asks_for_or_what_is_beyond_his_range():
    world = World(BLOCKS)
    short = world.join(70, chain(4), trusted=True)
    asker = world.join(70, BLOCKS, trusted=True)
    asker.ask(m.GetBlockHeaders(1, 3 + 64 + 1, 1))
    assert (asker.asked(), short.asked()) == ([], [])
    assert asker.answers() == [m.BlockHeaders(1, ())]


# -- relays --------------------------------------------------------------------------------------------


def test_a_relay_is_asked_last_by_its_own_capability_with_a_shorter_deadline():
    world = World(BLOCKS)
    relay = world.join(70, BLOCKS, capabilities=("pyrelay",))
    asker = world.join(69, inbound=True)
    asker.ask(m.GetBlockHeaders(7, BLOCKS[5].hash, 1))
    assert relay.asked() == []
    (ask,) = relay.relayed()
    assert (ask.hops, ask.code, ask.patience) == (1, 0x03, 1125)
    answer = relay.source.answer(m.GetBlockHeaders.decode(ask.message, 71), 71)
    world.proxy.relayed(relay.relay, 0x01, Answer(0x04, answer.encode(71)).encode())
    assert asker.answers() == [m.BlockHeaders(7, raws(5))]
    world.join(70, BLOCKS)
    asker.ask(m.GetBlockHeaders(8, BLOCKS[6].hash, 1))
    assert relay.relayed() == []


def test_a_relay_gets_its_answer_by_its_capability_and_no_question_makes_a_third_hop():
    world = World(BLOCKS)
    one, other = (world.join(70, capabilities=("pyrelay",)) for _ in range(2))

    def question(number):
        return m.GetBlockHeaders(9, BLOCKS[number].hash, 1).encode(71)

    world.proxy.relayed(one.relay, 0x00, Ask(1, 1000, 0x03, question(5)).encode())
    assert one.relayed() == []
    (passed,) = other.relayed()
    assert (passed.hops, passed.patience) == (2, 750)
    world.proxy.relayed(other.relay, 0x00, Ask(2, 750, 0x03, question(6)).encode())
    assert one.relayed() == []
    assert other.relayed() == [Answer(0x04, m.BlockHeaders(9, ()).encode(71))]
    world.run(1.1)
    assert one.relayed() == [Answer(0x04, m.BlockHeaders(9, ()).encode(71))]
    assert world.proxy.waiting == 0


@pytest.mark.parametrize(
    ("code", "payload"),
    [
        (0x02, b"\xc0"),
        (0x00, b"\xc0"),
        (0x00, Ask(1, 1, 0x09, b"\xc0").encode()),
        (0x01, Answer(0x04, m.BlockHeaders(5, ()).encode(71)).encode()),
        (0x01, Answer(0x0A, b"\xc0").encode()),
    ],
)
def test_nonsense_among_relays_ends_them(code, payload):
    world = World(BLOCKS)
    relay = world.join(70, capabilities=("pyrelay",))
    with pytest.raises(PeerError):
        world.proxy.relayed(relay.relay, code, payload)


# -- our own use ---------------------------------------------------------------------------------------


def test_our_own_questions_are_told_of_once_and_later():
    world = World(BLOCKS)
    geth = world.join(70, BLOCKS)
    told = []
    world.proxy.headers(BLOCKS[5].hash, 2, done=lambda *answer: told.append(answer))
    world.run()
    assert told == [(raws(5, 6), geth.relay)]
    world.proxy.headers(BLOCKS[5].hash, 1, done=lambda *answer: told.append(answer))
    assert len(told) == 1
    world.run()
    assert told[1:] == [(raws(5), None)]
    world.proxy.headers(UNKNOWN, 1, done=lambda *answer: told.append(answer))
    world.run(5.0, serving=False)
    assert told[2:] == [((), None)]
    assert world.proxy.waiting == 0


def test_our_own_questions_among_some_go_to_them_and_not_to_the_cache():
    world = World(BLOCKS)
    world.join(70, BLOCKS)
    chosen = world.join(70, BLOCKS, inbound=True)
    told = []
    for _ in range(2):
        world.proxy.headers(7, 1, among=(chosen.relay,), done=lambda *answer: told.append(answer))
        assert len(chosen.serve()) == 1
        world.run()
    assert told == [(raws(7), chosen.relay)] * 2
    world.proxy.headers(7, 1, among=(), done=lambda *answer: told.append(answer))
    world.run()
    assert told[2:] == [((), None)]


def test_of_two_peers_each_gets_questions_of_every_kind():
    world = World(BLOCKS)
    peers = [world.join(70, BLOCKS), world.join(70, BLOCKS)]
    asker = world.join(inbound=True)
    got = [set(), set()]
    for number in range(4):
        asker.ask(m.GetBlockBodies(number, hashes(10 + number)))
        for _ in range(2):  # its header comes first
            for seen, peer in zip(got, peers, strict=True):
                seen.update(type(each) for each in peer.serve())
        world.run()
    assert got == [{m.GetBlockHeaders, m.GetBlockBodies}] * 2
