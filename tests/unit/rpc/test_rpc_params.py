from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.primitives.errors import DecodeError
from relay.rpc.errors import RpcError
from relay.rpc.params import TEXT, Number, bind, hex_data, hex_quantity, quantity


@pytest.mark.parametrize(
    ("text", "data"), [("0x", b""), ("", b""), ("0x00fF", b"\x00\xff"), ("0XAB", b"\xab")]
)
def test_data_is_read(text: str, data: bytes) -> None:
    assert hex_data(text) == data


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("00", "hex string without 0x prefix"),
        ("0x1", "hex string of odd length"),
        ("0x0g", "invalid hex string"),
        ("0x 1", "invalid hex string"),
        ("0x١١", "invalid hex string"),
    ],
)
def test_data_is_refused_in_geths_words(text: str, words: str) -> None:
    with pytest.raises(DecodeError, match=f"^{words}$"):
        hex_data(text)


@pytest.mark.parametrize(
    ("text", "number"), [("0x0", 0), ("0x1", 1), ("0xffffffffffffffff", 2**64 - 1), ("0XaB", 0xAB)]
)
def test_quantity_is_read(text: str, number: int) -> None:
    assert hex_quantity(text) == number


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty hex string"),
        ("12", "hex string without 0x prefix"),
        ("0x", 'hex string "0x"'),
        ("0x00", "hex number with leading zero digits"),
        ("0xz", "invalid hex string"),
        ("0x10000000000000000", "hex number > 64 bits"),
        ("0x-1", "invalid hex string"),
        ("0x1_0", "invalid hex string"),
    ],
)
def test_quantity_is_refused_in_geths_words(text: str, words: str) -> None:
    with pytest.raises(DecodeError, match=f"^{words}$"):
        hex_quantity(text)


@given(st.integers(0, 2**64 - 1))
def test_quantities_come_back(number: int) -> None:
    assert hex_quantity(quantity(number)) == number


@pytest.mark.parametrize(
    ("value", "kind"), [(True, "bool"), (Number("1"), "number"), ([], "array"), ({}, "object")]
)
def test_text_names_what_it_got_instead(value: object, kind: str) -> None:
    with pytest.raises(RpcError, match=f"cannot unmarshal {kind} into Go value of type string"):
        bind([value], (TEXT,))


@given(st.text(max_size=12))
def test_fuzz_any_text_is_read_or_refused(text: str) -> None:
    for read in (hex_data, hex_quantity):
        with suppress(DecodeError):
            read(text)
