"""Keys in text, and the keys under which relays of a chain meet."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.primitives.errors import DecodeError
from relay.primitives.hashing import keccak256
from relay.protocols.dht import parse_key, rendezvous_key, rendezvous_keys, to_key
from relay.protocols.dht.rendezvous import EPOCH, OVERLAP, PARTS, SHARE, offset, share_of

GENESIS = bytes.fromhex("d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3")
OWN = keccak256(b"us")


def start_of_epoch(number: int) -> int:
    return number * EPOCH - offset(GENESIS)


@pytest.mark.parametrize("prefix", ["0x", "0X"])
def test_sixty_four_hex_digits_are_the_key_itself(prefix):
    assert parse_key(prefix + "Ab" * 32) == b"\xab" * 32


@pytest.mark.parametrize(
    "text", ["ab" * 32, "0x" + "ab" * 31, "0x" + "ab" * 33, "0x" + "zz" * 32, "wiki", "ключ", " 0x"]
)
def test_anything_else_is_hashed(text):
    assert parse_key(text) == keccak256(text.encode())


@pytest.mark.parametrize("text", ["", "x" * 4097, "\ud800"])
def test_text_that_is_no_key_is_refused(text):
    with pytest.raises(DecodeError):
        parse_key(text)


@given(st.binary(max_size=64))
def test_only_32_bytes_are_a_key(data):
    if len(data) == 32:
        assert to_key(data) == data
    else:
        with pytest.raises(DecodeError):
            to_key(data)


@given(st.integers(0, 2**33), st.binary(min_size=32, max_size=32))
def test_whoever_provides_is_looked_for_at_every_time(unix, own):
    keys = rendezvous_keys(GENESIS, 1, unix, own)
    assert len(set(keys.find)) in (PARTS, 2 * PARTS)
    # A node that looks in the same second finds what is provided for the present epoch.
    assert set(keys.provide[:SHARE]) <= set(keys.find[:PARTS])


@given(st.integers(2, 50_000), st.integers(-OVERLAP, OVERLAP - 1), st.integers(-OVERLAP, OVERLAP - 1))
def test_clocks_that_differ_at_the_turn_of_an_epoch_meet(epoch, early, late):
    turn = start_of_epoch(epoch)
    looks = rendezvous_keys(GENESIS, 1, turn + early, OWN)
    provides = rendezvous_keys(GENESIS, 1, turn + late, OWN)
    assert set(looks.find) & set(provides.provide)


@given(st.integers(0, 2**33))
def test_the_answer_holds_until_it_says_and_then_changes(unix):
    keys = rendezvous_keys(GENESIS, 1, unix, OWN)
    assert unix < keys.until <= unix + EPOCH
    before, after = (rendezvous_keys(GENESIS, 1, at, OWN) for at in (keys.until - 1, keys.until))
    assert (before.find, before.provide) == (keys.find, keys.provide)
    assert (after.find, after.provide) != (keys.find, keys.provide)


def test_chains_epochs_and_parts_have_keys_of_their_own():
    keys = {rendezvous_key(GENESIS, 1, 20_000, part) for part in range(PARTS)}
    assert len(keys) == PARTS
    others = [
        rendezvous_key(GENESIS, 1, 20_001, 0),
        rendezvous_key(GENESIS, 5, 20_000, 0),
        rendezvous_key(bytes(32), 1, 20_000, 0),
    ]
    assert not keys & set(others)


def test_nodes_share_the_parts_evenly_and_change_them():
    counts = [0] * PARTS
    for number in range(2000):
        node = keccak256(b"node %d" % number)
        parts = share_of(node, 7)
        assert len(set(parts)) == SHARE
        for part in parts:
            counts[part] += 1
    assert min(counts) > 180, counts
    assert len({share_of(OWN, epoch) for epoch in range(50)}) > 20
