"""Transactions of our own users: whom they reach, whom we listen to, what is remembered."""

from __future__ import annotations

import pytest

from relay.relaying.own import Progress
from tests.aids.relaying import GWEI, House, item, raw_tx, wire


def submitted(house: House, **kwargs) -> bytes:
    return house.relay.submit(raw_tx(**kwargs))


def progress(house: House, tx_hash: bytes) -> Progress:
    found = house.relay.own.progress(tx_hash)
    assert found is not None
    return found


def left_out(house: House, tx_hash: bytes):
    """The sessions that were told nothing yet."""
    return [
        each for each in house.sessions if tx_hash not in each.pushed() + [a[0] for a in each.announced()]
    ]


@pytest.mark.parametrize(("peers", "listeners"), [(0, 0), (1, 0), (2, 1), (5, 1), (17, 2), (64, 4)])
def test_a_few_peers_are_listened_to_and_the_others_are_told_at_once(peers, listeners):
    house = House(peers)
    tx_hash = submitted(house)
    now = progress(house, tx_hash)
    assert now.listening == listeners == len(left_out(house, tx_hash))
    assert now.sent + now.announced == peers - listeners
    assert now.first_echo_seconds is None


def test_what_a_peer_that_was_left_out_tells_is_an_echo():
    house = House(2)
    tx_hash = submitted(house)
    (listener,) = left_out(house, tx_hash)
    house.loop.advance(0.25)
    house.announce(listener, (tx_hash, 2, len(raw_tx())))
    assert progress(house, tx_hash).first_echo_seconds == pytest.approx(0.25)
    assert progress(house, tx_hash).listening == 0
    house.loop.advance(10)
    house.push(listener, item())
    assert progress(house, tx_hash).first_echo_seconds == pytest.approx(0.25)
    assert listener.announced() == []  # it knows


def test_a_whole_copy_is_an_echo_too():
    house = House(2)
    tx_hash = submitted(house)
    house.loop.advance(0.5)
    house.push(house.sessions[0], item())
    assert progress(house, tx_hash).first_echo_seconds == pytest.approx(0.5)


def test_a_silent_listener_is_told_in_the_end():
    house = House(2)
    tx_hash = submitted(house)
    (listener,) = left_out(house, tx_hash)
    house.loop.advance(house.relay.options.own_listen_seconds + 1)
    assert [entry[0] for entry in listener.announced()] == [tx_hash]
    now = progress(house, tx_hash)
    assert (now.sent, now.announced, now.listening) == (1, 1, 0)


def test_a_listener_that_left_and_one_that_came_do_no_harm():
    house = House(2)
    tx_hash = submitted(house)
    (listener,) = left_out(house, tx_hash)
    house.relay.left(listener, 8)
    newcomer = house.join()
    house.loop.advance(10)
    assert [entry[0] for entry in newcomer.announced()] == [tx_hash]
    assert listener.announced() == []
    assert progress(house, tx_hash).announced == 1


def test_nobody_is_left_out_where_that_is_not_wanted():
    house = House(4, own_listen_seconds=0.0)
    tx_hash = submitted(house)
    assert left_out(house, tx_hash) == []


def test_peers_that_come_later_are_counted():
    house = House()
    tx_hash = submitted(house)
    assert (progress(house, tx_hash).sent, progress(house, tx_hash).announced) == (0, 0)
    house.join()
    assert progress(house, tx_hash).announced == 1


def test_whoever_fetches_is_counted_once():
    house = House(5)
    tx_hash = submitted(house)
    for _ in range(3):
        house.ask(house.sessions[0], 1, [tx_hash])
    house.ask(house.sessions[1], 2, [tx_hash])
    assert progress(house, tx_hash).fetched_by == 2
    late = house.join()
    house.loop.advance(60)  # the piece that it was announced in is forgotten
    house.ask(late, 3, [tx_hash])
    assert progress(house, tx_hash).fetched_by == 3


def test_what_peers_announced_before_is_echoed_already():
    house = House(2)
    raw = raw_tx(account=3)
    tx_hash = submitted(House(), account=3)
    house.announce(house.sessions[0], (tx_hash, 2, len(raw)))
    house.relay.submit(raw)
    assert progress(house, tx_hash).first_echo_seconds == 0.0


def test_transactions_of_others_are_not_followed():
    house = House(2)
    house.push(house.sessions[0], item(account=4))
    (tx_hash,) = house.relay.pool.by_hash
    assert house.relay.own.progress(tx_hash) is None
    assert tx_hash not in house.relay.own
    house.push(house.sessions[1], item(account=4))
    house.ask(house.sessions[1], 1, [tx_hash])


def test_only_the_last_ones_are_remembered():
    house = House(own_count=2)
    hashes = [submitted(house, account=n) for n in range(3)]
    assert [each in house.relay.own for each in hashes] == [False, True, True]
    assert house.relay.own.waiting() == hashes[1:]
    house.push(house.join(), item(account=0))  # an echo of what is forgotten


def test_nonces_of_our_users_count_everything_of_theirs_that_is_held():
    house = House(1)
    address = house.relay.pool.by_hash[submitted(house, account=1, nonce=7)].sender
    house.push(house.sessions[0], wire(raw_tx(account=1, nonce=8)))
    house.push(house.sessions[0], wire(raw_tx(account=2, nonce=1)))
    assert house.relay.own.nonces(address) == {7, 8}
    assert house.relay.own.nonces(bytes(20)) is None


def test_a_mined_one_leaves_the_pool_and_is_remembered():
    house = House(1)
    tx_hash = submitted(house)
    house.loop.advance(2.0)
    assert house.relay.own.oldest_wait() == pytest.approx(2.0)
    house.relay.own.mined(tx_hash, 9, b"\x09" * 32)
    assert tx_hash not in house.relay.pool
    assert progress(house, tx_hash).block == (9, b"\x09" * 32)
    assert not progress(house, tx_hash).held
    assert (house.relay.own.waiting(), house.relay.own.oldest_wait()) == ([], None)
    house.push(house.sessions[0], item())  # a late copy is not taken again
    assert tx_hash not in house.relay.pool
    house.relay.own.unmined(tx_hash)
    assert house.relay.own.waiting() == [tx_hash]
    for act in (
        lambda: house.relay.own.mined(bytes(32), 1, bytes(32)),
        lambda: house.relay.own.unmined(bytes(32)),
    ):
        act()  # of strangers nothing is kept
    assert house.relay.own.progress(bytes(32)) is None


def test_a_replacement_is_followed_by_its_own_hash():
    house = House(2)
    first = submitted(house)
    second = submitted(house, tip=2 * GWEI)
    house.loop.advance(10)
    assert not progress(house, first).held
    assert progress(house, second).held
