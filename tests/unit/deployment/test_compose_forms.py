"""The compose form of only-onion: a relay without a network, and flags that our parser takes."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from relay.cli.arguments import daemon_parser, given_options
from relay.primitives.address import UnixAddress
from relay.settings import load_settings
from relay.transports.policy import Mode

FILE = Path(__file__).parents[3] / "deployment" / "compose" / "only-onion.yaml"


@pytest.fixture
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(FILE.read_text())["services"]
    return found


def test_the_relay_has_no_network_and_publishes_nothing(services: dict[str, Any]) -> None:
    relay = services["pyrelay"]
    assert relay["network_mode"] == "none"
    for service in services.values():
        assert "ports" not in service
        assert service["cap_drop"] == ["ALL"]
        assert service["read_only"] is True
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_its_flags_are_only_onion_by_unix_sockets(services: dict[str, Any]) -> None:
    arguments = daemon_parser().parse_args(services["pyrelay"]["command"])
    settings = load_settings(given_options(arguments), env={})
    assert settings.mode is Mode.ONLY_ONION
    places = (settings.tor_proxy, settings.tor_control, settings.onion_listener, settings.metrics_address)
    assert all(isinstance(each, UnixAddress) for each in places), places


def test_both_sides_mean_the_same_sockets(services: dict[str, Any]) -> None:
    """Tor is told a path of the relay's, and the relay paths of Tor's: the volume is at one place in both."""
    tor, relay = services["tor"], services["pyrelay"]
    assert "sockets:/sockets" in tor["volumes"]
    assert "sockets:/sockets" in relay["volumes"]
    words = " ".join(tor["command"])
    assert "unix:/sockets/socks" in words
    assert "unix:/sockets/control" in words
    assert (tor["build"]["target"], relay["build"]["target"]) == ("tor", "pyrelay")  # one user in both


@pytest.mark.parametrize(("status", "code"), [("200 OK", 0), ("503 Service Unavailable", 1)])
@pytest.mark.parametrize(("name", "service"), [("only-onion", "pyrelay"), ("three-relays", "relay-2")])
def test_its_health_is_asked_by_the_socket(name: str, service: str, status: str, code: int) -> None:
    """The very words of the file, with another folder for the socket: paths of sockets are short."""
    health = yaml.safe_load(FILE.with_stem(name).read_text())["services"][service]["healthcheck"]
    *_, flags, _, script = health["test"]
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as page:
        page.bind(f"{folder}/metrics")
        page.listen()
        page.settimeout(60)
        asked = subprocess.Popen([sys.executable, flags, "-c", script.replace("/sockets", folder)])
        served, _ = page.accept()
        with served:
            assert served.recv(1024).startswith(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
            served.sendall(f"HTTP/1.1 {status}\r\n\r\n".encode())
            assert asked.wait() == code
