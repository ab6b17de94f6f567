"""Whoever listens to the pool hears of what was taken, and of nothing else."""

from __future__ import annotations

from relay.relaying.pool import Refusal
from tests.aids.relaying import fake, small_pool


def test_listener_hears_of_each_transaction_that_is_taken():
    pool, _, _ = small_pool(pool_count=2)
    heard = []
    pool.on_added = heard.append
    first, second, cheap, dear = (fake(n, nonce=n, tip=tip) for n, tip in enumerate((50, 60, 10, 70)))
    for entry in (first, second, dear):
        assert pool.add(entry) is None
    assert pool.add(cheap) is Refusal.UNDERPRICED
    assert pool.add(fake(9, nonce=3, tip=70)) is Refusal.REPLACEMENT_UNDERPRICED
    assert heard == [first, second, dear]
