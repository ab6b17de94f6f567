from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.chain.headers import Header, linked_hashes
from relay.primitives import rlp
from relay.primitives.errors import DecodeError
from relay.primitives.hashing import keccak256
from tests.aids.chain_headers import made_chain, made_header, real_blocks
from tests.aids.vectors import load

NAMES = {
    0: "parent_hash",
    1: "ommers_hash",
    4: "transactions_root",
    5: "receipts_root",
    16: "withdrawals_root",
    21: "access_list_hash",
}
BLOCKS = real_blocks()


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: str(block.header.number))
def test_real_headers_of_every_fork_since_london(block):
    header = block.header
    fields = rlp.decode(header.raw)
    for position, name in NAMES.items():
        assert getattr(header, name) == (fields[position] if position < len(fields) else None)
    assert header.number == int.from_bytes(fields[8], "big")
    assert header.timestamp == int.from_bytes(fields[11], "big")
    assert header.hash == keccak256(header.raw)


def test_every_number_of_fields_is_there():
    counts = {len(rlp.decode(block.header.raw)) for block in BLOCKS}
    assert counts >= {17, 20, 21, 23}
    assert [each["number"] for each in load("chain/blocks.json")["blocks"]] == [
        b.header.number for b in BLOCKS
    ]


def test_fields_of_a_fork_to_come_are_tolerated():
    header = made_header(7, withdrawals=b"w" * 32, access_list=b"a" * 32)
    longer = Header.decode(rlp.encode([*rlp.decode(header.raw), b"new" * 40, 5]))
    assert (longer.number, longer.withdrawals_root, longer.access_list_hash) == (7, b"w" * 32, b"a" * 32)
    assert longer.hash != header.hash


def test_a_field_left_out_before_one_that_is_there_is_absent():
    fields = rlp.decode(made_header(7, withdrawals=b"w" * 32, access_list=b"a" * 32).raw)
    fields[16] = b""
    header = Header.decode(rlp.encode(fields))
    assert (header.withdrawals_root, header.access_list_hash) == (None, b"a" * 32)


def test_a_header_before_london_has_15_fields():
    header = Header.decode(rlp.encode(rlp.decode(made_header(5).raw)[:15]))
    assert (header.number, header.withdrawals_root) == (5, None)


@pytest.mark.parametrize(
    ("position", "value"),
    [
        (0, b"x" * 31),
        (2, b"x" * 21),
        (5, []),
        (6, b"x" * 255),
        (8, b"\x00"),
        (8, b"\x00\x01"),
        (8, b"\x01" * 9),
        (8, []),
        (11, b"\x01" * 9),
        (12, []),
        (13, b"x" * 31),
        (14, b"x" * 9),
        (16, b"x" * 31),
        (16, [b"x" * 32]),
        (21, b"x"),
    ],
)
def test_a_field_of_another_kind_is_no_header(position, value):
    fields = rlp.decode(made_header(7, withdrawals=b"w" * 32, access_list=b"a" * 32).raw)
    fields[position] = value
    with pytest.raises(DecodeError):
        Header.decode(rlp.encode(fields))


def test_what_is_cut_off_or_goes_on_is_no_header():
    raw = made_header(7).raw
    for wrong in (raw[:-1], raw + b"\x80", b"", b"\x80", b"\xc0", rlp.encode(rlp.decode(raw)[:14])):
        with pytest.raises(DecodeError):
            Header.decode(wrong)


@given(st.integers(0, 600), st.binary(max_size=4), st.booleans())
def test_hostile_bytes_end_in_a_decode_error_or_in_a_header_with_their_hash(at, noise, cut):
    raw = bytearray(BLOCKS[-1].header.raw)
    raw[at : at + len(noise)] = noise
    wrong = bytes(raw[: at if cut else None])
    with suppress(DecodeError):
        assert Header.decode(wrong).hash == keccak256(wrong)


def test_headers_that_link_have_their_hashes():
    chain = made_chain(5)
    raws = [header.raw for header in chain]
    hashes = [header.hash for header in chain]
    assert linked_hashes(raws) == hashes
    assert linked_hashes(raws[::-1], reverse=True) == hashes[::-1]
    assert linked_hashes([]) == []
    assert linked_hashes([b"\xc0"]) == [keccak256(b"\xc0")]


@pytest.mark.parametrize("reverse", [False, True])
def test_headers_with_a_gap_a_fork_or_garbage_do_not_link(reverse):
    chain = [header.raw for header in made_chain(4)]
    for wrong in ([chain[0], chain[2]], chain[::-1], [chain[0], b"\xc0"], [b"", chain[1]], [chain[2], b""]):
        with pytest.raises(DecodeError):
            linked_hashes(wrong if not reverse else wrong[::-1], reverse=reverse)
