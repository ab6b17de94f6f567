"""The shipped units: what the kernel is told to forbid, and that their command is one that we take."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from relay.cli.arguments import daemon_parser, given_options
from relay.primitives.address import UnixAddress
from relay.settings import Settings, load_settings
from relay.transports.policy import Mode

FOLDER = Path(__file__).parents[3] / "deployment" / "systemd"
UNIX, TCP = FOLDER / "pyrelay.service", FOLDER / "pyrelay-tcp.service"
UNITS = [UNIX, TCP]
EXPOSURE = {UNIX: 8, TCP: 15}
"""At most, in tenths of systemd's points: 100 is a service without any limit."""
analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")


def entries(unit: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in unit.read_text().replace("\\\n", " ").splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def settings_of(unit: Path) -> Settings:
    (command,) = entries(unit)["ExecStart"]
    _, *words = shlex.split(command)
    return load_settings(given_options(daemon_parser().parse_args(words)), env={})


def test_the_unix_unit_has_no_network_at_all() -> None:
    unit = entries(UNIX)
    assert unit["PrivateNetwork"] == ["yes"]
    assert unit["RestrictAddressFamilies"] == ["AF_UNIX"]
    settings = settings_of(UNIX)
    places = (settings.tor_proxy, settings.tor_control, settings.onion_listener, settings.metrics_address)
    assert all(isinstance(each, UnixAddress) for each in places), places


def test_the_other_unit_reaches_loopback_alone() -> None:
    unit = entries(TCP)
    assert unit["RestrictAddressFamilies"] == ["AF_UNIX AF_INET"]
    assert (unit["IPAddressDeny"], unit["IPAddressAllow"]) == (["any"], ["127.0.0.1"])
    settings = settings_of(TCP)
    assert settings.tor_proxy is not None
    assert settings.tor_proxy.is_local
    assert settings.onion_listener.is_local


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_the_command_is_only_onion_and_tells_nothing_of_the_machine(unit: Path) -> None:
    settings = settings_of(unit)
    assert settings.mode is Mode.ONLY_ONION
    assert str(settings.datadir) == "/var/lib/pyrelay"
    assert entries(unit)["Environment"] == ["LC_ALL=C.UTF-8 TZ=UTC"]


@pytest.mark.parametrize("name", ["NoNewPrivileges", "ProtectSystem", "ProtectHome", "RestrictNamespaces"])
def test_both_are_hardened_alike(name: str) -> None:
    for unit in UNITS:
        assert entries(unit)[name] in (["yes"], ["strict"])
        assert entries(unit)["CapabilityBoundingSet"] == [""]


@analyze
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_takes_it(unit: Path, tmp_path: Path) -> None:
    # Its program is not installed here, nor is Tor's unit.
    text = (
        unit.read_text().replace("/opt/pyrelay/bin/pyrelay", "/bin/true").replace("tor@default.service", "")
    )
    copy = tmp_path / unit.name
    copy.write_text(text.replace("After=\nWants=\n", ""))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert copy.name not in done.stderr, done.stderr


@analyze
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_finds_it_little_exposed(unit: Path) -> None:
    words = [
        "systemd-analyze",
        "security",
        "--offline=true",
        "--json=short",
        f"--threshold={EXPOSURE[unit]}",
        unit,
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    exposed = (
        [each["name"] for each in json.loads(done.stdout) if each["set"] is False] if done.returncode else []
    )
    assert done.returncode == 0, (done.stderr, exposed)
