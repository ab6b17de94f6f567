"""What follows from the words of peers, before any of them is asked."""

from __future__ import annotations

from relay.relaying.claims import BlockRange, Claims
from relay.relaying.pace import PaceOptions
from relay.relaying.roster import RelayPeer
from tests.aids.range_peers import endpoint
from tests.aids.relaying import RecordingSession, seeded

NOW = 1000.0


def claims():
    return Claims(64, 30.0, seeded())


def peer(place, joined=0.0, **session):
    where = None if place is None else endpoint(place)
    return RelayPeer(RecordingSession(endpoint=where, **session), 1, joined, PaceOptions())


def told(latest, earliest=0):
    return BlockRange(earliest, latest, latest.to_bytes(32, "big"))


def say(known, place, latest, earliest=0, **session):
    made = peer(place, **session)
    known.learn(made, told(latest, earliest))
    return made


def test_the_candidate_is_the_highest_to_which_two_groups_come_up():
    known = claims()
    assert known.candidate(NOW) is None
    say(known, 1, 2**64 - 1)
    say(known, 1, 900)
    assert known.candidate(NOW) is None
    say(known, 2, 500)
    assert known.candidate(NOW) == told(500)
    say(known, 3, 700)
    assert known.candidate(NOW) == told(700)
    say(known, None, 800, inbound=True)
    assert known.candidate(NOW) == told(700)


def test_a_trusted_peer_is_backed_by_itself_and_no_limit_to_others():
    known = claims()
    say(known, None, 600, inbound=True, trusted=True)
    assert known.candidate(NOW) == told(600)
    for place in (1, 2):
        say(known, place, 900)
    assert known.candidate(NOW) == told(900)


def test_who_was_muted_is_not_heard_until_then():
    known = claims()
    for place in (1, 2):
        say(known, place, 900)
    for place in (3, 4):
        say(known, place, 300)
    liars = known.who_name(told(900).latest_hash)
    assert len(liars) == 2
    known.mute([*liars, peer(9)], NOW + 5)
    assert known.candidate(NOW) == told(300)
    assert known.candidate(NOW + 5) == told(900)
    known.mute(liars, NOW + 5)
    for each in liars:
        known.leave(each)
        assert each not in known._muted
    assert len(known) == 2


def test_earliest_is_backed_likewise_by_who_is_near_the_head():
    known = claims()
    assert known.earliest(1000) is None
    for place, latest, earliest in ((1, 1000, 5), (2, 1000, 80), (3, 936, 40), (4, 10, 0), (5, 12, 0)):
        say(known, place, latest, earliest)
    assert known.earliest(1000) == 40
    say(known, 6, 1000, 7, trusted=True)
    assert known.earliest(1000) == 7


def test_trusted_peers_are_asked_first_then_one_of_each_group():
    known = claims()
    near = [say(known, place, 1000) for place in (1, 1, 1, 2, 2, 3)]
    trusted = say(known, 9, 1000, trusted=True)
    silent = peer(4)
    known.join(silent)
    far = say(known, 5, 10)
    stranger = say(known, None, 1000, inbound=True)
    fresh = say(known, 6, 1000, inbound=True, joined=NOW - 29)
    asked = known.witnesses(1000, NOW)
    assert asked[0] is trusted
    groups = [each.session.endpoint.host.split(".")[1] for each in asked[1:5]]
    assert sorted(groups) == ["1", "2", "3", "4"]
    assert set(asked) == {*near, trusted, silent}
    assert set(known.witnesses(None, NOW)) == {*near, trusted, silent, far}
    assert known.witnesses(None, NOW + 2, strangers=True)[-1] in (stranger, *near)
    assert set(known.witnesses(None, NOW + 2, strangers=True)) == {
        *near,
        trusted,
        silent,
        far,
        stranger,
        fresh,
    }


def test_the_lot_decides_who_is_asked():
    known = claims()
    for place in range(20):
        say(known, place, 1000)
    assert len({known.witnesses(1000, NOW)[0] for _ in range(60)}) > 5
