"""EthRelay: Status, dispatch, submissions, views, housekeeping."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.chain.forkid import fork_id
from relay.chain.transactions import InvalidTransaction, canonical
from relay.primitives.errors import SubprotocolError, UselessPeer
from relay.primitives.forkid import ForkId
from relay.protocols.eth.versions import BY_VERSION
from tests.aids.relaying import (
    CONFIG,
    GENESIS,
    GWEI,
    UNIX_NOW,
    House,
    RecordingSession,
    blob_tx,
    item,
    item_hash,
    keccak256,
    pooled,
    raw_tx,
)


@pytest.mark.parametrize("version", sorted(BY_VERSION))
def test_our_status_is_one_that_we_would_accept(version):
    house = House()
    status = house.relay.status(version)
    assert status.fork_id == fork_id(CONFIG, None, UNIX_NOW)
    decoded = type(status).decode(status.encode(version), version)
    house.relay.check_status(RecordingSession(version), decoded)


def test_status_follows_the_fork_schedule():
    house = House()
    before = house.relay.status(69).fork_id
    house.unix = 2_000_000_000.0
    assert house.relay.status(69).fork_id != before


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"network_id": 1}, UselessPeer),
        ({"genesis": b"\x12" * 32}, UselessPeer),
        ({"fork_id": ForkId(b"abcd", 0)}, UselessPeer),
        ({"version": 70}, SubprotocolError),
        ({"earliest": 2, "latest": 1}, SubprotocolError),
        ({"latest_hash": bytes(32)}, SubprotocolError),
    ],
)
def test_a_foreign_status_is_refused(change, error):
    house = House()
    with pytest.raises(error):
        house.relay.check_status(RecordingSession(69), replace(house.relay.status(69), **change))


@pytest.mark.parametrize("code", [0x00, 0x01, 0x07, 0x0B, 0x15, 0x40])
def test_unexpected_messages_end_the_peer(code):
    house = House(1)
    with pytest.raises(SubprotocolError):
        house.relay.message(house.sessions[0], code, b"\xc0")
    assert house.relay.counters.offences["unexpected"] == 1


def test_messages_and_departures_of_strangers_are_ignored():
    house = House(1)
    stranger = RecordingSession()
    house.push(stranger, item())
    house.relay.left(stranger, 8)
    assert len(house.relay.pool) == 0


def test_submitted_transactions_go_out_at_once_and_are_local():
    house = House(5)
    tx_hash = house.relay.submit(raw_tx(account=1))
    assert tx_hash == keccak256(raw_tx(account=1))
    entry = house.relay.pool.by_hash[tx_hash]
    assert entry.local
    told = [s.pushed() + [e[0] for e in s.announced()] for s in house.sessions]
    assert sorted(told) == [[], *[[tx_hash]] * 4]  # one is listened to
    house.loop.advance(house.relay.options.own_listen_seconds + 1)
    later = [[e[0] for e in s.announced()] for s in house.sessions]
    assert [a + b for a, b in zip(told, later, strict=True)] == [[tx_hash]] * 5
    assert house.relay.counters.submitted == 1


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (raw_tx(account=1), "already known"),
        (raw_tx(account=1, tip=GWEI + 1), "replacement transaction underpriced"),
        (
            raw_tx(account=2, kind=0, chain_id=None),
            "only replay-protected (EIP-155) transactions allowed over RPC",
        ),
        (raw_tx(account=2, gas=20_000), "intrinsic gas too low: gas 20000, minimum needed 21000"),
        (raw_tx(account=2, chain_id=5), "invalid sender: invalid chain id for signer: have 5 want 1337"),
        (b"", ""),
        (b"\x02\xc0", ""),
        (b"\x7f\xc0", "transaction type not supported"),
    ],
)
def test_refused_submissions_speak_geths_words(raw, words):
    house = House()
    house.relay.submit(raw_tx(account=1))
    with pytest.raises(InvalidTransaction) as caught:
        house.relay.submit(raw)
    assert caught.value.message.startswith(words)
    assert caught.value.code == -32000
    assert len(house.relay.pool) == 1


def test_a_fee_that_looks_like_a_typing_error_is_refused_in_geths_words():
    house = House()
    raw = raw_tx(account=1, tip=10**14, fee=10**14)
    with pytest.raises(InvalidTransaction) as caught:
        house.relay.submit(raw)
    assert str(caught.value) == "tx fee (2.10 ether) exceeds the configured cap (1.00 ether)"
    assert len(house.relay.pool) == 0


def test_blob_transactions_cannot_be_submitted_yet():
    house = House()
    with pytest.raises(InvalidTransaction):
        house.relay.submit(canonical(blob_tx()))
    assert len(house.relay.pool) == 0


def test_submitting_what_was_announced_tells_only_who_does_not_know():
    house = House(2)
    knows, other = house.sessions
    raw = raw_tx(account=1)
    house.announce(knows, (keccak256(raw), 2, len(raw)))
    house.relay.submit(raw)
    assert knows.sent == []
    assert other.pushed() == [keccak256(raw)]
    house.loop.advance(1.0)
    assert knows.requests() == []


def test_a_transaction_refused_to_a_peer_can_be_submitted_later():
    house = House(2, per_sender=1, crowded=0)
    house.push(house.sessions[0], item(account=1), item(account=1, nonce=1))
    assert house.relay.counters.dropped["account_limit"] == 1
    house.relay.pool.expire(house.loop.now + 10_000)
    tx_hash = house.relay.submit(raw_tx(account=1, nonce=1))
    assert tx_hash in house.relay.pool


def test_another_publisher_may_take_submissions():
    class Publisher:
        batches = ()

        def publish(self, batch):
            self.batches += (batch,)

    house = House(2)
    house.relay.publisher = publisher = Publisher()
    tx_hash = house.relay.submit(raw_tx())
    assert [[entry.hash for entry in batch] for batch in publisher.batches] == [[tx_hash]]
    assert not any(session.sent for session in house.sessions)


def test_views_of_the_pool():
    house = House(1)
    house.push(house.sessions[0], item(account=1, nonce=2), item(account=1), item(account=2, kind=0))
    assert house.relay.pool_status() == (3, 0)
    content = dict(house.relay.pool_content())
    assert [tx.nonce for tx in content[pooled(account=1).sender]] == [0, 2]
    assert [tx.type for tx in content[pooled(account=2, kind=0).sender]] == [0]
    found = house.relay.transaction(item_hash(item(account=1)))
    assert found.raw == raw_tx(account=1)
    assert house.relay.transaction(bytes(32)) is None


def test_housekeeping_expires_and_follows_forks():
    house = House(1, lifetime=100.0)
    house.relay.start()
    house.push(house.sessions[0], item(account=1), item(account=2, gas=1 << 25))
    assert len(house.relay.pool) == 2
    house.loop.advance(102.0)
    assert len(house.relay.pool) == 0
    house.unix = 2_000_000_001.0
    house.loop.advance(2.0)
    house.push(house.sessions[0], item(account=3, gas=1 << 25))
    assert house.relay.counters.dropped == {"gas_limit": 1}


def test_stopped_housekeeping_leaves_no_timer():
    house = House()
    house.relay.stop()
    house.relay.stop()
    assert house.loop.live_timers == []


def test_genesis_is_named_where_nothing_is_known():
    assert House().relay.status(69).latest_hash == GENESIS
