"""Three relays by Docker Compose: no network but for Tor, each told of the other two before it starts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from relay.cli.arguments import daemon_parser, given_options
from relay.primitives.address import UnixAddress
from relay.settings import load_settings
from relay.transports.policy import Mode

ROOT = Path(__file__).parents[3]
FILE = ROOT / "deployment" / "compose" / "three-relays.yaml"
DOCKERFILE = (ROOT / "deployment" / "docker" / "Dockerfile").read_text()


@pytest.fixture
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(FILE.read_text())["services"]
    return found


def test_only_tor_has_a_network_and_nothing_is_published(services: dict[str, Any]) -> None:
    assert sorted(services) == ["keys", "relay-1", "relay-2", "relay-3", "tor-1", "tor-2", "tor-3"]
    for name, service in services.items():
        assert "ports" not in service
        assert (service["cap_drop"], service["read_only"]) == (["ALL"], True)
        assert service.get("network_mode") == (None if name.startswith("tor") else "none")
        if name != "keys":
            assert service["depends_on"] == {"keys": {"condition": "service_completed_successfully"}}


def test_targets_and_folders_are_the_dockerfile_s(services: dict[str, Any]) -> None:
    for service in services.values():
        assert f" AS {service['build']['target']}\n" in DOCKERFILE
        for each in service["volumes"]:
            folder = each.partition(":")[2]
            assert DOCKERFILE.count(f" {folder}") >= 2, "a new volume has the owner of the image's folder"


def test_each_relay_takes_its_flags_and_shares_sockets_with_its_tor_alone(services: dict[str, Any]) -> None:
    for number in "123":
        relay, tor = services[f"relay-{number}"], services[f"tor-{number}"]
        words = given_options(daemon_parser().parse_args(relay["command"]))
        settings = load_settings(words, env=relay["environment"])
        assert settings.mode is Mode.ONLY_ONION
        assert str(settings.datadir) == f"/data/{number}"
        places = (settings.tor_proxy, settings.tor_control, settings.onion_listener, settings.metrics_address)
        assert all(isinstance(each, UnixAddress) for each in places), places
        assert set(relay["volumes"]) & set(tor["volumes"]) == {f"sockets-{number}:/sockets"}
        assert "data:/data" not in tor["volumes"], "a Tor sees no node key"


def test_the_keys_are_made_once_and_each_is_told_of_the_others(
    services: dict[str, Any], tmp_path: Path
) -> None:
    program = tmp_path / "pyrelay"
    program.write_text(f'#!/bin/sh\ncd {ROOT} && exec {sys.executable} -m relay.cli.main "$@"\n')
    program.chmod(0o755)
    (script,) = services["keys"]["command"]
    script = script.replace("/opt/pyrelay/bin/pyrelay", str(program)).replace('"/data"', f'"{tmp_path}/data"')
    seen = []
    for _ in range(2):
        subprocess.run([sys.executable, "-I", "-c", script], check=True)
        seen.append([json.loads((tmp_path / "data" / n / "static-nodes.json").read_text()) for n in "123"])
    assert seen[0] == seen[1]
    assert [len(each) for each in seen[0]] == [2, 2, 2]
    assert len({enode for each in seen[0] for enode in each}) == 3
    assert all(".onion:30303" in enode for each in seen[0] for enode in each)
