"""`pyrelay localnet`: argv, exit codes, and what goes where; the run itself is a stand-in."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from relay.cli import localnet
from relay.cli.main import main
from relay.localnet.plain import PlainLines
from relay.localnet.result import Outcome, Result
from relay.localnet.run import LocalnetOptions


class Stand:
    options: LocalnetOptions
    reporter: Any
    outcome = Outcome(Result(3, 12.0, 6, 100, 100, 30.0, 60.0), 0, 14.0, 100)

    def __init__(self, options: LocalnetOptions, reporter: Any, _began: float) -> None:
        Stand.options, Stand.reporter = options, reporter

    async def run(self) -> Outcome:
        return Stand.outcome


@pytest.fixture(autouse=True)
def stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(localnet, "Localnet", Stand)
    monkeypatch.setattr(localnet, "find_tor", lambda: "/usr/bin/tor")


def test_json_is_alone_on_standard_output(capsys):
    assert main(["localnet", "--once", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["transactions_arrived"] == 100
    assert captured.out.count("\n") == 1
    assert Stand.options == LocalnetOptions(once=True)
    assert Stand.reporter._file is sys.stderr


def test_a_pipe_gets_plain_lines(capsys):
    assert main(["localnet", "--relays", "20"]) == 0
    assert isinstance(Stand.reporter, PlainLines)
    assert Stand.options.relays == 20
    assert "100 of 100 transactions arrived" in capsys.readouterr().out


def test_lost_transaction_is_exit_code_1(monkeypatch, capsys):
    monkeypatch.setattr(Stand, "outcome", Outcome(Result(3, 12.0, 6, 100, 99, 30.0, 60.0), 1, 14.0, 100))
    assert main(["localnet", "--once", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["transactions_arrived"] == 99


@pytest.mark.parametrize(
    "words", [["--relays", "1"], ["--relays", "21"], ["--relays", "many"], ["--rela", "3"]]
)
def test_wrong_number_of_relays_is_a_usage_error(words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["localnet", *words])
    assert caught.value.code == 2
    assert "pyrelay localnet: error:" in capsys.readouterr().err


def test_missing_tor_is_one_line_that_says_what_to_type(monkeypatch, capsys):
    monkeypatch.undo()
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr("relay.tor.process._MORE_PLACES", ())
    assert main(["localnet"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    for part in ("sudo apt install tor", "sudo dnf install tor", "sudo pacman -S tor", "brew install tor"):
        assert part in line
