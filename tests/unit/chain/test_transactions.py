"""Decoding of transactions, against go-ethereum's verdicts and against the `rlp` library."""

import contextlib
from typing import Any

import pytest
import rlp
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rlp.exceptions import DecodingError

from relay.chain import transactions
from relay.chain.transaction_fast import decode_dynamic_fee, decode_legacy
from relay.chain.transaction_sender import make_recover
from relay.chain.transaction_table import decode_by_table
from relay.chain.transactions import (
    BLOB,
    MAX_BLOB_SIZE,
    MAX_SIZE,
    InvalidTransaction,
    Transaction,
    TransactionUndecodable,
    canonical,
    decode,
    recover_sender,
    transaction_hash,
    wire,
)
from relay.primitives.errors import DecodeError
from relay.primitives.hashing import keccak256
from relay.primitives.keys import GROUP_ORDER
from relay.primitives.rlp import encode, string_header
from tests.aids.transactions import (
    AUTHORIZATION,
    KEY,
    KEYS_OF_LIST,
    TO,
    build,
    envelope,
    name_of,
    pooled,
    raw_of,
    signed_fields,
)
from tests.aids.vectors import load

DECODABLE = load("transactions/decodable.json")["cases"]
UNDECODABLE = load("transactions/undecodable.json")["cases"]
FIELDS = [slot for slot in Transaction.__slots__ if slot not in ("_sender", "_signer", "hash")]
ADDRESS = keccak256(KEY.public_key)[12:]


def fields_of(tx: Transaction) -> dict[str, Any]:
    return {name: getattr(tx, name) for name in FIELDS}


@pytest.mark.parametrize("case", [case for case in DECODABLE if case["size"] <= MAX_SIZE], ids=name_of)
def test_decoder_reads_what_geth_reads(case: dict[str, Any]) -> None:
    tx = decode(raw_of(case))
    assert tx.hash.hex() == case["hash"]
    assert (tx.type, tx.size, tx.nonce, tx.gas) == (case["type"], case["size"], case["nonce"], case["gas"])
    assert (tx.tip_cap, tx.fee_cap, tx.value) == (case["tip_cap"], case["fee_cap"], case["value"])
    assert (tx.to.hex() if tx.to else None) == case["to"]
    assert len(tx.data) == case["data_size"]
    assert (tx.chain_id is not None) == case["protected"] or case["name"] in (
        "legacy, v = 0",
        "legacy, v = 1",
    )
    if tx.chain_id is not None:
        assert tx.chain_id == case["chain_id"]


@pytest.mark.parametrize("case", [case for case in DECODABLE if "sender" in case], ids=name_of)
def test_sender_is_the_one_geth_finds(case: dict[str, Any]) -> None:
    if case["size"] <= MAX_SIZE:
        assert decode(raw_of(case)).sender.hex() == case["sender"]


@pytest.mark.parametrize("case", UNDECODABLE, ids=name_of)
def test_decoder_refuses_what_geth_refuses(case: dict[str, Any]) -> None:
    with pytest.raises(TransactionUndecodable):
        decode(raw_of(case))


@pytest.mark.parametrize("case", DECODABLE, ids=name_of)
def test_message_form_is_a_string_unless_legacy(case: dict[str, Any]) -> None:
    raw = raw_of(case)
    item = wire(raw)
    assert item == (raw if case["type"] == 0 else encode(raw))
    assert canonical(item) == raw


@pytest.mark.parametrize(
    ("item", "why"),
    [
        (b"", "missing"),
        (b"\x02", "too short"),
        (b"\x80", "too short"),
        (b"\x81\x80", "too short"),
        (b"\x82\x02", "beyond"),
        (b"\xb8\x02\x02\xc0", "shortest"),
        (encode(build(2)) + b"\x00", "bytes follow"),
        (encode(build(0)), "type not supported"),
    ],
)
def test_message_form_that_is_not_canonical_is_refused(item: bytes, why: str) -> None:
    with pytest.raises(TransactionUndecodable, match=why):
        canonical(item)


@pytest.mark.parametrize("kind", range(5))
def test_hash_given_by_the_caller_is_taken(kind: int) -> None:
    assert decode(build(kind), b"h" * 32).hash == b"h" * 32


