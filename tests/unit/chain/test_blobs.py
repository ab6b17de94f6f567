"""Blob transactions in their forms, and the order of cells, each made out of the other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.chain import blobs
from relay.chain.transactions import (
    InvalidTransaction,
    TransactionUndecodable,
    canonical,
    decode,
    transaction_hash,
    wire,
)
from relay.chain.validity import AMSTERDAM, OSAKA, check, check_pooled
from relay.primitives.errors import DecodeError
from tests.aids.blobs import blob_transaction
from tests.aids.blobs import quick_blob as blob

RULES = OSAKA.evolve("test", chain_id=1)


@pytest.mark.parametrize("numbers", [(1,), (1, 2), (1, 2, 3, 4, 5, 6)])
def test_each_form_follows_from_the_other(numbers):
    whole, lean = blob_transaction(*numbers), blob_transaction(*numbers, whole=False)
    from_whole, from_lean = decode(whole), decode(lean)
    assert blobs.lean_form(from_whole) == blobs.lean_form(from_lean) == lean
    data = [blob(number).data for number in numbers]
    assert blobs.blobs_of(from_whole) == data
    assert blobs.blobs_of(from_lean) == []
    assert blobs.whole_form(from_lean, data) == whole
    assert blobs.blobs_of_wire(wire(lean), data) == wire(whole)
    assert blobs.blob_sizes(from_whole) == blobs.blob_sizes(from_lean) == (len(whole), len(lean))
    assert from_whole.hash == from_lean.hash == transaction_hash(lean)
    assert blobs.proofs_of(from_whole) == b"".join(each for n in numbers for each in blob(n).proofs)


def test_six_blobs_are_taken_and_seven_are_too_large():
    check(decode(blob_transaction(1, 2, 3, 4, 5, 6)), RULES)
    with pytest.raises(InvalidTransaction, match="transaction size"):
        decode(blob_transaction(*range(1, 9)))
    with pytest.raises(InvalidTransaction, match="blob count 7, limit 6"):
        check(decode(blob_transaction(1, 2, 3, 4, 5, 6, 7, whole=False)), RULES)
    assert AMSTERDAM.max_blobs == RULES.max_blobs == 6


def test_the_older_wrapper_decodes_and_is_of_no_use():
    tx = decode(blob_transaction(1, version=None))
    assert (tx.sidecar.version, tx.sidecar.blobs, tx.sidecar.proofs) == (0, 1, 1)
    with pytest.raises(InvalidTransaction, match="unexpected sidecar version, want: 1, got: 0") as caught:
        check(tx, RULES)
    assert caught.value.why == "sidecar"


def test_commitments_have_to_be_those_that_were_signed():
    tx = decode(blob_transaction(1, commitments=[blob(2).commitment]))
    with pytest.raises(InvalidTransaction, match="mismatches transaction one"):
        check(tx, RULES)


def test_each_version_of_eth_has_its_form():
    whole, lean = decode(blob_transaction(1)), decode(blob_transaction(1, whole=False))
    for version in (68, 69, 70, 71):
        check_pooled(whole, version)
        with pytest.raises(Exception, match="incorrect number of blobs"):
            check_pooled(lean, version)
    check_pooled(lean, 72)
    with pytest.raises(Exception, match="blob payload on eth72"):
        check_pooled(whole, 72)


def test_a_blob_is_its_first_cells():
    assert b"".join(blob(1).cells[: blobs.ENOUGH]) == blob(1).data


def test_a_mask_is_read_from_the_lowest_bit_of_its_first_byte():
    assert blobs.cell_indices(blobs.mask_number(b"\x03" + bytes(14) + b"\x80")) == [0, 1, 127]
    assert blobs.mask_bytes(blobs.DATA_CELLS) == b"\xff" * 8 + bytes(8)
    assert blobs.mask_bytes(blobs.ALL_CELLS) == b"\xff" * 16


@given(st.binary(min_size=16, max_size=16))
def test_masks_come_back_as_they_were(mask):
    assert blobs.mask_bytes(blobs.mask_number(mask)) == mask
    indices = blobs.cell_indices(blobs.mask_number(mask))
    assert sum(1 << index for index in indices) == blobs.mask_number(mask)


@given(st.integers(1, 6), st.integers(1, 20))
def test_cells_go_by_index_on_the_wire_and_by_blob_inside(count, per_blob):
    inside = [b"%d.%d" % (number, index) for number in range(count) for index in range(per_blob)]
    outside = [b"%d.%d" % (number, index) for index in range(per_blob) for number in range(count)]
    assert blobs.by_blob(outside, count) == inside


def test_cells_that_make_up_no_blobs_are_refused():
    for cells, count in (([], 1), ([b""] * 5, 2), ([b""] * 5, 0)):
        with pytest.raises(DecodeError):
            blobs.by_blob(cells, count)


def test_only_a_lean_blob_transaction_becomes_whole():
    with pytest.raises(TransactionUndecodable):
        blobs.blobs_of_wire(wire(blob_transaction(1)), [blob(1).data])


LEAN = blob_transaction(1, whole=False)
WHOLE = blob_transaction(1)


@given(st.data())
def test_hostile_bytes_end_in_an_error_of_ours_or_decode_to_what_they_say(data):
    raw = bytearray(data.draw(st.sampled_from((LEAN, WHOLE))))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(1, len(raw) - 1) | st.integers(1, min(len(raw), 300) - 1))
        raw[at] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del raw[data.draw(st.integers(2, len(raw))) :]
    try:
        tx = decode(canonical(wire(bytes(raw))))
    except (TransactionUndecodable, InvalidTransaction):
        return
    if tx.sidecar is not None:
        lean = blobs.lean_form(tx)
        assert blobs.blob_sizes(decode(lean))[1] == len(lean)
        assert blobs.whole_form(decode(lean), blobs.blobs_of(tx)) == bytes(raw) or not tx.sidecar.blobs
