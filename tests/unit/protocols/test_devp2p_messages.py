"""Hello and Disconnect: what is tolerated and what is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.primitives import rlp
from relay.primitives.errors import DecodeError
from relay.primitives.keys import NodeKey
from relay.protocols.devp2p.capabilities import Capability
from relay.protocols.devp2p.messages import (
    DisconnectReason,
    Hello,
    decode_disconnect,
    describe_reason,
    encode_disconnect,
)

KEY = NodeKey(b"\x01" * 32).public_key
FIELDS = [5, "geth", [["eth", 69], ["snap", 1]], 30303, KEY]


def replaced(index: int, value):
    return [*FIELDS[:index], value, *FIELDS[index + 1 :]]


def test_hello_round_trip_sorts_its_capabilities():
    hello = Hello(
        5, "pyrelay/é", (Capability("snap", 1, 8), Capability("eth", 70), Capability("eth", 69)), 0, KEY
    )
    decoded = Hello.decode(hello.encode())
    assert [(each.name, each.version) for each in decoded.capabilities] == [
        ("eth", 69),
        ("eth", 70),
        ("snap", 1),
    ]
    assert (decoded.client, decoded.public_key, decoded.version) == ("pyrelay/é", KEY, 5)


def test_hello_tolerates_further_items_trailing_bytes_and_any_version():
    hello = Hello.decode(rlp.encode([*replaced(0, 2**64 - 1), b"more", [1, [2]]]) + b"\xff\xff")
    assert hello.version == 2**64 - 1
    assert hello.listen_port == 30303


def test_client_name_that_is_no_text_stays_visible():
    assert Hello.decode(rlp.encode(replaced(1, b"\xff\x00ok"))).client == "\\xff\x00ok"


@pytest.mark.parametrize(
    "fields",
    [
        b"text",
        [],
        FIELDS[:4],
        replaced(0, [5]),
        replaced(0, b"\x00\x05"),
        replaced(0, b"\x01" * 9),
        replaced(1, ["geth"]),
        replaced(2, b"eth"),
        replaced(2, [["eth"]]),
        replaced(2, [["eth", 69, 1]]),
        replaced(2, [b"eth"]),
        replaced(2, [[["eth"], 69]]),
        replaced(2, [["eth", b"\x00"]]),
        replaced(3, b"\x01" * 9),
        replaced(4, [KEY]),
    ],
)
def test_malformed_hello_is_refused(fields):
    with pytest.raises(DecodeError):
        Hello.decode(rlp.encode(fields))


def test_hello_nested_deep_is_refused_without_recursion():
    bomb = b""
    for _ in range(600):
        bomb = rlp.list_header(len(bomb)) + bomb
    payload = b"".join(rlp.encode(each) for each in FIELDS[:2]) + bomb + rlp.encode(0) + rlp.encode(KEY)
    with pytest.raises(DecodeError, match="deep"):
        Hello.decode(rlp.list_header(len(payload)) + payload)


@given(st.binary(max_size=300))
def test_garbage_is_no_hello(garbage):
    with pytest.raises(DecodeError):
        Hello.decode(garbage)


@pytest.mark.parametrize("reason", [*DisconnectReason, 0x42])
def test_disconnect_round_trip(reason):
    assert decode_disconnect(encode_disconnect(reason)) == reason


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", 0),
        (b"\xc0", 0),
        (b"\x80", 0),
        (b"\xc1\x80", 0),
        (b"\xc1\x00", 0),
        (b"\xc1\x04", 4),
        (b"\x04", 4),
        (b"\x04\xff", 4),
        (b"\xc2\x04\x05", 4),
        (b"\x10", 0x10),
        (b"\x82\x01\x00", 0xFF),
        (b"\xc3\x82\x01\x00", 0xFF),
        (b"\xc2\xc1\x04", 0xFF),
        (b"\xc5\x04", 0xFF),
        (b"\xff\xff", 0xFF),
    ],
)
def test_disconnect_in_all_the_forms_that_clients_send(payload, reason):
    assert decode_disconnect(payload) == reason


@given(st.binary(max_size=20))
def test_disconnect_never_fails(payload):
    assert 0 <= decode_disconnect(payload) <= 0xFF


def test_reasons_have_words():
    assert describe_reason(4) == "too many peers"
    assert describe_reason(0x42) == "unknown reason 66"
