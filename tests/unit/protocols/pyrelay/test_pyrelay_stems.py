"""The codec of stems and padding."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.primitives import rlp
from relay.primitives.errors import ProtocolBreach
from relay.protocols.pyrelay.stems import MAX_PADDING, MAX_TRANSACTIONS, Padding, Stem

ITEMS = st.lists(st.binary(max_size=60).map(rlp.encode), min_size=1, max_size=MAX_TRANSACTIONS)


@given(items=ITEMS, padding=st.binary(max_size=MAX_PADDING))
def test_stems_come_back_as_they_were(items, padding):
    stem = Stem(items, padding)
    assert Stem.decode(stem.encode()) == stem


@given(padding=st.binary(max_size=MAX_PADDING))
def test_padding_comes_back_as_it_was(padding):
    assert Padding.decode(Padding(padding).encode()) == Padding(padding)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ([], "expected 2 fields, found 0"),
        ([[b"tx"]], "expected 2 fields, found 1"),
        ([b"tx", b""], "no list"),
        ([[], b""], "holds no transaction"),
        ([[b"tx"], []], "padding is a list"),
        ([[b"tx"], bytes(MAX_PADDING + 1)], "at most 4096"),
        ([[b"tx"] * (MAX_TRANSACTIONS + 1), b""], "more than 16 items"),
        ([[b"tx"], b"", b""], "more than 2 items"),
    ],
)
def test_malformed_stems_are_breaches_that_say_why(fields, words):
    with pytest.raises(ProtocolBreach, match=words):
        Stem.decode(rlp.encode(fields))


@pytest.mark.parametrize("fields", [[], [[]], [bytes(MAX_PADDING + 1)], [b"", b""], b"text"])
def test_malformed_padding_is_a_breach(fields):
    with pytest.raises(ProtocolBreach):
        Padding.decode(rlp.encode(fields))


@given(st.binary(max_size=120))
def test_hostile_bytes_are_breaches_and_nothing_else(payload):
    for kind in (Stem, Padding):
        with suppress(ProtocolBreach):
            kind.decode(payload)
