"""What the tripwire of the command is told: the listeners, destinations and programs of the settings."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from relay.app.blobs import blob_verifier
from relay.app.guard import own_listeners, own_programs, set_tripwire
from relay.app.outward import socket_rules
from relay.app.torside import make_launched
from relay.primitives.address import TcpAddress, UnixAddress
from relay.relaying.blobs import worker
from relay.tor.process import find_tor
from relay.transports.sockets import SocketRules
from tests.aids.http_client import exchange, request
from tests.aids.running import running

TOR = {"tor_proxy": "127.0.0.1:9050", "tor_control": "127.0.0.1:9051", "only_onion": "true"}


def test_listeners_are_those_of_the_settings(settings_of, tmp_path) -> None:
    settings = settings_of(**TOR, http="true", onion_listen="unix:/run/x/onion")
    settings_of_unix = settings_of(**TOR, ipcpath="/run/x/ipc")
    assert set(own_listeners(settings)) == {
        UnixAddress(str(tmp_path / "relay" / "pyrelay.ipc")),
        TcpAddress("127.0.0.1", 0),
        TcpAddress("127.0.0.1", 8545),
        UnixAddress("/run/x/onion"),
    }
    assert set(own_listeners(settings_of_unix)) == {UnixAddress("/run/x/ipc"), TcpAddress("127.0.0.1", 0)}


def test_programs_are_our_tor_and_our_verifier_by_their_exact_words(settings_of) -> None:
    settings = settings_of(tor_launch="true", only_onion="true")
    launched = make_launched(settings, lambda: None)  # type: ignore[arg-type, return-value]
    assert launched is not None
    verifier = blob_verifier(settings)
    assert verifier is not None
    is_ours = own_programs(launched, verifier)
    setup = verifier.command[-1]
    assert Path(setup).name == "kzg_trusted_setup.txt"
    assert is_ours((sys.executable, "-P", worker.__file__, setup))
    assert is_ours((find_tor(), "--version"))
    assert is_ours((find_tor(), "--defaults-torrc", "/dev/null", "-f", str(launched.directory / "torrc")))
    assert not is_ours((find_tor(),))
    assert not is_ours((sys.executable, "-c", "pass"))
    assert not own_programs(None, None)((find_tor(), "--version"))


async def test_modes_that_show_the_host_have_none(settings_of) -> None:
    settings = settings_of()
    assert set_tripwire(settings, SocketRules.anywhere(), own_programs(None, None), lambda _: None) is None


async def test_it_is_armed_with_tor_alone_where_the_host_is_hidden(settings_of) -> None:
    for more in ({"only_onion": "true"}, {"clearnet": "tor"}):
        settings = settings_of(tor_proxy="unix:/run/tor/socks", tor_control="unix:/run/tor/control", **more)
        rules = socket_rules(settings, None)
        tripwire = set_tripwire(settings, rules, own_programs(None, None), lambda _: None)
        assert tripwire is not None
        assert tripwire.armed
        tripwire.disarm()


async def test_every_server_may_listen_at_a_unix_socket(settings_of, tmp_path) -> None:
    """Metrics, HTTP and WebSocket; one path for the latter two is one server. The files go, too."""
    metrics, rpc = tmp_path / "metrics", tmp_path / "rpc"
    settings = settings_of(
        **{"metrics.addr": f"unix:{metrics}", "http.addr": f"unix:{rpc}", "ws.addr": f"unix:{rpc}"},
        http="true",
        ws="true",
    )
    async with running(settings):
        page = await exchange(metrics, request(path="/healthz", headers={"Connection": "close"}))
        assert page.status == 200
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "net_version", "params": []})
        headers = {"Content-Type": "application/json", "Connection": "close"}
        reply = await exchange(rpc, request("POST", body=body, headers=headers))
        assert json.loads(reply.body)["result"] == "1"
        assert metrics.stat().st_mode & 0o777 == 0o600
    assert not metrics.exists()
    assert not rpc.exists()
