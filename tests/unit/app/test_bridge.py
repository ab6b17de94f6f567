"""The bridge on a virtual clock: what crosses, when, in which order, and what never does."""

from __future__ import annotations

from itertools import combinations

from structlog.testing import capture_logs

from relay.app.bridge import DROPPED, Bridge, BridgeOptions
from relay.app.pool_news import PoolNews
from relay.chain.transactions import wire
from relay.primitives.hashing import keccak256
from relay.relaying.blobs.options import BlobOptions
from tests.aids.blobs import QuickVerifier, blob_transaction
from tests.aids.relaying import CHAIN_ID, GWEI, House, VirtualLoop, raw_tx, seeded

OPTIONS = BridgeOptions()


class Pair:
    """Two relays on one clock; of each one peer speaks and one listens."""

    def __init__(self, options=OPTIONS, seed=b"bridge", make_verifier=lambda: None, peers=2, **relay_options):
        self.loop = VirtualLoop()
        self.one, self.other = (
            House(loop=self.loop, verifier=make_verifier(), **relay_options) for _ in range(2)
        )
        self.mouths, self.ears = {}, {}
        for house in (self.one, self.other):
            sessions = [house.join(name=f"peer {number}") for number in range(peers)]
            self.mouths[house], self.ears[house] = sessions[:1], sessions[1:]
        self.bridge = Bridge(
            (self.one.relay, PoolNews(self.one.relay.pool)),
            (self.other.relay, PoolNews(self.other.relay.pool)),
            self.loop,
            seeded(seed),
            options,
        )
        self.bridge.begin()
        self.there, self.back = self.bridge.lanes

    def bring(self, house, *raws):
        house.push(self.mouths[house][0], *map(wire, raws))
        self.loop.settle()

    def heard(self, house):
        (ear,) = self.ears[house]
        return [*ear.pushed(), *(tx_hash for tx_hash, *_ in ear.announced())]

    def until_crossed(self, seconds=OPTIONS.longest + 30):
        self.loop.advance(seconds)


def transfers(count, first=0):
    return [raw_tx(account=number) for number in range(first, first + count)]


def hashes(raws):
    return [keccak256(raw) for raw in raws]


def test_what_comes_to_one_comes_to_the_other_once_and_not_back():
    pair = Pair()
    for house, twin, first in ((pair.one, pair.other, 0), (pair.other, pair.one, 100)):
        raws = transfers(20, first)
        pair.bring(house, *raws)
        assert sorted(pair.heard(house)) == sorted(hashes(raws))
        assert pair.heard(twin) == []
        pair.until_crossed()
        assert sorted(pair.heard(twin)) == sorted(hashes(raws))
        assert pair.heard(house) == []
    assert (pair.there.passed, pair.back.passed) == (20, 20)
    assert len(pair.there) == len(pair.back) == 0
    assert pair.loop.live_timers  # the relays' own housekeeping
    assert pair.one.relay.pool.by_hash.keys() == pair.other.relay.pool.by_hash.keys()


def test_each_waits_for_a_time_of_its_own_about_as_long_as_the_mean():
    waits = []
    for trial in range(40):
        pair = Pair(seed=b"%d" % trial)
        began = pair.loop.now
        pair.bring(pair.one, *transfers(10))
        arrived = {}
        while len(arrived) < 10:
            pair.loop.advance(0.1)
            arrived.update((each, pair.loop.now - began) for each in pair.heard(pair.other))
        waits += arrived.values()
    mean = sum(waits) / len(waits)
    expected = OPTIONS.mean + OPTIONS.gather
    assert 0.75 * expected < mean < 1.25 * expected
    spread = (sum((wait - mean) ** 2 for wait in waits) / len(waits)) ** 0.5
    assert (
        spread > 0.6 * expected
    )  # of an exponential distribution it is the mean; of a fixed delay it is none
    assert max(waits) <= OPTIONS.longest + 20 * OPTIONS.gather


def test_the_order_of_one_side_says_nothing_of_the_order_of_the_other():
    """Kendall's rank correlation of what came at once: about 0, where the same order is 1."""
    found = []
    for trial in range(20):
        pair = Pair(seed=b"order %d" % trial)
        raws = transfers(20)
        pair.bring(pair.one, *raws)
        pair.until_crossed()
        found.append(rank_correlation(hashes(raws), list(pair.other.relay.pool.by_hash)))
    assert abs(sum(found) / len(found)) < 0.15
    assert max(found) < 0.7


def rank_correlation(one, other):
    place = {tx_hash: number for number, tx_hash in enumerate(other)}
    pairs = [(place[a] < place[b]) * 2 - 1 for a, b in combinations(one, 2)]
    return sum(pairs) / len(pairs)


def test_two_bridges_delay_the_same_differently():
    orders = set()
    for seed in (b"a", b"b", b"c"):
        pair = Pair(seed=seed)
        pair.bring(pair.one, *transfers(12))
        pair.until_crossed()
        orders.add(tuple(pair.other.relay.pool.by_hash))
    assert len(orders) == 3


def test_what_both_have_already_is_not_passed():
    pair = Pair()
    raws = transfers(5)
    pair.bring(pair.one, *raws)
    pair.bring(pair.other, *raws)
    assert (len(pair.there), len(pair.back)) == (5, 0)  # what is there already does not even wait
    pair.until_crossed()
    assert pair.there.passed == pair.back.passed == 0


