"""Blob transactions between their arrival and the pool: they wait for cells, or for the verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.chain.blobs import CELL_BYTES, ENOUGH, blob_sizes

if TYPE_CHECKING:
    from relay.chain.transactions import Transaction
    from relay.relaying.roster import RelayPeer

__all__ = ["PartOfBlobs", "Pending"]


class PartOfBlobs:
    """Cells that one peer delivered.

    Attributes:
        peer: who.
        mask: which cells of each blob.
        cells: blob by blob, one after the other.
    """

    __slots__ = ("cells", "mask", "peer")

    def __init__(self, peer: RelayPeer, mask: int, cells: bytes) -> None:
        self.peer, self.mask, self.cells = peer, mask, cells


class Pending:
    """A blob transaction on its way into the pool.

    Attributes:
        tx: in its lean form, with a valid signature.
        proofs: of its sidecar, one after the other.
        peer: who delivered it; None for one of our own users.
        received: monotonic seconds.
        blobs: the blobs, where it came whole.
        sizes: of its whole and its lean form, bytes.
        knowers: peers that have it.
        sources: peers that announced cells, and which of them they have and were not asked for in vain.
        elders: peers of older versions that announced it, so would deliver it whole.
        parts: cells so far; got is the mask of all of them.
        asking: whether cells are being asked for.
        verifying: whether the verdict is awaited.
    """

    __slots__ = (
        "asking",
        "blobs",
        "elders",
        "got",
        "knowers",
        "parts",
        "peer",
        "proofs",
        "received",
        "sizes",
        "sources",
        "tx",
        "verifying",
    )

    def __init__(self, tx: Transaction, proofs: bytes, peer: RelayPeer | None, received: float) -> None:
        self.tx = tx
        self.proofs = proofs
        self.peer = peer
        self.received = received
        self.blobs: list[bytes] = []
        self.sizes = blob_sizes(tx)
        self.knowers: set[RelayPeer] = set()
        self.sources: dict[RelayPeer, int] = {}
        self.elders: dict[RelayPeer, None] = {}
        self.parts: list[PartOfBlobs] = []
        self.got = 0
        self.asking = False
        self.verifying = False

    @property
    def count(self) -> int:
        """How many blobs it has."""
        return len(self.tx.blob_hashes)

    @property
    def cost(self) -> int:
        """Bytes that it takes or will take, of the budget of the queue."""
        return self.sizes[0] + self.count * CELL_BYTES

    @property
    def is_enough(self) -> bool:
        """Whether all cells follow from those that are here."""
        return self.got.bit_count() >= ENOUGH

    @property
    def is_within_reach(self) -> bool:
        """Whether enough cells were announced."""
        reach = self.got
        for mask in self.sources.values():
            reach |= mask
        return reach.bit_count() >= ENOUGH

    def add(self, part: PartOfBlobs) -> None:
        """Take cells that are not here yet."""
        self.parts.append(part)
        self.got |= part.mask

    def withdraw(self, numbers: tuple[int, ...]) -> None:
        """Take parts out that turned out to be wrong."""
        self.parts = [part for number, part in enumerate(self.parts) if number not in numbers]
        self.got = 0
        for part in self.parts:
            self.got |= part.mask

    def forget(self, peer: RelayPeer) -> None:
        """Do without a peer."""
        self.knowers.discard(peer)
        self.sources.pop(peer, None)
        self.elders.pop(peer, None)
