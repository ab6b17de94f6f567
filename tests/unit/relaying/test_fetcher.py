"""The fetcher: waits for direct copies, asks one announcer at a time, goes on to the next, stays bounded."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from relay.primitives.errors import SubprotocolError
from relay.primitives.hashing import keccak256
from relay.relaying.fetcher import _State
from tests.aids.relaying import House, item, item_hash, raw_tx


def told(account=0, nonce=0, kind=2, off=0):
    raw = raw_tx(account=account, nonce=nonce)
    return (keccak256(raw), kind, len(raw) + off)


def junk(number, kind=2, size=100):
    return (keccak256(b"junk %d" % number), kind, size)


def test_an_announced_hash_is_fetched_after_50_ms_from_its_first_announcer():
    house = House(2)
    first, second = house.sessions
    entry = told(1)
    house.announce(first, entry)
    house.announce(second, entry)
    house.loop.advance(0.035)
    assert first.requests() == []
    house.loop.advance(0.02)
    ((_, hashes),) = first.requests()
    assert hashes == [entry[0]]
    assert second.requests() == []


def test_a_direct_copy_makes_the_fetch_superfluous():
    house = House(2)
    announcer, pusher = house.sessions
    house.announce(announcer, told(1))
    house.loop.advance(0.02)
    house.push(pusher, item(account=1))
    house.loop.advance(1.0)
    assert announcer.sent == []
    assert house.relay.counters.direct_in_wait == 1
    assert house.relay.fetcher.entries == {}


def test_the_wait_follows_how_long_direct_copies_take_within_bounds():
    house = House(2)
    announcer, pusher = house.sessions
    fetcher = house.relay.fetcher
    assert fetcher.wait == pytest.approx(0.05)
    for account in range(60):
        house.announce(announcer, told(account))
        house.loop.advance(0.04)
        house.push(pusher, item(account=account))
        house.loop.settle()
    assert 0.07 < fetcher.wait < 0.085
    for account in range(60, 100):
        house.announce(announcer, told(account))
        house.loop.advance(0.3)
        house.push(pusher, item(account=account))
        house.loop.settle()
    assert fetcher.wait == 0.1


def test_the_wait_grows_when_copies_come_after_the_fetch():
    house = House(2)
    announcer, pusher = house.sessions
    fetcher = house.relay.fetcher
    for account in range(40):
        house.announce(announcer, told(account))
        house.loop.advance(0.12)
        for request_id, _ in announcer.requests():
            house.answer(announcer, request_id, item(account=account))
        house.push(pusher, item(account=account))
        house.loop.settle()
        house.loop.advance(0.1)
    assert fetcher.wait == 0.1
    assert fetcher.fetched == {}
    assert house.relay.counters.direct_in_wait == 0


def test_hashes_keep_one_order_though_the_wait_becomes_shorter():
    house = House(1)
    house.relay.fetcher.wait = 0.1
    house.announce(house.sessions[0], junk(1))
    house.relay.fetcher.wait = 0.05
    house.announce(house.sessions[0], junk(2))
    house.loop.advance(0.11)
    ((_, hashes),) = house.sessions[0].requests()
    assert hashes == [junk(1)[0], junk(2)[0]]


def test_held_hashes_are_marked_and_dropped_ones_are_not_fetched():
    house = House(2)
    source, other = house.sessions
    bad = item(account=5, gas=20_000)
    house.push(source, item(account=1), bad)
    house.loop.settle()
    house.announce(other, told(1), (item_hash(bad), 2, 111))
    house.loop.advance(1.0)
    assert other.requests() == []
    entry = house.relay.pool.by_hash[told(1)[0]]
    assert entry.known & house.bit(other)
    assert house.relay.counters.announced_known == 2


@pytest.mark.parametrize("entry", [junk(1, kind=3), junk(2, kind=5), junk(3, size=128 * 1024 + 1)])
def test_what_is_not_relayed_is_not_fetched(entry):
    house = House(1)
    house.announce(house.sessions[0], entry)
    house.loop.advance(1.0)
    assert house.sessions[0].sent == []
    assert house.relay.counters.announced_refused == 1


def test_a_request_holds_at_most_256_hashes_and_only_one_is_under_way():
    house = House(1)
    (peer,) = house.sessions
    house.announce(peer, *[junk(n) for n in range(300)])
    house.loop.advance(0.2)
    ((request_id, hashes),) = peer.requests()
    assert len(hashes) == 256
    house.loop.advance(1.0)
    assert peer.requests() == []
    house.answer(peer, request_id)
    ((_, rest),) = peer.requests()
    assert rest == [junk(n)[0] for n in range(256, 300)]


def test_a_request_is_full_at_128_kib_of_announced_bytes():
    house = House(1)
    house.announce(house.sessions[0], *[junk(n, size=50_000) for n in range(9)])
    house.loop.advance(0.2)
    ((_, hashes),) = house.sessions[0].requests()
    assert len(hashes) == 3


def test_a_time_out_goes_to_the_next_and_the_silent_one_is_not_asked_again():
    house = House(2)
    silent, other = house.sessions
    house.announce(silent, told(1))
    house.announce(other, told(1))
    house.loop.advance(0.1)
    ((request_id, _),) = silent.requests()
    house.loop.advance(5.0)
    ((_, hashes),) = other.requests()
    assert hashes == [told(1)[0]]
    assert house.relay.counters.fetch_timeouts == 1
    house.announce(silent, told(2))
    house.loop.advance(1.0)
    assert silent.requests() == []
    house.answer(silent, request_id)
    house.loop.settle()
    ((_, hashes),) = silent.requests()
    assert hashes == [told(2)[0]]


def test_a_hash_without_further_announcers_is_forgotten_after_a_time_out():
    house = House(1)
    house.announce(house.sessions[0], told(1))
    house.loop.advance(6.0)
    assert house.relay.fetcher.entries == {}
    assert house.relay.roster.get(house.sessions[0]).announced == {}


def test_an_answer_is_taken_into_the_pool_and_given_on():
    house = House(2)
    source, other = house.sessions
    house.announce(source, told(1), told(2))
    house.loop.advance(0.1)
    ((request_id, _),) = source.requests()
    house.answer(source, request_id, item(account=1), item(account=2))
    house.loop.settle()
    assert other.pushed() == [told(1)[0], told(2)[0]]
    assert source.sent == []
    assert house.relay.fetcher.entries == {}


def test_what_is_skipped_goes_to_another_and_what_was_cut_off_is_asked_again():
    house = House(2)
    first, second = house.sessions
    entries = [told(n) for n in range(4)]
    house.announce(first, *entries)
    house.announce(second, *entries)
    house.loop.advance(0.1)
    ((request_id, _),) = first.requests()
    assert second.requests() == []
    house.answer(first, request_id, item(account=1))
    house.loop.settle()
    ((_, again),) = first.requests()
    ((_, moved),) = second.requests()
    assert moved == [entries[0][0]]
    assert again == [entries[2][0], entries[3][0]]


def test_with_nothing_delivered_a_peer_is_not_asked_again():
    house = House(1)
    house.announce(house.sessions[0], told(1))
    house.loop.advance(0.1)
    ((request_id, _),) = house.sessions[0].requests()
    house.answer(house.sessions[0], request_id)
    house.loop.advance(10.0)
    assert house.sessions[0].requests() == []
    assert house.relay.fetcher.entries == {}


def test_a_hash_pushed_while_it_is_fetched_is_not_asked_of_others():
    house = House(3)
    first, second, pusher = house.sessions
    house.announce(first, told(1))
    house.announce(second, told(1))
    house.loop.advance(0.1)
    ((request_id, _),) = first.requests()
    house.push(pusher, item(account=1))
    house.loop.advance(6.0)
    assert second.requests() == []
    house.answer(first, request_id, item(account=1))
    assert first.ended is None
    assert house.relay.counters.duplicates == 1


def test_an_answer_nobody_asked_for_is_an_offence():
    house = House(1)
    with pytest.raises(SubprotocolError):
        house.answer(house.sessions[0], 1, item(account=1))


def test_wrong_id_second_answer_and_too_many_are_offences():
    house = House(3)
    for peer in house.sessions:
        house.announce(peer, told(1))
    house.announce(house.sessions[1], told(2))
    house.announce(house.sessions[2], told(3))
    house.loop.advance(0.1)
    wrong, twice, many = house.sessions
    with pytest.raises(SubprotocolError):
        house.answer(wrong, wrong.requests()[0][0] + 1)
    request_id = twice.requests()[0][0]
    house.answer(twice, request_id, item(account=2))
    with pytest.raises(SubprotocolError):
        house.answer(twice, request_id, item(account=2))
    with pytest.raises(SubprotocolError):
        house.answer(many, many.requests()[0][0], item(account=3), item(account=4))


def test_an_answer_over_five_minutes_late_is_unsolicited():
    house = House(1)
    house.announce(house.sessions[0], told(1))
    house.loop.advance(0.1)
    ((request_id, _),) = house.sessions[0].requests()
    house.loop.advance(301.0)
    with pytest.raises(SubprotocolError):
        house.answer(house.sessions[0], request_id)


def test_announcers_of_a_wrong_type_or_size_are_disconnected():
    house = House(5)
    source, honest, near, liar, dreamer = house.sessions
    house.announce(honest, told(1))
    house.announce(near, told(1, off=8))
    house.announce(liar, told(1, off=9))
    house.announce(dreamer, told(1, kind=1))
    house.push(source, item(account=1))
    house.loop.settle()
    assert [session.ended and session.ended[0] for session in house.sessions] == [
        None,
        None,
        None,
        0x10,
        0x10,
    ]
    assert house.relay.counters.offences["announcement"] == 2


def test_metadata_of_refused_transactions_is_checked_as_well():
    house = House(2)
    source, liar = house.sessions
    bad = raw_tx(account=5, gas=20_000)
    house.announce(liar, (keccak256(bad), 0, len(bad)))
    house.push(source, item(account=5, gas=20_000))
    house.loop.settle()
    assert liar.ended is not None
    assert source.ended is None


def test_the_first_word_of_a_peer_counts():
    house = House(2)
    source, peer = house.sessions
    house.announce(peer, told(1, off=100))
    house.announce(peer, told(1))
    house.push(source, item(account=1))
    assert peer.ended is not None


def test_a_leaving_peer_hands_its_work_over():
    house = House(2)
    first, second = house.sessions
    house.announce(first, told(1), told(2))
    house.announce(second, told(1))
    house.loop.advance(0.1)
    assert len(first.requests()) == 1
    house.relay.left(first, 8)
    house.loop.settle()
    ((_, hashes),) = second.requests()
    assert hashes == [told(1)[0]]
    assert set(house.relay.fetcher.entries) == {told(1)[0]}


def test_a_leaving_peer_takes_what_only_it_announced():
    house = House(2)
    house.announce(house.sessions[0], told(1), told(2))
    house.announce(house.sessions[1], told(2))
    house.relay.left(house.sessions[0], 8)
    house.loop.advance(0.2)
    ((_, hashes),) = house.sessions[1].requests()
    assert hashes == [told(2)[0]]


def test_a_late_announcer_of_what_could_not_be_asked_for_is_asked_at_once():
    house = House(2)
    busy, late = house.sessions
    house.announce(busy, *[junk(n) for n in range(256)])
    house.loop.advance(0.1)
    house.announce(busy, told(1))
    house.loop.advance(0.2)
    house.announce(late, told(1))
    house.loop.settle()
    ((_, hashes),) = late.requests()
    assert hashes == [told(1)[0]]


def test_announcers_per_hash_are_bounded():
    house = House(20)
    for session in house.sessions:
        house.announce(session, told(1))
    assert len(house.relay.fetcher.entries[told(1)[0]].announcers) == 16


def test_one_timer_serves_all_hashes():
    house = House(3)
    before = len(house.loop.live_timers)
    for n in range(500):
        house.announce(house.sessions[n % 3], junk(n))
    assert len(house.loop.live_timers) == before + 1


def test_an_empty_announcement_is_tolerated():
    house = House(1)
    house.announce(house.sessions[0])
    assert house.sessions[0].ended is None


def test_fields_of_unequal_length_are_an_offence():
    from relay.primitives import rlp

    house = House(1)
    with pytest.raises(SubprotocolError):
        house.relay.message(house.sessions[0], 0x08, rlp.encode([b"\x02\x02", [5], [bytes(32)]]))


def test_hostile_announcers_stay_within_bounds():
    house = House(25)
    fetcher = house.relay.fetcher
    for n in range(0, 100_000, 1000):
        house.announce(house.sessions[n // 1000 % 25], *[junk(n + i) for i in range(1000)])
    options = house.relay.options
    assert len(fetcher.entries) <= options.announced_total + 25 * options.announced_floor
    peers = list(house.relay.roster)
    assert all(len(peer.announced) <= options.announced_per_peer for peer in peers)
    for _ in range(100):
        house.loop.advance(1.0)
    assert all(len(peer.ready) <= 2 * options.announced_per_peer for peer in peers)
    assert len(fetcher._waiting) == len(fetcher._in_flight) == 0


def test_a_silent_peers_queue_of_things_long_delivered_is_tidied():
    house = House(2, announced_per_peer=8)
    silent, pusher = house.sessions
    house.announce(silent, junk(1))
    house.loop.advance(0.1)
    for account in range(60):
        house.announce(silent, told(account))
        house.loop.advance(0.1)
        house.push(pusher, item(account=account))
        house.loop.settle()
    assert len(house.relay.roster.get(silent).ready) <= 17


def test_each_peer_keeps_room_when_others_fill_the_table():
    house = House(2, announced_total=50, announced_floor=10)
    greedy, honest = house.sessions
    house.announce(greedy, *[junk(n) for n in range(100)])
    house.announce(honest, *[junk(1000 + n) for n in range(20)])
    assert len(house.relay.roster.get(greedy).announced) == 50
    assert len(house.relay.roster.get(honest).announced) == 10


class FetcherMachine(RuleBasedStateMachine):
    """Random announcements, answers, pushes and departures: each hash is asked of one peer at a time."""

    def __init__(self):
        super().__init__()
        self.house = House(4)
        self.asked = {}

    def _collect(self):
        self.house.loop.settle()
        for session in self.house.sessions:
            for request_id, hashes in session.requests():
                assert session not in self.asked
                sent_at = self.house.relay.roster.get(session).request.sent_at
                self.asked[session] = (request_id, hashes, sent_at)

    @rule(who=st.integers(0, 3), accounts=st.sets(st.integers(0, 15), min_size=1, max_size=6))
    def announce(self, who, accounts):
        self.house.announce(self.house.sessions[who], *[told(a) for a in sorted(accounts)])
        self._collect()

    @rule(seconds=st.sampled_from([0.01, 0.06, 0.5, 3.0, 5.1]))
    def wait(self, seconds):
        self.house.loop.advance(seconds)
        self._collect()

    @rule(who=st.integers(0, 3), keep=st.integers(0, 255))
    def answer(self, who, keep):
        session = self.house.sessions[who]
        request = self.asked.pop(session, None)
        if request is None:
            return
        by_hash = {told(a)[0]: item(account=a) for a in range(16)}
        items = [by_hash[h] for n, h in enumerate(request[1]) if keep >> (n % 8) & 1]
        self.house.answer(session, request[0], *items)
        self._collect()

    @rule(who=st.integers(0, 3), account=st.integers(0, 15))
    def push(self, who, account):
        self.house.push(self.house.sessions[who], item(account=account))
        self._collect()

    @rule(who=st.integers(0, 3))
    def leave(self, who):
        session = self.house.sessions[who]
        self.asked.pop(session, None)
        self.house.relay.left(session, 8)
        self.house.sessions[who] = self.house.join()
        self._collect()

    @invariant()
    def nobody_is_punished(self):
        assert not any(session.ended for session in self.house.sessions)

    @invariant()
    def each_hash_is_asked_of_one_peer_at_a_time(self):
        now = self.house.loop.now
        fresh = [hashes for _, hashes, at in self.asked.values() if now - at < 4.9]
        flat = [
            tx_hash for hashes in fresh for tx_hash in hashes if tx_hash in self.house.relay.fetcher.entries
        ]
        assert len(flat) == len(set(flat))

    @invariant()
    def tables_agree(self):
        fetcher, roster = self.house.relay.fetcher, self.house.relay.roster
        for tx_hash, entry in fetcher.entries.items():
            assert entry.hash == tx_hash
            assert entry.state is not _State.DONE
            assert entry.announcers
            assert tx_hash not in self.house.relay.pool
            assert all(tx_hash in peer.announced and not peer.gone for peer in entry.announcers)
        for peer in roster:
            assert all(peer in fetcher.entries[tx_hash].announcers for tx_hash in peer.announced)

    @invariant()
    def nothing_ready_is_left_lying(self):
        for entry in self.house.relay.fetcher.entries.values():
            if entry.state is _State.READY:
                assert all(peer.request is not None for peer in entry.announcers)


FetcherMachine.TestCase.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
TestFetcherMachine = FetcherMachine.TestCase
