import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.chain.bodies import check_body
from relay.chain.headers import ContradictsHeader
from relay.chain.ordered_trie import ordered_trie_root
from relay.primitives import rlp
from relay.primitives.hashing import keccak256
from tests.aids.chain_headers import made_header, real_blocks

BLOCKS = real_blocks()
LEGACY = [1, 2, 3, b"t" * 20, 5, b"data" * 20, 27, 8, 9]


def body(transactions, ommers=(), withdrawals=None):
    parts = [list(transactions), list(ommers)]
    return rlp.encode(parts if withdrawals is None else [*parts, withdrawals])


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: str(block.header.number))
def test_real_bodies_belong_to_their_headers_and_to_no_other(block):
    check_body(block.header, block.body)
    other = next(each for each in BLOCKS if each.body != block.body)
    with pytest.raises(ContradictsHeader):
        check_body(other.header, block.body)


def test_ommers_belong_too():
    ommer = made_header(4)
    header = made_header(5, ommers=keccak256(rlp.encode([rlp.decode(ommer.raw)])))
    check_body(header, body([], [rlp.decode(ommer.raw)]))
    with pytest.raises(ContradictsHeader, match="ommers"):
        check_body(header, body([], []))


def test_withdrawals_are_there_if_and_only_if_the_header_says_so():
    withdrawal = [1, 2, b"a" * 20, 4]
    root = ordered_trie_root([rlp.encode(withdrawal)])
    check_body(made_header(5, withdrawals=root), body([], [], [withdrawal]))
    for header, raw in (
        (made_header(5, withdrawals=root), body([])),
        (made_header(5, withdrawals=root), body([], [], [])),
        (made_header(5), body([], [], [])),
    ):
        with pytest.raises(ContradictsHeader, match="withdrawals"):
            check_body(header, raw)


def test_another_encoding_of_the_same_transactions_is_no_body():
    header = made_header(5, transactions=ordered_trie_root([rlp.encode(LEGACY)]))
    check_body(header, body([LEGACY]))
    for wrong in ([rlp.encode(LEGACY)], [LEGACY, b""]):
        with pytest.raises(ContradictsHeader):
            check_body(header, body(wrong))


def test_typed_transactions_count_without_their_string_header():
    typed = b"\x02" + rlp.encode(LEGACY)
    check_body(made_header(5, transactions=ordered_trie_root([typed])), body([typed]))


@pytest.mark.parametrize("raw", [b"", b"\x80", b"\xc0", b"\xc1\xc0", b"\xc2\x80\xc0", b"\xc2\xc0\xc0\x00"])
def test_what_is_no_body_contradicts(raw):
    with pytest.raises(ContradictsHeader):
        check_body(made_header(5), raw)
    check_body(made_header(5), b"\xc2\xc0\xc0")


@given(st.integers(0, 5000), st.integers(1, 255), st.sampled_from(BLOCKS))
def test_one_wrong_byte_anywhere_contradicts(at, change, block):
    raw = bytearray(block.body)
    raw[at % len(raw)] ^= change
    with pytest.raises(ContradictsHeader):
        check_body(block.header, bytes(raw))


def test_more_transactions_than_the_gas_was_enough_for_are_not_looked_at():
    header = made_header(5)
    for raw in (
        body([LEGACY] * (header.most_transactions + 1)),
        body([], [], [[]] * 257),
        rlp.encode([[]] * 100_000),
    ):
        with pytest.raises(ContradictsHeader, match="more than"):
            check_body(header, raw)
