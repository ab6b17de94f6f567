"""Frames: geth's vector, and what tampering does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.primitives.errors import ProtocolBreach
from relay.primitives.hashing import Keccak256, keccak256
from relay.protocols.rlpx.framing import HEADER, MAC, MAX_FRAME, BadMac, FrameCodec, padded
from relay.protocols.rlpx.handshake import Secrets
from tests.aids.vectors import load

VECTOR = load("rlpx/eip8.json")["frame"]


class FakeHash:
    """The vector's hash: whatever is written, its digest is 32 times 01."""

    def update(self, data: bytes) -> None:
        pass

    def digest(self) -> bytes:
        return b"\x01" * 32


def codecs() -> tuple[FrameCodec, FrameCodec]:
    aes, mac = keccak256(b"aes"), keccak256(b"mac")
    return (
        FrameCodec(Secrets(aes, mac, Keccak256(b"a"), Keccak256(b"b"))),
        FrameCodec(Secrets(aes, mac, Keccak256(b"b"), Keccak256(b"a"))),
    )


def open_frame(codec: FrameCodec, wire: bytes) -> bytes:
    size = codec.open_header(wire[:HEADER])
    stop = HEADER + padded(size)
    assert len(wire) == stop + MAC
    return codec.open_data(wire[HEADER:stop], wire[stop:])[:size]


def test_frame_is_as_geth_writes_it():
    codec = FrameCodec(Secrets(keccak256(b""), keccak256(b""), FakeHash(), FakeHash()))
    wire = codec.encode(bytes([VECTOR["code"]]), bytes.fromhex(VECTOR["payload"]))
    assert wire.hex() == VECTOR["wire"]
    assert open_frame(codec, wire).hex() == "08" + VECTOR["payload"]


@given(st.lists(st.one_of(st.binary(max_size=70), st.binary(min_size=2030, max_size=2070)), max_size=6))
def test_frames_arrive_as_they_were_sent(bodies):
    sender, receiver = codecs()
    for body in bodies:
        assert open_frame(receiver, sender.encode(b"\x11", body)) == b"\x11" + body


def test_both_directions_are_chained_apart():
    one, other = codecs()
    for body in (b"first", b"second" * 1000, b""):
        assert open_frame(other, one.encode(b"\x01", body)) == b"\x01" + body
        assert open_frame(one, other.encode(b"\x02", body)) == b"\x02" + body


def test_largest_frame_passes_and_one_byte_more_is_our_own_mistake():
    sender, receiver = codecs()
    body = bytes(MAX_FRAME - 1)
    assert open_frame(receiver, sender.encode(b"\x01", body)) == b"\x01" + body
    with pytest.raises(ValueError, match="at most"):
        sender.encode(b"\x01", bytes(MAX_FRAME))


@pytest.mark.parametrize("position", [0, 2, 15, 16, 31])
def test_header_is_not_believed_before_its_mac_holds(position):
    sender, receiver = codecs()
    receiver.limit = 0
    wire = bytearray(sender.encode(b"\x01", b"body"))
    wire[position] ^= 0x40
    with pytest.raises(BadMac, match="header"):
        receiver.open_header(bytes(wire[:HEADER]))


@pytest.mark.parametrize("position", [HEADER, HEADER + 15, HEADER + 16, HEADER + 31])
def test_tampered_data_is_refused(position):
    sender, receiver = codecs()
    wire = bytearray(sender.encode(b"\x01", b"body"))
    wire[position] ^= 0x01
    with pytest.raises(BadMac):
        open_frame(receiver, bytes(wire))


def test_repeated_frame_is_refused():
    sender, receiver = codecs()
    wire = sender.encode(b"\x01", b"body")
    open_frame(receiver, wire)
    with pytest.raises(BadMac):
        open_frame(receiver, wire)


def test_size_over_the_limit_is_refused_by_the_header():
    sender, receiver = codecs()
    receiver.limit = 10
    with pytest.raises(ProtocolBreach, match="frame of 11 bytes where at most 10"):
        receiver.open_header(sender.encode(b"\x01", bytes(10))[:HEADER])


@pytest.mark.parametrize(
    ("size", "expected"), [(0, 0), (1, 16), (16, 16), (17, 32), (MAX_FRAME, MAX_FRAME + 1)]
)
def test_padding_goes_to_blocks_of_sixteen(size, expected):
    assert padded(size) == expected
