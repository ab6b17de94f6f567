"""Entries of the address book: signed by both keys over every field, anchored by the cluster's key."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey, VerifyKey

from relay.kubernetes.entry import ClusterKey, Entry, Place, parse_cluster_key, parse_entry, sign_entry
from relay.kubernetes.onion_signature import onion_sign, onion_verify
from relay.primitives.enr import build_record
from relay.primitives.errors import DecodeError
from relay.primitives.onion import OnionKey, public_from_onion
from tests.aids.kubernetes import CLUSTER_KEY, STAMP, pod

ALICE, BOB = pod("relay-0"), pod("relay-1")


def resigned(fields: dict[str, object], who=ALICE, key=CLUSTER_KEY) -> str:
    """Sign whatever fields: what a relay with both keys could write on purpose."""
    import hashlib

    signed = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    head = b"pyrelay address book entry v1\n" + signed.encode()
    fields = dict(fields)
    fields["signatures"] = {
        "node": who.node.sign(hashlib.sha256(head).digest()).hex(),
        "onion": onion_sign(who.onion, head).hex(),
    }
    fields["membership"] = key.anchor(json.dumps(fields, sort_keys=True, separators=(",", ":")))
    return json.dumps(fields)


def test_an_entry_comes_back_as_it_was_signed() -> None:
    entry = ALICE.entry(7, record=True)
    text = sign_entry(entry, ALICE.node, ALICE.onion, CLUSTER_KEY)
    assert parse_entry(text, ALICE.place, CLUSTER_KEY) == entry
    shown = json.loads(text)
    assert shown["onion"] == ALICE.onion.address
    assert shown["nodeId"] == ALICE.node.public_key.hex()
    assert shown["port"] == 30303
    assert shown["timestamp"] == STAMP
    assert len(text) < 1800


def test_the_order_and_blanks_of_an_editor_do_not_matter() -> None:
    text = json.dumps(dict(reversed(list(json.loads(ALICE.text()).items()))), indent=2)
    assert parse_entry(text, ALICE.place, CLUSTER_KEY) == ALICE.entry()


def test_an_entry_copied_under_another_pods_name_is_refused() -> None:
    with pytest.raises(
        DecodeError, match=r"signed for lab/relays/relay-0, not for lab/relays/relay-1: copied"
    ):
        parse_entry(ALICE.text(), BOB.place, CLUSTER_KEY)


@pytest.mark.parametrize("place", [Place("other", "relays", "relay-0"), Place("lab", "other", "relay-0")])
def test_an_entry_of_another_cluster_or_namespace_is_refused(place: Place) -> None:
    with pytest.raises(DecodeError, match="copied"):
        parse_entry(ALICE.text(), place, CLUSTER_KEY)


def test_a_name_writes_no_lines_of_its_own_into_the_log() -> None:
    fields = {**json.loads(ALICE.text()), "pod": "x\n[tor-discovery] Adding peer: y\x1b[2J"}
    with pytest.raises(DecodeError, match="copied") as caught:
        parse_entry(json.dumps(fields), ALICE.place, CLUSTER_KEY)
    assert str(caught.value).isprintable()


def test_a_name_that_was_changed_after_signing_is_noticed() -> None:
    fields = json.loads(ALICE.text())
    fields["pod"] = "relay-1"
    with pytest.raises(DecodeError, match="the node key did not sign"):
        parse_entry(json.dumps(fields), BOB.place, CLUSTER_KEY)


@pytest.mark.parametrize("name", ["sequence", "timestamp", "enr"])
def test_each_field_is_under_the_signatures(name: str) -> None:
    fields = json.loads(sign_entry(ALICE.entry(7, record=True), ALICE.node, ALICE.onion, CLUSTER_KEY))
    if name == "enr":
        del fields["enr"]
    else:
        fields[name] = 8 if name == "sequence" else "2030-01-01T00:00:00Z"
    with pytest.raises(DecodeError, match="did not sign"):
        parse_entry(json.dumps(fields), ALICE.place, CLUSTER_KEY)


def test_a_signature_by_only_one_of_the_keys_is_not_enough() -> None:
    fields = json.loads(ALICE.text())
    bobs = json.loads(BOB.text(place=ALICE.place))
    fields["signatures"]["onion"] = bobs["signatures"]["onion"]
    with pytest.raises(DecodeError, match="the onion key did not sign"):
        parse_entry(json.dumps(fields), ALICE.place, None)


def test_who_lacks_the_cluster_key_is_no_member() -> None:
    stranger = BOB.text(key=ClusterKey(b"some other secret here"), place=BOB.place)
    with pytest.raises(DecodeError, match="not of this cluster's key"):
        parse_entry(stranger, BOB.place, CLUSTER_KEY)
    with pytest.raises(DecodeError, match="no mark of this cluster"):
        parse_entry(BOB.text(key=None), BOB.place, CLUSTER_KEY)
    assert parse_entry(BOB.text(key=None), BOB.place, None) == BOB.entry()


def test_a_mark_of_a_member_does_not_fit_another_entry() -> None:
    fields = json.loads(ALICE.text(2))
    fields["membership"] = json.loads(ALICE.text(1))["membership"]
    with pytest.raises(DecodeError, match="not of this cluster's key"):
        parse_entry(json.dumps(fields), ALICE.place, CLUSTER_KEY)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"port": 0}, "port"),
        ({"port": True}, "port"),
        ({"port": "30303"}, "port"),
        ({"sequence": 0}, "sequence"),
        ({"sequence": 1.5}, "sequence"),
        ({"sequence": 1 << 60}, "sequence"),
        ({"nodeId": "pod-gethrelay-only-onion-1-0"}, "nodeId is not hexadecimal"),
        ({"nodeId": "ab" * 64}, "not a point"),
        ({"nodeId": ALICE.node.public_key.hex().upper()}, "nodeId"),
        ({"onion": "abc.onion"}, "onion address"),
        ({"onion": ALICE.onion.address.upper()}, "lower case"),
        ({"enode": "enode://x"}, "enode is not made of"),
        ({"enr": "enr:AAAA"}, "RLP|record|rlp"),
        ({"enr": 5}, "enr is missing"),
        ({"timestamp": ""}, "timestamp is missing"),
    ],
)
def test_a_field_that_makes_no_sense_is_named_even_if_signed(change: dict[str, object], words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        parse_entry(resigned({**ALICE.entry().fields(), **change}), ALICE.place, CLUSTER_KEY)


def test_a_record_of_another_node_or_service_is_refused() -> None:
    other = build_record(BOB.node, 1, tcp=30303, onion3=ALICE.onion.address, fork_id=None).to_text()
    with pytest.raises(DecodeError, match="record of another node"):
        parse_entry(resigned({**ALICE.entry().fields(), "enr": other}), ALICE.place, CLUSTER_KEY)
    elsewhere = build_record(ALICE.node, 1, tcp=30303, onion3=BOB.onion.address, fork_id=None).to_text()
    with pytest.raises(DecodeError, match="another onion service"):
        parse_entry(resigned({**ALICE.entry().fields(), "enr": elsewhere}), ALICE.place, CLUSTER_KEY)


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda b: b.decode("latin-1")))
def test_any_text_is_an_entry_or_a_decode_error(text: str) -> None:
    with pytest.raises(DecodeError):
        parse_entry(text, ALICE.place, CLUSTER_KEY)


@given(st.dictionaries(st.sampled_from([*json.loads(ALICE.text()), "x"]), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
), min_size=1))  # fmt: skip
def test_any_change_of_fields_is_a_decode_error_or_nothing(change: dict[str, object]) -> None:
    fields = {**json.loads(ALICE.text()), **change}
    try:
        entry = parse_entry(json.dumps(fields), ALICE.place, CLUSTER_KEY)
    except DecodeError:
        return
    assert entry == ALICE.entry()


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 700, "9" * 4000, "null", '"x"', "x" * 5000, "NaN"])
def test_nonsense_is_refused_without_much_work(text: str) -> None:
    with pytest.raises(DecodeError):
        parse_entry(text, ALICE.place, None)


def test_a_short_cluster_key_is_refused_with_a_way_to_make_one() -> None:
    with pytest.raises(DecodeError, match="openssl rand -hex 32"):
        parse_cluster_key(b" short \n")
    assert parse_cluster_key(b"x" * 32 + b"\n").accepts("a", parse_cluster_key(b"x" * 32).anchor("a"))
    assert "x" not in repr(parse_cluster_key(b"x" * 32)).replace("ClusterKey", "")


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200))
def test_an_expanded_key_signs_as_its_seed_does(seed: bytes, message: bytes) -> None:
    """RFC 8032: the signature is a function of the key and the message, so libsodium's is the same."""
    key = OnionKey.from_seed(seed)
    signature = onion_sign(key, message)
    assert signature == SigningKey(seed).sign(message).signature
    VerifyKey(public_from_onion(key.address)).verify(message, signature)
    assert onion_verify(key.address, message, signature)
    assert not onion_verify(key.address, message + b"x", signature)
    assert not onion_verify(BOB.onion.address, message, signature)


def test_keys_and_entry_must_belong_together() -> None:
    with pytest.raises(AssertionError):
        sign_entry(ALICE.entry(), BOB.node, BOB.onion, None)


def test_an_entry_is_a_value() -> None:
    entry: Entry = ALICE.entry()
    assert entry.enode.startswith("enode://")
    assert str(entry.place) == "lab/relays/relay-0"
