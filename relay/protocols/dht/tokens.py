"""Tokens: proof that who writes has asked before, from the same address, for the same key.

Nothing is kept for them: a token is a MAC under a secret that changes. A session of discv5 has proved node id
and address already; the token adds that nobody writes blindly, or with an old permit, or many keys by one
answer.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from hmac import compare_digest
from typing import Final

from relay.primitives.keys import NodeId
from relay.protocols.dht.keys import Key
from relay.protocols.discv5.networks import Address

__all__ = ["Tokens"]

_SIZE: Final = 16  # bytes
_SECRET: Final = 32  # bytes


class Tokens:
    """Issues and checks them.

    Args:
        period: seconds that a secret is the newest one; the one before is still good.
        rand: random bytes.
    """

    __slots__ = ("_ends", "_newest", "_older", "_period", "_rand")

    def __init__(self, period: float, rand: Callable[[int], bytes]) -> None:
        self._period = period
        self._rand = rand
        self._newest = self._older = rand(_SECRET)
        self._ends = float("-inf")

    def issue(self, node: NodeId, address: Address, key: Key, now: float) -> bytes:
        """Return a token for who asked."""
        self._turn(now)
        return _mac(self._newest, node, address, key)

    def check(self, token: bytes, node: NodeId, address: Address, key: Key, now: float) -> bool:
        """Tell whether a token is good."""
        self._turn(now)
        return any(
            compare_digest(_mac(secret, node, address, key), token) for secret in (self._newest, self._older)
        )

    def _turn(self, now: float) -> None:
        if now < self._ends:
            return
        late = now >= self._ends + self._period
        self._older = self._rand(_SECRET) if late else self._newest
        self._newest = self._rand(_SECRET)
        self._ends = now + self._period


def _mac(secret: bytes, node: NodeId, address: Address, key: Key) -> bytes:
    # An address may be anything that a driver calls its streams; what it shows is enough to tell two apart.
    text = repr(address).encode("utf-8", "backslashreplace")
    return blake2b(key + node + text, digest_size=_SIZE, key=secret).digest()
