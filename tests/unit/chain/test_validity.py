"""Stateless validity by fork, in geth's words."""

from dataclasses import replace
from typing import Any

import pytest

from relay.chain import validity
from relay.chain.networks import ChainConfig
from relay.chain.transactions import decode
from relay.chain.validity import (
    AMSTERDAM,
    CANCUN,
    OSAKA,
    PARIS,
    PRAGUE,
    SHANGHAI,
    ForbiddenTransaction,
    InvalidTransaction,
    Rules,
    check,
    check_broadcast,
    check_pooled,
    floor_gas,
    intrinsic_gas,
    rules_at,
)
from relay.primitives.errors import PeerError
from relay.primitives.keys import NodeKey
from tests.aids.transactions import KEYS_OF_LIST, build, name_of, pooled, raw_of
from tests.aids.vectors import load

ROWS = (PARIS, SHANGHAI, CANCUN, PRAGUE, OSAKA, AMSTERDAM)
CASES = load("transactions/decodable.json")["cases"]


def on_mainnet(rules: Rules) -> Rules:
    return replace(rules, chain_id=1)


def refusal_of(raw: bytes, rules: Rules, *, local: bool = False) -> InvalidTransaction | None:
    try:
        check(decode(raw), on_mainnet(rules), local=local)
    except InvalidTransaction as refusal:
        return refusal
    return None


def verdict(raw: bytes, rules: Rules, *, local: bool = False) -> str:
    refusal = refusal_of(raw, rules, local=local)
    return refusal.message if refusal else ""


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_every_fork_says_what_geth_says(case: dict[str, Any]) -> None:
    expected = ""
    for rules in ROWS:
        expected = case["pool"].get(rules.fork, expected)
        assert verdict(raw_of(case), rules) == expected, rules.fork


def test_refusal_carries_a_code_and_a_label() -> None:
    refusal = refusal_of(build(2, gas=20000), OSAKA)
    assert refusal is not None
    assert (refusal.code, refusal.why, str(refusal)) == (-32000, "gas", refusal.message)


def test_legacy_without_chain_id_is_gossiped_but_not_taken_by_rpc() -> None:
    raw = build(0, protect=None)
    assert verdict(raw, OSAKA) == ""
    assert verdict(raw, OSAKA, local=True) == "only replay-protected (EIP-155) transactions allowed over RPC"
    assert verdict(build(0), OSAKA, local=True) == ""


def test_wrong_chain_id_is_named() -> None:
    said = "invalid sender: invalid chain id for signer: have 5 want 1"
    assert verdict(build(2, chain_id=5), OSAKA) == said
    assert verdict(build(0, protect=5), OSAKA) == said


def test_minimum_tip_is_a_rule_of_its_own() -> None:
    raw = build(2, tip=0)
    assert verdict(raw, OSAKA).startswith(
        "transaction gas price below minimum: gas tip cap 0, minimum needed 1"
    )
    assert verdict(raw, replace(OSAKA, min_tip=0)) == ""


def test_check_leaves_the_sender_found() -> None:
    tx = decode(build(2))
    check(tx, on_mainnet(OSAKA))
    assert tx._signer is not None


def test_self_transfer_is_cheaper_from_amsterdam_on() -> None:
    key = NodeKey(b"\x77" * 32)
    own = decode(build(2, key=key)).sender
    assert verdict(build(2, key=key, to=own, gas=12000), AMSTERDAM) == ""
    assert "minimum needed 21000" in verdict(build(2, key=key, gas=12000), AMSTERDAM)
    assert "minimum needed 15000" in verdict(build(2, key=key, value=0, gas=12000), AMSTERDAM)


def test_gas_of_a_transaction_by_hand() -> None:
    tx = decode(build(2, data=b"\0\0\1", access_list=KEYS_OF_LIST))
    assert intrinsic_gas(tx, PRAGUE) == 21000 + 4 + 4 + 16 + 2 * 2400 + 2 * 1900
    assert floor_gas(tx, PRAGUE) == 21000 + 10 * (1 + 1 + 4)
    assert floor_gas(tx, CANCUN) == 0
    assert intrinsic_gas(tx, AMSTERDAM) == 21000 + 24 + 2 * (2900 + 1280) + 2 * (2000 + 2048)
    assert floor_gas(tx, AMSTERDAM) == 21000 + 16 * (12 + 2 * 80 + 2 * 128)


def test_blobs_that_do_not_match_their_commitments_are_told() -> None:
    assert verdict(pooled(blobs=2, count=1), OSAKA) == "invalid number of 2 blobs compared to 1 commitments"
    assert verdict(pooled(blobs=1, count=1), OSAKA) == ""
    assert verdict(pooled(count=0), OSAKA) == "blobless blob transaction"


def test_broadcast_of_a_blob_transaction_is_the_peers_fault() -> None:
    check_broadcast(decode(build(2)))
    with pytest.raises(ForbiddenTransaction, match="disallowed broadcast") as fault:
        check_broadcast(decode(pooled()))
    assert isinstance(fault.value, PeerError)
    assert fault.value.reason == 0x10


def test_pooled_blob_transaction_must_come_in_the_form_of_the_version() -> None:
    check_pooled(decode(build(2)), 71)
    check_pooled(decode(pooled(blobs=1)), 71)
    check_pooled(decode(pooled()), 72)


@pytest.mark.parametrize(
    ("raw", "version", "why"),
    [
        (build(3), 69, "sidecar-less"),
        (pooled(count=2, blob_hashes=[bytes(32)]), 69, "invalid number of 2 blob commitments"),
        (pooled(blobs=1, blob_hashes=[bytes(32)]), 69, "blob 0: computed hash 0x01"),
        (pooled(blobs=1), 72, "payload on eth72"),
        (pooled(), 71, "incorrect number of blobs"),
    ],
)
def test_pooled_blob_transaction_in_another_form_is_the_peers_fault(
    raw: bytes, version: int, why: str
) -> None:
    with pytest.raises(ForbiddenTransaction, match=why):
        check_pooled(decode(raw), version)


def config(**times: int) -> ChainConfig:
    return ChainConfig(
        name="test",
        network_id=7,
        chain_id=7,
        genesis_hash=bytes(32),
        genesis_time=100,
        block_forks=(),
        time_forks=tuple(times.items()),
        bootnodes_v4=(),
        bootnodes_v5=(),
        dns_tree="",
    )


def test_rules_follow_the_schedule() -> None:
    chain = config(shanghai=0, cancun=100, prague=200, osaka=300, bpo1=350, amsterdam=400)
    seen = [
        (rules.fork, rules.expires)
        for rules in (rules_at(chain, now) for now in (99, 100, 299.9, 300, 350, 400))
    ]
    assert seen == [
        ("shanghai", 100),
        ("cancun", 200),
        ("prague", 300),
        ("osaka", 350),
        ("osaka", 400),
        ("amsterdam", None),
    ]
    assert rules_at(chain, 400) == replace(AMSTERDAM, chain_id=7)


def test_chain_without_forks_has_the_oldest_rules() -> None:
    assert rules_at(config(), 10**10) == replace(PARIS, chain_id=7)


def test_forks_of_the_table_are_those_of_the_configuration() -> None:
    from relay.chain.networks import TIME_FORKS

    assert [row.fork for row in validity._ROWS] == [
        name for name in TIME_FORKS if name in {r.fork for r in ROWS}
    ]
