"""The codec of `pyrelay/1`."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.primitives import rlp
from relay.primitives.errors import ProtocolBreach
from relay.protocols.devp2p.capabilities import negotiate
from relay.protocols.eth.versions import BY_VERSION
from relay.protocols.pyrelay.messages import CAPABILITY, Answer, Ask

UINT32 = st.integers(0, 2**32 - 1)
LISTS = st.lists(st.binary(max_size=40), max_size=5).map(rlp.encode)


@given(hops=st.integers(1, 2**32 - 1), patience=UINT32, code=st.integers(0, 2**64 - 1), message=LISTS)
def test_questions_come_back_as_they_were(hops, patience, code, message):
    ask = Ask(hops, patience, code, message)
    assert Ask.decode(ask.encode()) == ask


@given(code=st.integers(0, 2**64 - 1), message=LISTS)
def test_answers_come_back_as_they_were(code, message):
    answer = Answer(code, message)
    assert Answer.decode(answer.encode()) == answer


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [1, 2, 3],
        [0, 2, 3, []],  # no hop
        [1, 2, 3, b"text"],
        [1, 2**32, 3, []],
        [1, 2, 3, [], 5],
        b"",
    ],
)
def test_malformed_questions_are_breaches(fields):
    with pytest.raises(ProtocolBreach):
        Ask.decode(rlp.encode(fields))


@given(st.binary(max_size=80))
def test_hostile_bytes_are_breaches_and_nothing_else(payload):
    for kind in (Ask, Answer):
        with suppress(ProtocolBreach):
            kind.decode(payload)


def test_eth_keeps_its_codes_beside_it():
    ours = [BY_VERSION[version].capability for version in sorted(BY_VERSION)] + [CAPABILITY]
    eth, relays = negotiate(ours, ours)
    assert (eth.name, eth.offset, eth.length) == ("eth", 16, 22)
    assert (relays.name, relays.offset, relays.length) == ("pyrelay", 16 + 22, 4)
