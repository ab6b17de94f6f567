"""Packets against the vectors of devp2p and go-ethereum, and packets that are none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.primitives.enr import NodeRecord
from relay.primitives.keys import NodeKey, decompress
from relay.protocols.discv5 import messages
from relay.protocols.discv5 import packet as wire
from relay.protocols.discv5.crypto import REAL, HeaderMask, derive, id_digest
from relay.protocols.discv5.messages import Ping
from relay.protocols.discv5.packet import Flag, Reason, Refusal
from tests.aids.vectors import load

WIRE = load("discv5/wire.json")
GETH = load("discv5/geth_v5wire.json")
PACKETS = [(each["name"], each) for each in WIRE["packets"]] + [
    (each["file"], each) for each in GETH["packets"]
]
KEY_A = NodeKey(bytes.fromhex(WIRE["keys"]["node-a-key"]))
KEY_B = NodeKey(bytes.fromhex(WIRE["keys"]["node-b-key"]))
MASK = HeaderMask(KEY_B.node_id)
IV = bytes(16)


def unhex(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


@pytest.mark.parametrize("vector", [each for _, each in PACKETS], ids=[name for name, _ in PACKETS])
def test_packet_of_a_vector_is_read_and_written_the_same(vector):
    data, fields = unhex(vector["packet"]), vector["fields"]
    packet = wire.parse(data, MASK)

    assert wire.protect(packet.header, MASK, packet.message) == data
    if packet.flag == Flag.WHOAREYOU:
        id_nonce, seq = wire.split_whoareyou(packet.auth)
        assert packet.nonce == unhex(fields["whoareyou.request-nonce"])
        assert id_nonce == unhex(fields["whoareyou.id-nonce"])
        assert seq == int(fields["whoareyou.enr-seq"])
        assert packet.header == unhex(fields["whoareyou.challenge-data"])
        assert wire.whoareyou_header(IV, packet.nonce, id_nonce, seq) == packet.header
        return
    assert packet.nonce == unhex(fields["nonce"])
    plaintext = REAL.aead(unhex(fields["read-key"])).decrypt(packet.nonce, packet.message, packet.header)
    assert messages.decode(plaintext) == Ping(unhex(fields["ping.req-id"]), int(fields["ping.enr-seq"]))
    if packet.flag == Flag.MESSAGE:
        assert packet.auth == KEY_A.node_id == unhex(fields["src-node-id"])
        assert wire.message_header(IV, packet.nonce, KEY_A.node_id) == packet.header


@pytest.mark.parametrize(
    "vector",
    [each for name, each in PACKETS if "handshake" in name],
    ids=lambda each: each.get("name", "geth"),
)
def test_handshake_of_a_vector_is_accepted_and_made_the_same(vector):
    packet, fields = wire.parse(unhex(vector["packet"]), MASK), vector["fields"]
    auth = wire.parse_handshake(packet.auth)
    challenge = unhex(fields["whoareyou.challenge-data"])
    key = unhex(fields["ephemeral-key"])

    keys = REAL.accept(KEY_B, KEY_A.public_key, challenge, auth.ephemeral, auth.signature)
    begun = REAL.initiate(KEY_A, KEY_B.public_key, challenge, lambda _size: key)

    assert keys.initiator == unhex(fields["read-key"])
    assert auth.ephemeral == unhex(fields["ephemeral-pubkey"])
    assert (begun.signature, begun.ephemeral, begun.keys) == (auth.signature, auth.ephemeral, keys)
    assert wire.handshake_header(IV, packet.nonce, auth) == packet.header
    if "with ENR" in vector.get("name", "") or "enr" in vector.get("file", ""):
        assert NodeRecord.from_rlp(auth.record).node_id == auth.source
    else:
        assert auth.record == b""


def test_shared_secret_of_the_vector():
    vector = WIRE["crypto"]["ECDH"]
    key = NodeKey(unhex(vector["secret-key"]))
    assert key.ecdh_compressed(decompress(unhex(vector["public-key"]))) == unhex(vector["shared-secret"])


def test_session_keys_of_the_vector():
    vector = {name: unhex(value) for name, value in WIRE["crypto"]["Key Derivation"].items()}
    secret = NodeKey(vector["ephemeral-key"]).ecdh_compressed(decompress(vector["dest-pubkey"]))
    keys = derive(secret, vector["node-id-a"], vector["node-id-b"], vector["challenge-data"])
    assert (keys.initiator, keys.recipient) == (vector["initiator-key"], vector["recipient-key"])


def test_identity_proof_of_the_vector():
    vector = {name: unhex(value) for name, value in WIRE["crypto"]["ID Nonce Signing"].items()}
    digest = id_digest(vector["challenge-data"], vector["ephemeral-pubkey"], vector["node-id-B"])
    assert NodeKey(vector["static-key"]).sign(digest) == vector["id-signature"]


def test_ciphertext_of_the_vector():
    vector = {name: unhex(value) for name, value in WIRE["crypto"]["Encryption/Decryption"].items()}
    cipher = REAL.aead(vector["encryption-key"])
    assert cipher.encrypt(vector["nonce"], vector["pt"], vector["ad"]) == vector["message-ciphertext"]


def sealed(header: bytes, message: bytes = b"") -> bytes:
    return wire.protect(header, MASK, message)


def plain(flag: int, auth: bytes, *, version: bytes = b"\x00\x01", size: int | None = None) -> bytes:
    stated = len(auth) if size is None else size
    return IV + b"discv5" + version + bytes((flag,)) + bytes(12) + stated.to_bytes(2, "big") + auth


HOSTILE = {
    "empty": (b"", Reason.NOT_DISCV5),
    "62 bytes": (bytes(62), Reason.NOT_DISCV5),
    "zeros": (bytes(63), Reason.NOT_DISCV5),
    "1281 bytes": (bytes(1281), Reason.OVERSIZE),
    "version 0": (sealed(plain(0, bytes(32), version=b"\x00\x00"), bytes(40)), Reason.HEADER),
    "message too short": (sealed(plain(0, bytes(32)), bytes(15)), Reason.NOT_DISCV5),
    "authdata beyond the packet": (sealed(plain(0, bytes(32), size=400), bytes(40)), Reason.HEADER),
    "message with authdata of 31": (sealed(plain(0, bytes(31)), bytes(40)), Reason.HEADER),
    "message with authdata of 33": (sealed(plain(0, bytes(33)), bytes(40)), Reason.HEADER),
    "whoareyou with authdata of 25": (sealed(plain(1, bytes(25))), Reason.HEADER),
    "whoareyou with a message": (sealed(plain(1, bytes(24)), b"x"), Reason.HEADER),
    "handshake without room for its parts": (sealed(plain(2, bytes(130)), bytes(40)), Reason.HEADER),
    "flag 3": (sealed(plain(3, bytes(32)), bytes(40)), Reason.HEADER),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_receiver_refuses(name):
    data, reason = HOSTILE[name]
    with pytest.raises(Refusal) as refused:
        wire.parse(data, MASK)
    assert refused.value.reason is reason


def test_later_version_is_read():
    assert wire.parse(sealed(plain(0, bytes(32), version=b"\x00\x02"), bytes(16)), MASK).flag == Flag.MESSAGE


@pytest.mark.parametrize("sizes", [b"\x3f\x21", b"\x40\x20", b"\xff\xff"])
def test_receiver_refuses_handshake_of_another_scheme(sizes):
    with pytest.raises(Refusal):
        wire.parse_handshake(bytes(32) + sizes + bytes(97))


@given(st.binary(min_size=63, max_size=1300))
def test_any_bytes_are_a_packet_or_refused(data):
    try:
        packet = wire.parse(data, MASK)
    except Refusal:
        return
    assert wire.protect(packet.header, MASK, packet.message) == data


@given(
    st.sampled_from([0, 1, 2, 3, 255]),
    st.binary(max_size=400),
    st.integers(0, 0xFFFF),
    st.binary(max_size=60),
)
def test_any_header_is_a_packet_or_refused(flag, auth, size, message):
    try:
        packet = wire.parse(sealed(plain(flag, auth, size=size), message), MASK)
        if packet.flag == Flag.HANDSHAKE:
            wire.parse_handshake(packet.auth)
    except Refusal:
        pass
