"""Roots of Merkle Patricia tries whose whole content is at hand. Spec: yellow paper, appendix D.

Only the root is wanted, so no nodes are kept: the sorted keys are split by nibble, deepest nodes first.
Keys are hex strings here, one character a nibble, which slice and compare at C speed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final, TypeAlias

from relay.primitives.hashing import keccak256
from relay.primitives.rlp import encode, list_header

__all__ = ["EMPTY_ROOT", "trie_root"]

EMPTY_ROOT: Final = keccak256(b"\x80")

_Entries: TypeAlias = Sequence[tuple[str, bytes]]


def trie_root(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the 32-byte root of a trie of key and value; an empty value is an absent one."""
    entries = sorted((key.hex(), value) for key, value in dict(pairs).items() if value)
    return keccak256(_node(entries, 0)) if entries else EMPTY_ROOT


def _node(entries: _Entries, depth: int) -> bytes:
    """Encode the node that holds these sorted entries, which agree in their first depth nibbles."""
    first = entries[0][0]
    if len(entries) == 1:
        return _short(first[depth:], True, encode(entries[0][1]))
    # Sorted: what the first and the last have in common, all between have too.
    last = entries[-1][0]
    fork = depth
    while fork < len(first) and first[fork] == last[fork]:
        fork += 1
    branch = _branch(entries, fork)
    return branch if fork == depth else _short(first[depth:fork], False, _reference(branch))


def _branch(entries: _Entries, depth: int) -> bytes:
    children = [b"\x80"] * 17
    if len(entries[0][0]) == depth:  # a key that ends here sorts before all that go on
        children[16] = encode(entries[0][1])
        entries = entries[1:]
    for nibble, group in groupby(entries, lambda entry: entry[0][depth]):
        children[int(nibble, 16)] = _reference(_node(list(group), depth + 1))
    payload = b"".join(children)
    return list_header(len(payload)) + payload


def _short(path: str, is_leaf: bool, content: bytes) -> bytes:
    """Encode a leaf or an extension, its path in hex-prefix form."""
    flag = 2 * is_leaf + len(path) % 2
    compact = bytes.fromhex(f"{flag}{path}" if len(path) % 2 else f"{flag}0{path}")
    payload = encode(compact) + content
    return list_header(len(payload)) + payload


def _reference(node: bytes) -> bytes:
    """A node under 32 bytes stands in its parent itself, a larger one by its hash."""
    return node if len(node) < 32 else b"\xa0" + keccak256(node)
