"""Our block range follows what peers serve and is never made up."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.primitives.endpoint import Endpoint
from relay.primitives.errors import SubprotocolError
from relay.primitives.forkid import ForkId
from relay.protocols.eth.messages import BlockRangeUpdate, Status
from relay.relaying.blockrange import BlockRange, RangeOptions
from tests.aids.chain_headers import made_chain, made_header
from tests.aids.range_peers import Peers, endpoint
from tests.aids.relaying import GENESIS, House

MAIN = made_chain(400)
FORK = MAIN[:300] + made_chain(60, MAIN[299], b"fork")
DEEP = MAIN[:20] + made_chain(300, MAIN[19], b"deep")
ALONE = made_chain(250, extra=b"alone")
HOME = MAIN[0].hash


def peers(**options):
    return Peers(HOME, **options)


def status(latest, block_hash, earliest=0, version=69):
    return Status(version, 4242, GENESIS, ForkId(bytes(4), 0), earliest, latest, block_hash)


# -- who is believed ------------------------------------------------------------------------------------


def test_without_news_our_range_is_genesis():
    house = peers()
    house.run(20)
    assert house.keeper.current == BlockRange(0, 0, HOME)
    own = House(2).relay.status(69)
    assert (own.earliest, own.latest, own.latest_hash) == (0, 0, GENESIS)


def test_one_peer_is_not_believed_and_two_of_different_groups_are():
    house = peers()
    house.join(MAIN[:301], 1)
    house.run(30)
    assert house.latest == 0
    house.join(MAIN[:301], 1)
    house.run(30)
    assert house.latest == 0
    house.join(MAIN[:321], 2)
    house.run(30)
    assert house.keeper.current == BlockRange(0, 300, MAIN[300].hash)
    assert house.keeper.head == MAIN[300]


def test_two_peers_that_never_name_the_same_block_are_followed_to_what_both_have():
    house = peers()
    house.join(MAIN[:290], 1, claim=BlockRange(0, 256, MAIN[256].hash))
    house.join(MAIN[:292], 2, claim=BlockRange(0, 270, MAIN[270].hash))
    house.run(10)
    assert house.latest == 289
    assert [each.number for each in house.blocks] == [256, *range(257, 290)]


def test_peers_that_came_in_by_our_onion_have_no_say_however_many_agree():
    house = peers()
    for _ in range(3):
        house.join(MAIN, None, inbound=True)
    house.run(100)
    assert house.latest == 0
    assert house.questions == []


def test_who_came_in_from_an_ip_has_a_say_but_is_asked_nothing_at_first():
    house = peers()
    for number in range(2):
        house.join(MAIN, number, inbound=True)
    house.run(25)
    assert house.questions == []
    house.run(60)
    assert house.latest == 399


def test_a_trusted_peer_is_believed_alone_and_followed():
    house = peers()
    member = house.join(MAIN[:101], None, trusted=True, inbound=True)
    house.run(5)
    assert house.latest == 100
    member.chain = MAIN[:104]
    house.run(10)
    assert house.keeper.current == BlockRange(0, 103, MAIN[103].hash)


def test_a_trusted_peer_has_the_last_word_about_a_number():
    house = peers()
    house.join(FORK[:331], 3, trusted=True)
    for number in (1, 2):
        house.join(MAIN[:331], number)
    house.run(60)
    assert house.keeper.current.latest_hash == FORK[330].hash


def test_a_trusted_peer_that_is_behind_keeps_nobody_back():
    house = peers()
    house.join(MAIN[:1], 3, trusted=True)
    for number in (1, 2):
        house.join(MAIN[:331], number)
    house.run(30)
    assert house.latest == 330


def test_peers_of_eth68_tell_no_range_and_can_be_witnesses():
    house = peers()
    house.join(MAIN[:331], 1, version=68)
    house.join(MAIN[:331], 2)
    house.join(MAIN[:320], 3)
    house.run(30)
    assert house.latest == 330


def test_private_addresses_that_we_dialed_are_groups_of_their_own():
    house = peers()
    for port in (1, 2):
        house.join(MAIN[:21], Endpoint.parse("127.0.0.1", port))
    house.run(5)
    assert house.latest == 20


# -- hostile claims --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [2**64 - 1, 2**40, 390])
def test_claims_that_nobody_can_serve_are_passed_over(number):
    house = peers()
    for place in range(4):
        house.join(MAIN[:331], place)
    for place in (11, 12, 13):
        house.join(MAIN[:1], place, claim=BlockRange(0, number, b"x" * 32))
    house.run(60)
    assert house.latest == 330
    assert house.counters.range_refused > 0


def test_a_hash_whose_block_has_another_number_is_refused():
    house = peers()
    for place in range(3):
        house.join(MAIN[:101], place, claim=BlockRange(0, 2**30, MAIN[5].hash))
    house.run(20)
    assert house.latest in (0, 64, 100)
    assert house.counters.range_refused > 0


def test_a_peer_that_flips_costs_no_more_than_one_that_stands_still():
    calm, wild = peers(), peers()
    for house in (calm, wild):
        for place in (1, 2):
            house.join(MAIN[:331], place)
        house.run(10)
    flipping = wild.join(MAIN[:1], 3)
    for second in range(120):
        for each in range(50):
            claim = BlockRange(0, 10**6 + second * 50 + each, bytes([second, each]) * 16)
            wild.keeper.learn(flipping.peer, claim)
        wild.run(1)
    calm.run(120)
    assert wild.latest == calm.latest == 330
    assert len(wild.questions) <= 2 * len(calm.questions)


def test_two_groups_that_name_something_new_each_second_keep_nobody_from_the_head():
    house = peers()
    liars = [house.join(MAIN[:1], place) for place in (1, 2, 3)]
    members = [house.join(MAIN[:301], place) for place in (4, 5)]
    for second in range(200):
        for number, liar in enumerate(liars):
            claim = BlockRange(0, 10**6 + second, bytes([second, number]) * 16)
            house.keeper.learn(liar.peer, claim)
        if second == 100:
            assert house.latest == 300
            for member in members:
                member.chain = MAIN[:304]
        house.run(1)
    assert house.latest == 303


def test_a_false_head_falls_when_its_peers_have_left():
    house = peers()
    lie = [*MAIN[:1], *made_chain(390, MAIN[0], b"lie")]
    liars = [house.join(lie, place) for place in (1, 2)]
    house.run(10)
    assert house.keeper.current.latest_hash == lie[390].hash
    for liar in liars:
        house.leave(liar)
    house.run(20)
    assert house.latest == 390
    for place in (3, 4):
        house.join(MAIN[:101], place)
    house.run(60)
    assert house.keeper.current == BlockRange(0, 100, MAIN[100].hash)


def test_what_was_confirmed_stays_when_all_have_left():
    house = peers()
    member = house.join(MAIN[:101], 1, trusted=True)
    house.run(5)
    house.leave(member)
    house.run(100)
    assert house.latest == 100


def test_earliest_is_what_two_groups_or_a_trusted_peer_have():
    house = peers()
    for place, earliest in ((1, 9), (2, 40), (2, 12), (3, 50)):
        house.join(MAIN[:331], place, claim=BlockRange(earliest, 330, MAIN[330].hash))
    house.join(MAIN[:2], 4, claim=BlockRange(0, 1, MAIN[1].hash))
    house.run(10)
    assert house.keeper.current == BlockRange(12, 330, MAIN[330].hash)
    house.join(MAIN[:331], 5, claim=BlockRange(11, 330, MAIN[330].hash), trusted=True)
    for member in house.members.values():
        member.chain = MAIN[:340]
    house.run(10)
    assert house.keeper.current == BlockRange(11, 339, MAIN[339].hash)


# -- the tip ------------------------------------------------------------------------------------------------


def test_the_tip_is_followed_block_by_block_by_number():
    house = peers()
    members = [house.join(MAIN[:101], place) for place in (1, 2, 3)]
    house.run(10)
    for length in range(102, 140):
        for member in members:
            member.chain = MAIN[:length]
        house.run(7)
        assert house.latest == length - 1
    assert [each.number for each in house.blocks] == list(range(100, 139))
    assert house.counters.reorgs == 0


def test_a_long_gap_is_crossed_by_hash_of_what_peers_tell_next():
    house = peers()
    members = [house.join(MAIN[:101], place) for place in (1, 2)]
    house.run(10)
    for member in members:
        member.chain = MAIN
        house.keeper.learn(member.peer, BlockRange(0, 380, MAIN[380].hash))
    house.run(10)
    assert house.latest == 399
    assert house.blocks[1].number == 380


@pytest.mark.parametrize(("before", "after", "since"), [(310, 320, 300), (301, 302, 300), (340, 305, 300)])
def test_another_branch_is_walked_back_to_where_it_begins(before, after, since):
    house = peers()
    members = [house.join(MAIN[:280], place) for place in (1, 2, 3)]
    house.run(10)
    for member in members:
        member.chain = MAIN[: before + 1]
    house.run(20)
    assert house.latest == before
    house.blocks.clear()
    for member in members:
        member.chain = FORK[: after + 1]
    house.run(60)
    assert house.keeper.current.latest_hash == FORK[after].hash
    assert house.counters.reorgs == 1
    assert [each.hash for each in house.blocks] == [each.hash for each in FORK[since : after + 1]]


def test_a_branch_deeper_than_is_remembered_is_taken_as_it_is():
    house = peers()
    members = [house.join(MAIN[:300], place) for place in (1, 2, 3)]
    house.run(10)
    for member in members:
        member.chain = DEEP
    house.run(60)
    assert house.keeper.current.latest_hash == DEEP[-1].hash


def test_one_peer_on_another_branch_moves_nothing():
    house = peers()
    for place in (1, 2, 3, 4):
        house.join(MAIN[:321], place)
    house.join(FORK, 5)
    house.run(200)
    assert house.keeper.current.latest_hash == MAIN[320].hash
    assert house.counters.reorgs == 0


@pytest.mark.parametrize("mood", ["empty", "silent", "garbage", "short", "unlinked", "other"])
def test_bad_answers_of_some_do_not_stop_it(mood):
    house = peers()
    house.join(MAIN[:301], 8, mood=mood)
    house.join(MAIN[:301], 9, mood=mood)
    members = [house.join(MAIN[:301], place) for place in (1, 2, 3)]
    house.run(120)
    for member in members:
        member.chain = MAIN[:311]
    house.run(200)
    assert house.latest == 310


def test_a_chain_that_was_set_back_is_followed_down():
    house = peers()
    member = house.join(MAIN[:101], 1, trusted=True)
    house.run(5)
    member.chain = MAIN[:51]
    house.keeper.learn(member.peer, BlockRange(0, 50, MAIN[50].hash))
    house.run(60)
    assert house.keeper.current == BlockRange(0, 50, MAIN[50].hash)
    assert house.blocks[-1] == MAIN[50]


def test_few_questions_are_asked_and_one_look_at_a_time():
    house = peers()
    for place in range(50):
        house.join(MAIN[:331], place, mood="silent" if place % 2 else "good")
    for _ in range(600):
        house.run(1)
        assert house.under_way <= 8
    assert len(house.questions) < 600
    assert len({each[0] for each in house.questions}) > 25


# -- an anchor -----------------------------------------------------------------------------------------------


def test_an_anchor_goes_before_all_peers_who_only_give_its_header():
    house = peers()
    for place in (1, 2, 3):
        house.join(FORK, place)
    house.join(MAIN, None, inbound=True)
    house.loop.advance(31.0)
    for number in (320, 325, 390):
        house.keeper.anchor(number, MAIN[number].hash, house.loop.now)
        house.run(5)
        assert house.keeper.current.latest_hash == MAIN[number].hash
    assert [each.number for each in house.blocks] == [320, *range(321, 326), 390] or house.latest == 390
    house.run(60)
    assert house.latest == 390


def test_when_the_anchor_holds_no_more_peers_count_again():
    house = peers()
    for place in (1, 2, 3):
        house.join(MAIN[:301], place)
    house.keeper.anchor(290, MAIN[290].hash, house.loop.now)
    house.run(100)
    assert house.latest == 290
    house.run(60)
    assert house.latest == 300


def test_an_anchor_that_no_peer_has_is_given_up():
    house = peers()
    for place in (1, 2, 3):
        house.join(MAIN[:301], place)
    house.keeper.anchor(250, b"?" * 32, house.loop.now)
    house.run(60)
    assert house.latest == 300


def test_an_anchor_with_the_number_of_another_block_is_not_taken():
    house = peers()
    for place in (1, 2, 3):
        house.join(MAIN[:301], place)
    house.keeper.anchor(251, MAIN[250].hash, house.loop.now)
    house.run(60)
    assert house.latest == 300


# -- telling -------------------------------------------------------------------------------------------------


def update(house, session, latest, block_hash, earliest=0):
    message = BlockRangeUpdate(earliest, latest, block_hash)
    house.relay.message(session, 0x11, message.encode(session.eth.version))


def at(house, number):
    house.relay.ranges.current = BlockRange(0, number, MAIN[number].hash)


def test_status_names_what_is_confirmed():
    house = House()
    at(house, 100)
    own = house.relay.status(70)
    assert (own.earliest, own.latest, own.latest_hash) == (0, 100, MAIN[100].hash)
    assert house.relay.status(68).head == MAIN[100].hash


def test_what_a_session_tells_reaches_the_keeper():
    house = House()
    source = Peers(GENESIS)
    house.relay.ranges.source = source
    chain = [made_header(5, GENESIS), made_header(90, GENESIS)]
    asked = []
    source.headers = lambda origin, amount, *, reverse=False, skip=0, among, done: asked.append(origin)
    session = house.join(status=status(5, chain[0].hash), trusted=True, endpoint=endpoint(1))
    house.loop.advance(2)
    assert asked == [chain[0].hash]
    update(house, session, 140, b"c" * 32, earliest=3)
    assert (session.status.latest, session.status.latest_hash) == (140, b"c" * 32)
    house.relay.left(session, 8)


def test_updates_go_out_every_32_blocks_and_not_soon_after_status():
    house = House()
    old = house.join()
    ancient = house.join(version=68)
    at(house, 40)
    house.loop.advance(30)
    assert old.take(0x11) == []
    house.loop.advance(31)
    (payload,) = old.take(0x11)
    assert BlockRangeUpdate.decode(payload, 69) == BlockRangeUpdate(0, 40, MAIN[40].hash)
    assert ancient.take(0x11) == []
    at(house, 71)
    house.loop.advance(100)
    assert old.take(0x11) == []
    at(house, 72)
    house.loop.advance(2)
    assert len(old.take(0x11)) == 1
    at(house, 60)
    house.loop.advance(2)
    assert len(old.take(0x11)) == 1


def test_the_step_is_a_setting():
    house = House(range=RangeOptions(step=5))
    old = house.join()
    house.loop.advance(61)
    at(house, 5)
    house.loop.advance(2)
    assert len(old.take(0x11)) == 1


def test_a_peer_whose_status_was_our_range_hears_nothing_of_it():
    house = House()
    at(house, 300)
    fresh = house.join()
    house.loop.advance(200)
    assert fresh.take(0x11) == []


@pytest.mark.parametrize(
    "bad", [BlockRangeUpdate(5, 4, b"a" * 32), BlockRangeUpdate(0, 4, bytes(32))], ids=["backwards", "zero"]
)
def test_an_impossible_update_ends_the_peer(bad):
    house = House(1)
    with pytest.raises(SubprotocolError):
        house.relay.message(house.sessions[0], 0x11, bad.encode(69))
    assert house.relay.counters.offences["0x11"] == 1


# -- whatever happens -----------------------------------------------------------------------------------

CHAINS = (MAIN, FORK, DEEP, [MAIN[0], *ALONE[1:]])
MOODS = ("good", "good", "good", "empty", "silent", "short", "garbage", "unlinked", "other")
JOIN = st.tuples(
    st.just("join"),
    st.integers(0, 3),
    st.integers(1, 400),
    st.sampled_from([0, 0, 0, 1, 2, None]),
    st.booleans(),
    st.sampled_from([False] * 5 + [True]),
    st.sampled_from(MOODS),
    st.sampled_from([0.0, 0.1, 2.5]),
    st.sampled_from([68, 69, 70]),
)
LEAVE = st.tuples(st.just("leave"), st.integers(0, 99))
GROW = st.tuples(st.just("grow"), st.integers(0, 99), st.integers(0, 3), st.integers(1, 400))
CLAIM = st.tuples(
    st.just("claim"),
    st.integers(0, 99),
    st.integers(0, 2**64 - 1),
    st.sampled_from([b"x" * 32, MAIN[70].hash, FORK[-1].hash]),
)
RUN = st.tuples(st.just("run"), st.integers(1, 40))


def play(house, step):
    members = list(house.members.values())
    match step:
        case ("join", chain, length, place, inbound, trusted, mood, delay, version):
            house.join(
                CHAINS[chain][:length],
                place,
                mood=mood,
                delay=delay,
                inbound=inbound or place is None,
                trusted=trusted,
                version=version,
            )
        case ("run", seconds):
            house.run(seconds)
        case (_, index, *_) if members:
            member = members[index % len(members)]
            match step:
                case ("leave", _):
                    house.leave(member)
                case ("grow", _, chain, length):
                    member.chain = CHAINS[chain][:length]
                    if member.peer.version > 68:
                        last = member.chain[-1]
                        house.keeper.learn(member.peer, BlockRange(0, last.number, last.hash))
                case ("claim", _, number, block_hash):
                    house.keeper.learn(member.peer, BlockRange(number // 2, number, block_hash))


@given(st.lists(JOIN, min_size=2, max_size=6), st.lists(JOIN | LEAVE | GROW | CLAIM | RUN, max_size=25))
@settings(max_examples=50)
def test_our_range_is_always_what_two_groups_or_a_trusted_peer_served(joins, steps):
    house = peers(reach=8, reorg=24)
    for step in [*joins, ("run", 8), *steps, ("run", 40)]:
        play(house, step)
        current = house.keeper.current
        witnesses = house.served[current.latest_hash] - {None}
        assert current.latest_hash == HOME or len(witnesses) > 1 or "trusted" in witnesses
        assert 0 <= current.earliest <= current.latest
        assert house.under_way <= 8  # two, and those that a settled look did not wait for
        assert len(house.keeper._chain) <= 32
        assert len(house.keeper._claims) == len(house.members)
        assert set(house.keeper._claims._muted) <= set(house.members)


@given(st.integers(0, 1000))
@settings(max_examples=10)
def test_honest_peers_of_two_groups_are_followed_whatever_single_groups_do(seed):
    house = peers()
    honest = [house.join(MAIN[:301], place) for place in (1, 2)]
    for number in range(4):
        chain = CHAINS[(seed + number) % 4]
        house.join(chain[: 50 + seed % 250], 7, mood=MOODS[(seed // 4 + number) % len(MOODS)], delay=0.3)
    house.run(120)
    for length in (302, 304, 340):
        for member in honest:
            member.chain = MAIN[:length]
        house.run(60)
        assert house.keeper.current.latest_hash == MAIN[length - 1].hash