def test_what_left_the_pool_meanwhile_is_not_passed():
    pair = Pair()
    cheap, dear = raw_tx(account=1, tip=GWEI), raw_tx(account=1, tip=2 * GWEI)
    pair.bring(pair.one, cheap)
    pair.bring(pair.one, dear)
    pair.until_crossed()
    assert list(pair.other.relay.pool.by_hash) == hashes([dear])


def test_what_the_other_side_let_go_of_lately_does_not_come_again():
    pair = Pair()
    (raw,) = transfers(1)
    pair.bring(pair.other, raw)
    pair.other.relay.pool.remove(keccak256(raw))
    pair.bring(pair.one, raw)
    pair.until_crossed()
    assert len(pair.other.relay.pool) == 0


def test_who_announced_it_to_the_other_side_is_not_told_of_it():
    pair = Pair(BridgeOptions(mean=0.001, gather=0.001))  # before it is fetched there
    (raw,) = transfers(1)
    pair.bring(pair.one, raw)
    mouth = pair.mouths[pair.other][0]
    pair.other.announce(mouth, (keccak256(raw), 2, len(raw)))
    pair.until_crossed()
    assert keccak256(raw) in pair.other.relay.pool
    assert pair.heard(pair.other) == hashes([raw])
    assert mouth.announced() == mouth.pushed() == []


def test_a_transaction_of_our_own_users_waits_until_a_peer_has_brought_it_back():
    pair = Pair()
    (raw,) = transfers(1)
    pair.one.relay.submit(raw)
    pair.until_crossed(600)
    assert len(pair.other.relay.pool) == 0
    assert pair.heard(pair.other) == []
    pair.one.announce(pair.ears[pair.one][0], (keccak256(raw), 2, len(raw)))
    pair.until_crossed()
    assert pair.heard(pair.other) == hashes([raw])
    (taken,) = pair.other.relay.pool.by_hash.values()
    (own,) = pair.one.relay.pool.by_hash.values()
    assert (own.local, taken.local, taken.source) == (True, False, 0)
    assert taken.bucket < own.bucket  # it is evicted there as anybody's
    assert keccak256(raw) not in pair.other.relay.own


def test_one_that_comes_back_by_the_other_side_is_not_brought_there_again():
    pair = Pair()
    (raw,) = transfers(1)
    pair.one.relay.submit(raw)
    pair.bring(pair.other, raw)
    pair.until_crossed()
    assert pair.there.passed == pair.back.passed == 0


def test_without_a_peer_that_could_bring_it_back_it_is_said_once_that_it_waits():
    pair = Pair(peers=0)
    with capture_logs() as logs:
        pair.one.relay.submit(transfers(1)[0])
        pair.until_crossed()
    (warning,) = [each for each in logs if each["event"].startswith("a transaction waits")]
    assert "never appears on clearnet first" in warning["event"]
    assert len(pair.there) == 1


def test_what_waits_is_bounded_and_what_is_too_much_is_counted():
    pair = Pair(BridgeOptions(waiting=8, withheld=2))
    pair.bring(pair.one, *transfers(10))
    assert len(pair.there) == 8
    assert pair.other.relay.counters.dropped[DROPPED] == 2
    pair.until_crossed()
    for raw in transfers(3, first=50):
        pair.one.relay.submit(raw)
    assert len(pair.there) == 2


def test_after_its_end_nothing_is_passed():
    pair = Pair()
    pair.bring(pair.one, *transfers(3))
    pair.bridge.stop()
    pair.bring(pair.one, *transfers(3, first=50))
    pair.until_crossed()
    assert len(pair.other.relay.pool) == 0
    assert pair.one.relay.pool.on_added is None


def test_blobs_cross_with_their_transaction_and_are_served_there():
    pair = Pair(make_verifier=QuickVerifier, peers=2)
    raw = blob_transaction(1, 2, chain_id=CHAIN_ID)
    pair.one.relay.submit(raw)
    (own,) = pair.one.relay.pool.by_hash.values()
    pair.one.announce(pair.ears[pair.one][0], (own.hash, 3, own.size))
    pair.until_crossed()
    (taken,) = pair.other.relay.pool.by_hash.values()
    assert (taken.hash, taken.size, taken.lean) == (own.hash, own.size, own.lean)
    pair.other.ask(pair.ears[pair.other][0], 7, [own.hash])
    (answer,) = pair.ears[pair.other][0].take(0x0A)
    assert len(answer) > 2 * 131072
    assert pair.other.relay.blobs.store.held.keys() == {own.hash}
    assert pair.other.relay.counters.blob_held == 1


def test_blobs_stay_where_the_other_side_has_no_room_for_them():
    pair = Pair(make_verifier=QuickVerifier, blobs=BlobOptions(pool_bytes=1_000_000))
    raw = blob_transaction(1, chain_id=CHAIN_ID)
    pair.one.relay.submit(raw)
    (own,) = pair.one.relay.pool.by_hash.values()
    pair.other.relay.blobs.store._limit = 1
    pair.one.announce(pair.ears[pair.one][0], (own.hash, 3, own.size))
    pair.until_crossed()
    assert len(pair.other.relay.pool) == 0
    assert pair.other.relay.counters.blob_bytes == 0
