"""The node database: nodes that have answered, kept in the datadir, so that a restart needs no bootnode.

One sqlite file in WAL mode: what was committed survives kill -9. A file that is corrupt is set aside under a
name that says so, and a new one is begun. It belongs to one thread; the driver hands it batches, since a
commit is what costs. Times are unix seconds, since they outlive the process.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

import structlog

from relay.primitives.endpoint import Network
from relay.primitives.enr import NodeRecord
from relay.primitives.errors import DecodeError, StorageError
from relay.primitives.keys import NodeId

__all__ = ["NodeDatabase"]

SCHEMA_VERSION: Final = 1
MAX_NODES: Final = 8192  # of one network class; some 5 MB of file
MAX_FAILURES: Final = 10  # in a row, after which a node is forgotten
MAX_AGE: Final = 14 * 24 * 3600.0  # seconds since a node last answered; go-ethereum keeps them for one day
PRUNE_EVERY: Final = 512  # rows written between two looks at the bounds
BUSY_TIMEOUT: Final = 1.0  # seconds; the datadir's lock keeps other daemons away, so only tools compete

_SCHEMA: Final = """
CREATE TABLE nodes (
    network  TEXT    NOT NULL,
    node_id  BLOB    NOT NULL,
    record   BLOB    NOT NULL,
    seq      TEXT    NOT NULL,
    source   TEXT    NOT NULL,
    proved   REAL    NOT NULL,
    tried    REAL    NOT NULL,
    failures INTEGER NOT NULL,
    PRIMARY KEY (network, node_id)
) WITHOUT ROWID;
CREATE INDEX best ON nodes (network, failures, proved);
"""
_UPSERT: Final = """
INSERT INTO nodes VALUES (:network, :node, :record, :seq, :source, :now, :now, 0)
ON CONFLICT DO UPDATE SET
    record = CASE WHEN excluded.seq >= seq THEN excluded.record ELSE record END,
    source = CASE WHEN excluded.seq >= seq THEN excluded.source ELSE source END,
    seq = max(seq, excluded.seq), proved = :now, tried = :now, failures = 0
"""
# One that failed comes after those that did not, whenever it was proved.
_BEST: Final = (
    "SELECT record FROM nodes WHERE network = ? AND proved >= ? ORDER BY failures, proved DESC LIMIT ?"
)
_FAIL: Final = "UPDATE nodes SET failures = failures + 1, tried = ? WHERE network = ? AND node_id = ?"
_PRUNE: Final = """
DELETE FROM nodes WHERE network = :network AND (failures >= :failures OR proved < :oldest OR node_id IN (
    SELECT node_id FROM nodes WHERE network = :network ORDER BY failures, proved DESC LIMIT -1 OFFSET :keep))
