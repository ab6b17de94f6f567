"""Block headers, as far as a relay looks into them: what links them, and what they commit to.

A header commits to everything else of its block, and its hash to it. Fields that forks added are at its end,
so fields that come after those known here are no error: they belong to a fork that is to come.
Spec: caps/eth.md, "Block Encoding and Validity"; order of fields: EIP-1559, 4895, 4844, 4788, 7685, 7928.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Final

from relay.primitives import rlp
from relay.primitives.errors import DecodeError
from relay.primitives.hashing import keccak256

__all__ = ["ContradictsHeader", "Header", "linked_hashes"]

# All fields up to the bloom filter have a fixed size: one unpacking takes what is read of them, and with each
# its RLP header. Parent, ommers, coinbase, state, transactions, receipts, bloom.
_FIXED: Final = Struct(">c32sc32sc20xc32xc32sc32s3s256x")
_FIXED_HEADERS: Final = (b"\xa0", b"\xa0", b"\x94", b"\xa0", b"\xa0", b"\xa0", b"\xb9\x01\x00")

# Positions of the fields after it, beginning with the difficulty.
_NUMBER: Final = 1
_GAS_USED: Final = 3
_TIMESTAMP: Final = 4
_MIX: Final = 6
_NONCE: Final = 7
_REQUIRED: Final = 8  # in every header since genesis
_WITHDRAWALS: Final = 9
_ACCESS_LIST: Final = 14

# A transaction costs 21,000, less than half of which it ever got back; EIP-2780 would make it 6,000, and
# a fifth of that.
_LEAST_GAS: Final = 4096

_EMPTY: Final = 0x80  # RLP: the empty string
_NONCE_HEADER: Final = 0x88  # of a string of 8 bytes
_HASH: Final = 0xA0  # of 32
_LONG: Final = 0xB8  # of more than 55
_LONG_LIST: Final = b"\xf9"  # RLP: a list of 256 to 65,535 bytes


class ContradictsHeader(DecodeError):
    """What should belong to a block is not what its header commits to."""


@dataclass(frozen=True, slots=True)
class Header:
    """A header.

    Attributes:
        raw: its RLP, as it came.
        hash: of the block: Keccak-256 of raw.
        parent_hash: of the block before.
        number: of the block.
        gas_used: by all its transactions.
        timestamp: Unix seconds.
        ommers_hash: of the RLP list of uncles.
        transactions_root, receipts_root: of the ordered tries.
        withdrawals_root: the same; None before Shanghai.
        access_list_hash: of the block access list (EIP-7928); None before Amsterdam.
    """

    raw: bytes
    hash: bytes
    parent_hash: bytes
    number: int
    gas_used: int
    timestamp: int
    ommers_hash: bytes
    transactions_root: bytes
    receipts_root: bytes
    withdrawals_root: bytes | None
    access_list_hash: bytes | None

    @property
    def most_transactions(self) -> int:
        """More than these can't be in the block: who checks an answer looks no further."""
        return self.gas_used // _LEAST_GAS

    @classmethod
    def decode(cls, raw: bytes) -> Header:
        """Read a header.

        Raises:
            DecodeError: not one RLP list with the fields of a header.
        """
        is_list, start, end = rlp.read_header(raw, 0, len(raw))
        if not is_list or end != len(raw):
            raise DecodeError("a header is one list")
        if end - start < _FIXED.size:
            raise DecodeError("a header is too short")
        fixed = _FIXED.unpack_from(raw, start)
        h0, parent, h1, ommers, h2, h3, h4, transactions, h5, receipts, h6 = fixed
        if (h0, h1, h2, h3, h4, h5, h6) != _FIXED_HEADERS:
            raise DecodeError("a header begins with hashes, a coinbase and a bloom filter")
        fields = _later_fields(raw, start + _FIXED.size, end)
        return cls(
            raw=raw,
            hash=keccak256(raw),
            parent_hash=parent,
            number=_number(raw, fields, _NUMBER),
            gas_used=_number(raw, fields, _GAS_USED),
            timestamp=_number(raw, fields, _TIMESTAMP),
            ommers_hash=ommers,
            transactions_root=transactions,
            receipts_root=receipts,
            withdrawals_root=_optional_hash(raw, fields, _WITHDRAWALS),
            access_list_hash=_optional_hash(raw, fields, _ACCESS_LIST),
        )


def linked_hashes(headers: Sequence[bytes], *, reverse: bool = False) -> list[bytes]:
    """Return the hashes of headers of which each is the parent of the next.

    Who knows the hash of one end so knows that all are real, without decoding them: it takes a third of the
    time.

    Args:
        headers: RLP.
        reverse: each is the child of the next.

    Raises:
        DecodeError: they do not link.
    """
    hashes = [keccak256(raw) for raw in headers]
    children, parents = (headers, hashes[1:]) if reverse else (headers[1:], hashes)
    for raw, parent in zip(children, parents, strict=False):
        # Nearly all have 256 bytes or more, so three of header; a call for each is a third of the time.
        start = 3 if raw[:1] == _LONG_LIST else rlp.read_header(raw, 0, len(raw))[1]
        if raw[start + 1 : start + 33] != parent:
            raise DecodeError("headers do not link")
    return hashes


def _later_fields(raw: bytes, pos: int, end: int) -> list[int]:
    """Return where each field after the bloom filter begins, and at last where they end.

    Written out, because a header is checked 192 at a time: with `rlp.list_items` it takes twice as long.
    """
    fields = [pos]
    append = fields.append
    while pos < end:
        first = raw[pos]
        if first < _EMPTY:
            pos += 1
        elif first != _EMPTY + 1 and first < _LONG:
            pos += first - _EMPTY + 1
        else:
            is_list, _, pos = rlp.read_header(raw, pos, end)
            if is_list:
                raise DecodeError("a field of a header is a list")
        append(pos)
    if pos != end:
        raise DecodeError("a header is cut off")
    if len(fields) <= _REQUIRED:
        raise DecodeError(f"a header has {len(fields) - 1} fields after its bloom filter, of {_REQUIRED}")
    if raw[fields[_MIX]] != _HASH or raw[fields[_NONCE]] != _NONCE_HEADER:
        raise DecodeError("mix digest or nonce of a header has another size")
    return fields


def _number(raw: bytes, fields: list[int], position: int) -> int:
    start = fields[position]
    if raw[start] < _EMPTY:
        return rlp.to_int(raw[start : start + 1])
    return rlp.to_int(raw[start + 1 : fields[position + 1]], 8)


def _optional_hash(raw: bytes, fields: list[int], position: int) -> bytes | None:
    if position >= len(fields) - 1:
        return None
    start = fields[position]
    # What is absent before a field that is present is an empty string.
    if raw[start] == _EMPTY:
        return None
    if raw[start] != _HASH:
        raise DecodeError("a root in a header is no hash")
    return raw[start + 1 : start + 33]
