"""The transactions that are sent: signed beforehand, kept in the user's cache.

All have the same length (values are chosen so, and signatures with a leading zero are signed again), so that
the sinks can take messages apart at the speed of C. Each account in turn pays the next one; nonces of an
account are in order, as geth wants them.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from relay.localnet.accounts import sign_transfer
from relay.localnet.genesis import throwaway_genesis
from relay.primitives.hashing import keccak256
from relay.primitives.keys import NodeKey
from relay.protocols.devp2p import snappy
from relay.protocols.eth.packing import encode_announcement, encode_transactions

CHAIN_ID = 7799
ACCOUNTS = 2000
COUNT = 64_000  # 32 of each account; a pool of pyrelay takes 64 of one
RAW = 116  # bytes of each
WIRE = RAW + 2  # as an RLP string
TYPE = b"\x02"
PUSHED_AT_ONCE = 850  # transactions a message: about 100 KB, as geth and pyrelay send them
FORMAT = 1  # of the cache


def account_key(number: int) -> NodeKey:
    return NodeKey(sha256(b"pyrelay benchmark account %d" % number).digest())


@dataclass
class TransferSet:
    """The transactions in the order they are sent, as they stand on the wire."""

    wires: list[bytes]

    @cached_property
    def hashes(self) -> list[bytes]:
        return [keccak256(wire[2:]) for wire in self.wires]

    @cached_property
    def index(self) -> dict[bytes, int]:
        """Number by wire bytes: finding a transaction compares it byte for byte."""
        return {wire: number for number, wire in enumerate(self.wires)}

    @cached_property
    def index_by_hash(self) -> dict[bytes, int]:
        return {tx_hash: number for number, tx_hash in enumerate(self.hashes)}

    def pushes(self, start: int, stop: int, at_once: int = PUSHED_AT_ONCE) -> list[bytes]:
        """Bodies of Transactions messages, compressed."""
        return [
            snappy.compress(encode_transactions(self.wires[first : min(first + at_once, stop)]))
            for first in range(start, stop, at_once)
        ]

    def announcements(self, start: int, stop: int, at_once: int = 1) -> list[bytes]:
        """Bodies of NewPooledTransactionHashes messages, compressed."""
        bodies = []
        for first in range(start, stop, at_once):
            hashes = self.hashes[first : min(first + at_once, stop)]
            count = len(hashes)
            bodies.append(snappy.compress(encode_announcement(TYPE * count, [RAW] * count, hashes)))
        return bodies


def genesis() -> dict[str, object]:
    """The chain, as `geth init` takes it: every account owns a thousand ether."""
    return throwaway_genesis(CHAIN_ID, [account_key(n).node_id[12:] for n in range(ACCOUNTS)], 0)


def load_transfers(cache: Path, count: int = COUNT) -> TransferSet:
    """Read the transactions from the cache, or sign them."""
    name = sha256(json.dumps([FORMAT, CHAIN_ID, ACCOUNTS, count, RAW]).encode()).hexdigest()[:16]
    path = cache / f"transfers-{name}.bin"
    try:
        blob = path.read_bytes()
    except OSError:
        blob = b""
    if len(blob) != count * WIRE:
        blob = _sign_all(count)
        cache.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.write_bytes(blob)
        fresh.replace(path)
    return TransferSet([blob[pos : pos + WIRE] for pos in range(0, len(blob), WIRE)])


def _sign_all(count: int) -> bytes:
    wires = [b""] * count
    with ProcessPoolExecutor() as pool:
        for number, signed in enumerate(pool.map(_sign_account, range(ACCOUNTS), chunksize=50)):
            wires[number::ACCOUNTS] = signed[: len(wires[number::ACCOUNTS])]
    return b"".join(wires)


def _sign_account(number: int) -> list[bytes]:
    key = account_key(number)
    payee = account_key((number + 1) % ACCOUNTS).node_id[12:]
    return [_sign(key, payee, nonce) for nonce in range(-(-COUNT // ACCOUNTS))]


def _sign(key: NodeKey, payee: bytes, nonce: int) -> bytes:
    value = 1 << 24
    while True:
        raw = sign_transfer(key, chain_id=CHAIN_ID, nonce=nonce, to=payee, value=value)
        if len(raw) == RAW:
            return bytes((0xB8, RAW)) + raw
        value += 1