"""
_CORRUPT: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

_T = TypeVar("_T")
_log = structlog.get_logger("relay.discovery")


class NodeDatabase:
    """Nodes by network class (ipv4, ipv6, onion, i2p): what is learned on one is never asked for on another.

    Attributes:
        lost: batches that could not be written, the disk being full or the like.
    """

    def __init__(self, path: Path, *, now: Callable[[], float], max_nodes: int = MAX_NODES) -> None:
        """Open or begin a database.

        Args:
            path: of the file; its folder exists.
            now: unix seconds, for the name of a file that is set aside.
            max_nodes: of one network class.

        Raises:
            StorageError: the folder cannot be written.
        """
        self._path = path
        self._now = now
        self._max_nodes = max_nodes
        self._written = 0
        self.lost = 0
        self._connection = self._open_or_begin()

    def seen(self, records: Iterable[NodeRecord], network: Network, now: float, source: str = "") -> None:
        """Note nodes that have just answered on a network; a batch is one commit.

        A record for the onion network without an onion address is left out, so one that has it stays. I2P:
        likewise.

        Args:
            records: verified.
            network: where they answered.
            now: unix seconds.
            source: what found them, for people.
        """
        rows = [
            {
                "network": network.value,
                "node": record.node_id,
                "record": record.raw,
                "seq": _sortable(record.seq),
                "source": source,
                "now": now,
            }
            for record in records
            if _belongs(record, network)
        ]
        if rows:
            self._write(lambda db: db.executemany(_UPSERT, rows))
            self._count(len(rows), now)

    def failed(self, nodes: Iterable[NodeId], network: Network, now: float) -> None:
        """Note nodes that did not answer; after some failures in a row they are forgotten."""
        rows = [(now, network.value, node) for node in nodes]
        if rows:
            self._write(lambda db: db.executemany(_FAIL, rows))
            self._count(len(rows), now)

    def forget(self, nodes: Iterable[NodeId]) -> None:
        """Forget nodes on every network, as when they turned out to be of another chain."""
        rows = [(node,) for node in nodes]
        if rows:
            self._write(lambda db: db.executemany("DELETE FROM nodes WHERE node_id = ?", rows))

    def candidates(self, count: int, network: Network, now: float) -> Sequence[NodeRecord]:
        """Return the best nodes of a network: those that have not failed, the latest proved first."""
        limits = (network.value, now - MAX_AGE, count)
        rows = self._read(lambda db: db.execute(_BEST, limits).fetchall())
        return [record for (raw,) in rows or () if (record := _record(raw)) is not None]

    def get(self, node: NodeId, network: Network) -> NodeRecord | None:
        """Return the record of a node that is known on a network."""
        sql = "SELECT record FROM nodes WHERE network = ? AND node_id = ?"
        rows = self._read(lambda db: db.execute(sql, (network.value, node)).fetchall())
        return _record(rows[0][0]) if rows else None

    def count(self, network: Network) -> int:
        """Return how many nodes of a network are known."""
        sql = "SELECT count(*) FROM nodes WHERE network = ?"
        rows = self._read(lambda db: db.execute(sql, (network.value,)).fetchall())
        return int(rows[0][0]) if rows else 0

    def prune(self, now: float) -> None:
        """Bring every network class within its bounds."""
        limits = {"failures": MAX_FAILURES, "oldest": now - MAX_AGE, "keep": self._max_nodes}
        rows = [limits | {"network": network.value} for network in Network]
        self._write(lambda db: db.executemany(_PRUNE, rows))

    def close(self) -> None:
        """Close the file. What was handed in is there."""
        self._connection.close()

    # -- opening ---------------------------------------------------------------------------------------

    def _open_or_begin(self) -> sqlite3.Connection:
        try:
            return self._open()
        except sqlite3.DatabaseError as error:
            if not _is_corrupt(error):
                raise StorageError(f"{self._path}: the node database cannot be opened: {error}") from None
            self._set_aside(str(error))
        try:
            return self._open()
        except sqlite3.DatabaseError as error:
            raise StorageError(f"{self._path}: no node database can be begun: {error}") from None

    def _open(self) -> sqlite3.Connection:
        with suppress(OSError):
            self._path.touch(mode=0o600)  # it tells whom this relay knows
        connection = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT, isolation_level=None)
        try:
            # WAL with synchronous NORMAL: kill -9 loses nothing, a power cut perhaps the last commits.
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA temp_store = MEMORY")
            self._check(connection)
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _check(self, connection: sqlite3.Connection) -> None:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            _begin(connection)
            return
        ((verdict,),) = connection.execute("PRAGMA quick_check(1)").fetchall()
        if verdict != "ok" or version != SCHEMA_VERSION:
            wrong = (
                verdict if verdict != "ok" else f"it has the form {version}, this program {SCHEMA_VERSION}"
            )
            raise _Unusable(wrong)

    def _set_aside(self, why: str) -> None:
        aside = self._path.with_name(f"{self._path.name}.corrupt-{int(self._now())}")
        try:
            self._path.replace(aside)
        except OSError as error:
            raise StorageError(f"{self._path}: corrupt, and not to be renamed: {error.strerror}") from None
        for suffix in ("-wal", "-shm"):  # a new database must not find the journal of the old one
            with suppress(OSError):
                self._path.with_name(self._path.name + suffix).unlink()
        _log.warning("node database is corrupt, a new one is begun", why=why, set_aside=str(aside))

    # -- access ----------------------------------------------------------------------------------------

    def _write(self, work: Callable[[sqlite3.Connection], object]) -> None:
        def committed(db: sqlite3.Connection) -> None:
            db.execute("BEGIN IMMEDIATE")
            try:
                work(db)
                db.execute("COMMIT")
            except sqlite3.Error:
                with suppress(sqlite3.Error):
                    db.execute("ROLLBACK")
                raise

        self._read(committed)

    def _read(self, work: Callable[[sqlite3.Connection], _T]) -> _T | None:
        """Do something with the database; None when it failed, which costs known nodes and nothing else."""
        try:
            return work(self._connection)
        except sqlite3.DatabaseError as error:
            self.lost += 1
            if _is_corrupt(error):
                self._connection.close()
                self._set_aside(str(error))
                self._connection = self._open_or_begin()
            else:
                _log.warning("node database failed", error=str(error), lost=self.lost)
            return None

    def _count(self, rows: int, now: float) -> None:
        self._written += rows
        if self._written >= PRUNE_EVERY:
            self._written = 0
            self.prune(now)


class _Unusable(sqlite3.DatabaseError):
    """A database that sqlite reads, but we can't use."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


def _belongs(record: NodeRecord, network: Network) -> bool:
    if network is Network.ONION:
        return record.onion3 is not None
    return network is not Network.I2P or record.i2p is not None


def _begin(connection: sqlite3.Connection) -> None:
    if connection.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
        raise _Unusable("it is a database of something else")
    connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")


def _is_corrupt(error: sqlite3.DatabaseError) -> bool:
    # The low byte is the primary code: SQLITE_CORRUPT_INDEX and its like are SQLITE_CORRUPT.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _CORRUPT


def _sortable(seq: int) -> str:
    """Write a sequence number so that text order is its order: sqlite's integers end at 63 bits."""
    return f"{seq:016x}"


def _record(raw: object) -> NodeRecord | None:
    try:
        return NodeRecord.from_rlp(raw) if isinstance(raw, bytes) else None
    except DecodeError:
        return None
