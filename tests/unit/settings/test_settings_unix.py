"""Listeners and destinations that are unix sockets: read, joined with their ports, and never exposed."""

from __future__ import annotations

import pytest

from relay.primitives.address import TcpAddress, UnixAddress
from relay.primitives.errors import UsageError
from relay.settings import load_settings
from relay.settings.values import ip_or_unix, is_loopback, listener


def test_an_address_without_port_is_an_ip_or_a_path() -> None:
    assert ip_or_unix("localhost") == "127.0.0.1"
    assert ip_or_unix("unix:/run/x/../x/socket") == "unix:/run/x/../x/socket"
    for wrong in ("unix:relative", "unix:/" + "x" * 120, "unix:", "example.org", ""):
        with pytest.raises(UsageError):
            ip_or_unix(wrong)


def test_a_path_takes_no_port() -> None:
    assert listener("127.0.0.1", 8545) == TcpAddress("127.0.0.1", 8545)
    assert listener("unix:/run/x", 8545) == UnixAddress("/run/x")
    assert is_loopback("unix:/run/x")
    assert not is_loopback("0.0.0.0")


def test_every_listener_and_every_way_to_tor_may_be_a_unix_socket(tmp_path) -> None:
    given = {
        "datadir": str(tmp_path), "only-onion": "true", "http": "true", "ws": "true",
        "tor-proxy": "unix:/run/tor/socks", "tor-control": "unix:/run/tor/control",
        "onion-listen": "unix:/run/pyrelay/onion", "onion-target": "unix:/run/tor-sees/onion",
        "metrics.addr": "unix:/run/pyrelay/metrics", "http.addr": "unix:/run/pyrelay/rpc",
        "ws.addr": "unix:/run/pyrelay/rpc", "rpc-upstream": "/run/geth/geth.ipc",
    }  # fmt: skip
    settings = load_settings(given, env={})
    assert settings.metrics_address == UnixAddress("/run/pyrelay/metrics")
    assert settings.http_address == settings.ws_address == UnixAddress("/run/pyrelay/rpc")
    assert not any("open to others" in warning for warning in settings.warnings)
