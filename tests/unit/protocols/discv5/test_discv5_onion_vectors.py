"""The vectors of docs/specs/discv5-over-onion.md: what is written there is what the code does."""

import json

import pytest

from relay.primitives.enr import NodeRecord
from relay.primitives.errors import DecodeError
from relay.primitives.keys import NodeKey
from relay.primitives.onion import onion_from_public, parse_onion
from relay.protocols.discv5 import SessionEstablished
from relay.protocols.discv5.streams import PacketReader
from tests.aids import onion_vectors
from tests.aids.onion_vectors import PATH, STREAM, Party

VECTORS = json.loads(PATH.read_text(encoding="ascii"))


def packets_of(stream: str, *, preface: bool) -> list[bytes]:
    reader, found = PacketReader(preface=preface), []
    reader.receive(bytes.fromhex(stream))
    while (packet := reader.next_packet()) is not None:
        found.append(packet)
    assert len(reader) == 0
    return found


def test_stored_vectors_are_those_that_the_code_makes():
    assert onion_vectors.make() == VECTORS


@pytest.mark.parametrize("node", VECTORS["nodes"].values(), ids=VECTORS["nodes"])
def test_records_hold_what_the_specification_lists(node):
    record = NodeRecord.from_text(node["record"])
    assert record.raw.hex() == node["record_rlp"]
    assert NodeKey(bytes.fromhex(node["node_key"])).node_id == record.node_id
    assert record.node_id.hex() == node["node_id"]
    assert list(record.pairs) == ["eth", "id", "onion3", "secp256k1", "tcp"]
    assert record.pairs["onion3"] == node["onion3"].encode("ascii")
    assert onion_from_public(bytes.fromhex(node["onion_public_key"])) == record.onion3 == node["onion3"]
    assert (record.tcp, record.seq) == (node["tcp"], node["seq"])
    assert [record.fork_id.hash.hex(), record.fork_id.next] == node["eth"]


def test_streams_are_preface_and_frames():
    sent = packets_of(VECTORS["streams"]["from_dialer"], preface=True)
    answered = packets_of(VECTORS["streams"]["from_listener"], preface=False)
    for source, packets in (("dialer", sent), ("listener", answered)):
        steps = [step for step in VECTORS["exchange"] if step["from"] == source]
        assert [packet.hex() for packet in packets] == [step["packet"] for step in steps]
        assert all(step["frame"] == f"{len(step['packet']) // 2:04x}{step['packet']}" for step in steps)


def test_a_node_that_never_saw_these_packets_understands_them():
    """The keys alone decide: another implementation can replay this."""
    listener = Party("listener", 5)
    first, *_ = packets_of(VECTORS["streams"]["from_dialer"], preface=True)
    listener.core.receive_packet(first, STREAM, 0.0)
    ((challenge, to),) = listener.core.take_packets()
    assert to == STREAM
    assert challenge.hex() == VECTORS["exchange"][1]["packet"]
    events = listener.core.receive_packet(bytes.fromhex(VECTORS["exchange"][2]["packet"]), STREAM, 0.0)
    (established,) = [event for event in events if isinstance(event, SessionEstablished)]
    assert established.contact.record.raw.hex() == VECTORS["nodes"]["dialer"]["record_rlp"]
    session = listener.core._codec.sessions.get((established.contact.node_id, STREAM))
    assert session.read_key.hex() == VECTORS["session"]["initiator_key"]
    assert session.write_key.hex() == VECTORS["session"]["recipient_key"]


@pytest.mark.parametrize("bad", VECTORS["refused_streams"], ids=lambda bad: bad["why"])
def test_refused_streams_are_refused(bad):
    with pytest.raises(DecodeError):
        packets_of(bad["bytes"], preface=True)


@pytest.mark.parametrize("onion", VECTORS["refused_onion3"].values(), ids=VECTORS["refused_onion3"])
def test_refused_onions_are_refused(onion):
    with pytest.raises(DecodeError):
        parse_onion(onion)
