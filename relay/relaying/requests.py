"""Answers to what peers ask: transactions from the pool. For chain data see `chain_data`.

An answer is put together from pieces that gossip announced a moment ago: many peers ask for the same hashes
in the same order, and their answers differ in the request id only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from relay.chain.transactions import BLOB
from relay.primitives import rlp
from relay.primitives.errors import DecodeError, ProtocolBreach, SubprotocolError
from relay.protocols.eth.messages import empty_response
from relay.relaying.packing import Piece, elements, literal, packed

if TYPE_CHECKING:
    from relay.relaying.blobs.store import BlobStore
    from relay.relaying.counters import RelayCounters
    from relay.relaying.options import RelayOptions
    from relay.relaying.pool import PooledTx, TxPool
    from relay.relaying.seams import Session

__all__ = ["PieceCache", "Requests"]

POOLED_TRANSACTIONS: Final = 0x0A

_HASH: Final = 33  # a 32-byte string in RLP


class PieceCache:
    """Pieces announced lately, by their first hash; the oldest go when it is full, and after some seconds."""

    __slots__ = ("_bytes", "_max_age", "_max_bytes", "_now", "_pieces")

    def __init__(self, max_bytes: int, max_age: float) -> None:
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._pieces: dict[bytes, tuple[Piece, float]] = {}
        self._bytes = 0
        self._now = 0.0

    def __len__(self) -> int:
        return len(self._pieces)

    def add_all(self, pieces: Sequence[Piece]) -> None:
        """Remember pieces; the oldest make room."""
        for piece in pieces:
            first = piece.txs[0].hash
            if first in self._pieces:
                self._forget(first)
            self._pieces[first] = (piece, self._now)
            self._bytes += piece.raw_length
        while self._bytes > self._max_bytes:
            self._forget(next(iter(self._pieces)))

    def get(self, first: bytes) -> Piece | None:
        """Return the piece that begins with this hash."""
        found = self._pieces.get(first)
        return None if found is None else found[0]

    def tick(self, now: float) -> None:
        """Forget what is too old; pieces added until the next tick count as of now, monotonic seconds."""
        self._now = now
        while self._pieces:
            first = next(iter(self._pieces))
            if now - self._pieces[first][1] < self._max_age:
                break
            self._forget(first)

    def _forget(self, first: bytes) -> None:
        self._bytes -= self._pieces.pop(first)[0].raw_length


class Requests:
    """Serves requests of peers.

    Attributes:
        blobs: where the blobs of blob transactions are; None where there are none.
    """

    __slots__ = ("_cache", "_counters", "_options", "_pool", "blobs")

    def __init__(
        self, pool: TxPool, cache: PieceCache, options: RelayOptions, counters: RelayCounters
    ) -> None:
        self._pool = pool
        self._cache = cache
        self._options = options
        self._counters = counters
        self.blobs: BlobStore | None = None

    def pooled_transactions(self, session: Session, payload: bytes, told: int = 0) -> None:
        """Answer GetPooledTransactions, also with an empty list; unknown hashes are skipped.

        Args:
            session: who asks.
            payload: the request.
            told: its bit, where a transaction that it was not told of yet is to be unknown to it; else 0.

        Raises:
            ProtocolBreach: the request is malformed.
        """
        try:
            request_id, start, end = _split_request(payload)
        except DecodeError as error:
            raise ProtocolBreach(f"bad GetPooledTransactions: {error}") from None
        self._counters.requests += 1
        size, parts = self._collect(session, payload, start, end, told)
        inner = rlp.list_header(size)
        length = len(request_id) + len(inner) + size
        header = rlp.list_header(length)
        parts.insert(0, literal(header + request_id + inner))
        session.send_packed(POOLED_TRANSACTIONS, packed(len(header) + length, parts))

    def nothing(self, session: Session, version: int, code: int, payload: bytes) -> None:
        """Answer a request with what says: I have nothing.

        Raises:
            ProtocolBreach: the request is malformed.
            SubprotocolError: this version has no such request.
        """
        answer = empty_response(version, code, payload)
        if answer is None:
            raise SubprotocolError(f"eth/{version} has no request {code:#04x}")
        self._counters.chain.empty += 1
        session.send(*answer)

    def _collect(
        self, session: Session, payload: bytes, pos: int, end: int, told: int
    ) -> tuple[int, list[bytes]]:
        """Gather the wire items asked for: their size, and snappy elements of them."""
        held, cached = self._pool.by_hash, self._cache.get
        limit = self._options.answer_bytes
        end = min(end, pos + _HASH * self._options.answer_lookups)
        size = served = missed = 0
        parts: list[bytes] = []
        loose: list[bytes] = []
        while pos < end and size < limit:
            tx_hash = payload[pos + 1 : pos + _HASH]
            piece = None if told else cached(tx_hash)
            if piece is not None and payload.startswith(piece.hashes, pos, end):
                if loose:
                    parts.append(elements(b"".join(loose)))
                    loose.clear()
                parts.append(piece.elements)
                size += piece.raw_length
                served += len(piece.txs)
                if piece.txs[0].local:  # published alone, so a piece of its own
                    self._pool.watch.served(piece.txs[0], session)
                pos += len(piece.hashes)
                continue
            pos += _HASH
            tx = held.get(tx_hash)
            if tx is None or (told and not tx.known & told):
                missed += 1
                continue
            if tx.local:
                self._pool.watch.served(tx, session)
            item = tx.wire if tx.type != BLOB else self._blob(tx, session)
            loose.append(item)
            size += len(item)
            served += 1
        if loose:
            parts.append(elements(b"".join(loose)))
        self._counters.served += served
        self._counters.missed += missed
        return size, parts

    def _blob(self, tx: PooledTx, session: Session) -> bytes:
        assert self.blobs is not None
        assert session.eth is not None
        return self.blobs.item(tx, session.eth.version)


def _split_request(payload: bytes) -> tuple[bytes, int, int]:
    """Return the encoded request id, and where the hashes begin and end.

    Raises:
        DecodeError: not `[id, [hash, ...]]`.
    """
    is_list, pos, outer_end = rlp.read_header(payload, 0, len(payload))
    if not is_list or outer_end != len(payload):
        raise DecodeError("not one list")
    is_list, start, id_end = rlp.read_header(payload, pos, outer_end)
    if is_list or id_end - start > 8 or payload[start:id_end][:1] == b"\x00":
        raise DecodeError("request id is not a number of at most 64 bits")
    request_id = payload[pos:id_end]
    is_list, start, end = rlp.read_header(payload, id_end, outer_end)
    if not is_list or end != outer_end:
        raise DecodeError("no list of hashes at its end")
    count, rest = divmod(end - start, _HASH)
    if rest or payload[start:end:_HASH] != b"\xa0" * count:
        raise DecodeError("something is no hash")
    return request_id, start, end
