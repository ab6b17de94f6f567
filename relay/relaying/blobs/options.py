"""The settings of blob transactions, each with its unit."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BlobOptions"]


@dataclass(frozen=True, slots=True)
class BlobOptions:
    """How much is held and verified, and how cells are asked for.

    Attributes:
        pool_bytes: blobs held, with their extension: 256 KiB a blob. The transactions themselves count in the
            pool of all transactions.
        per_sender: blob transactions held of one sender (geth: maxTxsPerAccount).
        queue_count: transactions that wait to be verified or for their cells; a newer one is refused.
        queue_bytes: the same in bytes.
        per_peer: of these, from one peer.
        verify_timeout: seconds a verification may take before the process counts as stuck.
        start_timeout: seconds in which it has to be ready.
        warm_after: seconds from the first peer until the process starts although no job has asked for it: it
            takes four seconds of a core, and the first blob transaction shall not wait for that.
        restart_min, restart_max: seconds before a process that died is started again; doubled each time.
        cells_timeout: seconds until another peer is asked for cells (geth: blobFetchTimeout).
        cells_patience: seconds until a transaction whose cells nobody gives is let go.
        cells_forget: seconds after which cells count as unsolicited.
        extra_cells: cells asked for beyond those that are needed, at random (EIP-8070, C_extra).
        answer_hashes: hashes of one GetCells that are looked at; eth.md.
        answer_bytes: soft limit of an answer with cells (geth: softResponseLimit).
    """

    pool_bytes: int = 128 * 1024 * 1024
    per_sender: int = 16
    queue_count: int = 128
    queue_bytes: int = 48 * 1024 * 1024
    per_peer: int = 32
    verify_timeout: float = 120.0
    start_timeout: float = 300.0
    warm_after: float = 30.0
    restart_min: float = 1.0
    restart_max: float = 60.0
    cells_timeout: float = 5.0
    cells_patience: float = 30.0
    cells_forget: float = 300.0
    extra_cells: int = 1
    answer_hashes: int = 64
    answer_bytes: int = 2 * 1024 * 1024
