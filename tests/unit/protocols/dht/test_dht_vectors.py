"""The vectors of docs/specs/provider-dht.md: what is written there is what the code does.

What can be, is checked here from the text of the specification alone, by another road than the code's.
"""

import json
from hashlib import sha256

import coincurve
import pytest
import rlp as pyrlp
from sha3 import keccak_256

from relay.primitives.enr import NodeRecord
from relay.primitives.errors import DecodeError
from relay.protocols.dht import RecordCache, parse_key, rendezvous_keys
from relay.protocols.dht.messages import decode_answer, decode_request
from relay.protocols.dht.record import is_current
from relay.protocols.dht.serving import is_storable
from relay.protocols.discv5 import ContactCache, OnionNetwork
from tests.aids import dht_vectors
from tests.aids.dht_vectors import PATH

VECTORS = json.loads(PATH.read_text(encoding="ascii"))
RECORD = VECTORS["record"]


def keccak(data: bytes) -> bytes:
    return keccak_256(data).digest()


def cache() -> RecordCache:
    return RecordCache(ContactCache(OnionNetwork().address_of, 16), 16)


def test_stored_vectors_are_those_that_the_code_makes():
    assert dht_vectors.make() == VECTORS


@pytest.mark.parametrize("vector", VECTORS["keys"], ids=lambda vector: vector["text"][:12])
def test_keys_in_text(vector):
    assert parse_key(vector["text"]).hex() == vector["key"]
    if not vector["text"].lower().startswith("0xa5"):
        assert keccak(vector["text"].encode()).hex() == vector["key"]


def test_the_record_is_signed_as_the_specification_says():
    enr = NodeRecord.from_text(RECORD["enr"])
    hour = RECORD["hour"].to_bytes(8, "big")
    digest = keccak(b"discv5 provider record v1" + bytes.fromhex(RECORD["key"]) + hour + keccak(enr.raw))
    assert digest.hex() == RECORD["signed"]
    fields = pyrlp.decode(bytes.fromhex(RECORD["encoded"]))
    assert pyrlp.encode(fields[0]) == enr.raw
    assert int.from_bytes(fields[1], "big") == RECORD["hour"]
    assert fields[2].hex() == RECORD["signature"]
    public = coincurve.PrivateKey(bytes.fromhex(RECORD["node_key"])).public_key
    assert keccak(public.format(compressed=False)[1:]).hex() == RECORD["node_id"]
    assert any(
        coincurve.PublicKey.from_signature_and_message(fields[2] + bytes((parity,)), digest, hasher=None)
        == public
        for parity in (0, 1)
    )


def test_the_record_is_read():
    record = cache().get(bytes.fromhex(RECORD["encoded"]), bytes.fromhex(RECORD["key"]))
    assert record.node_id.hex() == RECORD["node_id"]
    assert is_current(record.hour, VECTORS["unix"])
    assert is_storable(record, OnionNetwork(), record.address)


@pytest.mark.parametrize("vector", VECTORS["refused_records"], ids=lambda vector: vector["why"])
def test_records_that_are_refused(vector):
    try:
        record = cache().get(bytes.fromhex(vector["encoded"]), bytes.fromhex(vector["key"]))
    except DecodeError:
        return
    assert vector["why"] in {"expired", "26 hours ahead", "with an IP, among onions"}
    current = is_current(record.hour, VECTORS["unix"])
    assert not (current and is_storable(record, OnionNetwork(), record.address))


@pytest.mark.parametrize("vector", VECTORS["messages"], ids=lambda vector: vector["name"])
def test_messages(vector):
    raw = bytes.fromhex(vector["encoded"])
    decode = decode_request if raw[0] in (1, 3) else decode_answer
    message = decode(raw)
    assert message.encode() == raw
    for name, value in vector.items():
        if name in {"name", "encoded"}:
            continue
        found = getattr(message, name)
        if isinstance(found, bytes):
            found = found.hex()
        elif isinstance(found, tuple):
            found = [each.hex() for each in found]
        assert found == value, name
    assert pyrlp.encode(pyrlp.decode(raw[1:])) == raw[1:]


def test_rendezvous_keys_are_hashed_as_the_specification_says():
    vectors = VECTORS["rendezvous"]
    genesis = bytes.fromhex(vectors["genesis_hash"])
    assert vectors["offset"] == int.from_bytes(genesis[:4], "big") % 86_400
    for each in vectors["keys"]:
        numbers = vectors["chain_id"].to_bytes(8, "big") + each["epoch"].to_bytes(8, "big")
        data = b"provider rendezvous v1" + genesis + numbers + bytes((each["part"],))
        assert keccak(data).hex() == each["key"]


def test_shares_are_drawn_as_the_specification_says():
    vectors = VECTORS["rendezvous"]
    node = bytes.fromhex(vectors["node_id"])
    for each in vectors["shares"]:
        digest = keccak(b"provider rendezvous share v1" + node + each["epoch"].to_bytes(8, "big"))
        assert sorted(list(dict.fromkeys(byte % 16 for byte in digest))[:2]) == each["parts"]


@pytest.mark.parametrize("vector", VECTORS["rendezvous"]["times"], ids=lambda vector: str(vector["unix"]))
def test_times(vector):
    rendezvous = VECTORS["rendezvous"]
    keys = rendezvous_keys(
        bytes.fromhex(rendezvous["genesis_hash"]),
        rendezvous["chain_id"],
        vector["unix"],
        bytes.fromhex(rendezvous["node_id"]),
    )
    assert [keys.find[0].hex(), keys.find[-1].hex(), len(keys.find)] == [
        vector["find_first"],
        vector["find_last"],
        vector["find_count"],
    ]
    assert [each.hex() for each in keys.provide] == vector["provide"]
    assert keys.until == vector["until"]


def test_the_node_key_of_the_vectors_is_what_it_says():
    assert sha256(b"provider").hexdigest() == RECORD["node_key"]
