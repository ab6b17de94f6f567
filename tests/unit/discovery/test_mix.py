"""The mix of candidates: fair, without doubles, only what may be dialed."""

import pytest

from relay.app.networks import load_network
from relay.chain.forkid import ForkFilter, fork_id
from relay.discovery.mix import CandidateMix, MixOptions, dialable_in, on_fork
from relay.primitives.enr import build_record
from relay.primitives.forkid import ForkId
from relay.primitives.keys import NodeKey
from relay.primitives.node import Node
from relay.primitives.onion import OnionKey
from relay.transports.policy import Mode

ONION = OnionKey.from_seed(bytes(range(32))).address
OWN = NodeKey(b"\x77" * 32)
NOW_UNIX = 1_800_000_000.0


def node(number: int, seq: int = 1, **entries) -> Node:
    key = NodeKey((number + 1).to_bytes(32, "big"))
    return Node.from_record(build_record(key, seq, **({"ip": "8.8.4.4", "tcp": 30303} | entries)))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def mix_of(clock, *filters, **options) -> CandidateMix:
    return CandidateMix(filters, own_key=OWN.public_key, now=clock, options=MixOptions(**options))


def test_no_source_starves_another(clock):
    mix = mix_of(clock)
    for number in range(100):
        mix.feed("v5").offer(node(number))
    for number in range(100, 103):
        mix.feed("dns").offer(node(number))
    mix.feed("v4").offer(node(200))
    taken = mix.take(7)
    assert [mix.why(each.public_key) for each in taken] == ["v5", "dns", "v4", "v5", "dns", "v5", "dns"]
    assert [mix.why(each.public_key) for each in mix.take(2)] == ["v5", "v5"]


def test_turns_go_on_where_they_ended(clock):
    mix = mix_of(clock)
    for number in range(10):
        mix.feed("a").offer(node(number))
        mix.feed("b").offer(node(100 + number))
    names = [mix.why(mix.take(1)[0].public_key) for _ in range(6)]
    assert names == ["a", "b", "a", "b", "a", "b"]


def test_each_node_waits_once_whoever_finds_it(clock):
    mix = mix_of(clock)
    assert mix.feed("v4").offer(node(1))
    assert not mix.feed("dns").offer(node(1))
    assert mix.feed("dns").refused["already waiting"] == 1
    assert len(mix.take(10)) == 1


def test_newer_record_takes_the_place_of_the_one_that_waits(clock):
    mix = mix_of(clock)
    mix.feed("v4").offer(node(1), "lookup")
    mix.feed("dns").offer(node(1, seq=2))
    mix.feed("v5").offer(node(1, seq=1))
    mix.feed("v5").offer(Node(node(1).public_key, ()))
    (taken,) = mix.take(10)
    assert taken.record.seq == 2
    assert mix.why(taken.public_key) == "v4: lookup"


def test_node_is_not_handed_out_twice_in_a_while(clock):
    mix = mix_of(clock)
    feed = mix.feed("v4")
    feed.offer(node(1))
    assert mix.take(1)
    assert not feed.offer(node(1))
    assert feed.refused["handed out lately"] == 1
    clock.now = 301.0
    assert feed.offer(node(1))


def test_ourselves_are_no_candidate(clock):
    mix = mix_of(clock)
    assert not mix.feed("v4").offer(Node(OWN.public_key, node(1).endpoints))


def test_feeds_are_bounded_and_the_newest_stay(clock):
    mix = mix_of(clock, per_feed=4)
    feed = mix.feed("v4")
    for number in range(10):
        assert feed.offer(node(number))
    assert feed.refused["pushed out by newer ones"] == 6
    assert [each.public_key for each in mix.take(10)] == [node(number).public_key for number in range(6, 10)]
    assert feed.taken == 4


def test_memory_of_what_was_handed_out_is_bounded(clock):
    mix = mix_of(clock, max_recent=2)
    for number in range(5):
        mix.feed("v4").offer(node(number))
    mix.take(5)
    assert [mix.why(node(number).public_key) for number in range(5)] == [None, None, None, "v4", "v4"]


def test_source_hears_when_more_is_wanted(clock):
    mix = mix_of(clock, hungry=2)
    feed = mix.feed("v4")
    assert feed.hungry
    feed.offer(node(1))
    feed.offer(node(2))
    assert not feed.hungry
    mix.take(1)
    assert feed.hungry
    assert len(feed) == len(mix) == 1
    assert mix.feeds == (feed,)


def test_scheduler_is_woken_by_the_first_candidate_only(clock):
    woken = []
    mix = CandidateMix([], own_key=OWN.public_key, now=clock, wake=lambda: woken.append(1))
    mix.feed("v4").offer(node(1))
    mix.feed("dns").offer(node(2))
    assert len(woken) == 1
    mix.take(2)
    mix.feed("dns").offer(node(3))
    assert len(woken) == 2


def test_empty_mix_gives_nothing(clock):
    mix = mix_of(clock)
    assert list(mix.take(5)) == []
    mix.feed("v4").offer(node(1))
    assert list(mix.take(0)) == []


def test_other_chains_are_dropped_at_the_door(clock):
    config = load_network("mainnet")
    ours = fork_id(config, None, NOW_UNIX)
    mix = mix_of(clock, on_fork(ForkFilter(config), lambda: NOW_UNIX))
    feed = mix.feed("v4")
    assert feed.offer(node(1, fork_id=ours))
    assert not feed.offer(node(2, fork_id=ForkId(b"\x01\x02\x03\x04", 0)))
    assert not feed.offer(node(3))
    assert not feed.offer(Node(node(4).public_key, node(4).endpoints))
    assert feed.refused == {"other chain or fork": 1, "no fork id": 2}
    lenient = mix_of(clock, on_fork(ForkFilter(config), lambda: NOW_UNIX, required=False))
    assert lenient.feed("dht").offer(node(3))
    assert not lenient.feed("dht").offer(node(2, fork_id=ForkId(b"\x01\x02\x03\x04", 0)))


@pytest.mark.parametrize(
    ("mode", "ip", "onion"),
    [(Mode.NO_TOR, True, False), (Mode.DEFAULT, True, True), (Mode.ONLY_ONION, False, True)],
)
def test_mode_decides_what_is_a_candidate(clock, mode, ip, onion):
    feed = mix_of(clock, dialable_in(mode)).feed("v5")
    assert feed.offer(node(1)) is ip
    with_onion = build_record(NodeKey(b"\x05" * 32), 1, onion3=ONION, tcp=30303)
    assert feed.offer(Node.from_record(with_onion)) is onion
    assert not feed.offer(node(2, ip="192.168.1.1"))
    assert mix_of(clock, dialable_in(mode, allow_private=True)).feed("v5").offer(node(2, ip="10.0.0.1")) is ip
