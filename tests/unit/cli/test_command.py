"""``pyrelay`` as a process: what a shell sees."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.aids.daemon import ROOT, RelayProcess


def pyrelay(*words: object, **changes: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYRELAY_")}
    return subprocess.run(
        [sys.executable, "-m", "relay.cli.main", *map(str, words)],
        cwd=ROOT, env=environment | changes, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


def test_a_flag_that_contradicts_is_one_line_on_stderr_and_exit_code_2(tmp_path):
    found = pyrelay("--only-onion", "--datadir", tmp_path / "data")
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr == (
        "pyrelay: --only-onion needs Tor: add --tor-proxy 127.0.0.1:9050, or --tor-launch\n"
    )
    assert not (tmp_path / "data").exists()


def test_the_environment_is_read_and_its_mistakes_are_told():
    found = pyrelay("config", "check", PYRELAY_TOR_PROXI="x")
    assert (found.returncode, "did you mean PYRELAY_TOR_PROXY?" in found.stderr) == (2, True)
    found = pyrelay("config", "check", PYRELAY_TOR_PROXY="127.0.0.1:9050", PYRELAY_ONLY_ONION="1")
    assert (found.returncode, "mode: only-onion" in found.stdout) == (0, True)


def test_a_reader_that_has_enough_is_no_traceback():
    command = [sys.executable, "-m", "relay.cli.main", "doctor", "--only-onion"]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    child.stdout.close()
    error = child.stderr.read()
    child.stderr.close()
    assert (child.wait(), error) == (1, b"")


def test_a_port_that_is_taken_is_exit_code_1(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = pyrelay("--datadir", tmp_path / "d", "--metrics.port", port, "--verbosity", 0)
    assert found.returncode == 1
    assert found.stderr.startswith(f"pyrelay: --metrics.port: can not listen on 127.0.0.1:{port}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_daemon_holds_its_folder_and_ends_by_a_signal_with_exit_code_0(tmp_path, number):
    async with RelayProcess(tmp_path / "data") as relay:
        second = pyrelay("--datadir", relay.directory, "--metrics.port", 0)
        assert second.returncode == 1
        assert f"in use by another pyrelay (process {relay.pid})" in second.stderr
        relay.signal(number)
        assert await relay.wait_exit(5) == 0
    assert relay.log().splitlines()[-1].endswith('"event": "stopped"}')


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("words", [["version"], ["config", "check"]])
def test_output_that_can_not_be_written_is_one_line(words):
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "relay.cli.main", *words], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 1
    assert done.stderr.decode() == "pyrelay: the output can't be written: No space left on device\n"


def test_who_has_closed_our_output_gets_an_exit_code():
    command = f"{shlex.quote(sys.executable)} -m relay.cli.main version >&-"
    done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
