"""Messages built from parts that are compressed once and shared by many peers.

A snappy block is a varint with the decoded length, then elements: literals, and copies that point back into
what was decoded before. Elements compressed on their own never point before their own beginning, so
compressed parts may stand one after the other behind one length. Hashes do not compress: they go as literals,
which costs a copy and no search. Spec: google/snappy format_description.txt; eth messages: devp2p
caps/eth.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from relay.chain.transactions import BLOB
from relay.primitives import rlp
from relay.protocols.devp2p.snappy import compress

if TYPE_CHECKING:
    from relay.relaying.pool import PooledTx

__all__ = [
    "ALL_CELLS",
    "NO_CUSTODY",
    "Piece",
    "announcement",
    "literal",
    "packed",
    "pieces_of",
    "transactions",
    "varint",
]

NO_CUSTODY: Final = b"\x90" + bytes(16)  # EIP-8070: the mask of an announcement without blobs
ALL_CELLS: Final = b"\x90" + bytes((0xFF,)) * 16  # and of one with: what is held is held with all cells

_HASH_HEADER: Final = b"\xa0"
_wire = attrgetter("wire")
_hash = attrgetter("hash")
_type = attrgetter("type")
_size = attrgetter("size")
_lean = attrgetter("lean")
_BLOBS: Final = bytes((BLOB,))


def varint(value: int) -> bytes:
    """Encode a length as snappy's preamble: seven bits a byte, lowest first."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def literal(data: bytes) -> bytes:
    """Encode bytes as one snappy literal element."""
    length = len(data) - 1
    if length < 60:
        return bytes((length << 2,)) + data if data else b""
    size = (length.bit_length() + 7) >> 3
    return bytes(((59 + size) << 2,)) + length.to_bytes(size, "little") + data


def elements(data: bytes) -> bytes:
    """Compress bytes into snappy elements without the length before them."""
    block = compress(data)
    pos = 0
    while block[pos] & 0x80:
        pos += 1
    return block[pos + 1 :]


def packed(length: int, parts: Iterable[bytes]) -> bytes:
    """Join elements that decode to length bytes into a snappy block."""
    return varint(length) + b"".join(parts)


class Piece:
    """Some transactions with each form that messages need of them, made at first use.

    Attributes:
        txs: the transactions, in the order they are sent.
        raw_length: bytes of their wire items.
    """

    __slots__ = ("_announced", "_block", "_elements", "_masked", "raw_length", "txs")

    def __init__(self, txs: Sequence[PooledTx], raw_length: int) -> None:
        self.txs = txs
        self.raw_length = raw_length
        self._elements: bytes | None = None
        self._block: bytes | None = None
        self._announced: tuple[bytes, bytes, bytes] | None = None
        self._masked: tuple[bytes, bytes, bytes] | None = None

    @property
    def elements(self) -> bytes:
        """The wire items as snappy elements."""
        if self._elements is None:
            self._elements = elements(b"".join(map(_wire, self.txs)))
        return self._elements

    @property
    def hashes(self) -> bytes:
        """The hashes as RLP strings, one after the other: 33 bytes each."""
        if self._block is None:
            self._block = _HASH_HEADER + _HASH_HEADER.join(map(_hash, self.txs))
        return self._block

    @property
    def announced(self) -> tuple[bytes, bytes, bytes]:
        """What announcements join: types, sizes as RLP numbers, hashes as RLP strings."""
        if self._announced is None:
            txs = self.txs
            sizes = b"".join(map(rlp.encode_int, map(_size, txs)))
            self._announced = bytes(map(_type, txs)), sizes, self.hashes
        return self._announced

    @property
    def announced_lean(self) -> tuple[bytes, bytes, bytes]:
        """The same for eth/72, where sizes are those without blobs."""
        if self._masked is None:
            types, sizes, hashes = self.announced
            if _BLOBS in types:
                sizes = b"".join(map(rlp.encode_int, map(_lean, self.txs)))
            self._masked = types, sizes, hashes
        return self._masked


def pieces_of(txs: Sequence[PooledTx], limit: int) -> Iterator[Piece]:
    """Cut transactions into pieces of about limit bytes, one transaction at least."""
    total = sum(map(len, map(_wire, txs)))
    if total <= limit:
        yield Piece(txs, total)
        return
    start = 0
    size = 0
    for end, tx in enumerate(txs):
        if size and size + len(tx.wire) > limit:
            yield Piece(txs[start:end], size)
            start = end
            size = 0
        size += len(tx.wire)
    yield Piece(txs[start:], size)


def transactions(pieces: Sequence[Piece], limit: int) -> Iterator[bytes]:
    """Build bodies of Transactions (0x02) messages of about limit bytes, compressed."""
    parts: list[bytes] = []
    size = 0
    for piece in pieces:
        part = piece.elements
        if size and size + piece.raw_length > limit:
            yield _transactions(parts, size)
            parts = []
            size = 0
        parts.append(part)
        size += piece.raw_length
    yield _transactions(parts, size)


def _transactions(parts: list[bytes], size: int) -> bytes:
    header = rlp.list_header(size)
    return packed(len(header) + size, [literal(header), *parts])


def announcement(pieces: Sequence[Piece], limit: int, *, masked: bool = False) -> Iterator[bytes]:
    """Build bodies of NewPooledTransactionHashes (0x08) messages of at most limit hashes, compressed.

    Args:
        pieces: what is announced.
        limit: hashes a message.
        masked: as eth/72 has it: lean sizes, and a mask of cells after the three lists.
    """
    if sum(len(piece.txs) for piece in pieces) > limit:
        txs = list(chain.from_iterable(piece.txs for piece in pieces))
        cuts = [[Piece(txs[start : start + limit], 0)] for start in range(0, len(txs), limit)]
    else:
        cuts = [list(pieces)]
    for cut in cuts:
        yield _announcement([piece.announced_lean if masked else piece.announced for piece in cut], masked)


def _announcement(parts: list[tuple[bytes, bytes, bytes]], masked: bool) -> bytes:
    if len(parts) == 1:
        types, sizes, hashes = parts[0]
    else:
        columns = list(zip(*parts, strict=True))
        types, sizes, hashes = b"".join(columns[0]), b"".join(columns[1]), b"".join(columns[2])
    tail = (ALL_CELLS if _BLOBS in types else NO_CUSTODY) if masked else b""
    head = rlp.encode(types) + rlp.list_header(len(sizes)) + sizes + rlp.list_header(len(hashes))
    length = len(head) + len(hashes) + len(tail)
    header = rlp.list_header(length)
    return packed(len(header) + length, (literal(header + head), literal(hashes), literal(tail)))
