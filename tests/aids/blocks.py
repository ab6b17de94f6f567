"""A made-up chain with real roots, and peers that serve it, for tests and benchmarks of chain data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from relay.chain.headers import Header
from relay.chain.ordered_trie import ordered_trie_root
from relay.chain.receipts import with_blooms
from relay.primitives import rlp
from relay.primitives.hashing import keccak256

EMPTY_LIST_HASH = keccak256(b"\xc0")


@dataclass(frozen=True)
class Block:
    """A block: its header, and RLP of everything."""

    header: Header
    body: bytes
    receipts: bytes
    access_list: bytes

    @property
    def hash(self):
        return self.header.hash

    @property
    def raw(self):
        return self.header.raw

    @property
    def number(self):
        return self.header.number


@lru_cache(16)
def chain(length=64, seed=b"main", fork_from=None, fork_at=0, txs=2, weight=0, logs=0):
    """Return blocks 0 to length - 1.

    Args:
        length: how many.
        seed: makes the chain another.
        fork_from: arguments of another chain whose first fork_at blocks are these, too.
        fork_at: see there.
        txs: transactions per block.
        weight: bytes of each.
        logs: bytes of data in the log of each receipt.
    """
    blocks = list(chain(*fork_from)[:fork_at]) if fork_from else []
    for number in range(len(blocks), length):
        parent = blocks[-1].hash if blocks else bytes(32)
        blocks.append(_block(number, parent, seed, txs, weight, logs))
    return tuple(blocks)


def _block(number, parent, seed, txs, weight, logs):
    tag = keccak256(seed + number.to_bytes(8, "big"))
    items = [b"\x02" + rlp.encode([number, index, tag, bytes(weight)]) for index in range(txs)]
    withdrawals = [rlp.encode([number, 7, tag[:20], 5])]
    body = _list([_list(map(rlp.encode, items)), b"\xc0", _list(withdrawals)])
    data = bytes(logs)
    receipts = [
        rlp.encode([2, 1, 21000 * (index + 1), [[tag[:20], [tag], data]] if logs or index else []])
        for index in range(txs)
    ]
    access_list = rlp.encode([[tag[:20], [], [], [], [], []]])
    fields = [
        parent,
        EMPTY_LIST_HASH,
        bytes(20),
        tag,
        ordered_trie_root(items),
        _receipts_root(receipts),
        bytes(256),
        0,
        number,
        30_000_000,
        21000 * txs,
        1_700_000_000 + 12 * number,
        b"",
        bytes(32),
        bytes(8),
        7,
        ordered_trie_root(withdrawals),
        0,
        0,
        bytes(32),
        bytes(32),
        keccak256(access_list),
    ]
    return Block(Header.decode(rlp.encode(fields)), body, _list(receipts), access_list)


def _receipts_root(receipts):
    """Return the root over the form with bloom filters, which `with_blooms` makes for eth/68."""
    with_filters = with_blooms(_list(receipts))
    _, start, end = rlp.read_header(with_filters, 0, len(with_filters))
    items = [with_filters[slice(*span)] for span in rlp.list_items(with_filters, start, end)]
    return ordered_trie_root([rlp.decode(item) for item in items])


def _list(items):
    payload = b"".join(items)
    return rlp.list_header(len(payload)) + payload
