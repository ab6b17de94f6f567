"""The helpers on every transaction's path give what the message classes give."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.primitives import rlp
from relay.primitives.errors import DecodeError, ProtocolBreach, SubprotocolError
from relay.protocols.eth import packing
from relay.protocols.eth.fields import split_items
from relay.protocols.eth.limits import MAX_ANNOUNCED_TAKEN, MAX_TRANSACTIONS
from relay.protocols.eth.messages import NewPooledTransactionHashes, PooledTransactions, Transactions

wire_items = st.one_of(
    st.binary(max_size=400).map(rlp.encode),
    st.lists(st.binary(max_size=90), max_size=9).map(rlp.encode),
    st.integers(250, 70_000).map(lambda size: rlp.encode(bytes(size))),
)
hashes = st.binary(min_size=32, max_size=32)
announced = st.lists(st.tuples(st.integers(0, 255), st.integers(0, 2**32 - 1), hashes), max_size=60)


@given(st.lists(wire_items, max_size=12))
def test_transactions_are_split_as_they_were_joined(items):
    payload = packing.encode_transactions(items)
    assert packing.split_transactions(payload) == items
    assert payload == Transactions(tuple(items)).encode(69)


@given(st.integers(0, 2**64 - 1), st.lists(wire_items, max_size=12))
def test_pooled_transactions_are_split_as_they_were_joined(request_id, items):
    payload = packing.encode_pooled(request_id, items)
    assert packing.split_pooled(payload) == (request_id, items)
    assert payload == PooledTransactions(request_id, tuple(items)).encode(70)


@given(announced, st.booleans())
def test_announcement_round_trip(rows, masked):
    types, sizes, hashes_ = bytes(row[0] for row in rows), [row[1] for row in rows], [row[2] for row in rows]
    mask = b"\x0f" * 16 if masked else None
    payload = packing.encode_announcement(types, sizes, hashes_, mask)
    assert packing.decode_announcement(payload, masked=masked) == (types, sizes, tuple(hashes_))
    message = NewPooledTransactionHashes(types, sizes, tuple(hashes_), mask or bytes(16))
    assert payload == message.encode(72 if masked else 71)
    with pytest.raises(ProtocolBreach):
        packing.decode_announcement(payload, masked=not masked)


def test_announcement_of_4096_hashes():
    rows = [index.to_bytes(32, "big") for index in range(4096)]
    sizes = [index % 400 for index in range(4096)]
    payload = packing.encode_announcement(bytes(4096), sizes, rows)
    assert packing.decode_announcement(payload) == (bytes(4096), sizes, tuple(rows))


@pytest.mark.parametrize(
    "fields", [[b"\x02\x02", [5], [bytes(32)]], [b"\x02", [], [bytes(32)]], [b"\x02", [5], []]]
)
def test_announcement_of_unequal_lists_is_refused(fields):
    with pytest.raises(SubprotocolError):
        packing.decode_announcement(rlp.encode(fields))


def test_announcement_with_one_hash_header_wrong_is_refused():
    payload = bytearray(packing.encode_announcement(b"\x02" * 3, [5] * 3, [bytes(32)] * 3))
    payload[-66] = 0x9F
    with pytest.raises(ProtocolBreach):
        packing.decode_announcement(bytes(payload))


def test_more_than_5000_transactions_are_refused():
    assert len(packing.split_transactions(packing.encode_transactions([b"\xc0"] * MAX_TRANSACTIONS))) == 5000
    with pytest.raises(SubprotocolError, match="more than 5000"):
        packing.split_transactions(packing.encode_transactions([b"\xc0"] * (MAX_TRANSACTIONS + 1)))


def test_an_announcement_of_too_many_is_refused_before_it_is_walked():
    def announcement(count):
        return packing.encode_announcement(b"\x02" * count, [200] * count, [bytes(32)] * count)

    assert len(packing.decode_announcement(announcement(MAX_ANNOUNCED_TAKEN))[2]) == MAX_ANNOUNCED_TAKEN
    with pytest.raises(SubprotocolError, match="more than 16,384"):
        packing.decode_announcement(announcement(MAX_ANNOUNCED_TAKEN + 1))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x80",
        b"\x05",
        b"\xc1\x81",
        b"\xc2\x81\x05",
        b"\xc1\xb8",
        b"\xc2\xb8\x05",
        b"\xc2\xb9\x01",
        b"\xc3\xb9\x00\x80",
        b"\xc3\xf8\x37\x00",
        b"\xc2\xf8\x38",
        b"\xc4\xb9\x01\x00\x00",
        b"\xc1\xc1",
        b"\xc9\xbf" + b"\xff" * 8,
        b"\xf8",
        b"\xff" * 9,
    ],
)
def test_items_that_overrun_or_are_not_canonical_are_refused(payload):
    with pytest.raises(ProtocolBreach, match="bad Transactions"):
        packing.split_transactions(payload)
    with pytest.raises(ProtocolBreach, match="bad PooledTransactions"):
        packing.split_pooled(rlp.list_header(len(payload) + 1) + b"\x01" + payload)


@given(st.binary(max_size=120))
def test_splitting_agrees_with_the_general_reader(payload):
    try:
        expected = [payload[start:end] for start, end in rlp.list_items(payload, 0, len(payload))]
    except DecodeError:
        with pytest.raises(DecodeError):
            split_items(payload, 0, len(payload), len(payload))
    else:
        assert split_items(payload, 0, len(payload), len(payload)) == expected


@given(st.binary(max_size=100))
def test_garbage_is_the_peers_fault(payload):
    for decode in (packing.split_transactions, packing.split_pooled, packing.decode_announcement):
        try:
            decode(payload)
        except (ProtocolBreach, SubprotocolError):
            continue


def test_duplicate_is_found():
    one, two = b"\x01" * 32, b"\x02" * 32
    assert packing.first_duplicate([]) is None
    assert packing.first_duplicate([one, two]) is None
    assert packing.first_duplicate([one, two, two, one]) == two
