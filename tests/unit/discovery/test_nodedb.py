"""The node database: what it keeps, what it survives."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import structlog

from relay.discovery import nodedb
from relay.discovery.nodedb import MAX_AGE, MAX_FAILURES, NodeDatabase
from relay.primitives.endpoint import Network
from relay.primitives.enr import NodeRecord, build_record
from relay.primitives.errors import StorageError
from relay.primitives.keys import NodeKey
from relay.primitives.onion import OnionKey

NOW = 1_800_000_000.0
ONION = OnionKey.from_seed(bytes(range(32))).address
ROOT = Path(__file__).parents[3]


def record(number: int, seq: int = 1, **entries) -> NodeRecord:
    key = NodeKey((number + 1).to_bytes(32, "big"))
    return build_record(key, seq, **(entries or {"ip": "198.51.100.7", "tcp": 30303, "udp": 30303}))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "nodes.sqlite"


@pytest.fixture
def database(path):
    database = NodeDatabase(path, now=lambda: NOW)
    yield database
    database.close()


def test_best_candidates_are_the_latest_proved(database):
    for number in range(5):
        database.seen([record(number)], Network.IPV4, NOW + number)
    assert database.candidates(3, Network.IPV4, NOW + 9) == [record(4), record(3), record(2)]
    assert database.count(Network.IPV4) == 5


def test_failed_nodes_come_last_until_they_answer(database):
    database.seen([record(1), record(2)], Network.IPV4, NOW)
    database.failed([record(1).node_id], Network.IPV4, NOW + 1)
    database.seen([record(3)], Network.IPV4, NOW - 100)
    assert database.candidates(9, Network.IPV4, NOW)[-1] == record(1)
    database.seen([record(1)], Network.IPV4, NOW + 2)
    assert database.candidates(9, Network.IPV4, NOW)[0] == record(1)


def test_networks_are_apart(database):
    onion = record(1, onion3=ONION, tcp=30303)
    database.seen([record(1)], Network.IPV4, NOW)
    database.seen([onion], Network.ONION, NOW)
    assert database.candidates(9, Network.IPV4, NOW) == [record(1)]
    assert database.candidates(9, Network.ONION, NOW) == [onion]
    assert database.candidates(9, Network.IPV6, NOW) == []
    database.forget([onion.node_id])
    assert database.count(Network.IPV4) == database.count(Network.ONION) == 0


def test_node_is_found_by_its_id_on_the_network_that_it_answered_on(database):
    known = record(1)
    database.seen([known], Network.IPV4, 10.0)
    found = database.get(known.node_id, Network.IPV4)
    assert found is not None
    assert found.raw == known.raw
    assert database.get(known.node_id, Network.ONION) is None
    assert database.get(record(2).node_id, Network.IPV4) is None


def test_record_without_onion_never_replaces_one_that_has_it(database):
    onion = record(1, onion3=ONION, tcp=30303)
    database.seen([onion], Network.ONION, NOW)
    database.seen([record(1, seq=2)], Network.ONION, NOW + 1)
    assert database.candidates(9, Network.ONION, NOW) == [onion]


@pytest.mark.parametrize("seq", [2, 9, 10, 2**63, 2**64 - 1])
def test_newer_record_replaces_an_older_one_and_never_the_other_way(database, seq):
    database.seen([record(1, seq=seq)], Network.IPV4, NOW)
    database.seen([record(1, seq=seq - 1)], Network.IPV4, NOW + 1)
    assert database.candidates(9, Network.IPV4, NOW) == [record(1, seq=seq)]
    database.seen([record(1, seq=seq)], Network.IPV4, NOW + 2)
    assert database.count(Network.IPV4) == 1


def test_empty_batches_cost_nothing(database):
    database.seen([], Network.IPV4, NOW)
    database.failed([], Network.IPV4, NOW)
    database.forget([])
    assert database.lost == 0


def test_number_of_nodes_is_bounded_and_the_best_stay(path):
    database = NodeDatabase(path, now=lambda: NOW, max_nodes=20)
    for number in range(60):
        database.seen([record(number)], Network.IPV4, NOW + number)
    database.failed([record(59).node_id], Network.IPV4, NOW)
    database.prune(NOW + 60)
    assert database.count(Network.IPV4) == 20
    assert database.candidates(1, Network.IPV4, NOW + 60) == [record(58)]
    database.close()


def test_pruning_happens_by_itself(path, monkeypatch):
    monkeypatch.setattr(nodedb, "PRUNE_EVERY", 10)
    database = NodeDatabase(path, now=lambda: NOW, max_nodes=5)
    for number in range(40):
        database.seen([record(number)], Network.IPV4, NOW)
    assert database.count(Network.IPV4) <= 14
    database.close()


def test_old_and_dead_nodes_are_forgotten(database):
    database.seen([record(1), record(2)], Network.IPV4, NOW)
    for _ in range(MAX_FAILURES):
        database.failed([record(2).node_id], Network.IPV4, NOW)
    database.prune(NOW)
    assert database.candidates(9, Network.IPV4, NOW) == [record(1)]
    assert database.candidates(9, Network.IPV4, NOW + MAX_AGE + 1) == []
    database.prune(NOW + MAX_AGE + 1)
    assert database.count(Network.IPV4) == 0


def test_what_is_known_outlives_a_restart_and_is_nobody_elses(path):
    database = NodeDatabase(path, now=lambda: NOW)
    database.seen([record(1)], Network.IPV4, NOW)
    database.close()
    assert path.stat().st_mode & 0o077 == 0
    database = NodeDatabase(path, now=lambda: NOW)
    assert database.candidates(1, Network.IPV4, NOW) == [record(1)]
    database.close()


def test_killed_writer_leaves_a_database_with_what_it_committed(path):
    writer = f"""
