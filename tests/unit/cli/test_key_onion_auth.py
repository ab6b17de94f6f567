"""`pyrelay key onion-auth`: a pair of keys to a private relay."""

from __future__ import annotations

import json

import pytest

from relay.cli.main import main
from relay.primitives.onion import OnionKey
from relay.tor.client_auth import parse_access, parse_clients

KEY = OnionKey.from_seed(bytes(range(32)))


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("relay.cli.key.configure", lambda _: None)
    (tmp_path / "onion_key").write_bytes(KEY.to_tor_file())

    def call(*words):
        try:
            code = main(["key", "onion-auth", "--datadir", str(tmp_path), *map(str, words)])
        except SystemExit as ended:
            code = ended.code
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_the_lines_are_those_that_the_two_flags_read(run):
    code, out, _ = run()
    assert code == 0
    client, key = (line for line in out.splitlines() if not line.startswith("#"))
    (access,) = parse_access(key)
    assert access.onion == KEY.address
    assert parse_clients(client) == (access.client,)


def test_private_half_goes_to_a_file_of_its_own(run, tmp_path):
    other = OnionKey.from_seed(b"\x07" * 32).address
    path = tmp_path / "friend.auth_private"
    code, out, _ = run("--for", other, "--out", path, "--json")
    assert code == 0
    assert path.stat().st_mode & 0o777 == 0o600
    (access,) = parse_access(path.read_text())
    assert json.loads(out) == {"client": access.client.auth_line}
    assert access.onion == other
    code, _, err = run("--out", path)
    assert (code, "never overwritten" in err) == (2, True)


def test_wrong_onion_is_named(run):
    code, _, err = run("--for", "nonsense.onion")
    assert code == 2
    assert "--for" in err
