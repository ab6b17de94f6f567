"""Snappy: round trips, bombs, garbage."""

import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.primitives.errors import DecodeError
from relay.protocols.devp2p import snappy


@given(st.one_of(st.binary(max_size=300), st.binary(min_size=1, max_size=9).map(lambda part: part * 3000)))
def test_round_trip(data):
    packed = snappy.compress(data)
    assert snappy.decompress(packed) == data
    assert snappy.declared_length(packed) == len(data)


@pytest.mark.parametrize("length", [snappy.MAX_MESSAGE + 1, 2**31, 2**32 - 1])
def test_bomb_is_refused_by_its_declared_length(length, monkeypatch):
    def never(data):
        raise AssertionError("decoded in spite of its length")

    monkeypatch.setattr(snappy, "_decompress", never)
    with pytest.raises(DecodeError, match=f"compressed message of {length} bytes"):
        snappy.decompress(varint(length) + b"\xfe" * 100)


def test_real_bomb_of_small_size_is_refused_by_a_small_limit():
    packed = snappy.compress(bytes(11 << 20))
    with pytest.raises(DecodeError, match="at most"):
        snappy.decompress(packed, limit=10 << 20)


@pytest.mark.parametrize(
    "data", [b"", b"\x80", b"\xff" * 5, b"\xff" * 6, b"\x80\x80\x80\x80\x80\x01", b"\xff\xff\xff\xff\x7f"]
)
def test_missing_or_oversized_length_is_refused(data):
    with pytest.raises(DecodeError, match="without a length"):
        snappy.decompress(data)


@pytest.mark.parametrize("data", [b"\x05", b"\x05\x00", b"\x01\x04ab", b"\x0a\xfe\x00\x00", b"\x04\x01\x00"])
def test_corrupt_data_is_refused(data):
    with pytest.raises(DecodeError, match="not snappy"):
        snappy.decompress(data)


@given(st.binary(max_size=200))
def test_garbage_decodes_or_is_refused(data):
    try:
        snappy.decompress(data, limit=1 << 16)
    except DecodeError:
        return
    assert bytes(cramjam.snappy.decompress_raw(data)) is not None


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])
