"""deployment/logging/addresses.vrl, compiled and run by Vector's own language crate.

tools/install-vrl.sh builds the program that is used here; without it these are skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.aids.stack_logs import AROUND, PROGRAM, assert_nothing_is_left, pairs, spellings

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pyrelay"


def run(text: str, program: Path = PROGRAM) -> subprocess.CompletedProcess[str]:
    built = sorted(CACHE.glob("vrl-*/vrl-lines"), key=lambda each: each.stat().st_mtime)
    if not built:
        pytest.skip("tools/install-vrl.sh builds the compiler of Vector's language")
    return subprocess.run([built[-1], program], input=text, capture_output=True, text=True, check=False)


def messages(lines: list[str]) -> list[str]:
    done = run("".join(f"{json.dumps({'message': each})}\n" for each in lines))
    assert done.returncode == 0, done.stderr
    return [json.loads(each)["message"] for each in done.stdout.splitlines()]


def test_what_is_left_of_a_line() -> None:
    said = pairs()
    assert dict(zip(said, messages(list(said)), strict=True)) == said


@pytest.mark.parametrize("around", AROUND)
def test_no_spelling_of_an_address_is_left(around: str) -> None:
    asked = [around.format(each) for each in spellings(7)]
    for line, left in zip(asked, messages(asked), strict=True):
        assert_nothing_is_left(line, left, around)


def test_commands_for_a_terminal_are_taken_out() -> None:
    assert messages(["a \x1b[31mred\x1b[0m peer"]) == ["a red peer"]


def test_nothing_that_vector_knows_of_a_pod_goes_along() -> None:
    pod = {
        "pod_namespace": "ethereum", "pod_name": "geth-0", "container_name": "geth", "pod_ip": "10.1.2.3",
        "pod_ips": ["10.1.2.3"], "node_labels": {"kubernetes.io/hostname": "rack-7"}, "pod_owner": "x",
    }  # fmt: skip
    event = {"message": "hello", "stream": "stdout", "timestamp": "2026-11-21T10:00:00Z", "kubernetes": pod}
    done = run(json.dumps({**event, "file": "/var/log/pods/ethereum_geth-0"}))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "timestamp": "2026-11-21T10:00:00Z", "message": "hello", "stream": "stdout",
        "namespace": "ethereum", "pod": "geth-0", "container": "geth",
    }  # fmt: skip


def test_a_line_without_words_is_an_error_and_so_dropped() -> None:
    done = run('{"message": 7}\n')
    assert (done.returncode, done.stdout) == (1, "")


def test_a_program_that_is_wrong_is_not_taken(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.vrl"
    wrong.write_text(PROGRAM.read_text().replace("string!(", "string("))
    done = run('{"message": "x"}\n', wrong)
    assert done.returncode == 1
    assert "error[" in done.stderr
