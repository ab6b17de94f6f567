"""Tokens of callers of an open port, in geth's words."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.primitives.errors import UsageError
from relay.rpc.jwt import Bearer, parse_secret

SECRET = bytes(range(32))
NOW = 1_700_000_000.0


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def token(claims: object, header: object = None, secret: bytes = SECRET) -> str:
    signed = f"{part(header or {'typ': 'JWT', 'alg': 'HS256'})}.{part(claims)}"
    signature = hmac.digest(secret, signed.encode(), hashlib.sha256)
    return f"{signed}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


@pytest.fixture
def bearer() -> Bearer:
    return Bearer(SECRET, lambda: NOW)


@pytest.mark.parametrize("drift", [0, -59, 59, 0.5])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_token_made_just_now_is_enough(bearer, drift, scheme):
    assert bearer.refusal(f"{scheme} {token({'iat': NOW + drift})}") == ""


@pytest.mark.parametrize(
    ("authorization", "words"),
    [
        ("", "missing token"),
        ("Basic abc", "missing token"),
        ("Bearer ", "missing token"),
        ("Bearer abc", "token contains an invalid number of segments"),
        ("Bearer a.b.c", "token is malformed"),
        (f"Bearer {token({'iat': NOW}, secret=b'other')}", "signature is invalid"),
        (f"Bearer {token({'iat': NOW})}x", "signature is invalid"),
        (f"Bearer {token({'iat': NOW}).rpartition('.')[0]}.", "signature is invalid"),
        (f"Bearer {token({'iat': NOW}, {'alg': 'none'})}", "signing method none is invalid"),
        (f"Bearer {token({'iat': NOW}, {'alg': 'HS512'})}", "signing method HS512 is invalid"),
        (f"Bearer {token({})}", "missing issued-at"),
        (f"Bearer {token({'iat': 'now'})}", "missing issued-at"),
        (f"Bearer {token({'iat': True})}", "missing issued-at"),
        (f"Bearer {token({'iat': NOW - 61})}", "stale token"),
        (f"Bearer {token({'iat': NOW + 61})}", "future token"),
        (f"Bearer {token({'iat': NOW, 'exp': NOW - 1})}", "token is expired"),
        (f"Bearer {token([NOW])}", "token is malformed"),
    ],
)
def test_others_are_refused_with_the_reason(bearer, authorization, words):
    assert bearer.refusal(authorization) == words


def test_expiry_that_is_not_over_is_fine(bearer):
    assert bearer.refusal(f"Bearer {token({'iat': NOW, 'exp': NOW + 5, 'id': 'x'})}") == ""


@given(st.text(max_size=60) | st.text(".aeyJ0-_=", max_size=60))
def test_any_text_is_refused(text):
    assert Bearer(SECRET, lambda: NOW).refusal("Bearer " + text)


def test_secret_is_32_bytes_of_hex():
    assert parse_secret("0x" + SECRET.hex() + "\n") == SECRET
    assert parse_secret(SECRET.hex()) == SECRET
    for text in ("", "0x00", SECRET.hex() + "00", "zz" * 32):
        with pytest.raises(UsageError, match="64 hex digits"):
            parse_secret(text)