@pytest.mark.parametrize("blobs", [0, 1, 2])
@pytest.mark.parametrize("version", [None, 1])
def test_sidecar_is_outside_of_hash_and_inside_of_size(version: int | None, blobs: int) -> None:
    bare = build(3, blob_hashes=[b"\x01" * 32])
    raw = pooled(version=version, blobs=blobs, count=2, blob_hashes=[b"\x01" * 32])
    tx = decode(raw)
    assert tx.hash == transaction_hash(raw) == transaction_hash(bare) == keccak256(bare)
    assert tx.size == len(raw)
    assert tx.sender == ADDRESS
    assert tx.sidecar is not None
    assert (tx.sidecar.version, tx.sidecar.blobs) == (version or 0, blobs)
    assert tx.sidecar.proofs == (256 if version else 2)
    assert tx.sidecar.commitments == (b"\xc0" + bytes(47), b"\xc1" + bytes(47))
    assert raw[tx.sidecar.proofs_start :][:49] == b"\xb0\xc0" + bytes(47)
    assert raw[tx.sidecar.blobs_start :][:4] == b"\xba\x02\x00\x00" or not blobs
    assert decode(bare).sidecar is None


@pytest.mark.parametrize(
    "raw", [b"\x03", b"\x03\x80", b"\x03\xc0", b"\x03\xc1", b"\x03\xc1\xb8", b"\x03\xc0\xc0"]
)
def test_hash_of_a_broken_blob_transaction_is_refused(raw: bytes) -> None:
    with pytest.raises(TransactionUndecodable):
        transaction_hash(raw)


@pytest.mark.parametrize(
    ("kind", "limit"), [(0, MAX_SIZE), (1, MAX_SIZE), (2, MAX_SIZE), (3, MAX_BLOB_SIZE), (4, MAX_SIZE)]
)
def test_oversized_transaction_is_not_even_looked_at(kind: int, limit: int) -> None:
    raw = (bytes((kind,)) if kind else b"\xf8") + b"\xff" * limit
    with pytest.raises(InvalidTransaction) as refusal:
        decode(raw)
    assert refusal.value.message == f"oversized data: transaction size {limit + 1}, limit {limit}"
    assert (refusal.value.code, refusal.value.why) == (-32000, "oversized")


def test_sender_and_signer_are_found_when_asked_for_and_kept() -> None:
    tx = decode(build(2))
    assert tx.signer == KEY.public_key
    assert tx.sender == ADDRESS
    assert tx.sender is tx.sender
    assert recover_sender(tx) is tx.signer


def test_bad_signature_does_not_blame_the_peer() -> None:
    tx = decode(envelope(2, [*signed_fields(2)[:-2], GROUP_ORDER, 5]))
    with pytest.raises(InvalidTransaction, match="invalid transaction v, r, s values") as refusal:
        _ = tx.sender
    assert not isinstance(refusal.value, DecodeError)
    with pytest.raises(InvalidTransaction):
        _ = tx.signer


def test_recovery_functions_do_not_share_their_buffers() -> None:
    first, second = make_recover(), make_recover()
    tx = decode(build(2))
    key = first(tx.signing_hash(), tx.signature, tx.y_parity)
    second(bytes(32), tx.signature, tx.y_parity)
    assert key == KEY.public_key


def test_representation_is_short() -> None:
    tx = decode(build(2, data=bytes(5000)))
    assert repr(tx) == f"Transaction(type=2, hash={tx.hash.hex()}, nonce=1234, size={tx.size})"


def test_lists_are_counted() -> None:
    tx = decode(build(4, access_list=KEYS_OF_LIST, authorizations=[AUTHORIZATION] * 3))
    assert (tx.access_list, tx.authorizations) == ((2, 2), 3)
    assert decode(build(3, blob_hashes=[bytes(32), b"\x01" * 32])).blob_hashes == (bytes(32), b"\x01" * 32)


@pytest.mark.parametrize("size", [0, 1, 2, 55, 56, 57, 255, 256, 257, 65300])
@pytest.mark.parametrize("first", [0x00, 0x7F, 0x80, 0xC0])
def test_fast_way_takes_every_length_of_data(size: int, first: int) -> None:
    data = bytes((first,)) * size
    for kind, way in ((2, decode_dynamic_fee), (0, decode_legacy)):
        raw = build(kind, data=data)
        fast = way(raw)
        assert fast is not None or size == 65300, kind
        tx = decode(raw)
        assert fields_of(tx) == fields_of(decode_by_table(raw))
        assert tx.data == data


