"""The pool: bounds, replacement, eviction, expiry, and that its tables never disagree."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from relay.relaying.pool import Refusal
from tests.aids.relaying import GWEI, fake, pooled, small_pool, tx


def test_pool_takes_fields_and_size_from_the_bytes_held():
    entry = pooled(account=3, nonce=7, tip=5, fee=9, kind=2)
    decoded = tx(account=3, nonce=7, tip=5, fee=9, kind=2)
    assert (entry.hash, entry.type, entry.size) == (decoded.hash, 2, len(decoded.raw))
    assert (entry.nonce, entry.tip_cap, entry.fee_cap) == (7, 5, 9)
    assert entry.sender == decoded.sender


def test_replacement_needs_a_tenth_more_of_both_caps():
    pool, counters, recent = small_pool()
    first = fake(1, tip=100, fee=1000)
    assert pool.add(first) is None
    for number, tip, fee in ((2, 109, 2000), (3, 200, 1099), (4, 100, 1000)):
        assert pool.add(fake(number, tip=tip, fee=fee)) is Refusal.REPLACEMENT_UNDERPRICED
    better = fake(5, tip=110, fee=1100)
    assert pool.add(better) is None
    assert list(pool.by_hash) == [better.hash]
    assert first.hash in recent
    assert counters.replaced == 1


def test_replacement_of_a_tiny_price_still_has_to_rise():
    pool, _, _ = small_pool()
    assert pool.add(fake(1, tip=1, fee=1)) is None
    assert pool.add(fake(2, tip=1, fee=1)) is Refusal.REPLACEMENT_UNDERPRICED
    assert pool.add(fake(3, tip=2, fee=2)) is None


def test_blob_replacement_has_to_double():
    pool, _, _ = small_pool()
    assert pool.add(fake(1, tip=100, fee=100, kind=3)) is None
    assert pool.add(fake(2, tip=199, fee=199, kind=3)) is Refusal.REPLACEMENT_UNDERPRICED
    assert pool.add(fake(3, tip=200, fee=200, kind=3)) is None


def test_a_sender_gets_its_share_of_a_crowded_pool_and_no_more():
    pool, _, _ = small_pool(per_sender=3, crowded=0)
    for nonce in range(3):
        assert pool.add(fake(nonce, nonce=nonce)) is None
    assert pool.add(fake(9, nonce=9)) is Refusal.ACCOUNT_LIMIT
    assert pool.add(fake(10, nonce=9, signer=b"t" * 64)) is None
    assert pool.senders == 2


def test_a_sender_may_have_more_than_its_share_while_there_is_room():
    pool, _, _ = small_pool(per_sender=3, crowded=5)
    for nonce in range(5):
        assert pool.add(fake(nonce, nonce=nonce)) is None
    assert pool.add(fake(9, nonce=9)) is Refusal.ACCOUNT_LIMIT


def test_full_pool_gives_up_the_cheapest_first():
    pool, counters, recent = small_pool(pool_count=3)
    entries = [fake(n, nonce=n, tip=tip) for n, tip in enumerate((50, 10, 90))]
    for entry in entries:
        pool.add(entry)
    assert pool.add(fake(4, nonce=4, tip=40)) is None
    assert entries[1].hash not in pool
    assert entries[1].hash in recent
    assert counters.evicted == 1
    assert pool.add(fake(5, nonce=5, tip=5)) is Refusal.UNDERPRICED
    assert len(pool) == 3


def test_full_pool_gives_up_the_oldest_of_equal_price():
    pool, _, _ = small_pool(pool_count=2)
    entries = [fake(n, nonce=n) for n in range(3)]
    for entry in entries:
        assert pool.add(entry) is None
    assert list(pool.by_hash) == [entries[1].hash, entries[2].hash]


def test_effective_price_is_the_lower_of_tip_and_fee_cap():
    pool, _, _ = small_pool(pool_count=1)
    pool.add(fake(1, tip=1000, fee=10))
    assert pool.add(fake(2, nonce=1, tip=5, fee=10**6)) is Refusal.UNDERPRICED


def test_bytes_bound_holds_and_a_large_one_may_evict_many():
    pool, _, _ = small_pool(pool_bytes=1000)
    for n in range(9):
        pool.add(fake(n, nonce=n, wire_size=110, tip=10))
    assert pool.bytes == 990
    assert pool.add(fake(99, nonce=99, wire_size=254, tip=1000)) is None
    assert pool.bytes <= 1000
    assert pool.bytes == sum(len(entry.wire) for entry in pool.by_hash.values())


def test_local_transactions_are_evicted_last():
    pool, _, _ = small_pool(pool_count=2)
    local = fake(1, nonce=1, tip=1, local=True)
    pool.add(local)
    for n in range(2, 6):
        assert pool.add(fake(n, nonce=n, tip=GWEI)) is None
    assert local.hash in pool
    assert pool.add(fake(7, nonce=7, local=True)) is None
    assert pool.add(fake(8, nonce=8, tip=GWEI * 100)) is Refusal.UNDERPRICED
    assert pool.add(fake(9, nonce=9, local=True)) is None
    assert local.hash not in pool


def test_expiry_drops_the_old_and_keeps_local_ones():
    pool, counters, recent = small_pool(lifetime=100.0, local_lifetime=1000.0)
    old, local, young = (
        fake(1, nonce=1, arrived=0.0),
        fake(2, nonce=2, arrived=0.0, local=True),
        fake(3, nonce=3, arrived=50.0),
    )
    for entry in (old, local, young):
        pool.add(entry)
    assert pool.expire(99.0) == 0
    assert pool.expire(100.0) == 1
    assert set(pool.by_hash) == {local.hash, young.hash}
    assert old.hash in recent
    assert pool.expire(200.0) == 1
    assert pool.expire(1000.0) == 1
    assert len(pool) == 0
    assert pool.bytes == 0
    assert counters.expired == 3


def test_expiry_works_in_bounded_steps():
    pool, _, _ = small_pool(lifetime=1.0)
    for n in range(10):
        pool.add(fake(n, nonce=n))
    assert pool.expire(5.0, limit=4) == 4
    assert len(pool) == 6


def test_views_list_newest_first_and_senders_by_nonce():
    pool, _, _ = small_pool()
    entries = [pooled(account=1, nonce=n) for n in (2, 0, 1)]
    for entry in entries:
        pool.add(entry)
    assert [entry.nonce for entry in pool.newest(2)] == [1, 0]
    assert [entry.nonce for entry in pool.by_sender()[entries[0].sender]] == [0, 1, 2]


@pytest.mark.parametrize("price", [0, 1, 7, 8, 9, 15, 16, 17, 10**9, 2**256 - 1])
def test_price_classes_are_monotone_and_an_eighth_wide(price):
    here = fake(1, tip=price).bucket
    assert fake(1, tip=price + 1).bucket >= here
    if price >= 8:
        assert fake(1, tip=price * 9 // 8 + 1).bucket > here
    assert here < fake(1, tip=price, local=True).bucket


class PoolMachine(RuleBasedStateMachine):
    """Random histories; a plain model knows what must be there."""

    def __init__(self):
        super().__init__()
        self.pool, self.counters, self.recent = small_pool(
            pool_count=12, pool_bytes=2000, per_sender=4, crowded=0, lifetime=50.0, local_lifetime=90.0
        )
        self.now = 0.0
        self.number = 0
        self.added = self.refused = 0

    @rule(
        signer=st.integers(0, 4),
        nonce=st.integers(0, 5),
        tip=st.integers(0, 3000),
        fee=st.integers(0, 3000),
        size=st.integers(60, 254),
        local=st.booleans(),
    )
    def add(self, signer, nonce, tip, fee, size, local):
        self.number += 1
        entry = fake(
            self.number,
            signer=bytes((signer,)) * 64,
            nonce=nonce,
            tip=tip,
            fee=fee,
            wire_size=size,
            local=local,
            arrived=self.now,
        )
        before = dict(self.pool.by_hash)
        refusal = self.pool.add(entry)
        if refusal is None:
            self.added += 1
            assert entry.hash in self.pool
        else:
            self.refused += 1
            assert entry.hash not in self.pool
            if refusal is not Refusal.UNDERPRICED:
                assert self.pool.by_hash == before
        for gone in before.keys() - self.pool.by_hash.keys():
            assert gone in self.recent

    @rule(seconds=st.floats(0.0, 60.0))
    def wait(self, seconds):
        self.now += seconds
        self.pool.expire(self.now)

    @precondition(lambda self: len(self.pool) > 0)
    @rule()
    def nothing_held_is_overdue_after_expiry(self):
        self.pool.expire(self.now)
        for entry in self.pool.by_hash.values():
            # A local one is looked at again after those that came behind it.
            assert self.now - entry.arrived < (90.0 + 50.0 if entry.local else 50.0)

    @invariant()
    def bounds_hold(self):
        assert len(self.pool) <= 12
        assert self.pool.bytes <= 2000
        assert self.pool.bytes == sum(len(entry.wire) for entry in self.pool.by_hash.values())

    @invariant()
    def tables_agree(self):
        by_slot = {}
        for entry in self.pool.by_hash.values():
            assert by_slot.setdefault((entry.signer, entry.nonce), entry) is entry
        slots = {
            (signer, nonce): entry
            for signer, nonces in self.pool._senders.items()
            for nonce, entry in nonces.items()
        }
        assert slots == by_slot
        assert all(0 < len(nonces) <= 4 for nonces in self.pool._senders.values())
        buckets = {h: entry for bucket in self.pool._buckets.values() for h, entry in bucket.items()}
        assert buckets == self.pool.by_hash
        assert all(self.pool._buckets.values())
        assert not self.pool._buckets or self.pool._floor == min(self.pool._buckets)

    @invariant()
    def counters_add_up(self):
        counters = self.counters
        left = counters.evicted + counters.replaced + counters.expired
        assert len(self.pool) == self.added - left


PoolMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
TestPoolMachine = PoolMachine.TestCase
