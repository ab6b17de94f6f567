"""Cells of blob transactions in eth/72: given to who asks, and asked of who announced them. Spec: EIP-8070.

Without a consensus node there is no custody to follow: all is fetched, so that every version can be
served. That takes the 64 cells that are the blob, or any 64; one more at random is asked for where there is
one, so that who has the needed ones only is found out. A peer is asked for one transaction at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from relay.chain.blobs import (
    ALL_CELLS,
    CELL_BYTES,
    DATA_CELLS,
    ENOUGH,
    by_blob,
    cell_indices,
    mask_bytes,
    mask_number,
)
from relay.primitives.errors import SubprotocolError
from relay.protocols.eth.messages import Cells, GetCells
from relay.relaying.blobs.pending import PartOfBlobs, Pending

if TYPE_CHECKING:
    from relay.relaying.blobs.options import BlobOptions
    from relay.relaying.blobs.store import BlobStore
    from relay.relaying.counters import RelayCounters
    from relay.relaying.roster import RelayPeer
    from relay.relaying.seams import Loop

__all__ = ["CellFetcher", "answer_cells"]

_VERSION: Final = 72


def answer_cells(
    peer: RelayPeer, payload: bytes, store: BlobStore, options: BlobOptions, counters: RelayCounters
) -> None:
    """Answer GetCells, also with nothing; transactions that are not held are left out.

    Raises:
        PeerError: the request is malformed.
    """
    request = GetCells.decode(payload, _VERSION)
    mask = mask_number(request.mask)
    left = options.answer_bytes // CELL_BYTES
    hashes, found = [], []
    for tx_hash in dict.fromkeys(request.hashes[: options.answer_hashes]):
        blobs = store.held.get(tx_hash)
        if blobs is None or not mask:
            continue
        cells = tuple(blobs.cells(mask))
        hashes.append(tx_hash)
        found.append(cells)
        left -= len(cells)
        if left <= 0:
            break
    counters.cells_served += sum(map(len, found))
    answer = Cells(request.request_id, tuple(hashes), tuple(found), request.mask)
    peer.session.send(Cells.CODE, answer.encode(_VERSION))


class _Request:
    __slots__ = ("id", "mask", "pending", "sent_at")

    def __init__(self, request_id: int, pending: Pending, mask: int, sent_at: float) -> None:
        self.id, self.mask, self.sent_at = request_id, mask, sent_at
        self.pending: Pending | None = pending


class CellFetcher:
    """Asks for the cells of pending transactions.

    Args:
        options: times.
        counters: what is counted.
        loop: tells the time.
        rand: randomness.
        arrived: told of a transaction that has enough cells now.
        hopeless: told of one whose cells are not to be had.
    """

    def __init__(
        self,
        options: BlobOptions,
        counters: RelayCounters,
        loop: Loop,
        rand: Callable[[int], bytes],
        arrived: Callable[[Pending], None],
        hopeless: Callable[[Pending], None],
    ) -> None:
        self._options = options
        self._counters = counters
        self._loop = loop
        self._rand = rand
        self._arrived = arrived
        self._hopeless = hopeless
        self._next_id = int.from_bytes(rand(4), "big")
        self._asked: dict[RelayPeer, _Request] = {}
        self._waiting: dict[Pending, None] = {}

    def seek(self, pending: Pending) -> None:
        """Go on fetching the cells of a transaction, unless that is under way."""
        if pending.asking:
            return
        self._waiting[pending] = None
        if not pending.is_within_reach:
            if pending.elders:
                self._give_up(pending)
            return
        source = self._choose(pending)
        if source is not None:
            del self._waiting[pending]
            self._ask(source, pending)

    def cancel(self, pending: Pending) -> None:
        """Fetch nothing more for a transaction; an answer that is under way will be passed over."""
        self._waiting.pop(pending, None)
        pending.asking = False
        for request in self._asked.values():
            if request.pending is pending:
                request.pending = None

    def answered(self, peer: RelayPeer, payload: bytes) -> None:
        """Take Cells.

        Raises:
            PeerError: malformed, unsolicited, or not what was asked for.
        """
        answer = Cells.decode(payload, _VERSION)
        request = self._asked.get(peer)
        if request is None or request.id != answer.request_id:
            raise SubprotocolError("unsolicited Cells")
        del self._asked[peer]
        pending = request.pending
        if pending is not None:
            pending.asking = False
            part = _part(peer, answer, request, pending)
            pending.sources[peer] = pending.sources.get(peer, 0) & ~request.mask
            if part is not None:
                self._counters.cells_fetched += len(part.cells) // CELL_BYTES
                pending.add(part)
            if pending.is_enough:
                self._arrived(pending)
            else:
                self.seek(pending)
        self._go_on()

    def left(self, peer: RelayPeer) -> None:
        """Ask others for what a peer was asked for."""
        request = self._asked.pop(peer, None)
        if request is not None and request.pending is not None:
            request.pending.asking = False
            self.seek(request.pending)

    def tick(self, now: float) -> None:
        """Give up requests and transactions that take too long."""
        options = self._options
        for peer, request in list(self._asked.items()):
            age = now - request.sent_at
            if age > options.cells_forget:
                del self._asked[peer]  # what comes now is unsolicited
            elif age > options.cells_timeout and request.pending is not None:
                self._expire(peer, request)
        for pending in list(self._waiting):
            if now - pending.received > options.cells_patience:
                self._give_up(pending)

    def _expire(self, peer: RelayPeer, request: _Request) -> None:
        # The request stays: nothing more is asked of this peer until it answers.
        pending, request.pending = request.pending, None
        assert pending is not None
        self._counters.cells_timeouts += 1
        pending.asking = False
        pending.sources.pop(peer, None)
        self.seek(pending)

    def _give_up(self, pending: Pending) -> None:
        self._waiting.pop(pending, None)
        self._hopeless(pending)

    def _go_on(self) -> None:
        """Give a peer that has become idle its next task."""
        for pending in list(self._waiting):
            self.seek(pending)

    def _choose(self, pending: Pending) -> RelayPeer | None:
        """Return the idle peer with most of what is missing; of equals who delivered it, then the first."""
        best, most = None, 0
        for peer, mask in pending.sources.items():
            count = (mask & ~pending.got).bit_count()
            if peer in self._asked or not count:
                continue
            if count > most or (count == most and peer is pending.peer):
                best, most = peer, count
        return best

    def _ask(self, peer: RelayPeer, pending: Pending) -> None:
        mask = self._wanted(pending.sources[peer] & ~pending.got, pending.got)
        self._next_id = self._next_id + 1 & 0xFFFF_FFFF_FFFF_FFFF
        pending.asking = True
        self._asked[peer] = _Request(self._next_id, pending, mask, self._loop.time())
        self._counters.cells_asked += mask.bit_count() * pending.count
        question = GetCells(self._next_id, (pending.tx.hash,), mask_bytes(mask))
        peer.session.send(GetCells.CODE, question.encode(_VERSION))

    def _wanted(self, offered: int, got: int) -> int:
        """Choose of what is offered: the blob itself first, as many as are missing, and some at random."""
        wanted = 0
        missing = ENOUGH - got.bit_count()
        for index in cell_indices(offered & DATA_CELLS) + cell_indices(offered & ~DATA_CELLS & ALL_CELLS):
            if missing <= 0:
                break
            wanted |= 1 << index
            missing -= 1
        for _ in range(self._options.extra_cells):
            rest = cell_indices(offered & ~wanted)
            if rest:
                wanted |= 1 << rest[int.from_bytes(self._rand(2), "big") % len(rest)]
        return wanted


def _part(peer: RelayPeer, answer: Cells, request: _Request, pending: Pending) -> PartOfBlobs | None:
    """Return the cells of an answer, None for an answer without.

    Raises:
        SubprotocolError: it is no answer to this request.
    """
    mask = mask_number(answer.mask)
    if len(answer.hashes) != len(answer.cells) or answer.hashes not in ((), (pending.tx.hash,)):
        raise SubprotocolError("cells of other transactions than were asked for")
    cells = answer.cells[0] if answer.cells else ()
    if not cells:
        return None
    if not mask or mask & ~request.mask or len(cells) != mask.bit_count() * pending.count:
        raise SubprotocolError(f"{len(cells)} cells of other indices than were asked for")
    return PartOfBlobs(peer, mask, b"".join(by_blob(cells, pending.count)))
