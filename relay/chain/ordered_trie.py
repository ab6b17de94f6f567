"""The root of a list: a trie keyed by position, as headers commit to what is in a block.

Spec: yellow paper, section 4.4.3.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.chain.trie import EMPTY_ROOT, trie_root
from relay.primitives.rlp import encode_int

__all__ = ["EMPTY_ROOT", "ordered_trie_root"]


def ordered_trie_root(items: Sequence[bytes]) -> bytes:
    """Return the 32-byte root of a list of transactions, receipts or withdrawals.

    Args:
        items: in their order, none of them empty: to a trie an empty value is an absent one.
    """
    return trie_root((encode_int(position), item) for position, item in enumerate(items))
