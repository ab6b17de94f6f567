"""I2P addresses and destinations in the log: masked like onions; a destination may hold a key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.observe.redaction import Redactor
from relay.primitives.i2p import i2p_from_hash
from tests.aids.sam_bridge import make_destination, make_key, text_of

ADDRESSES = st.binary(min_size=32, max_size=32).map(i2p_from_hash)
AROUND = st.sampled_from(["", "peer ", "@", "'", "(", "x=", ":", "/", ". "])
BEHIND = st.sampled_from(["", ":0", "'", ")", ", ", " refused", ".", "/x"])


@given(AROUND, ADDRESSES, BEHIND, st.booleans())
def test_address_is_masked_whatever_stands_around(
    before: str, address: str, behind: str, upper: bool
) -> None:
    text = f"{before}{address.upper() if upper else address}{behind}"
    shown = Redactor(hide_addresses=True).text("cause", text).lower()
    assert address[:52] not in shown
    assert address not in shown


@given(ADDRESSES)
def test_bare_hash_in_base32_is_masked_too(address: str) -> None:
    assert Redactor(hide_addresses=True).text("cause", f"looked up {address[:52]}") == "looked up <i2p>"


def test_names_of_address_books_are_masked() -> None:
    assert Redactor(hide_addresses=True).text("cause", "no stats.i2p here") == "no <i2p> here"


def test_our_own_address_stands_where_it_may() -> None:
    redactor, address = Redactor(hide_addresses=True), i2p_from_hash(bytes(32))
    redactor.allow_own(address)
    assert redactor.field("address", address) == address
    assert redactor.field("cause", address) == "<i2p>"


@pytest.mark.parametrize("hide", [True, False])
@pytest.mark.parametrize("raw", [make_destination(), make_key()])
def test_destination_and_key_are_never_shown(hide: bool, raw: bytes) -> None:
    text = text_of(raw)
    shown = Redactor(hide_addresses=hide).text("cause", f"DESTINATION={text} RESULT=OK")
    assert shown == "DESTINATION=*** RESULT=OK"


def test_addresses_are_shown_where_nothing_is_hidden() -> None:
    address = i2p_from_hash(bytes(32))
    assert Redactor(hide_addresses=False).text("cause", address) == address
    assert Redactor(hide_addresses=True).text("event", "i2p session up") == "i2p session up"