def test_fast_way_leaves_the_rest_to_the_table() -> None:
    assert decode_dynamic_fee(build(2, access_list=KEYS_OF_LIST)) is None
    assert decode_dynamic_fee(build(2, value=2**256)) is None
    assert decode_dynamic_fee(b"\x02") is None
    assert decode_legacy(build(0, value=2**256)) is None
    assert decode_legacy(b"\xf8") is None
    broken = bytearray(build(0))
    broken[decode(build(0)).data_span[0] - 1] = 0xBF  # data whose length no transaction could hold
    assert decode_legacy(bytes(broken)) is None


# ------------------------------------------------------------------- hostile bytes

SEEDS = [raw_of(case) for case in DECODABLE + UNDECODABLE]
SEEDS = [raw for raw in SEEDS if 0 < len(raw) < 600]
TELLING = st.sampled_from(
    (0x00, 0x01, 0x7F, 0x80, 0x81, 0x94, 0xA0, 0xA1, 0xB7, 0xB8, 0xB9, 0xC0, 0xC1, 0xF7, 0xF8, 0xFF)
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    raw = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(raw) - 1))
        change = draw(st.sampled_from(("set", "insert", "delete", "cut")))
        if change == "set":
            raw[at] = draw(TELLING)
        elif change == "insert":
            raw.insert(at, draw(TELLING))
        elif change == "delete" and len(raw) > 1:
            del raw[at]
        elif at:
            del raw[at:]
        # Half of the time the outer length is put right, so that what is inside gets looked at.
        head = 1 if raw[0] < 0x80 else 0
        if draw(st.booleans()) and 57 < len(raw) - head < 258 and raw[head] == 0xF8:
            raw[head + 1] = len(raw) - head - 2
    return bytes(raw)


def library_accepts(raw: bytes) -> bool:
    """Whether the `rlp` library finds canonical RLP in it; says nothing about sizes of fields."""
    body = raw[1:] if raw[:1] < b"\x80" else raw
    try:
        decoded = rlp.decode(body)
    except (DecodingError, ValueError):
        return False
    return isinstance(decoded, list)


def decode_or_none(raw: bytes) -> Transaction | None:
    try:
        return decode(raw)
    except (TransactionUndecodable, InvalidTransaction):
        return None


@settings(max_examples=800, deadline=None)
@given(mutated())
@example(b"\xf9")
@example(b"\x02\xf8")
@example(build(2)[:-69] + b"\xb9\x01" + build(2)[-68:])
@example(build(2)[:-69] + b"\xba\x01" + build(2)[-68:])
def test_hostile_bytes_end_in_a_named_error(raw: bytes) -> None:
    tx = decode_or_none(raw)
    if tx is None:
        return
    assert library_accepts(raw)
    assert fields_of(tx) == fields_of(decode_by_table(raw))
    assert rebuilt(tx) == raw or tx.sidecar is not None
    assert tx.hash == keccak256(raw) or tx.sidecar is not None
    with contextlib.suppress(InvalidTransaction):
        assert len(tx.sender) == 20


def rebuilt(tx: Transaction) -> bytes:
    """Encode the items that the library reads anew: equal bytes mean nothing but canonical was accepted."""
    if tx.type == 0:
        return rlp.encode(rlp.decode(tx.raw))
    return bytes((tx.type,)) + rlp.encode(rlp.decode(tx.raw[1:]))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_end_in_a_named_error(raw: bytes) -> None:
    assert decode_or_none(raw) is None
    with contextlib.suppress(TransactionUndecodable):
        assert wire(canonical(raw)) == raw


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from((0, 1, 2)),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**258),
    st.integers(0, 2**64 - 1),
    st.sampled_from((b"", TO)),
    st.integers(0, 2**258),
    st.binary(max_size=300),
)
def test_what_a_library_encodes_is_read_back(
    kind: int, nonce: int, fee: int, gas: int, to: bytes, value: int, data: bytes
) -> None:
    raw = build(kind, nonce=nonce, fee=fee, tip=fee, price=fee, gas=gas, to=to, value=value, data=data)
    tx = decode(raw)
    assert (tx.nonce, tx.fee_cap, tx.gas, tx.to or b"", tx.value, tx.data) == (
        nonce,
        fee,
        gas,
        to,
        value,
        data,
    )
    assert tx.sender == ADDRESS


def test_a_list_of_many_keys_takes_no_step_for_each() -> None:
    tx = decode(build(2, access_list=[[TO, [bytes(32)] * 3900]]))
    assert tx.access_list == (1, 3900)


def test_public_names_are_in_one_module() -> None:
    assert transactions.BLOB == BLOB == 3
    assert wire(b"\x02" + bytes(60)) == string_header(61) + b"\x02" + bytes(60)
