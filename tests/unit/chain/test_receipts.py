from contextlib import suppress

import pytest
from eth_hash.auto import keccak
from hypothesis import given
from hypothesis import strategies as st

from relay.chain.headers import ContradictsHeader
from relay.chain.ordered_trie import ordered_trie_root
from relay.chain.receipts import (
    check_receipts,
    checking_receipts,
    join_receipts,
    split_receipts,
    with_blooms,
    without_blooms,
)
from relay.primitives import rlp
from relay.primitives.errors import DecodeError
from tests.aids.chain_headers import made_header, real_blocks

BLOCKS = real_blocks()
LOGS = st.lists(
    st.tuples(
        st.binary(min_size=20, max_size=20),
        st.lists(st.binary(min_size=32, max_size=32), max_size=4),
        st.binary(max_size=70),
    ),
    max_size=3,
)
RECEIPTS = st.lists(
    st.tuples(
        st.integers(0, 127),
        st.sampled_from([b"", b"\x01", b"r" * 32]),
        st.integers(0, 2**64 - 1),
        LOGS,
    ),
    max_size=4,
)


def bloom(logs):
    """As the yellow paper says it, section 4.4.1."""
    bits = 0
    for address, topics, _ in logs:
        for value in (address, *topics):
            digest = keccak(value)
            for at in (0, 2, 4):
                bits |= 1 << (int.from_bytes(digest[at : at + 2], "big") % 2048)
    return bits.to_bytes(256, "big")


def consensus(kind, status, gas, logs):
    raw = rlp.encode([status, gas, bloom(logs), logs])
    return bytes((kind,)) + raw if kind else raw


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: str(block.header.number))
def test_real_receipts_in_both_forms(block):
    slim = without_blooms(block.receipts_68)
    check_receipts(block.header, slim)
    assert with_blooms(slim) == block.receipts_68
    assert all(len(rlp.decode(each)) == 4 for each in split_receipts(slim))
    assert join_receipts(split_receipts(slim)) == slim


def test_real_receipts_have_every_type_and_logs():
    types = {raw[0] if raw[0] < 0xC0 else 0 for block in BLOCKS for raw in block.raw_receipts}
    assert types >= {0, 1, 2, 3, 4}
    logs = [each for block in BLOCKS for each in rlp.decode(without_blooms(block.receipts_68)) if each[3]]
    assert logs


@given(RECEIPTS)
def test_root_and_forms_follow_from_the_slim_form(receipts):
    slim = rlp.encode(receipts)
    raws = [consensus(*each) for each in receipts]
    check_receipts(made_header(5, receipts=ordered_trie_root(raws)), slim)
    wide = with_blooms(slim)
    assert wide == rlp.encode([rlp.decode(each) if each[0] >= 0xC0 else each for each in raws])
    assert without_blooms(wide) == slim


def test_receipts_of_another_block_contradict():
    first, second = [block for block in BLOCKS if block.raw_receipts][:2]
    with pytest.raises(ContradictsHeader, match="not those"):
        check_receipts(first.header, without_blooms(second.receipts_68))


@given(st.integers(0, 5000), st.integers(1, 255), st.sampled_from([b for b in BLOCKS if b.raw_receipts]))
def test_one_wrong_byte_anywhere_contradicts(at, change, block):
    raw = bytearray(without_blooms(block.receipts_68))
    raw[at % len(raw)] ^= change
    with pytest.raises(ContradictsHeader):
        check_receipts(block.header, bytes(raw))


LOG = [b"a" * 20, [b"t" * 32], b""]


@pytest.mark.parametrize(
    "receipt",
    [
        [128, 1, 2, []],
        [b"\x00", 1, 2, []],
        [[], 1, 2, []],
        [2, [], 2, []],
        [2, 1, [], []],
        [2, 1, 2, b""],
        [2, 1, 2],
        [2, 1, 2, [], 5],
        [2, 1, 2, [[]]],
        [2, 1, 2, [b"log"]],
        [2, 1, 2, [[b"a" * 19, [], b""]]],
        [2, 1, 2, [[b"a" * 20]]],
        [2, 1, 2, [[b"a" * 20, [b"t" * 31], b""]]],
        [2, 1, 2, [[b"a" * 20, b"topics", b""]]],
        b"receipt",
        b"",
    ],
)
def test_what_is_no_slim_receipt(receipt):
    raw = rlp.encode([[2, 1, 2, [LOG]], receipt])
    with pytest.raises(DecodeError):
        with_blooms(raw)
    with pytest.raises(ContradictsHeader):
        check_receipts(made_header(5), raw)


@pytest.mark.parametrize(
    "receipt",
    [
        b"",
        b"\x02",
        b"\x00" + rlp.encode([1, 2, bytes(256), []]),
        b"\x80" + rlp.encode([1, 2, bytes(256), []]),
        b"\x02" + rlp.encode([1, 2, bytes(256), []]) + b"\x00",
        [1, 2, bytes(255), []],
        [1, 2, bytes(256), b""],
        [1, 2, bytes(256)],
        [[], 2, bytes(256), []],
        [1, [], bytes(256), []],
        [1, 2, [], []],
    ],
)
def test_what_is_no_receipt_of_eth68(receipt):
    with pytest.raises(DecodeError):
        without_blooms(rlp.encode([receipt]))


@given(st.binary(max_size=60))
def test_hostile_bytes_end_in_decode_errors(raw):
    for read in (with_blooms, without_blooms, split_receipts):
        for given_bytes in (raw, rlp.list_header(len(raw)) + raw):
            with suppress(DecodeError):
                read(given_bytes)


def test_more_receipts_than_the_gas_was_enough_for_are_not_looked_at():
    header = made_header(5)
    many = header.most_transactions + 1
    for raw in (
        join_receipts([b"\xc0"] * many),
        join_receipts([rlp.encode([b""] * 5)]),
        join_receipts([join_receipts([b"\x02\x01\x05", join_receipts([b"\xc0"] * 1000)])]),
    ):
        with pytest.raises(ContradictsHeader):
            check_receipts(header, raw)
    with pytest.raises(DecodeError, match="more than"):
        without_blooms(join_receipts([b"\xc0"] * 100_000))


def test_a_block_full_of_logs_is_checked_in_many_steps():
    logs = [[b"a" * 20, [], b""]] * 2000
    raws = [consensus(2, b"\x01", 5, logs) for _ in range(3)]
    slim = rlp.encode([[2, 1, 5, logs]] * 3)
    header = made_header(5, receipts=ordered_trie_root(raws))
    assert sum(1 for _ in checking_receipts(header, slim)) == 3 * (2000 // 512 + 1)
