import base64
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.primitives import onion
from relay.primitives.errors import DecodeError
from relay.primitives.onion import OnionKey
from tests.aids import vectors

ADDRESSES = vectors.load("onion/addresses.json")
TOR_FILES = vectors.load("onion/tor_files.json")
SECRET_FILE = bytes.fromhex(TOR_FILES["hs_ed25519_secret_key"])


@pytest.mark.parametrize("vector", ADDRESSES["valid"], ids=lambda v: v["address"][:8])
def test_valid_address_is_taken_in_any_case(vector):
    address = vector["address"]

    assert onion.parse_onion(address) == address
    assert onion.parse_onion(address.upper()) == address
    public = onion.public_from_onion(onion.parse_onion(address))
    assert public.hex() == vector.get("public_key", public.hex())
    assert onion.onion_from_public(public) == address


@pytest.mark.parametrize("address", ADDRESSES["wrong_checksum"])
def test_wrong_checksum_is_named(address):
    with pytest.raises(DecodeError, match="checksum"):
        onion.parse_onion(address)


@pytest.mark.parametrize("address", ADDRESSES["wrong_version"])
def test_wrong_version_is_named(address):
    with pytest.raises(DecodeError, match=r"version [24], expected 3"):
        onion.parse_onion(address)


@pytest.mark.parametrize("vector", ADDRESSES["not_prime_order"], ids=lambda v: v["why"])
def test_key_that_is_no_point_of_prime_order_is_refused(vector):
    with pytest.raises(DecodeError, match="prime order"):
        onion.parse_onion(vector["address"])
    with pytest.raises(DecodeError):
        onion.onion_from_public(base64.b32decode(vector["address"][:56].upper())[:32])


@pytest.mark.parametrize("address", [*ADDRESSES["malformed"], "\u212a" + "a" * 55 + ".onion"])
def test_malformed_address_is_refused(address):
    with pytest.raises(DecodeError):
        onion.parse_onion(address)


@given(st.text(max_size=80) | st.text("abcdefgh234567", min_size=56, max_size=56).map(lambda s: s + ".onion"))
def test_random_text_is_refused(text):
    with pytest.raises(DecodeError):
        onion.parse_onion(text)


def test_refusal_does_not_repeat_the_whole_address():
    address = ADDRESSES["wrong_checksum"][0]
    with pytest.raises(DecodeError) as caught:
        onion.parse_onion(address)
    assert address[:8] in str(caught.value)
    assert address[:20] not in str(caught.value)


def test_key_file_of_tor_gives_the_address_that_tor_gave_it():
    key = OnionKey.from_tor_file(SECRET_FILE)

    assert key.address == TOR_FILES["hostname"]
    assert key.public_key == bytes.fromhex(TOR_FILES["hs_ed25519_public_key"])[32:]
    assert key.to_tor_file() == SECRET_FILE
    assert key.add_onion_blob() == "ED25519-V3:" + base64.b64encode(SECRET_FILE[32:]).decode()


@pytest.mark.parametrize(
    "content",
    [b"", SECRET_FILE[:-1], SECRET_FILE + b"\n", SECRET_FILE.replace(b"type0", b"type1"), SECRET_FILE[32:]],
)
def test_other_files_are_not_keys(content):
    with pytest.raises(DecodeError, match="hs_ed25519_secret_key"):
        OnionKey.from_tor_file(content)


def test_seed_and_public_key_in_place_of_an_expanded_key_is_named():
    with pytest.raises(DecodeError, match="seed and public key"):
        OnionKey.from_tor_file(SECRET_FILE[:32] + b"\x01" * 64)
    with pytest.raises(DecodeError, match="64 bytes"):
        OnionKey(b"\x00" * 32)
    with pytest.raises(DecodeError, match="32 bytes"):
        OnionKey.from_seed(b"\x00" * 64)


@given(st.binary(min_size=32, max_size=32))
def test_key_from_a_seed_is_the_one_of_rfc_8032(seed):
    from nacl.signing import SigningKey

    key = OnionKey.from_seed(seed)

    assert key.public_key == bytes(SigningKey(seed).verify_key)
    assert onion.parse_onion(key.address) == key.address
    assert OnionKey.generate(lambda size: seed[:size]) == key
    assert OnionKey.from_tor_file(key.to_tor_file()) == key


def test_secret_never_shows():
    key = OnionKey.from_tor_file(SECRET_FILE)
    text = repr(key)
    assert not any(
        part in text for part in (SECRET_FILE[32:].hex(), key.address[:16], repr(SECRET_FILE[32:48]))
    )
    assert {key, OnionKey.from_tor_file(SECRET_FILE)} == {key}
    assert key != OnionKey.from_seed(bytes(32))
    assert key != SECRET_FILE


@pytest.mark.parametrize(
    ("host", "expected"),
    [("x.onion", True), ("X.ONION.", True), (".onion", True), ("onion", False), ("onion.com", False)],
)
def test_names_of_tor_are_known_before_they_are_checked(host, expected):
    assert onion.is_onion(host) is expected


def test_libsodium_is_not_loaded_before_an_onion_needs_it():
    code = "import sys, relay.primitives.node; sys.exit('nacl' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
