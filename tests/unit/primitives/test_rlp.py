import pytest
import rlp as oracle
from hypothesis import given
from hypothesis import strategies as st

from relay.primitives import rlp
from relay.primitives.errors import DecodeError

items = st.recursive(
    st.binary(max_size=70) | st.binary(min_size=250, max_size=260),
    lambda inner: st.lists(inner, max_size=6),
    max_leaves=12,
)


@given(items)
def test_encoding_is_the_one_of_the_library_and_decodes_back(item):
    encoded = rlp.encode(item)

    assert encoded == oracle.encode(item)
    assert rlp.decode(encoded) == item


@given(
    st.binary(max_size=80)
    | items.map(rlp.encode).flatmap(lambda b: st.integers(0, len(b)).map(lambda n: b[:n]))
)
def test_hostile_bytes_decode_to_what_encodes_back_or_are_refused(data):
    try:
        item = rlp.decode(data)
    except DecodeError:
        with pytest.raises(oracle.DecodingError):
            oracle.decode(data, strict=True)
    else:
        assert rlp.encode(item) == data


@given(st.integers(0, 2**260))
def test_numbers(value):
    assert rlp.encode(value) == oracle.encode(value)
    assert rlp.to_int(rlp.decode(rlp.encode(value)), 33) == value


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        ("dog", "83646f67"),
        (("cat", b"dog"), "c88363617483646f67"),
        (bytearray(b"\x7f"), "7f"),
        (memoryview(b"\x80"), "8180"),
        (True, "01"),
        (1024, "820400"),
        (b"", "80"),
        ([], "c0"),
        ([[], [[]], [[], [[]]]], "c7c0c1c0c3c0c1c0"),
    ],
)
def test_examples_of_the_yellow_paper_and_other_types(value, encoded):
    assert rlp.encode(value).hex() == encoded


def test_what_has_no_encoding_is_a_bug_of_the_caller():
    with pytest.raises(ValueError, match="negative"):
        rlp.encode(-1)
    with pytest.raises(TypeError, match="float"):
        rlp.encode(1.5)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("", "missing"),
        ("8100", "itself"),
        ("817f", "itself"),
        ("c28100", "itself"),
        ("83aabb", "beyond"),
        ("c3aabb", "beyond"),
        ("c283aa", "beyond"),
        ("b801aa", "shortest"),
        ("b900ff" + "aa" * 255, "shortest"),
        ("f80180", "shortest"),
        ("b8", "cut off"),
        ("bfff", "cut off"),
        ("b838aa", "beyond"),
        ("f838c0", "beyond"),
        ("bbffffffff", "beyond"),
        ("bfffffffffffffffff", "beyond"),
        ("ffffffffffffffffff", "beyond"),
        ("8080", "follow"),
        ("c000", "follow"),
        ("c1b8", "cut off"),
    ],
)
def test_decoder_is_strict(data, why):
    with pytest.raises(DecodeError, match=why):
        rlp.decode(bytes.fromhex(data))


def test_deep_nesting_ends_in_an_error_and_not_in_recursion():
    nested = b"\xc0"
    for _ in range(5_000):
        nested = rlp.list_header(len(nested)) + nested

    with pytest.raises(DecodeError, match="too deep"):
        rlp.decode(nested)


def test_depth_limit_is_exact():
    assert rlp.decode(b"\xc1\xc0", max_depth=2) == [[]]
    with pytest.raises(DecodeError):
        rlp.decode(b"\xc1\xc0", max_depth=1)
    with pytest.raises(DecodeError):
        rlp.decode(b"\xc0", max_depth=0)
    assert rlp.decode(b"\x01", max_depth=0) == b"\x01"


@given(st.lists(items, max_size=8))
def test_walker_finds_where_each_item_begins_and_ends(values):
    buffer = b"pad" + rlp.encode(values)

    is_list, start, end = rlp.read_header(buffer, 3, len(buffer))

    assert is_list
    assert end == len(buffer)
    assert [buffer[a:b] for a, b in rlp.list_items(buffer, start, end)] == [rlp.encode(v) for v in values]


@given(st.binary(max_size=40))
def test_walker_on_hostile_bytes_covers_them_or_refuses(data):
    try:
        found = rlp.list_items(data, 0, len(data))
    except DecodeError:
        return
    assert b"".join(data[a:b] for a, b in found) == data


def test_walker_keeps_within_the_surrounding_list():
    # c2 | 82 aa | bb: the string reaches beyond its list, though not beyond the buffer
    with pytest.raises(DecodeError):
        rlp.list_items(bytes.fromhex("c282aabb"), 1, 3)
    with pytest.raises(DecodeError):
        rlp.list_items(bytes.fromhex("8105"), 0, 2)


@pytest.mark.parametrize("length", [0, 55, 56, 255, 256, 70_000])
def test_headers(length):
    assert rlp.string_header(length) + b"\xee" * length == oracle.encode(b"\xee" * length)
    assert rlp.list_header(length) + b"\x05" * length == oracle.encode([b"\x05"] * length)


def test_numbers_are_strict():
    assert rlp.to_int(b"") == 0
    assert rlp.to_int(b"\x01\x00", 2) == 256
    for bad in (b"\x00", b"\x00\x01", [], [b"\x01"], b"\x01" * 33):
        with pytest.raises(DecodeError):
            rlp.to_int(bad)
    with pytest.raises(DecodeError, match="3 bytes, at most 2"):
        rlp.to_int(b"abc", 2)


def test_expectations():
    assert rlp.expect_bytes(b"ab", 2) == b"ab"
    assert rlp.expect_bytes(b"") == b""
    assert rlp.expect_list([b""], 1) == [b""]
    assert rlp.expect_list([]) == []
    for check, item, size in [
        (rlp.expect_bytes, b"ab", 3),
        (rlp.expect_bytes, [], None),
        (rlp.expect_list, [], 1),
        (rlp.expect_list, b"", None),
    ]:
        with pytest.raises(DecodeError, match="expected"):
            check(item, size)
