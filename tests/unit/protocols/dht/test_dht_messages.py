"""Messages: there and back, and whatever else comes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.primitives import rlp
from relay.primitives.errors import DecodeError
from relay.protocols.dht.messages import (
    MAX_REQUEST,
    ROOM,
    Added,
    AddProvider,
    GetProviders,
    Kind,
    Page,
    Status,
    decode_answer,
    decode_request,
    take_fitting,
)
from relay.protocols.discv5 import MAX_TALK
from tests.aids.dht import key_of, record_of
from tests.aids.discv5 import onion_record

KEY = key_of(1)
RECORD = record_of(1, KEY).raw
ENR = onion_record(2).raw
REQUESTS = [
    GetProviders(KEY, b"", 0),
    GetProviders(KEY, b"c" * 16, 24),
    AddProvider(KEY, b"t" * 16, RECORD),
]
ANSWERS = [
    Page(b"t" * 16, 0, b"", (), ()),
    Page(b"t" * 16, 200, b"c" * 16, (RECORD,) * 3, (ENR,)),
    Added(Status.STORED),
    Added(Status.FULL),
    Added(99),
]


@pytest.mark.parametrize("message", REQUESTS)
def test_requests_there_and_back(message):
    assert decode_request(message.encode()) == message
    assert len(message.encode()) <= MAX_REQUEST


@pytest.mark.parametrize("message", ANSWERS)
def test_answers_there_and_back(message):
    assert decode_answer(message.encode()) == message


@pytest.mark.parametrize("message", REQUESTS)
def test_requests_are_no_answers(message):
    with pytest.raises(DecodeError):
        decode_answer(message.encode())


@pytest.mark.parametrize("message", ANSWERS)
def test_answers_are_no_requests(message):
    with pytest.raises(DecodeError):
        decode_request(message.encode())


@pytest.mark.parametrize(
    ("decode", "fields"),
    [
        (decode_request, [Kind.GET_PROVIDERS, [KEY, b"", 1, b"new"]]),
        (decode_request, [Kind.ADD_PROVIDER, [KEY, b"t", [b"record"], [b"new"]]]),
        (decode_answer, [Kind.PROVIDERS, [b"t", 1, b"", [], [], 7]]),
        (decode_answer, [Kind.ADDED, [0, b"why"]]),
    ],
)
def test_fields_of_a_later_version_are_skipped(decode, fields):
    kind, items = fields
    assert decode(bytes((kind,)) + rlp.encode(items))


@pytest.mark.parametrize(
    "fields",
    [
        (Kind.GET_PROVIDERS, [KEY, b""]),
        (Kind.GET_PROVIDERS, [KEY[:31], b"", 1]),
        (Kind.GET_PROVIDERS, [[KEY], b"", 1]),
        (Kind.GET_PROVIDERS, [KEY, b"c" * 33, 1]),
        (Kind.GET_PROVIDERS, [KEY, b"", 1 << 16]),
        (Kind.GET_PROVIDERS, [KEY, b"", [1]]),
        (Kind.ADD_PROVIDER, [KEY, b"t" * 33, [b"record"]]),
        (Kind.ADD_PROVIDER, [KEY, [b"t"], [b"record"]]),
    ],
)
def test_requests_with_fields_that_do_not_fit_are_refused(fields):
    kind, items = fields
    with pytest.raises(DecodeError):
        decode_request(bytes((kind,)) + rlp.encode(items))


@pytest.mark.parametrize(
    "items",
    [[b"t" * 33, 0, b"", [], []], [b"t", 1 << 16, b"", [], []], [b"t", 0, b"", b"x", []], [b"t", 0, b"", []]],
)
def test_pages_with_fields_that_do_not_fit_are_refused(items):
    with pytest.raises(DecodeError):
        decode_answer(bytes((Kind.PROVIDERS,)) + rlp.encode(items))


def test_what_is_longer_than_a_packet_carries_is_refused():
    with pytest.raises(DecodeError, match="at most"):
        decode_request(AddProvider(KEY, b"t", b"\x80" * MAX_REQUEST).encode())
    with pytest.raises(DecodeError, match="at most"):
        decode_answer(Page(b"t", 1, b"", (b"\x80" * MAX_TALK,), ()).encode())


def test_a_page_that_uses_all_its_room_fits_a_packet():
    page = Page(b"t" * 16, 0xFFFF, b"c" * 16, (b"\x80" * (ROOM - 400),), (b"\x80" * 400,))
    assert len(page.encode()) <= MAX_TALK
    assert len(page.encode()) > MAX_TALK - 8


def test_items_are_taken_from_the_front_while_they_fit():
    assert take_fitting([b"aa", b"bb", b"cc"], 5, 9) == ([b"aa", b"bb"], 1)
    assert take_fitting([b"aa", b"bb", b"cc"], 9, 1) == ([b"aa"], 7)


@given(st.binary(max_size=MAX_TALK + 8))
def test_any_bytes_are_a_message_or_a_decode_error(data):
    for decode in (decode_request, decode_answer):
        try:
            message = decode(data)
        except DecodeError:
            continue
        assert len(message.encode()) <= len(data)


@given(st.sampled_from(REQUESTS + ANSWERS), st.data())
def test_messages_that_were_touched_are_a_message_or_a_decode_error(message, data):
    raw = bytearray(message.encode())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    for decode in (decode_request, decode_answer):
        try:
            decode(bytes(raw[: data.draw(st.integers(0, len(raw)))]))
        except DecodeError:
            continue
