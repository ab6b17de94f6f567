"""Hostile answers: whatever bytes come, one value is passed on, or a fault is told."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.primitives.errors import RelayError
from relay.rpc.params import Number
from relay.rpc.upstream import texts
from relay.rpc.upstream.budget import Budget, Share
from relay.rpc.upstream.faults import UpstreamFault
from relay.rpc.upstream.framings import LineFraming
from relay.rpc.upstream.texts import answer_id, encode_params, read_answer

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def read(body: bytes, call_id: int = 7):
    return asyncio.run(read_answer(body, call_id))


@given(JSON, st.sampled_from(["id first", "result first", "spaced", "odd"]))
def test_value_in_any_envelope_is_read(value, form):
    body = {
        "id first": {"jsonrpc": "2.0", "id": 7, "result": value},
        "result first": {"jsonrpc": "2.0", "result": value, "id": 7},
        "odd": {"result": value, "id": 7, "jsonrpc": "2.0"},
    }.get(form, {"jsonrpc": "2.0", "id": 7, "result": value})
    separators = (", ", ": ") if form == "spaced" else (",", ":")
    raw = json.dumps(body, separators=separators).encode() + b"\n"
    answer = read(raw)
    assert json.loads(answer.text) == value == answer.read()
    assert answer_id(raw) == 7


@given(st.binary(max_size=80))
def test_any_bytes_are_a_fault_or_one_value(data):
    for body in (data, b'{"jsonrpc":"2.0","id":7,"result":' + data + b"}"):
        try:
            answer = read(body)
        except RelayError:
            continue
        assert json.loads('{"x":' + answer.text + "}").keys() == {"x"}


@given(JSON, st.integers(0, 200), st.sampled_from('"{}[]\\,:x0 '))
def test_changed_value_is_a_fault_or_one_value_when_it_is_large(value, at, put):
    text = json.dumps([value, "a" * 50])
    at %= len(text)
    changed = text[:at] + put + text[at + 1 :]
    body = b'{"jsonrpc":"2.0","id":7,"result":' + changed.encode() + b"}"
    kept, texts.MAX_DECODED, slice_, texts._SLICE = texts.MAX_DECODED, 8, texts._SLICE, 16
    try:
        answer = read(body)
    except RelayError:
        return
    finally:
        texts.MAX_DECODED, texts._SLICE = kept, slice_
    # Commas are not checked where an answer is large, brackets and strings are: it can't leave its envelope.
    stripped = texts._STRING.sub("0", answer.text)
    assert stripped.count("[") == stripped.count("]")
    assert stripped.count("{") == stripped.count("}")
    depth = 0
    for character in stripped.strip()[:-1]:
        depth += (character in "[{") - (character in "]}")
        assert depth > 0


@pytest.mark.parametrize(
    "text", ["1" * 50, '"' + "a" * 50, "[" * 30 + "]" * 30 + " 1", "[" + "1 " * 9, "[" + "\x01" * 9 + "]"]
)
def test_large_value_that_is_none_is_refused(text, monkeypatch):
    monkeypatch.setattr(texts, "MAX_DECODED", 8)
    with pytest.raises(UpstreamFault):
        read(b'{"jsonrpc":"2.0","id":7,"result":' + text.encode() + b"}")


def test_large_value_nested_too_deep_is_refused(monkeypatch):
    monkeypatch.setattr(texts, "MAX_DECODED", 8)
    deep = "[" * 600 + "]" * 600
    with pytest.raises(UpstreamFault, match="inside each other"):
        read(b'{"jsonrpc":"2.0","id":7,"result":' + deep.encode() + b"}")


@given(JSON)
def test_params_are_written_as_json(value):
    assert json.loads(encode_params([value])) == [value]
    assert json.loads(encode_params([value, Number("1.0")])) == [value, 1.0]


@given(st.lists(JSON, min_size=1, max_size=4), st.sampled_from([b"\n", b" ", b""]), st.integers(1, 9))
def test_values_are_cut_out_of_any_chunks(values, ending, size):
    values = [[value] for value in values]
    stream = b"".join(json.dumps(value).encode() + ending for value in values)
    framing = LineFraming(Share(Budget(1 << 20), 1 << 20))
    found = []
    for at in range(0, len(stream), size):
        found += framing.receive(stream[at : at + size])[0]
    assert [json.loads(each) for each in found] == values


def test_budget_is_given_back():
    budget = Budget(100)
    one, two = Share(budget, 80), Share(budget, 80)
    one.hold(60)
    with pytest.raises(UpstreamFault, match="on their way"):
        two.hold(50)
    with pytest.raises(UpstreamFault, match="more than 80 bytes"):
        one.hold(81)
    one.hold(20)
    two.hold(50)
    one.release()
    two.release()
    assert budget.held == 0
