"""Tokens are good for who asked, where it asked from, what it asked for, and for a while."""

import random

from hypothesis import given
from hypothesis import strategies as st

from relay.primitives.endpoint import Endpoint, Network
from relay.protocols.dht.tokens import Tokens
from tests.aids.dht import key_of
from tests.aids.discv5 import node_key

NODE, KEY = node_key(1).node_id, key_of(1)
HERE, THERE = Endpoint(Network.IPV4, "9.9.9.9", 30303), Endpoint(Network.IPV4, "9.9.9.9", 30304)


def tokens() -> Tokens:
    return Tokens(300.0, random.Random(1).randbytes)


def test_a_token_is_good_for_who_asked():
    issuer = tokens()
    assert issuer.check(issuer.issue(NODE, HERE, KEY, 10.0), NODE, HERE, KEY, 11.0)


def test_a_token_is_bound_to_node_address_and_key():
    issuer = tokens()
    token = issuer.issue(NODE, HERE, KEY, 10.0)
    assert not issuer.check(token, node_key(2).node_id, HERE, KEY, 10.0)
    assert not issuer.check(token, NODE, THERE, KEY, 10.0)
    assert not issuer.check(token, NODE, ("stream", 4), KEY, 10.0)
    assert not issuer.check(token, NODE, HERE, key_of(2), 10.0)


def test_streams_are_told_apart():
    issuer = tokens()
    token = issuer.issue(NODE, ("stream", 4), KEY, 10.0)
    assert issuer.check(token, NODE, ("stream", 4), KEY, 10.0)
    assert not issuer.check(token, NODE, ("stream", 5), KEY, 10.0)


def test_a_token_of_another_holder_is_worth_nothing():
    other = Tokens(300.0, random.Random(2).randbytes)
    assert not tokens().check(other.issue(NODE, HERE, KEY, 10.0), NODE, HERE, KEY, 10.0)


def test_a_token_lives_one_to_two_periods():
    issuer = tokens()
    token = issuer.issue(NODE, HERE, KEY, 0.0)
    assert issuer.check(token, NODE, HERE, KEY, 299.0)
    assert issuer.check(token, NODE, HERE, KEY, 301.0)  # turns here
    assert issuer.check(token, NODE, HERE, KEY, 600.0)
    assert not issuer.check(token, NODE, HERE, KEY, 602.0)


def test_after_a_long_silence_no_old_token_is_good():
    issuer = tokens()
    token = issuer.issue(NODE, HERE, KEY, 0.0)
    assert not issuer.check(token, NODE, HERE, KEY, 10_000.0)


@given(st.binary(max_size=40))
def test_invented_tokens_are_refused(token):
    assert not tokens().check(token, NODE, HERE, KEY, 0.0)
