import contextlib

import coincurve
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.primitives import keys
from relay.primitives.errors import DecodeError
from relay.primitives.hashing import keccak256
from relay.primitives.keys import GROUP_ORDER, NodeKey

secrets = st.integers(1, GROUP_ORDER - 1).map(lambda n: n.to_bytes(32, "big"))
DIGEST = keccak256(b"message")
KEY = NodeKey(bytes(31) + b"\x05")
OTHER = NodeKey(bytes(31) + b"\x07")


@given(secrets)
def test_public_key_is_the_one_of_coincurve(secret):
    expected = coincurve.PrivateKey(secret).public_key.format(compressed=False)[1:]

    key = NodeKey(secret)

    assert key.public_key == expected
    assert key.node_id == keccak256(expected)
    assert key.secret == secret


@given(secrets, secrets)
def test_two_keys_agree_on_one_point(mine, theirs):
    a, b = NodeKey(mine), NodeKey(theirs)
    expected = coincurve.PublicKey(b"\x04" + b.public_key).multiply(mine).format()

    assert a.ecdh_compressed(b.public_key) == b.ecdh_compressed(a.public_key) == expected
    assert a.ecdh(b.public_key) == expected[1:]


@given(secrets, st.binary(min_size=32, max_size=32))
def test_signature_recovers_and_verifies(secret, digest):
    key = NodeKey(secret)

    signature = key.sign_recoverable(digest)

    assert signature == coincurve.PrivateKey(secret).sign_recoverable(digest, hasher=None)
    assert keys.recover(digest, signature) == key.public_key
    assert keys.verify(digest, key.sign(digest), key.public_key)


def test_discv5_ecdh_vector():
    # devp2p discv5/discv5-wire-test-vectors.md, ECDH
    secret = bytes.fromhex("fb757dc581730490a1d7a00deea65e9b1936924caaea8f44d476014856b68736")
    public = bytes.fromhex("039961e4c2356d61bedb83052c115d311acb3a96f5777296dcf297351130266231")

    shared = NodeKey(secret).ecdh_compressed(keys.decompress(public))

    assert shared.hex() == "033b11a2a1f214567e1537ce5e509ffd9b21373247f2a3ff6841f4976f53165e7e"


@pytest.mark.parametrize(
    "secret", [b"", b"\x01" * 31, bytes(32), GROUP_ORDER.to_bytes(32, "big"), b"\xff" * 32]
)
def test_bad_secret_is_refused(secret):
    with pytest.raises(DecodeError):
        NodeKey(secret)


def test_generator_draws_again_after_a_bad_secret():
    draws = iter([bytes(32), b"\xff" * 32, KEY.secret])

    assert NodeKey.generate(lambda size: next(draws)) == KEY


def test_secret_never_shows():
    assert KEY.secret.hex() not in repr(KEY)
    assert repr(KEY.secret) not in repr(KEY)


def test_keys_compare_by_identity():
    assert NodeKey(KEY.secret) == KEY
    assert {KEY, NodeKey(KEY.secret)} == {KEY}
    assert KEY != OTHER
    assert KEY.public_key != KEY


@given(st.binary(max_size=70) | st.binary(min_size=64, max_size=64))
def test_random_bytes_are_a_public_key_or_an_error(data):
    with contextlib.suppress(DecodeError):
        assert keys.parse_public_key(data) == data
    with contextlib.suppress(DecodeError):
        assert keys.compress(keys.decompress(data)) == data


def test_refusal_of_a_public_key_names_the_curve():
    with pytest.raises(DecodeError, match=r"0101010101010101\.\.\. is not a point of secp256k1"):
        keys.parse_public_key(b"\x01" * 64)


def test_hybrid_public_keys_are_refused():
    prefix = 6 | KEY.public_key[63] & 1
    assert coincurve.PublicKey(bytes([prefix]) + KEY.public_key)  # the library takes them

    with pytest.raises(DecodeError):
        keys.decompress(bytes([prefix]) + KEY.public_key[:32])
    with pytest.raises(DecodeError):
        keys._parse(bytes([prefix]) + KEY.public_key)


@given(st.binary(min_size=65, max_size=65))
def test_random_signature_recovers_or_is_refused(signature):
    with contextlib.suppress(DecodeError):
        assert len(keys.recover(DIGEST, signature)) == 64


def test_recovery_refuses_wrong_sizes():
    signature = KEY.sign_recoverable(DIGEST)
    for digest, wrong in [
        (DIGEST[1:], signature),
        (DIGEST, signature[1:]),
        (DIGEST, signature[:64] + b"\x04"),
        (DIGEST, b"\xff" * 64 + b"\x00"),
        (DIGEST, bytes(65)),
    ]:
        with pytest.raises(DecodeError):
            keys.recover(digest, wrong)
    with pytest.raises(DecodeError):
        KEY.sign(DIGEST + b"\x00")


def test_wrong_signatures_do_not_verify():
    signature = KEY.sign(DIGEST)
    high_s = GROUP_ORDER - int.from_bytes(signature[32:], "big")

    assert not keys.verify(DIGEST, signature, OTHER.public_key)
    assert not keys.verify(keccak256(b"another"), signature, KEY.public_key)
    assert not keys.verify(DIGEST, signature[:32] + high_s.to_bytes(32, "big"), KEY.public_key)
    assert not keys.verify(DIGEST, b"\xff" * 64, KEY.public_key)
    assert not keys.verify(DIGEST, signature[:63], KEY.public_key)
    assert not keys.verify(DIGEST[:31], signature, KEY.public_key)
