"""Who may call an exposed port: bearers of an HS256 token made just now, as geth's engine API asks for them.

Refusals have the words of geth 1.17.8 (node/jwt_handler.go). Spec: execution-apis, engine/authentication.md.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any, Final, TypeGuard

from relay.primitives.errors import UsageError

__all__ = ["Bearer", "parse_secret"]

DRIFT: Final = 60.0  # seconds that a token may be old, or early
SECRET_BYTES: Final = 32
MAX_TOKEN: Final = 4096  # characters
_PREFIX: Final = "bearer "


def parse_secret(text: str) -> bytes:
    """Read the content of a secret's file: 32 bytes in hex, with or without 0x.

    Raises:
        UsageError: it is none.
    """
    try:
        secret = bytes.fromhex(text.strip().removeprefix("0x"))
    except ValueError:
        secret = b""
    if len(secret) != SECRET_BYTES:
        raise UsageError("it does not hold 32 bytes as 64 hex digits: make one by openssl rand -hex 32")
    return secret


class Bearer:
    """Checks tokens.

    Args:
        secret: shared with those who may call.
        unix: seconds since 1970.
    """

    def __init__(self, secret: bytes, unix: Callable[[], float]) -> None:
        self._secret = secret
        self._unix = unix

    def refusal(self, authorization: str) -> str:
        """Return why the value of an Authorization header is not enough; empty where it is."""
        if authorization[: len(_PREFIX)].lower() != _PREFIX:
            return "missing token"
        token = authorization[len(_PREFIX) :]
        if not token:
            return "missing token"
        return self._refuse(token)

    def _refuse(self, token: str) -> str:
        parts = token.split(".")
        if len(parts) != 3 or len(token) > MAX_TOKEN:
            return "token contains an invalid number of segments"
        header, claims = _json(parts[0]), _json(parts[1])
        if header is None or claims is None:
            return "token is malformed"
        if header.get("alg") != "HS256":
            return f"signing method {str(header.get('alg'))[:16]} is invalid"
        # Compared before any claim is looked at: only who has the secret learns what is wrong with them.
        signed = f"{parts[0]}.{parts[1]}".encode()
        if not hmac.compare_digest(hmac.digest(self._secret, signed, hashlib.sha256), _bytes(parts[2])):
            return "signature is invalid"
        return self._refuse_claims(claims)

    def _refuse_claims(self, claims: dict[str, Any]) -> str:
        now, issued, expires = self._unix(), claims.get("iat"), claims.get("exp")
        if expires is not None and not (_is_time(expires) and now < expires):
            return "token is expired"
        if not _is_time(issued):
            return "missing issued-at"
        if now - issued > DRIFT:
            return "stale token"
        return "future token" if issued - now > DRIFT else ""


def _is_time(value: object) -> TypeGuard[float]:
    return type(value) in (int, float)


def _bytes(part: str) -> bytes:
    try:
        return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""


def _json(part: str) -> dict[str, Any] | None:
    try:
        value = json.loads(_bytes(part))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
