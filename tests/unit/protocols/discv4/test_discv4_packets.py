"""The packets: EIP-8's vectors, round trips, hostile bytes."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.primitives import rlp
from relay.primitives.errors import DecodeError
from relay.primitives.hashing import keccak256
from relay.primitives.keys import NodeKey
from relay.protocols.discv4.packets import (
    MAX_NEIGHBORS,
    MAX_PACKET,
    ENRRequest,
    ENRResponse,
    FindNode,
    Neighbor,
    Neighbors,
    Ping,
    Pong,
    WireEndpoint,
    decode,
    encode,
    is_discv4,
)
from tests.aids import vectors
from tests.aids.discv4 import node_key, public_endpoint, record_at

VECTORS = vectors.load("discv4/eip8.json")
KEY = node_key(1)
PLACE = WireEndpoint(b"\x7f\x00\x00\x01", 30303, 30304)
RECORD = record_at(KEY, public_endpoint(1)).to_rlp()


def packed(content: bytes, key: NodeKey = KEY) -> bytes:
    signed = key.sign_recoverable(keccak256(content)) + content
    return keccak256(signed) + signed


def endpoint(fields) -> WireEndpoint:
    return WireEndpoint(bytes.fromhex(fields[0]), fields[1], fields[2])


@pytest.mark.parametrize("case", VECTORS["packets"], ids=lambda case: case["kind"])
def test_packet_of_a_later_version_is_read(case):
    decoded = decode(bytes.fromhex(case["input"]))
    assert decoded.public_key == NodeKey(bytes.fromhex(VECTORS["key"])).public_key
    packet = decoded.packet
    assert type(packet).__name__ == case["kind"]
    assert packet.expiration == case["expiration"]
    if isinstance(packet, Ping):
        assert (packet.version, packet.enr_seq) == (case["version"], case["enr_seq"])
        assert (packet.sender, packet.to) == (endpoint(case["sender"]), endpoint(case["to"]))
    elif isinstance(packet, FindNode):
        assert packet.target.hex() == case["target"]
    else:
        told = [[node.ip.hex(), node.udp, node.tcp, node.key.hex()] for node in packet.nodes]
        assert told == case["nodes"]


PACKETS = [
    Ping(PLACE, WireEndpoint(bytes(16), 0, 0), 2**40, 7),
    Ping(PLACE, PLACE, 1, None, version=5),
    Pong(PLACE, b"\x05" * 32, 2**64 - 1, 0),
    Pong(PLACE, b"\x05" * 32, 0),
    FindNode(b"\x09" * 64, 5),
    Neighbors((), 5),
    Neighbors((Neighbor(b"\x01\x02\x03\x04", 30303, 0, KEY.public_key),), 5),
    ENRRequest(9),
    ENRResponse(b"\x08" * 32, RECORD),
]


@pytest.mark.parametrize("packet", PACKETS, ids=lambda packet: type(packet).__name__)
def test_packet_round_trip(packet):
    data, digest = encode(KEY, packet)
    decoded = decode(data)
    assert decoded.packet == packet
    assert decoded.public_key == KEY.public_key
    assert decoded.hash == digest == data[:32]


def test_fullest_neighbors_fit_a_packet():
    nodes = (Neighbor(b"\xff" * 16, 65535, 65535, b"\xff" * 64),) * MAX_NEIGHBORS
    assert len(encode(KEY, Neighbors(nodes, 2**64 - 1))[0]) <= MAX_PACKET


def test_sequence_number_that_is_none_is_ignored():
    content = b"\x01" + rlp.encode([4, PLACE.to_item(), PLACE.to_item(), 9, [b"no", b"number"]])
    assert decode(packed(content)).packet == Ping(PLACE, PLACE, 9)


ENDPOINT = PLACE.to_item()


@pytest.mark.parametrize(
    "content",
    [
        b"\x00" + rlp.encode([]),
        b"\x07" + rlp.encode([1]),
        b"\x42" + rlp.encode([4, ENDPOINT, ENDPOINT, 9]),
        b"\x01",
        b"\x01" + rlp.encode(b"text"),
        b"\x01" + rlp.encode([4, ENDPOINT, ENDPOINT]),
        b"\x01" + rlp.encode([4, ENDPOINT[:2], ENDPOINT, 9]),
        b"\x01" + rlp.encode([4, [b"1234", 70000, 1], ENDPOINT, 9]),
        b"\x01" + rlp.encode([4, b"x", ENDPOINT, 9]),
        b"\x01" + rlp.encode([4, ENDPOINT, ENDPOINT, b"\x00\x09"]),
        b"\x01" + rlp.encode([4, ENDPOINT, ENDPOINT, 2**64]),
        b"\x01\xf8\x01\x00",
        b"\x02" + rlp.encode([ENDPOINT, b"short", 9]),
        b"\x03" + rlp.encode([b"\x01" * 63, 9]),
        b"\x03" + rlp.encode([[b"\x01" * 64], 9]),
        b"\x04" + rlp.encode([b"x", 9]),
        b"\x04" + rlp.encode([[[b"1234", 1, 1]], 9]),
        b"\x04" + rlp.encode([[[b"1234", 1, 1, b"\x01" * 63]], 9]),
        b"\x05" + rlp.encode([]),
        b"\x06" + rlp.encode([b"\x01" * 31, []]),
        b"\x06" + rlp.encode([b"\x01" * 32]),
        b"\x01" + b"\xc1" * 1000,
    ],
    ids=range(22),
)
def test_malformed_content_is_refused(content):
    with pytest.raises(DecodeError):
        decode(packed(content))


def test_changed_or_cut_packet_is_refused():
    data, _ = encode(KEY, PACKETS[0])
    for bad in (data[:-1], data + b"x", b"", data[:97], bytes([data[0] ^ 1]) + data[1:], data + bytes(1280)):
        assert not is_discv4(bad)
        with pytest.raises(DecodeError):
            decode(bad)
    assert is_discv4(data)


def test_signature_that_is_none_is_refused():
    content = b"\x05" + rlp.encode([9])
    for signature in (bytes(65), b"\xff" * 65, b"\x01" * 64 + b"\x05"):
        signed = signature + content
        with pytest.raises(DecodeError):
            decode(keccak256(signed) + signed)


@given(st.sampled_from(range(8)), st.binary(max_size=300))
def test_no_content_gets_anything_but_a_decode_error(kind, content):
    with suppress(DecodeError):
        decode(packed(bytes([kind]) + content))


@given(st.binary(max_size=1400))
def test_no_bytes_get_anything_but_a_decode_error(data):
    with suppress(DecodeError):
        decode(data)
