"""ECIES: what is sealed for a key opens with it and with no other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.primitives.errors import DecodeError
from relay.primitives.keys import NodeKey
from relay.protocols.rlpx import ecies
from tests.aids.devp2p import Randomness

KEY = NodeKey(b"\x01" * 32)
OTHER = NodeKey(b"\x02" * 32)


@given(plaintext=st.binary(min_size=1, max_size=300), authenticated=st.binary(max_size=8))
def test_sealed_packet_opens_with_its_key(plaintext, authenticated):
    packet = ecies.encrypt(KEY.public_key, plaintext, authenticated, Randomness(plaintext))
    assert len(packet) == len(plaintext) + ecies.OVERHEAD
    assert ecies.decrypt(KEY, packet, authenticated) == plaintext


def test_packet_for_another_key_is_refused():
    packet = ecies.encrypt(KEY.public_key, b"secret", b"", Randomness())
    with pytest.raises(DecodeError, match="not sealed for this key"):
        ecies.decrypt(OTHER, packet, b"")


def test_packet_with_another_size_prefix_is_refused():
    packet = ecies.encrypt(KEY.public_key, b"secret", b"\x00\x77", Randomness())
    with pytest.raises(DecodeError, match="tag"):
        ecies.decrypt(KEY, packet, b"\x00\x78")


def test_every_flipped_bit_is_noticed():
    packet = ecies.encrypt(KEY.public_key, b"secret", b"", Randomness())
    for bit in range(0, len(packet) * 8, 7):
        broken = bytearray(packet)
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DecodeError):
            ecies.decrypt(KEY, bytes(broken), b"")


@pytest.mark.parametrize("size", [0, 1, ecies.OVERHEAD])
def test_short_packet_is_refused(size):
    with pytest.raises(DecodeError, match="more than"):
        ecies.decrypt(KEY, b"\x04" * size, b"")


@pytest.mark.parametrize("prefix", [0x02, 0x03, 0x06])
def test_point_in_another_form_is_refused(prefix):
    with pytest.raises(DecodeError, match="uncompressed"):
        ecies.decrypt(KEY, bytes([prefix]) + bytes(200), b"")


@given(st.binary(max_size=400))
def test_garbage_never_raises_anything_else(garbage):
    with pytest.raises(DecodeError):
        ecies.decrypt(KEY, garbage, b"")
