"""Transcripts of two honest ends, mutated: whatever arrives, only a PeerError comes out.

Takes a minute; `pytest -m slow tests/fuzz`.
"""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.primitives import rlp
from relay.primitives.errors import PeerError
from relay.protocols.devp2p import snappy
from relay.protocols.devp2p.events import Message
from relay.protocols.eth import packing
from relay.protocols.eth.versions import BY_VERSION
from tests.aids.devp2p import Pair

pytestmark = pytest.mark.slow


def mutate(data: bytes, random: Random) -> bytes:
    """Flip, cut, repeat or insert at a few random places."""
    out = bytearray(data)
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(out) + 1)
        match random.randrange(4):
            case 0 if at < len(out):
                out[at] ^= 1 << random.randrange(8)
            case 1:
                del out[at : at + random.randrange(40)]
            case 2:
                out[at:at] = out[max(0, at - random.randrange(60)) : at]
            case _:
                out[at:at] = random.randbytes(random.randrange(20))
    return bytes(out)


def drain(connection, data: bytes, random: Random) -> None:
    position = 0
    while position < len(data):
        step = random.choice((1, 3, 16, 33, 500, 70_000))
        connection.receive(data[position : position + step])
        connection.take_output()
        position += step


@settings(max_examples=2000, deadline=None)
@given(st.integers(0, 2**64))
def test_recipient_survives_mutated_transcripts(seed):
    random = Random(seed)
    pair = Pair(seed % 7)
    auth = pair.a.take_output()
    stage = random.randrange(3)
    try:
        if stage == 0:
            drain(pair.b, mutate(auth, random), random)
            return
        pair.b.receive(auth)
        pair.a.receive(pair.b.take_output())
        hello = pair.a.take_output()
        if stage == 1:
            drain(pair.b, mutate(hello, random), random)
            return
        pair.b.receive(hello)
        stream = b"".join(pair.a.send(16 + random.randrange(18), random.randbytes(50)) for _ in range(5))
        drain(pair.b, mutate(stream, random), random)
    except PeerError:
        assert pair.b.closed
        assert pair.b.receive(b"more") == []


@settings(max_examples=3000, deadline=None)
@given(st.integers(0, 2**64))
def test_authentic_peer_sends_mutated_messages(seed):
    random = Random(seed)
    pair = Pair(seed % 7).connect()
    body = random.choice((b"\xc0", rlp.encode([1, [bytes(32)] * 3]), random.randbytes(90)))
    packed = snappy.compress(body)
    code = random.choice((b"\x80", b"\x01", b"\x02", b"\x03", b"\x12", random.randbytes(2)))
    try:
        events = pair.b.receive(pair.a._codec.encode(code, mutate(packed, random)))
    except PeerError:
        assert pair.b.closed
        return
    for event in events:
        if isinstance(event, Message):
            decode_quietly(random.choice(sorted(BY_VERSION)), event.code, event.payload)


@settings(max_examples=5000, deadline=None)
@given(st.integers(0, 2**64))
def test_mutated_messages_of_eth_decode_or_are_refused(seed):
    random = Random(seed)
    version = BY_VERSION[random.choice(sorted(BY_VERSION))]
    hashes = [random.randbytes(32) for _ in range(random.randrange(4))]
    fields = random.choice(
        (
            [random.randrange(99), hashes],
            [bytes(len(hashes)), [300] * len(hashes), hashes],
            [1, [[1, 2], [b"x" * 60]]],
            [69, 1, bytes(32), [bytes(4), 0], 1, 2, b"\x01" * 32],
        )
    )
    payload = mutate(rlp.encode(fields), random)
    decode_quietly(version.version, random.choice(sorted(version.messages)), payload)
    for helper in (packing.split_transactions, packing.split_pooled, packing.decode_announcement):
        try:
            helper(payload)
        except PeerError:
            continue


def decode_quietly(version: int, code: int, payload: bytes) -> None:
    try:
        message = BY_VERSION[version].decode(code, payload)
    except PeerError:
        return
    assert payload.startswith(message.encode(version))
