from hypothesis import given, settings
from hypothesis import strategies as st
from trie import HexaryTrie

from relay.chain.trie import EMPTY_ROOT, trie_root


def oracle(pairs: dict[bytes, bytes]) -> bytes:
    trie = HexaryTrie({})
    for key, value in pairs.items():
        trie[key] = value
    return trie.root_hash


def test_empty_trie():
    assert EMPTY_ROOT.hex() == "56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"
    assert trie_root([]) == EMPTY_ROOT
    assert trie_root([(b"key", b"")]) == EMPTY_ROOT


@given(st.dictionaries(st.binary(min_size=1, max_size=3), st.binary(max_size=40), max_size=30))
@settings(max_examples=60)
def test_root_is_the_one_of_the_library_also_for_keys_that_begin_others(pairs):
    assert trie_root(pairs.items()) == oracle(pairs)


@given(st.dictionaries(st.binary(min_size=32, max_size=32), st.binary(min_size=1, max_size=80), max_size=20))
@settings(max_examples=30)
def test_root_of_hashed_keys(pairs):
    assert trie_root(pairs.items()) == oracle(pairs)


def test_later_pair_of_a_key_wins():
    assert trie_root([(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]) == oracle({b"a": b"3", b"b": b"2"})
