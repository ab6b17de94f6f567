"""The EIP-8 handshake, against geth's vectors and against itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.primitives import rlp
from relay.primitives.errors import DecodeError, HandshakeFailed
from relay.primitives.hashing import keccak256
from relay.primitives.keys import NodeKey
from relay.protocols.rlpx import ecies, handshake
from relay.protocols.rlpx.handshake import Initiator, Recipient, packet_length
from tests.aids.devp2p import Randomness
from tests.aids.vectors import load

VECTORS = load("rlpx/eip8.json")
KEYS = {name: bytes.fromhex(value) for name, value in VECTORS["keys"].items()}
A, B = NodeKey(KEYS["initiator"]), NodeKey(KEYS["recipient"])


class Script:
    """Gives the vectors' nonce and ephemeral key first, then repeatable bytes."""

    def __init__(self, *values: bytes) -> None:
        self._values = list(values)
        self._rest = Randomness("script")

    def __call__(self, size: int) -> bytes:
        return self._values.pop(0) if self._values else self._rest(size)


def seal(to: NodeKey, fields, trailing: bytes = b"") -> bytes:
    plaintext = rlp.encode(fields) + trailing
    prefix = (len(plaintext) + ecies.OVERHEAD).to_bytes(2, "big")
    return prefix + ecies.encrypt(to.public_key, plaintext, prefix, Randomness("seal"))


def auth_fields(version: int = 4, *more):
    nonce = KEYS["initiator_nonce"]
    token = bytes(a ^ b for a, b in zip(A.ecdh(B.public_key), nonce, strict=True))
    signature = NodeKey(KEYS["initiator_ephemeral"]).sign_recoverable(token)
    return [signature, A.public_key, nonce, version, *more]


@pytest.mark.parametrize("vector", VECTORS["auth"], ids=lambda vector: vector["name"])
def test_recipient_takes_the_auth_of_eip8(vector):
    recipient = Recipient(B, Script(KEYS["recipient_nonce"], KEYS["recipient_ephemeral"]))
    recipient.receive(bytes.fromhex(vector["packet"]))
    assert recipient.remote_public == A.public_key


@pytest.mark.parametrize("vector", VECTORS["ack"], ids=lambda vector: vector["name"])
def test_initiator_takes_the_ack_of_eip8(vector):
    initiator = Initiator(A, B.public_key, Script(KEYS["initiator_nonce"], KEYS["initiator_ephemeral"]))
    secrets = initiator.receive(bytes.fromhex(vector["packet"]))
    # The keys do not depend on the ciphertexts, only the MACs do.
    assert secrets.aes.hex() == VECTORS["secrets"]["aes"]
    assert secrets.mac.hex() == VECTORS["secrets"]["mac"]


def test_recipient_derives_the_secrets_of_eip8(monkeypatch):
    recipient = Recipient(B, Script(KEYS["recipient_nonce"], KEYS["recipient_ephemeral"]))
    secrets = recipient.receive(bytes.fromhex(VECTORS["auth"][0]["packet"]))
    assert secrets.aes.hex() == VECTORS["secrets"]["aes"]
    assert secrets.mac.hex() == VECTORS["secrets"]["mac"]
    secrets.ingress.update(b"foo")
    assert secrets.ingress.hexdigest() == VECTORS["secrets"]["ingress_mac_after_foo"]


def test_both_sides_derive_the_same():
    rand = Randomness()
    initiator, recipient = Initiator(A, B.public_key, rand), Recipient(B, rand)
    theirs = recipient.receive(initiator.auth)
    ours = initiator.receive(recipient.ack)
    assert (ours.aes, ours.mac) == (theirs.aes, theirs.mac)
    assert ours.egress.digest() == theirs.ingress.digest()
    assert ours.ingress.digest() == theirs.egress.digest()


def test_packets_are_padded_by_at_least_a_hundred_random_bytes():
    sizes = set()
    for seed in range(40):
        auth = Initiator(A, B.public_key, Randomness(seed)).auth
        size = packet_length(auth[:2])
        assert size == len(auth) - 2 <= 2048
        plain = ecies.decrypt(B, auth[2:], auth[:2])
        padding = plain[rlp.read_header(plain, 0, len(plain))[2] :]
        assert 100 <= len(padding) < 200
        assert any(padding)
        sizes.add(size)
    assert len(sizes) > 20


