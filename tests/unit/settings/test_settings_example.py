"""The table of the issue, the table of options and config/pyrelay.toml say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from relay.settings import load_settings
from relay.settings.options import BY_NAME, OPTIONS

EXAMPLE = Path(__file__).parents[3] / "config" / "pyrelay.toml"
LINE = re.compile(r"# ([a-z][a-z0-9-]*) = (\(none\)|.+?)(?:\s{2,}# .*)?")
TABLE = re.compile(r"\[([a-z]+)\]")

# Issues 3 and 4: flag to default; None where the default depends on something, or is none.
ISSUE = {
    "datadir": None,
    "config": None,
    "network": "mainnet",
    "listen-address": "0.0.0.0",
    "port": "30303",
    "onion-port": "30303",
    "onion-listen": None,
    "eth-versions": "68,69,70,71,72",
    "nodekey": None,
    "onion-key": None,
    "static-nodes": None,
    "trusted-nodes": None,
    "maxpeers": "50",
    "maxpendpeers": "50",
    "dial-ratio": "3",
    "tor-proxy": None,
    "tor-proxy-remote-ok": "false",
    "prefer-tor": "false",
    "single-identity": "false",
    "only-onion": "false",
    "i2p-sam": None,
    "only-i2p": "false",
    "clearnet": None,
    "tor-control": None,
    "tor-password-file": None,
    "tor-launch": "false",
    "onion-service": "auto",
    "onion-target": None,
    "onion-address": None,
    "discovery": None,
    "bootnodes": None,
    "nat": "none",
    "metrics.addr": "127.0.0.1",
    "metrics.port": "6060",
    "http": "false",
    "http.addr": "127.0.0.1",
    "http.port": "8545",
    "http.corsdomain": "",
    "http.vhosts": "localhost",
    "http.jwtsecret": None,
    "ws": "false",
    "ws.addr": "127.0.0.1",
    "ws.port": "8546",
    "ws.api": "eth,net,web3",
    "ws.origins": "",
    "rpc-upstream": "",
    "rpc-balance": "ordered",
    "rpc-hedge": "0",
    "rpc-cache": "32",
    "rpc-allow": "",
    "rpc-deny": "",
    "rpc-rate": "0",
    "also-submit-upstream": "false",
    "private-broadcast": "auto",
    "private-broadcast-journal": "off",
    "verdict": "none",
    "ipcpath": None,
    "log-format": None,
    "verbosity": "3",
    "log-addresses": "false",
}
BEYOND = {
    "i2p-hops",
    "i2p-key",
    "i2p-sam-remote-ok",
    "onion-auth-clients",
    "onion-auth-keys",
    "onion-circuit-ids",
    "onion-intro-points",
    "onion-max-streams",
    "onion-pow",
    "tor-bridge",
    "tor-rotate-circuits",
    "adaptive-transport",
    "tor-transport",
    "tor-vanguards",
    "beacon-api",
    "blob-pool",
    "chain-cache",
    "range-step",
    "request-patience",
    "http.api",
    "dns-lists",
    "dns-resolver",
    "peer-tx-rate",
    "dandelion",
    "tx-padding",
    "tx-trickle",
    "tx-rate",
}


@pytest.mark.parametrize(("flag", "default"), ISSUE.items())
def test_every_flag_of_the_issue_is_there_with_its_default(flag, default):
    assert BY_NAME[flag].default == default


def test_there_are_no_flags_that_nobody_asked_for():
    assert set(BY_NAME) == set(ISSUE) | BEYOND


def settings_in_comments() -> dict[str, str]:
    found: dict[str, str] = {}
    table = ""
    for line in EXAMPLE.read_text().splitlines():
        if match := TABLE.fullmatch(line):
            table = match[1] + "."
        elif match := LINE.fullmatch(line):
            assert table + match[1] not in found
            found[table + match[1]] = match[2]
    return found


def test_example_names_every_option_and_no_other():
    assert set(settings_in_comments()) == {each.toml_key for each in OPTIONS} - {"config"}


@pytest.mark.parametrize(
    "option", [each for each in OPTIONS if each.name != "config"], ids=lambda each: each.name
)
def test_example_shows_the_default_of_each_option(option):
    shown = settings_in_comments()[option.toml_key]
    assert (shown == "(none)") == (option.default is None)


def test_example_parses_as_it_is_and_with_every_default_uncommented(tmp_path):
    plain, full = tmp_path / "plain.toml", tmp_path / "full.toml"
    plain.write_text(EXAMPLE.read_text())
    lines = [
        line.removeprefix("# ") if (match := LINE.fullmatch(line)) and match[2] != "(none)" else line
        for line in EXAMPLE.read_text().splitlines()
    ]
    full.write_text("\n".join(lines))
    assert full.read_text() != plain.read_text()
    base = {"datadir": str(tmp_path)}
    expected = load_settings(base, {})
    for path in (plain, full):
        found = load_settings({**base, "config": str(path)}, {})
        assert {name: getattr(found, name) for name in found.__slots__ if name != "config"} == {
            name: getattr(expected, name) for name in expected.__slots__ if name != "config"
        }


def test_example_has_lines_that_a_terminal_can_hold():
    assert max(len(line) for line in EXAMPLE.read_text().splitlines()) <= 115
