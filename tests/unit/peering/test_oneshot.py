"""Short connections against nodes that count every message of theirs."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.chain.transactions import transaction_hash
from relay.peering.oneshot import CLIENT, DELIVERED, Parcel, ShortConnection, Terms, short_hello
from relay.primitives import rlp
from relay.primitives.errors import UselessPeer
from relay.primitives.keys import NodeKey
from relay.protocols.devp2p.connection import DevP2PConnection
from relay.protocols.devp2p.events import Message
from relay.protocols.devp2p.messages import DisconnectReason
from relay.protocols.eth.packing import split_pooled, split_transactions
from tests.aids.receiver import Receiver
from tests.aids.relaying import CONFIG, item, raw_tx
from tests.aids.scripted_peer import hello_of, true_status

HASH = transaction_hash(raw_tx())
PLAIN = Parcel(HASH, 2, len(raw_tx()), item(), asked=False)
BLOBS = replace(PLAIN, type=3, asked=True)
WHOLE = {"hello": 1, "status": 1, "transactions": 1, "ping": 1, "disconnect": 1}


def check(status):
    if status.network_id != CONFIG.network_id:
        raise UselessPeer("of another network")


TERMS = Terms(lambda version: true_status(CONFIG, version), check)


async def visit(receiver, parcel=PLAIN, *, public_key=None, deadline=20.0):
    """Make a short connection, as the daemon does; returns what came of it."""
    key = NodeKey.generate(secrets.token_bytes)

    def make():
        return ShortConnection(key, public_key or receiver.key.public_key, parcel, TERMS, secrets.token_bytes)

    _, connection = await asyncio.get_running_loop().create_connection(make, "127.0.0.1", receiver.port)
    try:
        async with asyncio.timeout(deadline):
            outcome = await connection.outcome
            connection.goodbye()
            await connection.ended
    finally:
        connection.abort()
    return outcome


@pytest.mark.parametrize("versions", [(68,), (69,), (68, 69, 70, 71, 72)])
async def test_exactly_one_transaction_is_handed_over_and_confirmed(versions):
    async with Receiver(CONFIG, versions=versions) as receiver:
        assert await visit(receiver) == DELIVERED
        (seen,) = await receiver.until_over()
        assert seen.counts == WHOLE
        assert seen.reason == DisconnectReason.REQUESTED
        assert split_transactions(seen.messages[1][1]) == [item()]


async def test_hello_and_status_tell_nothing_but_the_chain():
    async with Receiver(CONFIG) as receiver:
        await visit(receiver)
        await visit(receiver)
        one, two = await receiver.until_over(2)
        assert one.hello.public_key != two.hello.public_key
        assert replace(one.hello, public_key=b"") == replace(two.hello, public_key=b"")
        assert (one.hello.client, one.hello.listen_port) == (CLIENT, 0) == ("pyrelay", 0)
        assert [(each.name, each.version) for each in one.hello.capabilities] == [
            ("eth", 68), ("eth", 69), ("eth", 70), ("eth", 71),
        ]  # fmt: skip
        told = true_status(CONFIG, 70, head=bytes(32))  # eth/68 alone has a head
        assert one.status == two.status == told
        assert (one.status.earliest, one.status.latest) == (0, 0)
        assert one.status.latest_hash == CONFIG.genesis_hash


async def test_what_the_other_side_asks_besides_is_not_answered():
    async with Receiver(CONFIG, chatty=True) as receiver:
        assert await visit(receiver) == DELIVERED
        (seen,) = await receiver.until_over()
        assert seen.counts == WHOLE


async def test_a_blob_transaction_is_announced_and_handed_over_when_asked_for():
    async with Receiver(CONFIG) as receiver:
        assert await visit(receiver, BLOBS) == DELIVERED
        (seen,) = await receiver.until_over()
        assert seen.counts == {
            "hello": 1, "status": 1, "announcement": 1, "answer": 1, "ping": 1, "disconnect": 1,
        }  # fmt: skip
        assert split_pooled(seen.messages[2][1]) == (5, [item()])


async def test_nobody_who_does_not_ask_gets_a_blob_transaction():
    async with Receiver(CONFIG, asks=False) as receiver:
        with pytest.raises(TimeoutError):
            await visit(receiver, BLOBS, deadline=0.5)
        (seen,) = await receiver.until_over()
        assert seen.counts == {"hello": 1, "status": 1, "announcement": 1, "ping": 0}


async def test_a_request_for_another_transaction_is_not_one():
    async with Receiver(CONFIG, asks=False, chatty=True) as receiver:
        with pytest.raises(TimeoutError):
            await visit(receiver, BLOBS, deadline=0.5)
        (seen,) = await receiver.until_over()
        assert "answer" not in seen.counts


async def test_without_a_pong_nothing_is_delivered():
    async with Receiver(CONFIG, mute=True) as receiver:
        with pytest.raises(TimeoutError):
            await visit(receiver, deadline=0.5)
        (seen,) = await receiver.until_over()
        assert seen.counts["transactions"] == 1


async def test_who_is_full_gets_nothing():
    async with Receiver(CONFIG, refuse=DisconnectReason.TOO_MANY_PEERS) as receiver:
        assert await visit(receiver) == "too many peers"
        (seen,) = await receiver.until_over()
        assert "transactions" not in seen.counts


async def test_a_node_of_another_network_gets_nothing():
    stranger = replace(true_status(CONFIG, 70), network_id=1)
    async with Receiver(CONFIG, status=stranger) as receiver:
        assert await visit(receiver) == "useless peer"
        (seen,) = await receiver.until_over()
        assert "transactions" not in seen.counts


async def test_who_shares_no_version_gets_nothing():
    async with Receiver(CONFIG, versions=(72,)) as receiver:
        assert await visit(receiver) == "useless peer"
        (seen,) = await receiver.until_over()
        assert "status" not in seen.counts


async def test_who_does_not_hold_the_key_gets_nothing():
    other = NodeKey.generate(secrets.token_bytes).public_key
    async with Receiver(CONFIG) as receiver:
        assert await visit(receiver, public_key=other) in ("bad handshake", "connection lost")
        (seen,) = await receiver.until_over()
        assert not seen.counts["hello"]


async def test_a_key_that_is_none_ends_it_before_a_byte():
    async with Receiver(CONFIG) as receiver:
        assert await visit(receiver, public_key=b"\xff" * 64) == "no key"


def test_hello_does_not_depend_on_settings():
    key = NodeKey.generate(secrets.token_bytes)
    assert short_hello(key).encode() == short_hello(key).encode()


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self):
        super().__init__()
        self.written, self.closing = b"", False

    def write(self, data):
        self.written += data

    def is_closing(self):
        return self.closing

    def can_write_eof(self):
        return False

    def abort(self):
        self.closing = True


MESSAGES = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 0x15), st.binary(max_size=80)),
        st.sampled_from(
            [
                (0x00, true_status(CONFIG, 71).encode(71)),
                (0x09, rlp.encode([5, [HASH]])),
                (0x09, rlp.encode([5, [HASH] * 3])),
            ]
        ),
    ),
    max_size=8,
)


@given(MESSAGES, st.booleans())
async def test_whatever_the_other_side_sends_at_most_one_copy_leaves(messages, asked):
    ours, theirs = NodeKey.generate(secrets.token_bytes), NodeKey.generate(secrets.token_bytes)
    other = DevP2PConnection.recipient(theirs, hello_of(theirs), secrets.token_bytes)
    parcel = replace(PLAIN, asked=asked)
    connection = ShortConnection(ours, theirs.public_key, parcel, TERMS, secrets.token_bytes)
    transport = Wire()
    connection.connection_made(transport)
    seen = []

    def meet():
        while transport.written:
            data, transport.written = transport.written, b""
            seen.extend(other.receive(data))
            if output := other.take_output():
                connection.data_received(output)

    meet()
    for code, payload in messages:
        if not other.closed:
            connection.data_received(other.send(other.shared[0].offset + code, payload))
            meet()
    copies = [each for each in seen if isinstance(each, Message) and each.code in (0x02, 0x0A)]
    assert len(copies) <= 1
    greeted = any(code == 0x00 and payload == MESSAGES_STATUS for code, payload in messages)
    assert greeted or not copies
    connection.connection_lost(None)
    assert connection.outcome.done()


MESSAGES_STATUS = true_status(CONFIG, 71).encode(71)
