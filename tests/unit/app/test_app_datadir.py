from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from relay.app import datadir
from relay.app.datadir import (
    LOCK,
    NODE_KEY,
    DataDir,
    holder_of,
    parse_node_key,
    parse_onion_key,
    read_secret,
    write_atomic,
)
from relay.primitives.errors import KeyFileError, StorageError
from relay.primitives.keys import NodeKey
from relay.primitives.onion import OnionKey
from tests.aids.peering import rand_of


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_folder_and_its_parents_are_made_for_the_owner_alone(tmp_path):
    data = DataDir(tmp_path / "a" / "b")
    assert mode_of(data.path) == 0o700


@pytest.mark.parametrize("name", ["", "nodekey", "pyrelay.toml", "static-nodes.json"])
def test_folder_of_a_relay_is_closed_to_others(tmp_path, name):
    if name:
        (tmp_path / name).touch()
    tmp_path.chmod(0o755)
    DataDir(tmp_path)
    assert mode_of(tmp_path) == 0o700


@pytest.mark.parametrize("mode", [0o755, 0o1777])
def test_folder_of_others_keeps_its_rights(tmp_path, mode):
    (tmp_path / ("somebody's" if mode == 0o755 else "nodekey")).touch()
    tmp_path.chmod(mode)
    with capture_logs() as logs:
        DataDir(tmp_path)
    assert mode_of(tmp_path) == mode
    assert "others may enter" in logs[0]["event"]


@pytest.mark.parametrize("path", ["/proc/pyrelay", "/dev/null/pyrelay", "/dev/null"])
def test_folder_that_can_not_be_made_is_named_with_the_way_out(path):
    with pytest.raises(StorageError) as failure:
        DataDir(Path(path))
    assert path in str(failure.value)
    assert "--datadir" in str(failure.value)


def test_folder_that_is_not_writable_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(StorageError, match="not writable"):
        DataDir(tmp_path)


def test_second_daemon_is_told_who_holds_the_folder(tmp_path):
    first, second = DataDir(tmp_path), DataDir(tmp_path)
    assert holder_of(tmp_path) is None
    first.lock()
    with pytest.raises(StorageError, match=rf"in use by another pyrelay \(process {os.getpid()}\)"):
        second.lock()
    assert holder_of(tmp_path) == os.getpid()
    first.unlock()
    first.unlock()
    assert holder_of(tmp_path) is None
    second.lock()
    second.unlock()


def test_lock_ends_with_its_process(tmp_path):
    code = "import sys, pathlib, relay.app.datadir as d; d.DataDir(pathlib.Path(sys.argv[1])).lock()"
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True)
    assert (tmp_path / LOCK).read_text().strip().isdigit()
    data = DataDir(tmp_path)
    data.lock()
    data.unlock()


def test_file_system_without_locks_is_not_mistaken_for_another_daemon(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    data = DataDir(tmp_path)
    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(StorageError, match="can not be locked: No locks available"):
        data.lock()
    assert holder_of(tmp_path) is None


def test_lock_that_is_a_folder_is_a_clear_failure(tmp_path):
    (tmp_path / LOCK).mkdir()
    with pytest.raises(StorageError, match="Is a directory"):
        DataDir(tmp_path).lock()


def test_keys_survive_a_restart_and_are_for_the_owner_alone(tmp_path):
    data = DataDir(tmp_path)
    node, onion = data.node_key(None, rand_of(1)), data.onion_key(None, rand_of(2))
    again = DataDir(tmp_path)
    assert again.node_key(None, rand_of(3)).secret == node.secret
    assert again.onion_key(None, rand_of(4)).address == onion.address
    assert {mode_of(path) for path in tmp_path.iterdir()} == {0o600}


def test_key_files_made_elsewhere_are_used(tmp_path):
    key, onion = NodeKey.generate(rand_of(5)), OnionKey.generate(rand_of(6))
    (tmp_path / "n").write_text(key.secret.hex() + "\n")
    (tmp_path / "o").write_bytes(onion.to_tor_file())
    data = DataDir(tmp_path / "data")
    assert data.node_key(tmp_path / "n", rand_of(7)).secret == key.secret
    assert data.onion_key(tmp_path / "o", rand_of(8)).address == onion.address


def test_key_file_that_was_named_is_never_made(tmp_path):
    with pytest.raises(KeyFileError, match="there is no key"):
        DataDir(tmp_path).node_key(tmp_path / "missing", rand_of(1))
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"xyz",
        b"0" * 64,
        b"f" * 64,
        b"0x" + b"1" * 64,
        b"g" * 64,
        b"1" * 63,
        b"1" * 65,
        b"\xff" * 64,
        b"1" * 4096,
    ],
)
def test_what_is_no_node_key_is_refused_without_being_shown(content):
    with pytest.raises(KeyFileError) as failure:
        parse_node_key(content, Path("/k"))
    assert str(failure.value).startswith("/k: not a node key: expected 64 hex digits")
    assert "1111" not in str(failure.value)


@pytest.mark.parametrize("content", [b"", b"1" * 64, b"== ed25519v1-secret: type0 ==\0\0\0" + bytes(63)])
def test_what_is_no_onion_key_is_refused(content):
    with pytest.raises(KeyFileError, match="expected the 96 bytes"):
        parse_onion_key(content, Path("/k"))


def test_key_file_that_can_not_be_read_is_named(tmp_path):
    with pytest.raises(KeyFileError, match="Is a directory"):
        read_secret(tmp_path, required=False)


def test_state_that_is_missing_or_damaged_counts_as_none(tmp_path):
    data = DataDir(tmp_path)
    assert data.load_state("peers.json") is None
    for damaged in (b"", b"{", b"\xff", b"[" * 100_000):
        (tmp_path / "peers.json").write_bytes(damaged)
        assert data.load_state("peers.json") is None
    data.save_state("peers.json", {"a": [1]})
    assert data.load_state("peers.json") == {"a": [1]}


@pytest.mark.parametrize(("code", "words"), [(errno.ENOSPC, "the disk is full"), (errno.EIO, "Input/output")])
def test_a_write_that_fails_keeps_the_old_file_and_leaves_no_other(tmp_path, monkeypatch, code, words):
    path = tmp_path / NODE_KEY
    write_atomic(path, b"old")
    written = []

    def write(descriptor: int, view: memoryview) -> int:
        if written:
            raise OSError(code, os.strerror(code))
        written.append(view)
        return 1

    monkeypatch.setattr(datadir.os, "write", write)
    with pytest.raises(StorageError, match=words):
        write_atomic(path, b"new content")
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == [NODE_KEY]


def test_a_short_write_is_continued(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(datadir.os, "write", lambda descriptor, view: real(descriptor, view[:1]))
    write_atomic(tmp_path / "x", b"content")
    assert (tmp_path / "x").read_bytes() == b"content"
