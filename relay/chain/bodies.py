"""Block bodies: whether one belongs to a header. Spec: caps/eth.md, BlockBodies (0x06)."""

from __future__ import annotations

from typing import Final

from relay.chain.headers import ContradictsHeader, Header
from relay.chain.ordered_trie import ordered_trie_root
from relay.primitives import rlp
from relay.primitives.errors import DecodeError
from relay.primitives.hashing import keccak256

__all__ = ["check_body"]

_LEGACY: Final = 0xC0  # the smallest first byte of a list
_MAX_TYPE: Final = 0x7F  # EIP-2718
_PARTS: Final = 3
_WITHDRAWALS: Final = 256  # EIP-4895: 16


def check_body(header: Header, raw_body: bytes) -> None:
    """Check that a body, `[transactions, ommers]` or `[transactions, ommers, withdrawals]`, is the header's.

    Raises:
        ContradictsHeader: it is not: another root, or it is not even a body.
    """
    try:
        _check(header, raw_body)
    except ContradictsHeader:
        raise
    except DecodeError as error:
        raise ContradictsHeader(f"no body of a block: {error}") from None


def _check(header: Header, raw: bytes) -> None:
    parts = _items(raw, 0, len(raw), _PARTS)
    if len(parts) not in (2, 3):
        raise DecodeError(f"{len(parts)} parts")
    if keccak256(raw[slice(*parts[1])]) != header.ommers_hash:
        raise ContradictsHeader("ommers are not those of the header")
    transactions = [_hashed_form(raw, *span) for span in _items(raw, *parts[0], header.most_transactions)]
    if ordered_trie_root(transactions) != header.transactions_root:
        raise ContradictsHeader("transactions are not those of the header")
    withdrawals = ordered_trie_root(_withdrawals(raw, *parts[2])) if len(parts) == 3 else None
    if withdrawals != header.withdrawals_root:
        raise ContradictsHeader("withdrawals are not those of the header")


def _items(raw: bytes, start: int, stop: int, limit: int) -> list[tuple[int, int]]:
    is_list, pos, end = rlp.read_header(raw, start, stop)
    if not is_list or end != stop:
        raise DecodeError("expected one list")
    return rlp.list_items(raw, pos, end, limit)


def _hashed_form(raw: bytes, start: int, stop: int) -> bytes:
    """Return a transaction as the trie holds it: a legacy one as it is, a typed one out of its string.

    One body, one encoding: a legacy transaction within a string, or an empty string, which a trie takes for
    nothing at all, would leave the root as it was.
    """
    if raw[start] >= _LEGACY:
        return raw[start:stop]
    _, begin, end = rlp.read_header(raw, start, stop)
    if begin == end or raw[begin] > _MAX_TYPE:
        raise DecodeError("a transaction is neither a list nor has a type")
    return raw[begin:end]


def _withdrawals(raw: bytes, start: int, stop: int) -> list[bytes]:
    spans = _items(raw, start, stop, _WITHDRAWALS)
    return [raw[begin:end] for begin, end in spans]
