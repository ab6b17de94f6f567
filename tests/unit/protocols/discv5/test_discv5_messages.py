"""Messages: written, read again, and refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.primitives import rlp
from relay.primitives.errors import DecodeError
from relay.protocols.discv5 import messages
from relay.protocols.discv5.messages import FindNode, Nodes, Ping, Pong, TalkReq, TalkResp, split_records
from tests.aids.discv5 import udp_record

RECORDS = tuple(udp_record(number).raw for number in range(3))
IDS = st.binary(max_size=8)
SEQS = st.integers(0, 2**64 - 1)
ALL = st.one_of(
    st.builds(Ping, IDS, SEQS),
    st.builds(
        Pong, IDS, SEQS, st.sampled_from([bytes(4), bytes(16), b"\x7f\x00\x00\x01"]), st.integers(0, 65535)
    ),
    st.builds(FindNode, IDS, st.lists(st.integers(0, 300), max_size=9, unique=True).map(tuple)),
    st.builds(Nodes, IDS, st.integers(0, 300), st.lists(st.sampled_from(RECORDS), max_size=5).map(tuple)),
    st.builds(TalkReq, IDS, st.binary(max_size=20), st.binary(max_size=900)),
    st.builds(TalkResp, IDS, st.binary(max_size=900)),
)


@given(ALL)
def test_message_survives_the_wire(message):
    assert messages.decode(message.encode()) == message


def test_repeated_distances_count_once():
    assert messages.decode(b"\x03" + rlp.encode([b"", [5, 6, 5]])) == FindNode(b"", (5, 6))


def test_of_too_many_distances_the_first_count():
    message = messages.decode(b"\x03" + rlp.encode([b"", list(range(1000))]))
    assert message == FindNode(b"", tuple(range(257)))


HOSTILE = {
    "nothing": b"",
    "type 0": b"\x00\xc0",
    "REGTOPIC": b"\x07" + rlp.encode([b"", b"", b""]),
    "no payload": b"\x01",
    "a string": b"\x01\x80",
    "too few fields": b"\x01" + rlp.encode([b""]),
    "too many fields": b"\x01" + rlp.encode([b"", 1, 1]),
    "request id of 9 bytes": b"\x01" + rlp.encode([bytes(9), 1]),
    "request id a list": b"\x01" + rlp.encode([[], 1]),
    "seq of 9 bytes": b"\x01" + rlp.encode([b"", 2**64]),
    "seq with a leading zero": b"\x01" + rlp.encode([b"", b"\x00\x01"]),
    "trailing bytes": Ping(b"", 1).encode() + b"\x00",
    "IP of 5 bytes": b"\x02" + rlp.encode([b"", 1, bytes(5), 1]),
    "port of 3 bytes": b"\x02" + rlp.encode([b"", 1, bytes(4), 65536]),
    "distances a string": b"\x03" + rlp.encode([b"", b"abc"]),
    "nested distances": b"\x03" + rlp.encode([b"", [[[]]]]),
    "NODES a string": b"\x04\x80",
    "NODES with two fields": b"\x04" + rlp.encode([b"", 1]),
    "NODES with trailing bytes": Nodes(b"", 1, ()).encode() + b"\x00",
    "NODES whose id is a list": b"\x04" + rlp.encode([[], 1, []]),
    "NODES whose id is long": b"\x04" + rlp.encode([bytes(9), 1, []]),
    "NODES whose total is a list": b"\x04" + rlp.encode([b"", [], []]),
    "NODES whose records are a string": b"\x04" + rlp.encode([b"", 1, b"ab"]),
    "protocol a list": b"\x05" + rlp.encode([b"", [], b""]),
    "answer a list": b"\x06" + rlp.encode([b"", []]),
    "bomb": b"\x05" + b"\xc1" * 600,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_reader_refuses(name):
    with pytest.raises(DecodeError):
        messages.decode(HOSTILE[name])


@given(st.integers(0, 7), st.binary(max_size=300))
def test_any_bytes_are_a_message_or_refused(kind, data):
    try:
        message = messages.decode(bytes((kind,)) + data)
    except DecodeError:
        return
    assert message.encode()[0] == kind


def test_records_are_spread_by_room():
    parts = split_records([b"a" * 300] * 5, 700)
    assert [len(part) for part in parts] == [2, 2, 1]


def test_no_records_are_one_part():
    assert split_records([], 700) == [()]
