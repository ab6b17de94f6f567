"""Bodies put together from shared pieces decode to what the plain encoders make."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from relay.protocols.devp2p.snappy import compress, decompress
from relay.protocols.eth.packing import (
    decode_announcement,
    encode_announcement,
    encode_transactions,
    split_transactions,
)
from relay.relaying.packing import (
    Piece,
    announcement,
    elements,
    literal,
    packed,
    pieces_of,
    transactions,
    varint,
)
from tests.aids.relaying import fake, pooled


@settings(max_examples=60)
@given(st.lists(st.binary(max_size=300), max_size=8))
def test_concatenated_elements_decode_to_the_concatenation(parts):
    whole = b"".join(parts)
    assert decompress(packed(len(whole), map(literal, parts))) == whole
    if all(parts):
        assert decompress(packed(len(whole), map(elements, parts))) == whole


def test_literals_of_every_length_class_decode():
    for length in (0, 1, 59, 60, 61, 255, 256, 257, 65535, 65536, 65537, 200_000):
        data = bytes(i & 0xFF for i in range(length))
        assert decompress(packed(length, [literal(data)])) == data


def test_repetitive_elements_only_refer_to_themselves():
    data = b"abcdefgh" * 1000
    mixed = packed(len(data) * 2 + 3, [elements(data), literal(b"xyz"), elements(data)])
    assert decompress(mixed) == data + b"xyz" + data
    assert len(elements(data)) < len(compress(data))


def test_varint_is_that_of_snappy():
    for value in (0, 1, 127, 128, 300, 16383, 16384, 2**21, 2**24 - 1):
        assert compress(bytes(value)).startswith(varint(value)) or value > 2**21


def test_transactions_body_equals_the_plain_encoding():
    entries = [pooled(account=n, kind=n % 3 and 2) for n in range(7)]
    pieces = [*pieces_of(entries[:3], 10_000), *pieces_of(entries[3:], 200)]
    (body,) = transactions(pieces, 100_000)
    assert decompress(body) == encode_transactions([entry.wire for entry in entries])


def test_transactions_are_cut_into_messages_near_the_limit():
    entries = [fake(n, nonce=n, wire_size=200) for n in range(100)]
    pieces = list(pieces_of(entries, 1000))
    assert all(piece.raw_length == sum(len(e.wire) for e in piece.txs) <= 1000 for piece in pieces)
    bodies = list(transactions(pieces, 3000))
    assert len(bodies) > 5
    items = [item for body in bodies for item in split_transactions(decompress(body))]
    assert items == [entry.wire for entry in entries]
    assert all(len(decompress(body)) <= 3010 for body in bodies)


def test_one_larger_than_the_limit_goes_alone():
    entries = [fake(1, wire_size=60), fake(2, wire_size=250), fake(3, wire_size=60)]
    assert [len(piece.txs) for piece in pieces_of(entries, 100)] == [1, 1, 1]


def test_announcement_body_equals_the_plain_encoding_in_every_version():
    entries = [fake(n, size=100 + n, kind=(0, 1, 2, 4)[n % 4]) for n in range(9)]
    for count in (1, 2, 9):
        chosen = entries[:count]
        fields = (
            bytes(e.type for e in chosen),
            [e.size for e in chosen],
            [e.hash for e in chosen],
        )
        pieces = [Piece(chosen[:1], 0), *([Piece(chosen[1:], 0)] if count > 1 else [])]
        (plain,) = announcement(pieces, 100)
        assert decompress(plain) == encode_announcement(*fields)
        (masked,) = announcement(pieces, 100, masked=True)
        assert decompress(masked) == encode_announcement(*fields, bytes(16))


def test_announcements_are_cut_at_the_limit():
    pieces = [Piece([fake(10 * p + n) for n in range(10)], 0) for p in range(5)]
    bodies = list(announcement(pieces, 16))
    hashes = [h for body in bodies for h in decode_announcement(decompress(body))[2]]
    assert hashes == [entry.hash for piece in pieces for entry in piece.txs]
    assert [len(decode_announcement(decompress(body))[2]) for body in bodies] == [16, 16, 16, 2]