import sys, itertools
from pathlib import Path
from relay.discovery.nodedb import NodeDatabase
from relay.primitives.endpoint import Network
from relay.primitives.enr import build_record
from relay.primitives.keys import NodeKey
database = NodeDatabase(Path({str(path)!r}), now=lambda: {NOW})
for number in itertools.count():
    key = NodeKey((number + 1).to_bytes(32, "big"))
    database.seen([build_record(key, 1, ip="198.51.100.7", tcp=1, udp=1)], Network.IPV4, {NOW} + number)
    print(number, flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", writer], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 50:
                break
        os.kill(process.pid, signal.SIGKILL)
        told = [int(line) for line in process.stdout]
    database = NodeDatabase(path, now=lambda: NOW)
    assert database.count(Network.IPV4) > (told[-1] if told else 50)
    assert list(path.parent.glob("*corrupt*")) == []
    database.close()


@pytest.mark.parametrize(
    "content", [b"not a database at all, but long enough to be one" * 30, b"\x00" * 4096]
)
def test_corrupt_file_is_named_and_set_aside(path, content):
    path.write_bytes(content)
    path.with_name(path.name + "-wal").write_bytes(b"junk")
    with structlog.testing.capture_logs() as logs:
        database = NodeDatabase(path, now=lambda: NOW)
    (aside,) = path.parent.glob("*.corrupt-*")
    assert aside.name == f"nodes.sqlite.corrupt-{int(NOW)}"
    assert aside.read_bytes() == content
    assert logs[0]["set_aside"] == str(aside)
    database.seen([record(1)], Network.IPV4, NOW)
    assert database.count(Network.IPV4) == 1
    database.close()


def test_damaged_pages_are_found_at_the_start(path):
    database = NodeDatabase(path, now=lambda: NOW)
    database.seen([record(number) for number in range(300)], Network.IPV4, NOW)
    database.close()
    data = bytearray(path.read_bytes())
    data[4096 * 2 : 4096 * 6] = os.urandom(4096 * 4)
    path.write_bytes(data)
    with structlog.testing.capture_logs() as logs:
        database = NodeDatabase(path, now=lambda: NOW)
    assert "corrupt" in logs[0]["event"]
    assert database.count(Network.IPV4) == 0
    database.close()


@pytest.mark.parametrize("statement", ["PRAGMA user_version = 99", "CREATE TABLE other (x)"])
def test_database_of_another_form_is_set_aside(path, statement):
    other = sqlite3.connect(path)
    other.execute(statement)
    other.close()
    with structlog.testing.capture_logs():
        database = NodeDatabase(path, now=lambda: NOW)
    assert len(list(path.parent.glob("*.corrupt-*"))) == 1
    database.close()


def test_corruption_found_on_the_way_begins_a_new_one(path, database):
    database.seen([record(number) for number in range(300)], Network.IPV4, NOW)
    other = sqlite3.connect(path)
    other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    other.close()
    data = bytearray(path.read_bytes())
    data[100:] = bytes(len(data) - 100)
    path.write_bytes(data)
    with structlog.testing.capture_logs() as logs:
        database.seen([record(400)], Network.IPV4, NOW)
        database.count(Network.IPV4)
    assert any("corrupt" in log["event"] for log in logs)
    assert database.lost >= 1
    database.seen([record(1)], Network.IPV4, NOW)
    assert database.candidates(9, Network.IPV4, NOW) == [record(1)]


def test_bad_row_is_skipped(path, database):
    database.seen([record(1)], Network.IPV4, NOW)
    other = sqlite3.connect(path)
    for number, content in enumerate((b"junk", "text")):
        other.execute(
            "INSERT INTO nodes VALUES ('ipv4', ?, ?, '1', '', ?, 0, 0)", (bytes([number]), content, NOW)
        )
    other.commit()
    other.close()
    assert database.candidates(9, Network.IPV4, NOW) == [record(1)]


def test_locked_database_loses_a_batch_and_nothing_else(path, database, monkeypatch):
    database._connection.execute("PRAGMA busy_timeout = 1")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with structlog.testing.capture_logs() as logs:
        database.seen([record(1)], Network.IPV4, NOW)
    assert "locked" in logs[0]["error"]
    assert database.lost == 1
    other.execute("ROLLBACK")
    other.close()
    database.seen([record(1)], Network.IPV4, NOW)
    assert database.count(Network.IPV4) == 1


def test_folder_that_is_not_there_is_our_own_error(tmp_path):
    with pytest.raises(StorageError, match="node database"):
        NodeDatabase(tmp_path / "missing" / "nodes.sqlite", now=lambda: NOW)


def test_corrupt_file_that_cannot_be_renamed_is_our_own_error(path, monkeypatch):
    path.write_bytes(b"not a database at all, but long enough to be one" * 30)

    def refuse(self, target):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(StorageError, match="Permission denied"):
        NodeDatabase(path, now=lambda: NOW)


def test_no_new_database_after_setting_one_aside_is_our_own_error(path, monkeypatch):
    path.write_bytes(b"not a database at all, but long enough to be one" * 30)
    monkeypatch.setattr(nodedb, "_begin", lambda connection: connection.execute("broken"))
    with structlog.testing.capture_logs(), pytest.raises(StorageError, match="begun"):
        NodeDatabase(path, now=lambda: NOW)


def test_a_batch_is_one_transaction(database):
    # Sixteen commits would be sixteen writes to the disk while the loop waits.
    said: list[str] = []
    database._connection.set_trace_callback(said.append)
    database.seen([record(number) for number in range(16)], Network.IPV4, NOW)
    database._connection.set_trace_callback(None)
    assert sum(each.startswith(("BEGIN", "COMMIT")) for each in said) <= 2
    assert any("INSERT" in each.upper() for each in said)
