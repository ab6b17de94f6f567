import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.primitives import rlp
from relay.primitives.enr import NodeRecord, build_record
from relay.primitives.errors import DecodeError
from relay.primitives.forkid import ForkId
from relay.primitives.hashing import keccak256
from relay.primitives.keys import NodeKey, compress
from relay.primitives.onion import parse_onion
from tests.aids import vectors

RECORDS = vectors.load("enr/records.json")
SPECIFIED = RECORDS["specification"]
KEY = NodeKey(bytes.fromhex(SPECIFIED["private_key"]))
ONION = parse_onion("vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd.onion")
BAD_ONIONS = vectors.load("onion/addresses.json")["wrong_checksum"]


def signed(content: list, key: NodeKey = KEY, signature: bytes | None = None) -> bytes:
    """A record of any content with a good signature."""
    return rlp.encode([signature or key.sign(keccak256(rlp.encode(content))), *content])


def plain(*extra) -> list:
    return [1, "id", "v4", "secp256k1", compress(KEY.public_key), *extra]


@pytest.mark.parametrize("name", ["specification", "geth"])
def test_records_of_others_are_read_and_made_again(name):
    vector = RECORDS[name]
    key = NodeKey(bytes.fromhex(vector["private_key"]))

    record = NodeRecord.from_text(vector["text"])

    assert (record.seq, record.ip, record.udp) == (vector["seq"], vector["ip"], vector["udp"])
    assert (record.public_key, record.node_id) == (key.public_key, key.node_id)
    assert record.to_text() == vector["text"]
    made = build_record(key, vector["seq"], ip=vector["ip"], udp=vector["udp"])
    assert NodeRecord.from_rlp(made.to_rlp()) == made
    # RFC 6979 makes signatures repeatable; geth's and the specification's are made the same way.
    assert made.to_text() == vector["text"]


def test_specified_record_in_bytes():
    record = NodeRecord.from_rlp(bytes.fromhex(SPECIFIED["rlp"]))

    assert record.node_id.hex() == SPECIFIED["node_id"]
    assert record.to_text() == SPECIFIED["text"]
    assert list(record.pairs) == ["id", "ip", "secp256k1", "udp"]
    assert (record.tcp, record.ip6, record.tcp6, record.udp6, record.onion3, record.fork_id) == (None,) * 6


@pytest.mark.parametrize("text", RECORDS["invalid"])
def test_invalid_records_of_geth_are_refused(text):
    with pytest.raises(DecodeError):
        NodeRecord.from_text(text)


def test_every_entry_that_is_known_comes_back():
    record = build_record(
        KEY,
        7,
        ip="10.0.0.1",
        ip6="2001:db8::1",
        tcp=30303,
        tcp6=30304,
        udp=1,
        udp6=65535,
        onion3=ONION,
        fork_id=ForkId(b"\x07\xc9\x46\x2e", 5),
        extra={"zz": [b"any", [b"thing"]]},
    )

    again = NodeRecord.from_text(record.to_text())

    assert again == record
    assert hash(again) == hash(record)
    assert (again.seq, again.ip, again.ip6, again.onion3) == (7, "10.0.0.1", "2001:db8::1", ONION)
    assert (again.tcp, again.tcp6, again.udp, again.udp6) == (30303, 30304, 1, 65535)
    assert again.fork_id == ForkId(b"\x07\xc9\x46\x2e", 5)
    assert again.pairs["zz"] == [b"any", [b"thing"]]
    assert again.pairs == record.pairs
    assert len(again.raw) <= 300


def test_onion_entry_takes_71_bytes_and_is_a_string():
    without = build_record(KEY, 1, tcp=30303)
    with_onion = build_record(KEY, 1, tcp=30303, onion3=ONION)

    assert with_onion.pairs["onion3"] == ONION.encode()
    assert len(with_onion.raw) - len(without.raw) == 71


@pytest.mark.parametrize("bad", [*BAD_ONIONS, "", "x" * 62, [b"list"], b"\xff" * 62, ONION[:-6]])
def test_bad_onion_entry_voids_only_itself(bad):
    record = NodeRecord.from_rlp(signed(plain("onion3", bad, "tcp", 30303)[:3] + sorted_tail(bad)))

    assert record.onion3 is None
    assert record.tcp == 30303
    assert "onion3" in record.pairs


def sorted_tail(onion) -> list:
    return ["onion3", onion, "secp256k1", compress(KEY.public_key), "tcp", 30303]


def test_fork_id_entry_tolerates_what_follows():
    for entry, expected in [
        ([[b"abcd", 5], b"extra", []], ForkId(b"abcd", 5)),
        ([[b"abcd", b"\x00"]], None),
        ([[b"abc", 5]], None),
        ([], None),
        (b"abcd", None),
        ([b"abcd", 5], None),
    ]:
        content = [1, "eth", entry, "id", "v4", "secp256k1", compress(KEY.public_key)]
        assert NodeRecord.from_rlp(signed(content)).fork_id == expected


