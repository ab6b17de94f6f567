"""What another pool takes of a transaction that is held here."""

from __future__ import annotations

import pytest

from relay.chain.transactions import decode, wire
from relay.relaying.pool import PooledTx
from tests.aids.relaying import GWEI, raw_tx, small_pool


@pytest.mark.parametrize("tip", [0, 1, 7, 8, GWEI, 2**70])
def test_it_is_as_anybody_s_and_the_one_here_is_as_it_was(tip):
    raw = raw_tx(tip=tip)
    held = PooledTx(decode(raw), wire(raw), known=6, arrived=1.0, local=True)
    held.source = 2
    taken = held.as_a_stranger_s(1, 9.0)
    plain = PooledTx(decode(raw), wire(raw))
    assert (taken.known, taken.arrived, taken.source, taken.local) == (1, 9.0, 0, False)
    assert taken.bucket == plain.bucket
    assert all(
        getattr(taken, name) == getattr(held, name)
        for name in ("hash", "wire", "type", "size", "lean", "signer", "nonce", "tip_cap", "fee_cap")
    )
    assert (held.known, held.arrived, held.source, held.local) == (6, 1.0, 2, True)


def test_what_was_let_go_of_is_remembered_for_a_while():
    pool, *_ = small_pool()
    raw = raw_tx()
    held = PooledTx(decode(raw), wire(raw))
    assert pool.add(held) is None
    assert not pool.was_let_go(held.hash)
    pool.remove(held.hash)
    assert pool.was_let_go(held.hash)
