"""`pyrelay localnet`: argv, exit codes, and what goes where; the run itself is a stand-in."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from relay.cli import localnet
from relay.cli.main import main
from relay.localnet.dht import DEFAULT_KEY, DhtOptions, DhtOutcome, Lines
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


class DhtStand:
    options: DhtOptions
    lines: Lines
    outcome = DhtOutcome(5, ("one", "two"), 1.234, good=True)

    def __init__(self, options: DhtOptions, lines: Lines) -> None:
        DhtStand.options, DhtStand.lines = options, lines

    async def run(self) -> DhtOutcome:
        DhtStand.lines.say("a word")
        return DhtStand.outcome


@pytest.fixture(autouse=True)
def stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(localnet, "Localnet", Stand)
    monkeypatch.setattr(localnet, "DhtLocalnet", DhtStand)
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


def test_providers_are_found_and_told_as_json(capsys, tmp_path):
    assert main(["localnet", "--dht", "5", "--once", "--json", "--keep", str(tmp_path / "kept")]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"peers": 5, "providers_found": ["one", "two"], "find_seconds": 1.23}
    assert captured.err.endswith(" s  a word\n")
    assert DhtStand.options == DhtOptions(5, DEFAULT_KEY, True, tmp_path / "kept")
    assert main(["localnet", "--dht", "3", "--key", "0x" + "ab" * 32]) == 0
    assert capsys.readouterr().out.endswith(" s  a word\n")
    assert DhtStand.options == DhtOptions(3, "0x" + "ab" * 32)


def test_provider_that_is_not_found_is_exit_code_1(monkeypatch, capsys):
    monkeypatch.setattr(DhtStand, "outcome", DhtOutcome(5, ("one",), 1.0, good=False))
    assert main(["localnet", "--dht", "5", "--once", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["providers_found"] == ["one"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--dht", "2"], "'2' is not a whole number from 3 to 20"),
        (["--dht", "5", "--relays", "5"], "leave --relays out"),
        (["--key", "x"], "--key goes with --dht N"),
        (["--dht", "5", "--key", ""], "--key: a key in text"),
    ],
)
def test_what_does_not_go_with_dht_is_a_usage_error(words, text, capsys):
    try:
        code = main(["localnet", *words])
    except SystemExit as end:
        code = end.code
    assert code == 2
    assert text in capsys.readouterr().err


def test_missing_tor_is_one_line_that_says_what_to_type(monkeypatch, capsys):
    monkeypatch.undo()
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr("relay.tor.process._MORE_PLACES", ())
    assert main(["localnet"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    for part in ("sudo apt install tor", "sudo dnf install tor", "sudo pacman -S tor", "brew install tor"):
        assert part in line
