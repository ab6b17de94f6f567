"""Transfers, judged by eth-account: what it would have signed, to the byte."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.chain.transactions import decode
from relay.localnet.accounts import ACCOUNTS, Transfers, make_accounts, sign_transfer
from relay.primitives.hashing import keccak256
from relay.primitives.keys import GROUP_ORDER, NodeKey
from relay.relaying.options import RelayOptions
from tests.aids.eth_account_oracle import Oracle


@settings(max_examples=40, deadline=None)
@given(
    secret=st.integers(1, GROUP_ORDER - 1),
    chain_id=st.integers(1, 2**60),
    nonce=st.integers(0, 2**63),
    to=st.binary(min_size=20, max_size=20),
    value=st.integers(0, 2**255),
    tip_cap=st.integers(0, 2**64),
)
def test_signature_is_what_eth_account_makes(secret, chain_id, nonce, to, value, tip_cap):
    key = NodeKey(secret.to_bytes(32, "big"))
    raw = sign_transfer(
        key, chain_id=chain_id, nonce=nonce, to=to, value=value, tip_cap=tip_cap, fee_cap=tip_cap + 1
    )
    expected = Oracle.sign_transaction(
        {
            "type": 2,
            "chainId": chain_id,
            "nonce": nonce,
            "to": to,
            "value": value,
            "gas": 21_000,
            "maxPriorityFeePerGas": tip_cap,
            "maxFeePerGas": tip_cap + 1,
        },
        key.secret,
    )
    assert raw == bytes(expected.raw_transaction)
    assert keccak256(raw) == bytes(expected.hash)


def test_accounts_have_the_addresses_of_their_keys():
    rand = random.Random(1).randbytes
    for account in make_accounts(3, rand):
        assert account.address == bytes.fromhex(Oracle.from_key(account.key.secret).address[2:])


def test_transfers_use_every_account_in_turn_and_no_nonce_twice():
    accounts = make_accounts(3, random.Random(2).randbytes)
    transfers = Transfers(accounts, 77)
    seen = []
    for _ in range(7):
        tx_hash, raw = transfers.next()
        tx = decode(raw)
        assert (tx.hash, tx.chain_id, tx.to in {each.address for each in accounts}) == (tx_hash, 77, True)
        seen.append((tx.sender, tx.nonce))
    assert len(set(seen)) == 7
    assert [sender for sender, _ in seen[:3]] == [account.address for account in accounts]
    assert [nonce for _, nonce in seen] == [0, 0, 0, 1, 1, 1, 2]


def test_a_full_pool_is_reached_before_any_sender_s_share():
    options = RelayOptions()
    assert ACCOUNTS * options.per_sender > options.pool_count


@pytest.mark.parametrize("count", [2, 5])
def test_every_payee_is_another_account(count):
    transfers = Transfers(make_accounts(count, random.Random(3).randbytes), 1)
    for _ in range(count):
        tx = decode(transfers.next()[1])
        assert tx.to != tx.sender
