"""``pyrelay discover`` where nobody answers. What it finds otherwise: tests/e2e/test_discover_loopback.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from relay.cli.main import COMMANDS
from tests.aids.daemon import ROOT
from tests.aids.discv5 import udp_record


def discover(*words: object) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYRELAY_")}
    return subprocess.run(
        [sys.executable, "-m", "relay.cli.main", "discover", *map(str, words)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


def test_nobody_found_is_exit_code_1_and_makes_no_folder(tmp_path):
    dead = udp_record(1, ip="127.0.0.1", port=1099).to_text()
    found = discover(
        "--datadir", tmp_path / "none", "--listen-address", "127.0.0.1", "--bootnodes", dead,
        "--discovery", "v4,v5", "--json", "--timeout", 0.3,
    )  # fmt: skip
    assert found.returncode == 1
    assert found.stderr.startswith("pyrelay: nobody answered; pyrelay doctor")
    said = json.loads(found.stdout)
    assert (said["answered"], said["heard"], said["nodes"]) == (0, 1, [])
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (["--only-onion"], "--only-onion needs Tor"),
        (["--timeout", "-1"], "no number of seconds"),
        (["--discovery", "off"], "leaves nothing to look with"),
    ],
)
def test_what_can_not_be_crawled_is_a_usage_error(tmp_path, given, text):
    found = discover("--datadir", tmp_path, *given)
    assert (found.returncode, found.stdout) == (2, "")
    assert text in found.stderr


def test_a_file_that_can_not_be_written_is_told_before_the_crawl(tmp_path):
    found = discover("--datadir", tmp_path, "--out", tmp_path / "no" / "such" / "file")
    assert found.returncode == 1
    assert found.stderr.startswith(f"pyrelay: --out {tmp_path}/no/such/file: No such file")


def test_it_is_a_command():
    assert COMMANDS["discover"] == "relay.cli.discover"
