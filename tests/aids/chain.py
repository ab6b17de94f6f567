"""A chain of our own with funded accounts: its genesis.json, and signed transactions of every type."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from itertools import count, cycle
from pathlib import Path
from typing import Any

from relay.app.networks import load_network
from relay.chain.networks import ChainConfig
from relay.primitives.hashing import keccak256
from relay.primitives.keys import NodeKey
from relay.primitives.rlp import encode
from tests.aids.geth_tools import CHAIN_ID, write_genesis
from tests.aids.transactions import build, pooled

__all__ = ["OwnChain"]

ACCOUNTS = 200
GWEI = 10**9
LARGE = 4097  # bytes of call data: over what geth pushes


class OwnChain:
    """A genesis and the keys of those who own something in it. Each call signs a new transaction.

    Attributes:
        genesis: the file.
        config: as pyrelay reads it.
    """

    def __init__(self, folder: Path, chain_id: int = CHAIN_ID) -> None:
        self.chain_id = chain_id
        self._keys = [NodeKey(keccak256(b"account %d" % number)) for number in range(ACCOUNTS)]
        self.genesis = write_genesis(
            folder / f"genesis-{chain_id}.json", [key.node_id[12:] for key in self._keys], chain_id
        )
        self.config: ChainConfig = load_network(str(self.genesis))
        self._nonces = [0] * ACCOUNTS
        self._turn: Iterator[int] = cycle(range(1, ACCOUNTS))  # account 0 is for blobs: geth wants it alone
        self._blobs = count()

    def sign(self, kind: int = 2, **changes: Any) -> tuple[bytes, bytes]:
        """Return hash and bytes of a transaction of the next account."""
        number = next(self._turn)
        nonce, self._nonces[number] = self._nonces[number], self._nonces[number] + 1
        values = {"nonce": nonce, "value": 1, "gas": 100_000, "fee": 30 * GWEI, "tip": GWEI} | changes
        if kind == 4:
            values.setdefault("authorizations", [self._authorization(number, nonce)])
        if kind:
            values.setdefault("chain_id", self.chain_id)
        raw = build(kind, key=self._keys[number], protect=self.chain_id, **values)
        return keccak256(raw), raw

    def sign_many(self, size: int, kinds: tuple[int, ...] = (2,)) -> dict[bytes, bytes]:
        """Return so many transactions by hash, of these types in turn."""
        return dict(self.sign(kind) for kind, _ in zip(cycle(kinds), range(size), strict=False))

    def sign_large(self, kind: int = 2, size: int = LARGE) -> tuple[bytes, bytes]:
        """Return hash and bytes of a transaction that is announced only."""
        return self.sign(kind, data=bytes(size), gas=21_000 + 10 * size + 50_000)

    def sign_blob(self) -> tuple[bytes, bytes]:
        """Return hash and bytes with sidecar of a blob transaction. Its blob is all zeros: the commitment
        and every proof are the point at infinity, and so are right.
        """
        nonce = next(self._blobs)
        fields = {"chain_id": self.chain_id, "nonce": nonce, "value": 1, "fee": 30 * GWEI, "tip": GWEI}
        key = self._keys[0]
        raw = pooled(blobs=1, key=key, protect=self.chain_id, **fields)
        bare = build(3, key=key, protect=self.chain_id, blob_hashes=_zero_blob_hash(), **fields)
        return keccak256(bare), raw

    def _authorization(self, number: int, nonce: int) -> list[Any]:
        """Sign an EIP-7702 authorization of somebody who is no sender here."""
        authority = NodeKey(keccak256(b"authority %d %d" % (number, nonce)))
        fields = [self.chain_id, b"\xcc" * 20, 0]
        signature = authority.sign_recoverable(keccak256(b"\x05" + encode(fields)))
        r, s = (int.from_bytes(part, "big") for part in (signature[:32], signature[32:64]))
        return [*fields, signature[64], r, s]


def _zero_blob_hash() -> list[bytes]:
    return [b"\x01" + sha256(b"\xc0" + bytes(47)).digest()[1:]]
