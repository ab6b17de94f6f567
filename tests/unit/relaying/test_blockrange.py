"""Our block range follows peers and is never made up."""

from __future__ import annotations

import pytest

from relay.primitives.errors import SubprotocolError
from relay.primitives.forkid import ForkId
from relay.protocols.eth.messages import BlockRangeUpdate, Status
from tests.aids.relaying import GENESIS, House


def status(latest, block_hash, earliest=0, version=69):
    return Status(version, 4242, GENESIS, ForkId(bytes(4), 0), earliest, latest, block_hash)


def update(house, session, latest, block_hash, earliest=0):
    message = BlockRangeUpdate(earliest, latest, block_hash)
    house.relay.message(session, 0x11, message.encode(session.eth.version))


A, B, C = b"a" * 32, b"b" * 32, b"c" * 32


def test_without_news_our_range_is_genesis():
    own = House(2).relay.status(69)
    assert (own.earliest, own.latest, own.latest_hash) == (0, 0, GENESIS)


def test_one_untrusted_peer_is_not_believed_and_two_alike_are():
    house = House()
    house.join(status=status(100, A, earliest=5))
    house.join(status=status(101, B))
    assert house.relay.status(69).latest == 0
    house.join(status=status(100, A, earliest=7))
    own = house.relay.status(70)
    assert (own.earliest, own.latest, own.latest_hash) == (7, 100, A)
    assert house.relay.status(68).head == A


def test_peers_that_came_in_have_no_say_however_many_agree():
    house = House()
    for _ in range(3):
        house.join(status=status(2**64 - 1, A), inbound=True)
    assert house.relay.status(69).latest == 0
    house.join(status=status(100, B), inbound=True, trusted=True)
    assert house.relay.status(69).latest == 100


def test_same_number_with_another_hash_is_no_agreement():
    house = House()
    house.join(status=status(100, A))
    house.join(status=status(100, B))
    assert house.relay.status(69).latest == 0


def test_a_trusted_peer_is_believed_alone_and_follows_its_updates():
    house = House()
    session = house.join(status=status(100, A), trusted=True)
    assert house.relay.status(69).latest == 100
    update(house, session, 140, C, earliest=3)
    own = house.relay.status(69)
    assert (own.earliest, own.latest, own.latest_hash) == (3, 140, C)
    assert (session.status.latest, session.status.latest_hash) == (140, C)


def test_what_was_learned_stays_when_all_have_left():
    house = House()
    session = house.join(status=status(100, A), trusted=True)
    house.relay.left(session, 8)
    assert house.relay.status(69).latest == 100


def test_a_claim_falls_when_its_peers_left_and_others_agree_on_less():
    house = House()
    liars = [house.join(status=status(2**60, A)) for _ in range(2)]
    assert house.relay.status(69).latest == 2**60
    for liar in liars:
        house.relay.left(liar, 8)
    for _ in range(2):
        house.join(status=status(100, B))
    assert house.relay.status(69).latest == 100


def test_updates_go_out_every_32_blocks_and_not_soon_after_status():
    house = House()
    old = house.join()
    source = house.join(status=status(10, A), trusted=True)
    ancient = house.join(version=68)
    update(house, source, 40, B)
    house.loop.advance(30)
    assert old.take(0x11) == []
    house.loop.advance(31)
    (payload,) = old.take(0x11)
    assert BlockRangeUpdate.decode(payload, 69) == BlockRangeUpdate(0, 40, B)
    assert ancient.sent == []
    update(house, source, 71, C)
    house.loop.advance(100)
    assert old.take(0x11) == []
    update(house, source, 72, C)
    house.loop.advance(2)
    assert len(old.take(0x11)) == 1
    update(house, source, 60, C)
    house.loop.advance(2)
    assert len(old.take(0x11)) == 1


def test_a_peer_whose_status_was_our_range_hears_nothing_of_it():
    house = House()
    house.join(status=status(1000, A), trusted=True)
    fresh = house.join()
    house.loop.advance(200)
    assert fresh.take(0x11) == []


@pytest.mark.parametrize("bad", [BlockRangeUpdate(5, 4, A), BlockRangeUpdate(0, 4, bytes(32))])
def test_an_impossible_update_ends_the_peer(bad):
    house = House(1)
    with pytest.raises(SubprotocolError):
        house.relay.message(house.sessions[0], 0x11, bad.encode(69))
    assert house.relay.counters.offences["0x11"] == 1


def test_an_update_from_a_peer_without_status_is_taken():
    house = House()
    session = house.join(trusted=True)
    update(house, session, 50, A)
    assert house.relay.status(69).latest == 50
