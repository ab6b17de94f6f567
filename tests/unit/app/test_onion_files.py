from __future__ import annotations

import os

import pytest
from structlog.testing import capture_logs

from relay.app.onion_files import read_access, read_clients
from relay.primitives.errors import UsageError
from relay.primitives.onion import OnionKey
from relay.tor.client_auth import OnionAccess

ONE, TWO = (OnionAccess(OnionKey.from_seed(bytes([n]) * 32).address, bytes([n]) * 32) for n in (1, 2))


def written(path, text, mode=0o600):
    path.write_text(text)
    path.chmod(mode)
    return path


def test_no_file_is_nobody_to_name(tmp_path):
    assert (read_clients(None), read_access(None)) == ((), ())


def test_clients_are_read(tmp_path):
    assert read_clients(written(tmp_path / "c", ONE.client.base32 + "\n")) == (ONE.client,)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "nobody could find"),
        (b"# x\nwrong\n", "line 2: not an x25519 public key"),
        (b"# x\n\xff\n", "line 2: not ASCII"),
        (b"#" * 140_000, "larger than"),
    ],
)
def test_wrong_file_of_clients_is_named_with_its_line(tmp_path, content, words):
    path = tmp_path / "clients"
    path.write_bytes(content)
    with pytest.raises(UsageError) as failure:
        read_clients(path)
    assert words in str(failure.value)
    assert str(path) in str(failure.value)


def test_missing_file_and_pipe_are_named(tmp_path):
    with pytest.raises(UsageError, match="--onion-auth-clients"):
        read_clients(tmp_path / "missing")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="--onion-auth-keys"):
        read_access(tmp_path / "pipe")


def test_keys_are_read_from_a_file_of_many_and_from_a_folder(tmp_path):
    both = written(tmp_path / "keys", f"# mine\n{ONE.auth_private_line}\n{TWO.auth_private_line}\n")
    assert read_access(both) == (ONE, TWO)
    folder = tmp_path / "folder"
    folder.mkdir()
    written(folder / "a.auth_private", TWO.auth_private_line)
    written(folder / "b.auth_private", ONE.auth_private_line + "\n")
    written(folder / "readme", "no key")
    assert set(read_access(folder)) == {ONE, TWO}


def test_folder_without_a_key_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no key in it"):
        read_access(tmp_path)


def test_key_is_never_in_a_message(tmp_path):
    line = ONE.auth_private_line
    with pytest.raises(UsageError) as failure:
        read_access(written(tmp_path / "keys", "\n" + line + "x"))
    assert "line 2" in str(failure.value)
    assert line.rpartition(":")[2] not in str(failure.value)


def test_key_that_others_can_read_is_warned_of(tmp_path):
    with capture_logs() as logs:
        read_access(written(tmp_path / "keys", ONE.auth_private_line, 0o644))
    assert "others on this host" in logs[0]["event"]
