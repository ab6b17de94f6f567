"""Transactions of peers that a node rules on before they go on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.chain.transactions import transaction_hash
from relay.primitives.hashing import keccak256
from relay.relaying.counters import RelayCounters
from relay.relaying.pace import PaceOptions
from relay.relaying.verdict import Court, Outcome, Ruling, VerdictOptions
from tests.aids.relaying import House, VirtualLoop, fake, item, item_hash, raw_tx

GOOD, STALE = Ruling(Outcome.GOOD), Ruling(Outcome.STALE, "nonce too low")
BAD, UNKNOWN = Ruling(Outcome.BAD, "insufficient funds"), Ruling(Outcome.UNKNOWN, "no answer")


class Bench:
    """A judge that rules when the test says so."""

    def __init__(self):
        self.asked = []

    def __call__(self, raws, done):
        self.asked.append((list(raws), done))

    def rule(self, *rulings):
        """Answer the oldest question: one ruling for all, or one for each."""
        raws, done = self.asked.pop(0)
        done(rulings * len(raws) if len(rulings) == 1 else rulings)


def court_house(peers=3, **options):
    house = House(peers, **options)
    bench = Bench()
    house.relay.judge_by(bench)
    return house, bench


def test_nothing_goes_on_before_the_ruling_and_what_is_good_does_after_it():
    house, bench = court_house()
    first, second, third = house.sessions
    house.push(first, item(account=1), item(account=2))
    house.loop.settle()
    assert [keccak256(raw) for raw in bench.asked[0][0]] == [
        transaction_hash(raw_tx(account=1)),
        transaction_hash(raw_tx(account=2)),
    ]
    assert not house.relay.pool.by_hash
    assert not second.pushed() + second.announced()
    bench.rule(GOOD, BAD)
    house.loop.settle()
    good = item_hash(item(account=1))
    assert list(house.relay.pool.by_hash) == [good]
    told = [session.pushed() + [each[0] for each in session.announced()] for session in (second, third)]
    assert told == [[good], [good]]
    assert not first.pushed() + first.announced()
    assert house.relay.counters.verdicts == {"good": 1, "bad": 1}
    assert house.relay.counters.dropped == {"verdict_bad": 1}


def test_who_brings_or_announces_what_waits_is_not_told_of_it_later_nor_asked_for_it():
    house, bench = court_house()
    first, second, third = house.sessions
    one = item(account=1)
    house.push(first, one)
    house.push(second, one)
    house.announce(third, (item_hash(one), 2, len(raw_tx(account=1))))
    house.loop.advance(1.0)
    assert not third.requests()
    assert len(bench.asked) == 1
    bench.rule(GOOD)
    house.loop.settle()
    assert not any(session.pushed() + session.announced() for session in house.sessions)


def test_what_was_ruled_out_is_not_asked_about_again_but_what_nobody_ruled_on_may_come_again():
    house, bench = court_house()
    first, second, _ = house.sessions
    one, two = item(account=1), item(account=2)
    house.push(first, one)
    house.loop.settle()
    bench.rule(STALE)
    house.push(second, one)
    house.loop.settle()
    assert not bench.asked
    house.push(first, two)
    house.loop.settle()
    while bench.asked:
        bench.rule(UNKNOWN)
        house.loop.advance(house.relay.options.verdict.pause)
    assert house.relay.counters.dropped == {"verdict_stale": 1, "verdict_unanswered": 1}
    house.push(second, two)
    house.loop.settle()
    assert len(bench.asked) == 1


def test_transactions_of_our_own_users_are_never_shown_to_the_judge():
    house, bench = court_house()
    house.relay.submit(raw_tx(account=1))
    house.loop.settle()
    assert not bench.asked
    assert len(house.relay.pool) == 1


def test_a_peer_that_goes_on_bringing_bad_ones_is_sent_away_but_not_a_trusted_one_nor_for_stale_ones():
    house, bench = court_house(0, pace=PaceOptions(refused_rate=1.0, refused_burst=3.0))
    peer, trusted, slow = house.join(), house.join(trusted=True), house.join()
    for nonce in range(5):
        for account, session in enumerate((peer, trusted, slow)):
            if session.ended is None:
                house.push(session, item(account=account, nonce=nonce))
                house.loop.settle()
                bench.rule(STALE if session is slow else BAD)
    assert peer.ended is not None
    assert "can't be mined: insufficient funds" in peer.ended[1]
    assert trusted.ended is None
    assert slow.ended is None


def test_a_peer_that_left_meanwhile_is_nobody_to_send_away():
    house, bench = court_house(2, pace=PaceOptions(refused_rate=1.0, refused_burst=0.0))
    session = house.sessions[0]
    house.push(session, item(account=1))
    house.loop.settle()
    house.relay.left(session, 8)
    bench.rule(BAD)
    assert session.ended is None


def test_what_finds_no_room_is_let_go_and_may_come_again():
    house, bench = court_house(1, verdict=VerdictOptions(count=2))
    house.push(house.sessions[0], *[item(account=number) for number in range(3)])
    house.loop.settle()
    assert house.relay.counters.verdicts == {"overflow": 1}
    bench.rule(GOOD)
    house.push(house.sessions[0], item(account=2))
    house.loop.settle()
    bench.rule(GOOD)
    assert len(house.relay.pool) == 3


def test_waiting_bytes_are_bounded():
    loop, counters = VirtualLoop(), RelayCounters()
    court = Court(Bench(), lambda *_: None, VerdictOptions(max_bytes=300), counters, loop)
    taken = [court.submit(fake(number, wire_size=100), None) for number in range(5)]
    assert taken == [True, True, True, False, False]


def test_questions_hold_a_bounded_number_and_a_bounded_number_are_under_way():
    house, bench = court_house(1, verdict=VerdictOptions(batch=4, batches=2))
    house.push(house.sessions[0], *[item(account=number) for number in range(10)])
    house.loop.settle()
    assert [len(raws) for raws, _ in bench.asked] == [4, 4]
    bench.rule(GOOD)
    house.loop.settle()
    assert [len(raws) for raws, _ in bench.asked] == [4, 2]


@given(st.data())
def test_whatever_is_ruled_each_is_decided_once_and_nothing_stays_behind(data):
    loop, counters, bench, decided = VirtualLoop(), RelayCounters(), Bench(), []
    options = VerdictOptions(batch=3, batches=2, count=8, patience=5.0)
    court = Court(bench, lambda tx, _peer, ruling: decided.append((tx.hash, ruling)), options, counters, loop)
    taken = []
    for number in range(data.draw(st.integers(1, 20))):
        tx = fake(number, arrived=loop.now, signer=b"%064d" % number)
        if court.submit(tx, None):
            taken.append(tx.hash)
        if data.draw(st.booleans()):
            loop.advance(data.draw(st.sampled_from((0.0, 0.5, 2.0))))
        if bench.asked and data.draw(st.booleans()):
            raws, _ = bench.asked[0]
            bench.rule(*[data.draw(st.sampled_from((GOOD, STALE, BAD, UNKNOWN))) for _ in raws])
    while court.waiting:
        loop.advance(1.0)
        if bench.asked:
            bench.rule(UNKNOWN)
    assert sorted(each for each, _ in decided) == sorted(taken)
    assert court._bytes == 0
    assert not court._queue
