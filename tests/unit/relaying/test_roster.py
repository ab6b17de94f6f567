"""Bits of peers: unique among the living, clean before they are given away again."""

from __future__ import annotations

from relay.relaying.roster import Roster
from tests.aids.relaying import House, RecordingSession, VirtualLoop, fake, small_pool


def roster_with(count=0, nonces=0):
    pool, _, _ = small_pool(per_sender=10**6, pool_count=10**6)
    for n in range(nonces):
        pool.add(fake(n, nonce=n, known=0))
    loop = VirtualLoop()
    roster = Roster(pool, loop)
    sessions = [RecordingSession() for _ in range(count)]
    for session in sessions:
        roster.join(session)
    return roster, pool, loop, sessions


def test_every_peer_has_a_bit_of_its_own():
    roster, _, _, _ = roster_with(70)
    bits = [peer.bit for peer in roster]
    assert len(set(bits)) == len(roster) == 70
    assert sum(bits) == roster.connected
    assert [peer.bit for peer in roster.expand(bits[3] | bits[69])] == [bits[3], bits[69]]


def test_a_bit_is_clean_before_it_is_given_again():
    roster, pool, loop, sessions = roster_with(2, nonces=20_000)
    bit = roster.get(sessions[0]).bit
    for entry in pool.by_hash.values():
        entry.known = 3
    roster.leave(sessions[0])
    assert roster.join(RecordingSession()).bit == 4
    loop.settle()
    assert loop.turns >= 3
    assert all(entry.known == 2 for entry in pool.by_hash.values())
    assert roster.join(RecordingSession()).bit == bit


def test_a_peer_leaving_during_the_sweep_waits_for_the_next():
    roster, pool, loop, sessions = roster_with(3, nonces=9000)
    for entry in pool.by_hash.values():
        entry.known = 7
    roster.leave(sessions[0])
    loop.turn()
    roster.leave(sessions[2])
    assert roster.join(RecordingSession()).bit == 8
    loop.settle()
    assert {entry.known for entry in pool.by_hash.values()} == {2}
    assert [roster.join(RecordingSession()).bit for _ in range(2)] == [1, 4]


def test_a_stranger_leaving_is_nothing():
    roster, _, loop, _ = roster_with(1)
    assert roster.leave(RecordingSession()) is None
    assert roster.get(RecordingSession()) is None
    loop.settle()
    assert len(roster) == 1


def test_expansions_are_forgotten_when_there_are_too_many():
    roster, _, _, _ = roster_with(12)
    for mask in range(1, 1500):
        assert sum(peer.bit for peer in roster.expand(mask)) == mask


def test_churn_keeps_the_masks_short():
    house = House()
    for _ in range(50):
        sessions = [house.join() for _ in range(5)]
        for session in sessions:
            house.relay.left(session, 8)
        house.loop.settle()
    assert house.join() is not None
    assert house.relay.roster.connected < 1 << 16
