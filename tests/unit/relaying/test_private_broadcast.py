"""Private broadcast on a virtual clock: who is brought a transaction, when again, and what nobody learns."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.chain.transactions import InvalidTransaction, transaction_hash
from relay.protocols.eth.messages import GetPooledTransactions
from relay.relaying.private.letters import State
from relay.relaying.private.options import PrivateOptions
from tests.aids.blobs import QuickVerifier, blob_transaction
from tests.aids.private import PrivateHouse, node
from tests.aids.relaying import CHAIN_ID, GWEI, item, key, raw_tx

OPTIONS = PrivateOptions()


# -- one round -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("known", "copies"), [(0, 0), (1, 1), (2, 2), (3, 3), (4, 3), (50, 3)])
def test_three_peers_or_all_there_are_get_it_on_one_connection_each(known, copies):
    house = PrivateHouse(known)
    tx_hash = house.submit()
    assert len(house.courier.under_way) == copies
    assert house.courier.deliver_all() == copies
    assert len(house.courier.carried) == len({each.to for each in house.courier.carried}) == copies
    house.loop.advance(4)
    assert len(house.courier.carried) == copies
    assert house.progress(tx_hash).sent == copies
    assert house.state(tx_hash) == ("LISTENING" if copies else "UNSENT")


def test_what_counts_is_deliveries_and_not_dials():
    house = PrivateHouse(20)
    tx_hash = house.submit()
    for _ in range(9):
        house.courier.under_way[0].fail()
        assert len(house.courier.under_way) == 3
    house.courier.deliver_all()
    carried = house.courier.of(tx_hash)
    assert (len(carried), len({each.to for each in carried})) == (12, 12)
    assert house.progress(tx_hash).sent == 3
    assert house.broadcast.counters.failed == {"too many peers": 9}
    assert (house.broadcast.counters.dials, house.broadcast.counters.delivered) == (12, 3)


def test_a_round_has_a_budget_of_dials():
    house = PrivateHouse(100)
    tx_hash = house.submit()
    while house.courier.under_way:
        house.courier.under_way[0].fail()
    assert len(house.courier.carried) == OPTIONS.attempts
    assert house.state(tx_hash) == "UNSENT"
    house.loop.advance(OPTIONS.unsent_min - 1)
    assert len(house.courier.carried) == OPTIONS.attempts
    house.loop.advance(OPTIONS.unsent_max - OPTIONS.unsent_min + 1)
    second = house.courier.carried[OPTIONS.attempts :]
    assert len(second) == 3
    assert not {each.to for each in second} & {each.to for each in house.courier.carried[: OPTIONS.attempts]}


def test_two_of_three_is_enough_to_wait_for_the_echo_when_nobody_else_is_left():
    house = PrivateHouse(3)
    tx_hash = house.submit()
    first, second, third = house.courier.under_way
    first.deliver()
    second.fail()
    third.deliver()
    assert house.state(tx_hash) == "LISTENING"
    assert house.progress(tx_hash).sent == 2


def test_it_waits_for_peers_and_goes_out_once_there_are_some():
    house = PrivateHouse(0)
    house.submit()
    house.loop.advance(60)
    assert house.courier.carried == []
    house.courier.known = [node(1)]
    house.loop.advance(OPTIONS.lonely)
    assert len(house.courier.carried) == 1


def test_onions_come_before_exits_and_our_own_peers_are_no_worse_than_strangers():
    orders = [_order_of_dials(bytes([number])) for number in range(12)]
    assert all(set(order[:3]) == {3, 4, 5} and set(order[3:]) == {1, 2, 6} for order in orders)
    assert {order.index(3) for order in orders} == {0, 1, 2}


def test_strangers_first_asks_our_own_peers_last():
    orders = [_order_of_dials(bytes([number]), PrivateOptions(strangers_first=True)) for number in range(12)]
    assert {(order[2], order[5]) for order in orders} == {(3, 2)}


def _order_of_dials(seed, options=None):
    """Who is dialed for a transaction that nobody takes."""
    house = PrivateHouse(0, private=options, seed=seed)
    house.courier.known = [
        node(1, onion=False), node(2, onion=False, is_peer=True), node(3, is_peer=True), node(4), node(5),
        node(6, onion=False),
    ]  # fmt: skip
    house.submit()
    while house.courier.under_way:
        house.courier.under_way[0].fail()
    return [int.from_bytes(each.to.key, "big") for each in house.courier.carried]


def test_who_was_full_a_moment_ago_is_asked_last_for_the_next_transaction():
    house = PrivateHouse(6)
    house.submit(account=1)
    for each in list(house.courier.under_way):
        each.fail()
    house.courier.deliver_all()
    full = {each.to for each in house.courier.carried[:3]}
    house.submit(account=2)
    assert not {each.to for each in house.courier.under_way} & full


def test_the_choice_is_by_chance():
    chosen = set()
    for account in range(20):
        house = PrivateHouse(30)
        for _ in range(account):
            house.broadcast._rand(8)
        house.submit()
        chosen |= {each.to for each in house.courier.under_way}
    assert len(chosen) > 15


def test_connections_of_all_transactions_together_are_bounded():
    house = PrivateHouse(50, private=PrivateOptions(connections=4))
    hashes = [house.submit(account=account) for account in range(1, 6)]
    assert len(house.courier.under_way) == 4
    while house.courier.under_way:
        assert len(house.courier.under_way) <= 4
        house.courier.under_way[-1].deliver()
    assert [len(house.courier.of(each)) for each in hashes] == [3] * 5


# -- until the echo ------------------------------------------------------------------------------------


def test_until_the_echo_nobody_learns_of_it():
    house = PrivateHouse(peers=3)
    raw = raw_tx()
    tx_hash = house.submit()
    house.courier.deliver_all()
    late = house.join(name="late")
    house.loop.advance(100)
    house.ask(house.sessions[0], 7, [tx_hash])
    for session in (*house.sessions, late):
        assert session.pushed() == session.announced() == []
    assert house.sessions[0].answers() == [(7, [])]
    assert tx_hash not in house.relay.pool
    assert house.relay.transaction(tx_hash) is None
    assert list(house.relay.pool_content()) == []
    assert house.relay.pool_status() == (0, 0)
    assert house.desk.transaction(tx_hash).raw == raw
    assert house.progress(tx_hash).first_echo_seconds is None


def test_the_echo_is_fetched_and_passed_on_as_any_other_transaction():
    ours, others = PrivateHouse(peers=3), PrivateHouse(peers=3)
    tx_hash = ours.submit()
    ours.courier.deliver_all()
    for house in (ours, others):
        house.loop.advance(2)
        house.echo()
        house.loop.advance(10)
    seen = [[each.sent for each in house.sessions] for house in (ours, others)]
    assert seen[0] == seen[1]
    entry = ours.relay.pool.by_hash[tx_hash]
    assert not entry.local
    assert entry.source == ours.bit(ours.sessions[0])
    assert tx_hash not in ours.desk
    assert ours.progress(tx_hash).first_echo_seconds == pytest.approx(3)
    assert ours.progress(tx_hash).held
    assert ours.broadcast.counters.ended == {"echoed": 1}
    assert ours.broadcast.counters.waiting == 0


def test_a_whole_copy_is_an_echo_too_and_ends_connections_under_way():
    house = PrivateHouse()
    tx_hash = house.submit()
    first, second, third = house.courier.under_way
    first.deliver()
    house.push(house.sessions[0], item())
    house.loop.settle()
    assert second.cancelled
    assert third.cancelled
    assert tx_hash in house.relay.pool
    house.loop.advance(1000)
    assert len(house.courier.carried) == 3
    assert house.progress(tx_hash).private == "came back"


def test_an_echo_that_the_pool_has_no_room_for_is_one():
    house = PrivateHouse(pool_count=1)
    house.push(house.sessions[1], item(account=5, tip=90 * GWEI))
    tx_hash = house.submit()
    house.courier.deliver_all()
    house.echo()
    assert tx_hash not in house.relay.pool
    assert house.progress(tx_hash).first_echo_seconds is not None
    assert tx_hash not in house.desk


def test_one_that_was_held_and_dropped_lately_can_come_back_all_the_same():
    house = PrivateHouse()
    house.push(house.sessions[1], item())
    (tx_hash,) = house.relay.pool.by_hash
    house.relay.pool.remove(tx_hash)
    assert house.submit() == tx_hash
    house.echo()
    assert tx_hash in house.relay.pool


def test_an_answer_to_a_stranger_before_and_after_is_that_for_unknown_hashes():
    house = PrivateHouse()
    unknown = b"\x77" * 32
    tx_hash = house.submit()
    house.relay.message(house.sessions[0], 0x09, GetPooledTransactions(1, (unknown, tx_hash)).encode(69))
    assert house.sessions[0].answers() == [(1, [])]


# -- rounds --------------------------------------------------------------------------------------------


def test_without_an_echo_it_goes_out_again_through_others_at_a_random_time():
    house = PrivateHouse(40)
    house.submit()
    times, rounds = [], []
    for _ in range(6):
        before = len(house.courier.carried)
        house.courier.deliver_all()
        begun = house.loop.time()
        while (
            len(house.courier.carried) == before + len(house.courier.under_way)
            and not house.courier.under_way
        ):
            house.loop.advance(1)
        times.append(house.loop.time() - begun)
        rounds.append({each.to for each in house.courier.under_way})
    assert all(OPTIONS.echo_min <= each <= OPTIONS.echo_max + 1 for each in times)
    assert len({round(each) for each in times}) > 3
    assert all(len(each) == 3 for each in rounds)
    assert all(not one & two for one, two in pairwise(rounds))


def test_who_has_confirmed_it_is_asked_again_only_when_nobody_else_is_left():
    house = PrivateHouse(4)
    house.submit()
    house.courier.deliver_all()
    had = {each.to for each in house.courier.carried}
    house.loop.advance(OPTIONS.echo_max)
    again = house.courier.carried[3:]
    assert len(again) == 3
    assert again[0].to not in had


def test_it_is_given_up_after_its_lifetime():
    house = PrivateHouse()
    tx_hash = house.submit()
    while tx_hash in house.desk:
        house.courier.deliver_all()
        house.loop.advance(60)
    assert OPTIONS.lifetime <= house.progress(tx_hash).age_seconds <= OPTIONS.lifetime + OPTIONS.echo_max + 60
    assert house.broadcast.counters.ended == {"given up": 1}
    assert house.loop.live_timers == house.loop.live_timers[:1]  # housekeeping


def test_it_is_stale_when_the_pool_has_another_of_its_nonce_that_it_can_not_outbid():
    house = PrivateHouse()
    tx_hash = house.submit()
    house.courier.deliver_all()
    house.push(house.sessions[0], item(tip=5 * GWEI))
    house.loop.advance(OPTIONS.echo_max)
    assert tx_hash not in house.desk
    assert house.broadcast.counters.ended == {"stale": 1}
    with pytest.raises(InvalidTransaction, match="replacement transaction underpriced"):
        house.submit(value=2)


def test_a_block_that_has_it_ends_it():
    house = PrivateHouse()
    tx_hash = house.submit()
    house.courier.deliver_all()
    house.relay.own.mined(tx_hash, 12, b"\x0c" * 32)
    assert tx_hash not in house.desk
    assert house.progress(tx_hash).block == (12, b"\x0c" * 32)
    house.relay.own.unmined(tx_hash)
    assert tx_hash not in house.relay.pool


def test_aborting_ends_connections_and_rounds():
    house = PrivateHouse()
    tx_hash = house.submit()
    assert house.broadcast.abort(tx_hash)
    assert not house.broadcast.abort(tx_hash)
    assert all(each.cancelled for each in house.courier.carried)
    house.loop.advance(2000)
    assert len(house.courier.carried) == 3


def test_a_stop_ends_everything_and_forgets_nothing():
    house = PrivateHouse()
    tx_hash = house.submit(nonce=0)
    house.submit(nonce=1)
    house.broadcast.stop()
    assert house.courier.under_way == []
    house.echo()  # in the last moment
    house.loop.advance(2000)
    assert len(house.courier.carried) == 3
    assert tx_hash not in house.broadcast.letters
    assert len(house.broadcast.letters) == 1


# -- nonces --------------------------------------------------------------------------------------------


def test_one_senders_nonces_go_one_after_the_other():
    house = PrivateHouse()
    later, first = house.submit(nonce=8), None
    assert house.state(later) == "SENDING"
    first = house.submit(nonce=7)
    assert (house.state(first), house.state(later)) == ("SENDING", "QUEUED")
    assert {each.hash for each in house.courier.under_way} == {first}
    house.courier.deliver_all()
    house.loop.advance(1000)
    house.courier.deliver_all()
    assert {each.hash for each in house.courier.carried[3:]} == {first}
    house.echo(nonce=7)
    assert {each.hash for each in house.courier.under_way} == {later}
    assert house.broadcast.nonces(key(0).public_key) == {8}


def test_other_senders_do_not_wait():
    house = PrivateHouse()
    hashes = {house.submit(account=account) for account in (1, 2)}
    assert {each.hash for each in house.courier.under_way} == hashes


def test_nonces_under_way_count_for_who_asks_for_the_next():
    house = PrivateHouse()
    house.submit(nonce=3)
    house.submit(nonce=4)
    house.echo(nonce=3)
    address = house.relay.pool.by_hash[next(iter(house.relay.pool.by_hash))].sender
    assert house.relay.own.nonces(address) == {3, 4}


def test_a_dearer_one_takes_the_place_of_another_with_its_nonce():
    house = PrivateHouse()
    cheap = house.submit()
    with pytest.raises(InvalidTransaction, match="replacement transaction underpriced"):
        house.submit(tip=GWEI + 1)
    dear = house.submit(tip=2 * GWEI)
    assert cheap not in house.desk
    assert {each.hash for each in house.courier.under_way} == {dear}


# -- bounds --------------------------------------------------------------------------------------------


def test_it_is_known_while_it_waits_and_after():
    house = PrivateHouse()
    house.submit()
    with pytest.raises(InvalidTransaction, match="already known"):
        house.submit()
    house.echo()
    with pytest.raises(InvalidTransaction, match="already known"):
        house.submit()


def test_count_and_bytes_are_bounded():
    house = PrivateHouse(private=PrivateOptions(count=2))
    house.submit(account=1)
    house.submit(account=2)
    with pytest.raises(InvalidTransaction, match="too many transactions wait"):
        house.submit(account=3)
    house.submit(account=2, tip=3 * GWEI)  # in the place of another
    big = PrivateHouse(private=PrivateOptions(bytes=300))
    big.submit(account=1)
    big.submit(account=2)
    with pytest.raises(InvalidTransaction, match="too many transactions wait"):
        big.submit(account=3)
    assert big.progress(raw_hash(account=3)) is None
    big.broadcast.abort(raw_hash(account=1))
    big.submit(account=3)


def raw_hash(**kwargs):
    return transaction_hash(raw_tx(**kwargs))


def test_what_is_no_good_is_refused_as_ever():
    house = PrivateHouse()
    with pytest.raises(InvalidTransaction):
        house.submit(chain_id=99)
    with pytest.raises(InvalidTransaction, match="exceeds the configured cap"):
        house.submit(tip=10**18)
    assert house.courier.carried == []


# -- blobs ---------------------------------------------------------------------------------------------


def test_a_blob_transaction_is_announced_once_it_is_verified_and_is_in_no_pool():
    house = PrivateHouse(verifier=QuickVerifier(patient=False))
    raw = blob_transaction(1, key=key(0), nonce=0, chain_id=CHAIN_ID, tip=GWEI, fee=2 * GWEI, blob_fee=GWEI)
    tx_hash = house.relay.submit(raw)
    house.loop.settle()
    (letter,) = house.broadcast.letters.values()
    assert (letter.tx.hash, letter.raw, letter.is_asked_for) == (tx_hash, raw, True)
    assert letter.tx.size == len(raw)
    assert letter.item.endswith(raw)
    assert tx_hash not in house.relay.pool
    assert tx_hash not in house.relay.blobs.store.held
    assert len(house.courier.under_way) == 3
    house.courier.deliver_all()
    assert [each.sent for each in house.sessions] == [[], []]
    session = house.sessions[0]
    house.announce(session, (tx_hash, 3, len(raw)))
    house.loop.advance(1)
    ((request_id, _),) = session.requests()
    house.answer(session, request_id, letter.item)
    house.loop.settle()
    assert tx_hash in house.relay.pool
    assert tx_hash not in house.desk


# -- whatever happens ----------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["submit", "deliver", "fail", "echo", "abort", "wait", "mined"]),
        st.integers(0, 1 << 16),
    ),
    max_size=60,
)


@given(STEPS, st.integers(0, 12))
@settings(max_examples=60)
def test_whatever_happens_bounds_and_order_hold(steps, known):
    options = PrivateOptions(connections=5, attempts=6, count=6)
    house = PrivateHouse(known, private=options)
    for step, number in steps:
        take(house, step, number)
        check(house, options)
    house.broadcast.stop()
    assert house.courier.under_way == []


def take(house, step, number):
    under_way = house.courier.under_way
    letters = list(house.broadcast.letters.values())
    if step == "submit":
        with suppress(InvalidTransaction):
            house.submit(account=number % 3, nonce=number // 3 % 4, tip=GWEI * (1 + number % 5))
    elif step in ("deliver", "fail") and under_way:
        getattr(under_way[number % len(under_way)], step)()
    elif step == "wait":
        house.loop.advance(number % 400)
    elif letters:
        letter = letters[number % len(letters)]
        if step == "echo":
            house.push(house.sessions[0], letter.item)
            house.loop.settle()
        elif step == "abort":
            house.broadcast.abort(letter.tx.hash)
        else:
            house.relay.own.mined(letter.tx.hash, 1, b"\1" * 32)


def check(house, options):
    letters = house.broadcast.letters
    assert len(letters) <= options.count
    assert house.broadcast.counters.waiting == len(letters)
    under_way = house.courier.under_way
    assert len(under_way) == house.broadcast._under_way <= options.connections
    assert house.broadcast._bytes == sum(len(each.item) for each in letters.values())
    for letter in letters.values():
        assert letter.copies + len(letter.under_way) <= options.copies
        assert letter.dials <= options.attempts
        assert (letter.timer is not None) == (letter.state in (State.LISTENING, State.UNSENT))
        assert letter.tx.hash not in house.relay.pool
    for signer in {each.tx.signer for each in letters.values()}:
        mine = sorted((each for each in letters.values() if each.tx.signer == signer), key=nonce)
        assert len({nonce(each) for each in mine}) == len(mine)
        assert [each.state is State.QUEUED for each in mine] == [False] + [True] * (len(mine) - 1)


def nonce(letter):
    return letter.tx.nonce
