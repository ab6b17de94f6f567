"""The texts by which a person names a node of the onion network."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.discovery.peer_text import describe_provider, parse_peer, parse_peers, peer_text
from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.enode import Enode
from relay.primitives.errors import DecodeError
from relay.primitives.node import Node
from tests.aids.dht import key_of, record_of
from tests.aids.discv5 import node_key, onion_record, udp_record

RECORD = onion_record(7)
NODE = Node.from_record(RECORD)
ONION = NODE.onion
assert ONION is not None
KEY = NODE.public_key
ID = NODE.node_id.hex()
SHORT = peer_text(KEY, ONION)
HOST = ONION.host


@pytest.mark.parametrize(
    "text",
    [
        SHORT,
        SHORT.replace(".onion", ""),
        SHORT.upper().replace(".ONION", ""),
        f"{HOST}:{ONION.port}/{KEY.hex()}",
        f"{HOST}:{ONION.port}/0x{KEY.hex()}",
        Enode(KEY, HOST, ONION.port, 0).url,
        RECORD.to_text(),
    ],
)
def test_every_form_names_key_and_onion(text):
    node = parse_peer(text)
    assert (node.public_key, node.onion) == (KEY, ONION)
    assert (node.record is not None) == text.startswith("enr:")


def test_node_id_stands_for_a_key_that_is_known():
    text = f"{HOST}:{ONION.port}/{ID}"
    assert parse_peer(text, {NODE.node_id: KEY}.get).public_key == KEY
    with pytest.raises(DecodeError, match=r"only the hash of a public key.*66 hex digits"):
        parse_peer(text, {}.get)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is no peer"),
        ("http://example.org", "is no peer"),
        (f"{HOST}:30303", "is no peer"),
        (f"{HOST}:0/{KEY.hex()}", "port 0"),
        (f"{HOST}:99999/{KEY.hex()}", "not a number between"),
        (f"{'a' * 56}.onion:1/{KEY.hex()}", "version|checksum"),
        (f"{HOST}:1/{KEY.hex()[:-2]}", "128 or 66"),
        (f"{HOST}:1/{'ff' * 64}", "not a point"),
        (f"{HOST}:1/05{'ab' * 32}", "not a point"),
        (f"{HOST}:1/QmV3nngmTNnbJDT8SfWCvkDzmjQ58grDXuReVb4YshaqA7", "128 or 66"),
        (udp_record(1).to_text(), "no onion address"),
        (Enode(KEY, "192.0.2.1", 30303, 0).url, "no onion address"),
        (f"{HOST}:1/" + "a" * 2000, "characters"),
    ],
)
def test_what_is_none_is_refused_with_the_reason(text, why):
    with pytest.raises(DecodeError, match=why):
        parse_peer(text)


@given(st.text(max_size=200))
def test_any_text_is_a_peer_or_a_decode_error(text):
    try:
        parse_peer(text)
    except DecodeError:
        return
    raise AssertionError(f"{text!r} was taken for a peer")


def test_of_several_the_wrong_one_is_named():
    assert [each.onion for each in parse_peers([SHORT, SHORT])] == [ONION, ONION]
    with pytest.raises(DecodeError, match=r"^peer nonsense: "):
        parse_peers([SHORT, "nonsense"])


def test_provider_is_described_so_that_it_can_be_entered_by():
    record = record_of(7, key_of(1))
    told = describe_provider(record, 2)
    assert told == {
        "onion": HOST,
        "port": ONION.port,
        "id": ID,
        "peer": SHORT,
        "enr": RECORD.to_text(),
        "hops": 2,
    }
    assert parse_peer(str(told["peer"])).public_key == node_key(7).public_key
    assert parse_peer(str(told["peer"])).onion == Endpoint(Network.ONION, HOST, ONION.port)