def test_secrets_hide_in_their_representation():
    secrets = Recipient(B, Randomness()).receive(seal(B, auth_fields()))
    assert secrets.aes.hex() not in repr(secrets)
    assert repr(secrets.aes) not in repr(secrets)


def test_recipient_tolerates_later_versions_further_items_and_trailing_data():
    recipient = Recipient(B, Randomness())
    recipient.receive(seal(B, auth_fields(2**64 - 1, b"new", [b"deep", [b"er"]]), trailing=b"\xff" * 300))
    assert recipient.remote_public == A.public_key


@pytest.mark.parametrize("size", [0, 1, ecies.OVERHEAD, 2049, 0xFFFF])
def test_impossible_size_is_refused_before_more_is_read(size):
    with pytest.raises(HandshakeFailed, match="no handshake packet has"):
        packet_length(size.to_bytes(2, "big"))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        (b"not a list", "list"),
        ([], "list"),
        (auth_fields()[:3], "list"),
        ([b"\x01" * 64, *auth_fields()[1:]], "wrong length"),
        ([*auth_fields()[:1], A.public_key[:63], *auth_fields()[2:]], "wrong length"),
        ([*auth_fields()[:2], bytes(31), 4], "wrong length"),
        ([*auth_fields()[:1], b"\xff" * 64, *auth_fields()[2:]], "not a point"),
        ([*auth_fields()[:3], b"\x00\x04"], "leading zeros"),
        ([*auth_fields()[:3], bytes([1] * 9)], "at most 8"),
        ([*auth_fields()[:3], [4]], "is a list"),
        ([[1], *auth_fields()[1:]], "is a list"),
        ([b"\xff" * 64 + b"\x00", *auth_fields()[1:]], "signature"),
        ([b"\x01" * 64 + b"\x04", *auth_fields()[1:]], "signature"),
    ],
)
def test_recipient_refuses_a_malformed_auth_and_has_no_ack(fields, why):
    recipient = Recipient(B, Randomness())
    with pytest.raises(HandshakeFailed, match=why):
        recipient.receive(seal(B, fields))
    assert recipient.ack == b""


@pytest.mark.parametrize(
    "fields",
    [
        b"text",
        [B.public_key, bytes(32)],
        [bytes(64), bytes(32), 4],
        [B.public_key, bytes(33), 4],
        [B.public_key[1:], bytes(32), 4],
    ],
)
def test_initiator_refuses_a_malformed_ack(fields):
    initiator = Initiator(A, B.public_key, Randomness())
    with pytest.raises(HandshakeFailed, match="bad ack"):
        initiator.receive(seal(A, fields))


def test_recipient_refuses_an_auth_for_another_node():
    auth = Initiator(A, NodeKey(b"\x07" * 32).public_key, Randomness()).auth
    with pytest.raises(HandshakeFailed, match="not sealed for this key"):
        Recipient(B, Randomness()).receive(auth)


def test_initiator_refuses_to_dial_what_is_no_key():
    with pytest.raises(DecodeError):
        Initiator(A, bytes(64), Randomness())


@given(st.binary(max_size=600))
def test_garbage_only_fails_the_handshake(garbage):
    with pytest.raises(HandshakeFailed):
        Recipient(B, Randomness()).receive(garbage)
    with pytest.raises(HandshakeFailed):
        Initiator(A, B.public_key, Randomness()).receive(garbage)


@given(position=st.integers(min_value=0), bit=st.integers(0, 7))
def test_flipped_bit_fails_the_handshake(position, bit):
    packet = bytearray(bytes.fromhex(VECTORS["auth"][0]["packet"]))
    packet[position % len(packet)] ^= 1 << bit
    with pytest.raises(HandshakeFailed):
        Recipient(B, Randomness()).receive(bytes(packet))


def test_mac_state_begins_with_nonce_and_packet():
    nonce, packet = b"\x05" * 32, b"packet"
    assert handshake._mac(bytes(32), nonce, packet).digest() == keccak256(nonce + packet)