@pytest.mark.parametrize(
    ("key", "value", "attribute"),
    [
        ("ip", b"\x7f\x00\x00", "ip"),
        ("ip", [], "ip"),
        ("ip6", b"\x00" * 4, "ip6"),
        ("ip6", [], "ip6"),
    ],
)
def test_bad_addresses_read_as_absent(key, value, attribute):
    content = [1, "id", "v4", key, value, "secp256k1", compress(KEY.public_key)]
    assert getattr(NodeRecord.from_rlp(signed(content)), attribute) is None


@pytest.mark.parametrize("value", [b"", b"\x00\x01", b"\x01\x00\x00", [], b"\x00"])
def test_bad_ports_read_as_absent(value):
    assert NodeRecord.from_rlp(signed(plain("tcp", value))).tcp is None


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ([1, "id", "v4"], "public key"),
        ([1, "id", "v4", "secp256k1", b"\x02" * 32], "public key"),
        ([1, "id", "v4", "secp256k1", b"\x05" * 33], "point"),
        ([1, "id", "v4", "secp256k1", []], "expected bytes"),
        ([1, "id", "v5", "secp256k1", compress(KEY.public_key)], "identity scheme"),
        ([1, "secp256k1", compress(KEY.public_key)], "identity scheme"),
        ([1, "id", ["v4"], "secp256k1", compress(KEY.public_key)], "identity scheme"),
        ([1, "secp256k1", compress(KEY.public_key), "id", "v4"], "sorted"),
        (plain("tcp", 1, "tcp", 2), "sorted"),
        (plain("a", 1), "sorted"),
        (plain("tcp"), "pairs"),
        ([], "pairs"),
        (plain(["tcp"], 1), "expected bytes"),
        ([b"\x00\x01", *plain()[1:]], "leading zeros"),
        ([2**64, *plain()[1:]], "at most 8"),
        ([[], *plain()[1:]], "list"),
        (plain("z", b"x" * 300), "300 bytes"),
    ],
)
def test_records_that_break_a_rule_are_refused(content, why):
    with pytest.raises(DecodeError, match=why):
        NodeRecord.from_rlp(signed(content))


def test_signature_is_checked():
    good = signed(plain())
    assert NodeRecord.from_rlp(good)
    for raw in (
        signed(plain(), signature=b"\x01" * 64),
        signed(plain(), signature=b"\x01" * 63),
        signed(plain(), NodeKey(b"\x07" * 32)),
        good + b"\x00",
        good[:-1],
        b"\x80",
    ):
        with pytest.raises(DecodeError):
            NodeRecord.from_rlp(raw)


@given(st.integers(0, 130), st.integers(1, 255))
def test_no_flipped_byte_goes_unnoticed(position, change):
    raw = bytearray(bytes.fromhex(SPECIFIED["rlp"]))
    raw[position] ^= change

    with pytest.raises(DecodeError):
        NodeRecord.from_rlp(bytes(raw))


@given(st.binary(max_size=120))
def test_hostile_bytes_are_refused(data):
    with pytest.raises(DecodeError):
        NodeRecord.from_rlp(data)
    with pytest.raises(DecodeError):
        NodeRecord.from_text("enr:" + base64.urlsafe_b64encode(data).decode().rstrip("="))


@pytest.mark.parametrize(
    "change", [lambda t: t + "=", lambda t: t[:-1] + "+", lambda t: t[4:], lambda t: t + "\n"]
)
def test_text_form_is_strict(change):
    with pytest.raises(DecodeError):
        NodeRecord.from_text(change(SPECIFIED["text"]))


def test_unknown_keys_of_any_bytes_survive():
    record = NodeRecord.from_rlp(signed(plain(b"\xff\xfe", b"x")))

    assert record.pairs["\xff\xfe"] == b"x"
    assert NodeRecord.sign(KEY, 1, record.pairs).raw == record.raw


def test_record_too_large_is_not_made():
    with pytest.raises(DecodeError, match="300"):
        build_record(KEY, 1, extra={"z": b"x" * 200})


@pytest.mark.parametrize("wrong", [{"ip": "::1"}, {"ip6": "1.2.3.4"}, {"ip": "name"}])
def test_record_is_not_made_of_wrong_addresses(wrong):
    with pytest.raises(DecodeError):
        build_record(KEY, 1, **wrong)


def test_short_form_for_logs_shows_no_address():
    record = build_record(KEY, 3, ip="10.0.0.1", onion3=ONION)
    assert repr(record) == f"NodeRecord(node_id={KEY.node_id.hex()[:16]}..., seq=3)"
    assert record != record.raw
