"""Limits of eth that geth holds its peers to, and so do we: eth/protocols/eth and eth/fetcher there."""

from __future__ import annotations

from typing import Final

__all__ = [
    "MAX_ANNOUNCED",
    "MAX_ANNOUNCED_TAKEN",
    "MAX_CELLS_HASHES",
    "MAX_FETCH_BYTES",
    "MAX_FETCH_HASHES",
    "MAX_MESSAGE",
    "MAX_POOLED_LOOKUPS",
    "MAX_SERVED",
    "MAX_TRANSACTIONS",
    "SOFT_RESPONSE",
]

MAX_MESSAGE: Final = 10 * 1024 * 1024  # bytes, decompressed (maxMessageSize); beyond: disconnected
SOFT_RESPONSE: Final = 2 * 1024 * 1024  # bytes after which an answer gets no further item (softResponseLimit)
MAX_SERVED: Final = 1024  # headers, bodies, receipts or access lists an answer (maxHeadersServe and others)
MAX_TRANSACTIONS: Final = 5000  # in one Transactions; beyond: disconnected (maxTransactionAnnouncements)
MAX_ANNOUNCED: Final = 4096  # hashes in one announcement, a soft limit; eth.md
MAX_ANNOUNCED_TAKEN: Final = 4 * MAX_ANNOUNCED  # the same as a hard limit, ours; beyond: disconnected
MAX_POOLED_LOOKUPS: Final = 4096  # hashes of one GetPooledTransactions that are looked up (maxPooledTxServe)
MAX_FETCH_HASHES: Final = 256  # in one GetPooledTransactions (maxTxRetrievals); eth.md
MAX_FETCH_BYTES: Final = 128 * 1024  # announced bytes one GetPooledTransactions asks for (maxTxRetrievalSize)
MAX_CELLS_HASHES: Final = 64  # in one GetCells; eth.md
