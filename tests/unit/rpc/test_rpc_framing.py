import json
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.rpc.errors import RpcError
from relay.rpc.framing import JsonFramer

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """Cut data into pieces of these sizes, the rest in one."""
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [*pieces, data]


def read_all(pieces: list[bytes]) -> list[bytes]:
    framer = JsonFramer()
    values = [value for piece in pieces for value in framer.feed(piece)]
    return [*values, rest] if (rest := framer.finish()) else values


@given(
    st.lists(JSON, max_size=5),
    st.sampled_from([" ", "\n", "\r\n\t "]),
    st.lists(st.integers(0, 9), max_size=60),
    st.booleans(),
)
def test_values_come_out_however_the_stream_is_cut(
    values: list[object], gap: str, sizes: list[int], ascii_only: bool
) -> None:
    data = gap.join(json.dumps(value, ensure_ascii=ascii_only) for value in values)
    stream = data.encode("utf-8", "surrogatepass")

    assert [
        json.loads(value.decode("utf-8", "surrogatepass")) for value in read_all(cut(stream, sizes))
    ] == values


def test_objects_need_nothing_between_them() -> None:
    assert read_all([b'{"a":"}"}{"b":[1]}[]""']) == [b'{"a":"}"}', b'{"b":[1]}', b"[]", b'""']


def test_number_ends_where_something_else_starts() -> None:
    framer = JsonFramer()
    assert list(framer.feed(b" 12")) == []
    assert list(framer.feed(b'3{"a":1}')) == [b"123", b'{"a":1}']


@pytest.mark.parametrize("stream", [b'"a\\', b'{"a\\'])
def test_escape_may_be_cut_in_the_middle(stream: bytes) -> None:
    framer = JsonFramer()
    assert list(framer.feed(stream)) == []
    end = b'"b"' if stream.startswith(b'"') else b'"b":1}'
    assert len(list(framer.feed(end))) == 1


def test_brackets_of_the_wrong_kind_are_left_to_the_decoder() -> None:
    assert read_all([b'}]{"a":1]']) == [b"}", b"]", b'{"a":1]']


def test_value_over_the_limit_ends_the_stream_after_those_before_it() -> None:
    framer = JsonFramer(max_value=100)
    values = framer.feed(b"[1]" + b'"' + b"a" * 200)

    assert next(values) == b"[1]"
    with pytest.raises(RpcError, match="request too large, the limit is 100 bytes"):
        next(values)


def test_nesting_over_the_limit_ends_the_stream() -> None:
    assert len(list(JsonFramer(max_depth=4).feed(b"[[[[]]]]"))) == 1
    with pytest.raises(RpcError, match="exceeded max depth") as raised:
        list(JsonFramer(max_depth=4).feed(b"[[[[["))
    assert raised.value.code == -32700


def test_work_is_linear_however_small_the_pieces() -> None:
    def seconds(size: int) -> float:
        framer = JsonFramer()
        data = b'{"a":"' + b"x" * size + b'"}'
        begin = process_time()
        found = [value for at in range(0, len(data), 64) for value in framer.feed(data[at : at + 64])]
        assert len(found) == 1
        return process_time() - begin

    seconds(100_000)
    assert seconds(800_000) < 40 * max(seconds(100_000), 0.001)  # quadratic: 64 times


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_fuzz_any_stream_is_cut_or_refused(pieces: list[bytes]) -> None:
    framer = JsonFramer(max_value=200, max_depth=8)
    try:
        out = b"".join(value for piece in pieces for value in framer.feed(piece)) + framer.finish()
    except RpcError:
        return
    space = bytes.maketrans(b"", b"")
    everything = b"".join(pieces)
    assert out.translate(space, b" \t\r\n") == everything.translate(space, b" \t\r\n")
