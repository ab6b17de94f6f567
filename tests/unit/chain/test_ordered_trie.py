from hypothesis import example, given, settings
from hypothesis import strategies as st
from rlp import encode
from trie import HexaryTrie

from relay.chain.ordered_trie import EMPTY_ROOT, ordered_trie_root


def oracle(items):
    trie = HexaryTrie({})
    for position, item in enumerate(items):
        trie[encode(position)] = item
    return trie.root_hash


def test_nothing_has_the_root_of_an_empty_trie():
    assert ordered_trie_root([]) == EMPTY_ROOT


@given(st.lists(st.binary(min_size=1, max_size=80), max_size=30))
@settings(max_examples=50)
def test_root_of_a_short_list_is_the_one_of_the_library(items):
    assert ordered_trie_root(items) == oracle(items)


# Around the positions where an RLP key gets another byte, and a trie another level.
@given(st.integers(0, 300), st.binary(min_size=1, max_size=3), st.integers(1, 90))
@settings(max_examples=25)
@example(127, b"a", 40)
@example(128, b"a", 40)
@example(129, b"a", 1)
@example(256, b"a", 1)
@example(257, b"a", 40)
def test_root_of_a_list_of_any_length_is_the_one_of_the_library(count, seed, size):
    items = [(seed + i.to_bytes(2, "big") * size)[: 1 + (i * 7 + size) % (2 * size)] for i in range(count)]
    assert ordered_trie_root(items) == oracle(items)


def test_order_matters():
    assert ordered_trie_root([b"a" * 40, b"b" * 40]) != ordered_trie_root([b"b" * 40, b"a" * 40])
