from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.enode import parse as parse_enode
from relay.primitives.enr import NodeRecord, build_record
from relay.primitives.errors import DecodeError
from relay.primitives.i2p import (
    MAX_DESTINATION,
    I2PKey,
    hash_from_i2p,
    i2p_from_destination,
    i2p_from_hash,
    is_i2p,
    parse_i2p,
)
from relay.primitives.keys import NodeKey
from relay.primitives.node import Node
from tests.aids.sam_bridge import make_destination, make_key, text_of

KEY = NodeKey(bytes(31) + b"\x01")
ADDRESS = i2p_from_hash(bytes(range(32)))
# geti2p.net's own site, and the destination hash that its address stands for.
SITE = "udhdrtrhgjm5tjzjkvi4ffpawbxqamsvdmnwvvuyhrj3n4nvgrha.b32.i2p"


@given(st.binary(min_size=32, max_size=32))
def test_address_and_hash_are_two_forms_of_one_thing(digest: bytes) -> None:
    address = i2p_from_hash(digest)
    assert len(address) == 52 + len(".b32.i2p")
    assert hash_from_i2p(address) == digest
    assert parse_i2p(address.upper()) == address


@given(st.text(max_size=70))
def test_any_text_is_an_address_or_a_decode_error(text: str) -> None:
    try:
        found = parse_i2p(text + ".b32.i2p")
    except DecodeError:
        return
    assert i2p_from_hash(hash_from_i2p(found)) == found


def test_a_real_address_is_read() -> None:
    assert parse_i2p(SITE) == SITE


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stats.i2p", "address books are not looked up"),
        ("a" * 51 + ".b32.i2p", "expected 52"),
        ("a" * 56 + ".b32.i2p", "expected 52"),  # an encrypted service
        ("a" * 51 + "b.b32.i2p", "mistyped"),  # a bit that no hash has
        ("1" * 52 + ".b32.i2p", "not base32"),
        ("a" * 51 + "\u212a.b32.i2p", "not base32"),  # the Kelvin sign
        ("a" * 48 + "====.b32.i2p", "not base32"),
    ],
)
def test_other_names_are_refused(text: str, words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        parse_i2p(text)


def test_every_name_below_i2p_belongs_to_it() -> None:
    assert all(is_i2p(each) for each in ("stats.i2p", "STATS.I2P.", ADDRESS))
    assert not any(is_i2p(each) for each in ("i2p", "i2p.example", "noti2p"))


def test_endpoint_of_i2p_has_port_zero_and_can_be_dialed() -> None:
    endpoint = Endpoint.parse(ADDRESS + ".", 0)
    assert (endpoint.network, endpoint.host, endpoint.can_be_dialed) == (Network.I2P, ADDRESS, True)
    assert not Endpoint.parse("192.0.2.1", 0).can_be_dialed
    with pytest.raises(DecodeError, match="no port; write 0"):
        Endpoint.parse(ADDRESS, 30303)


def test_enode_url_of_i2p_is_kept_as_it_is() -> None:
    url = f"enode://{KEY.public_key.hex()}@{ADDRESS}:0"
    assert parse_enode(url).url == url
    node = Node.parse(url)
    assert node.i2p == Endpoint(Network.I2P, ADDRESS, 0)
    assert node.enode.url == url
    with pytest.raises(DecodeError, match="no port"):
        Node.parse(url.removesuffix("0") + "30303")


def test_record_holds_the_hash_of_32_bytes() -> None:
    record = build_record(KEY, 1, i2p=ADDRESS)
    assert record.pairs["i2p"] == bytes(range(32))
    assert list(record.pairs) == ["i2p", "id", "secp256k1"]
    read = NodeRecord.from_text(record.to_text())
    assert read.i2p == ADDRESS
    assert Node.from_record(read).endpoints == (Endpoint(Network.I2P, ADDRESS, 0),)


@pytest.mark.parametrize("value", [b"", bytes(31), bytes(33), [bytes(32)], ADDRESS.encode()])
def test_bad_entry_voids_itself_and_not_the_record(value: bytes | list[bytes]) -> None:
    record = NodeRecord.sign(KEY, 1, {"i2p": value, "ip": bytes((192, 0, 2, 1)), "tcp": 7})
    assert NodeRecord.from_rlp(record.raw).i2p is None
    assert [each.network for each in Node.from_record(record).endpoints] == [Network.IPV4]


def test_record_with_every_address_fits() -> None:
    from relay.primitives.forkid import ForkId
    from relay.primitives.onion import OnionKey

    onion = OnionKey.from_seed(bytes(32)).address
    fork = ForkId(b"\xff" * 4, 2**64 - 1)
    record = build_record(
        KEY, 2**40, ip="192.0.2.1", tcp=30303, udp=30303, onion3=onion, i2p=ADDRESS, fork_id=fork
    )
    assert len(record.raw) <= 300


def test_destination_gives_its_address() -> None:
    raw = make_destination()
    assert hash_from_i2p(i2p_from_destination(text_of(raw))) == hashlib.sha256(raw).digest()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "at least 387"),
        (text_of(bytes(386)), "at least 387"),
        (text_of(make_destination()[:-1]), "certificate tells of another length"),
        (text_of(make_destination() + b"\0"), "certificate tells of another length"),
        (text_of(bytes(385) + b"\xff\xff"), "at most 3072 are taken"),
        ("A" * 5000, "at most"),
        (text_of(make_destination()).replace("A", "+", 1) + "+", "I2P's base64"),
        (text_of(make_destination())[:-1], "base64"),
        (text_of(bytes(388))[:-2] + "B=", "base64"),
    ],
)
def test_destination_that_is_none_is_refused(text: str, words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        i2p_from_destination(text)


@given(st.text(alphabet="ABCz019-~=+/ \n", max_size=MAX_DESTINATION * 2))
def test_any_text_is_a_destination_or_a_decode_error(text: str) -> None:
    with pytest.raises(DecodeError):
        i2p_from_destination(text)


def test_key_keeps_its_bytes_and_shows_nothing() -> None:
    raw = make_key()
    key = I2PKey(raw)
    assert (key.to_file(), key.to_text()) == (raw, text_of(raw))
    assert I2PKey.from_text(key.to_text()) == key
    assert hash_from_i2p(key.address) == hashlib.sha256(raw[:391]).digest()
    assert repr(key) == "I2PKey(...)"


@pytest.mark.parametrize("raw", [b"", bytes(391), make_destination(), make_key() + bytes(9000)])
def test_key_that_is_none_is_refused(raw: bytes) -> None:
    with pytest.raises(DecodeError):
        I2PKey(raw)
