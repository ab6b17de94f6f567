from __future__ import annotations

import pytest

from relay.primitives.address import TcpAddress, UnixAddress
from relay.primitives.errors import UsageError
from relay.settings import load_settings
from relay.transports.policy import Mode

PROXY = "--tor-proxy 127.0.0.1:9050"
ONION = "pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd.onion"


def given(line: str, datadir="/nowhere/pyrelay"):
    """Settings of a command line; a flag alone is a switch."""
    argv: dict[str, str] = {"datadir": str(datadir)}
    name = ""
    for word in line.split():
        if word.startswith("--"):
            name = word.removeprefix("--")
            argv[name] = "true"
        else:
            argv[name] = word
    return load_settings(argv, {})


@pytest.mark.parametrize(
    ("line", "mode"),
    [
        ("", Mode.NO_TOR),
        ("--clearnet direct", Mode.NO_TOR),
        (PROXY, Mode.DEFAULT),
        (f"{PROXY} --clearnet direct", Mode.DEFAULT),
        ("--tor-launch", Mode.DEFAULT),
        (f"{PROXY} --prefer-tor", Mode.PREFER_TOR),
        (f"{PROXY} --prefer-tor --clearnet direct", Mode.PREFER_TOR),
        (f"{PROXY} --clearnet tor", Mode.CLEARNET_TOR),
        (f"{PROXY} --clearnet off", Mode.ONLY_ONION),
        (f"{PROXY} --only-onion", Mode.ONLY_ONION),
        (f"{PROXY} --only-onion --clearnet off", Mode.ONLY_ONION),
        ("--tor-launch --only-onion", Mode.ONLY_ONION),
        ("--tor-proxy unix:/run/tor/socks --only-onion", Mode.ONLY_ONION),
    ],
)
def test_flags_amount_to_a_mode(line, mode):
    assert given(line).mode is mode


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--only-onion", ["--only-onion needs Tor", "--tor-proxy"]),
        ("--prefer-tor", ["--prefer-tor needs Tor"]),
        ("--single-identity", ["--single-identity needs Tor"]),
        (f"{PROXY} --onion-listen 0.0.0.0:30303", ["every interface"]),
        ("--clearnet tor", ["--clearnet tor needs Tor"]),
        ("--clearnet off", ["--clearnet off needs Tor"]),
        ("--tor-control 127.0.0.1:9051", ["--tor-control needs Tor"]),
        ("--tor-password-file x", ["--tor-password-file needs Tor"]),
        ("--onion-target 127.0.0.1:1", ["--onion-target needs Tor"]),
        (f"--onion-address {ONION}", ["--onion-address needs Tor"]),
        (f"{PROXY} --tor-launch", ["--tor-launch", "--tor-proxy"]),
        ("--tor-launch --tor-control 127.0.0.1:9051", ["--tor-launch", "--tor-control"]),
        ("--tor-launch --tor-password-file x", ["--tor-launch", "--tor-password-file"]),
        (f"--tor-launch --onion-address {ONION} --onion-listen 127.0.0.1:1", ["--tor-launch"]),
        (f"{PROXY} --only-onion --clearnet direct", ["--only-onion", "--clearnet direct contradicts"]),
        (f"{PROXY} --only-onion --clearnet tor", ["--only-onion", "--clearnet tor contradicts"]),
        (f"{PROXY} --only-onion --prefer-tor", ["--prefer-tor and --only-onion contradict"]),
        (f"{PROXY} --clearnet tor --prefer-tor", ["--prefer-tor and --clearnet tor contradict"]),
        (f"{PROXY} --onion-address {ONION} --onion-service off", ["--onion-service off contradict"]),
        (f"{PROXY} --onion-address {ONION}", ["HiddenServicePort", "--onion-listen"]),
        ("--tor-proxy 10.0.0.5:9050 --only-onion", ["not on this host", "--tor-proxy-remote-ok"]),
        ("--tor-proxy 10.0.0.5:9050 --clearnet tor", ["not on this host", "--tor-proxy-remote-ok"]),
        (f"{PROXY} --tor-control 10.0.0.5:9051 --only-onion", ["--tor-control", "key would cross"]),
        (f"{PROXY} --only-onion --onion-listen 0.0.0.0:30303", ["every interface"]),
        (f"{PROXY} --clearnet tor --onion-listen [::]:30303", ["every interface"]),
    ],
)
def test_contradictions_are_named_with_the_way_out(line, words):
    with pytest.raises(UsageError) as failure:
        given(line)
    assert all(word in str(failure.value) for word in words), failure.value


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", None),
        (f"{PROXY} --only-onion", None),
        (PROXY, None),
        (f"{PROXY} --prefer-tor --single-identity", "one node key"),
        (
            f"{PROXY} --eth-versions 68 --port 7 --onion-port 7",
            "--eth-versions and --port and --onion-port as",
        ),
        (f"{PROXY} --clearnet tor", "an exit sees"),
        ("--tor-proxy 10.0.0.5:9050", "not on this host"),
        ("--tor-proxy 10.0.0.5:9050 --only-onion --tor-proxy-remote-ok", "not on this host"),
        (f"{PROXY} --tor-control 10.0.0.5:9051", "key crosses the wire"),
        (f"{PROXY} --only-onion --onion-listen 10.0.0.9:30303", "let only Tor reach it"),
        ("--http --http.addr 0.0.0.0", "open to others"),
        (f"{PROXY} --only-onion --metrics.addr 0.0.0.0", "reads the onion address"),
    ],
)
def test_what_a_person_should_know_is_said(line, words):
    warnings = given(line).warnings
    assert warnings == () if words is None else any(words in each for each in warnings)


def test_paths_have_their_places_in_the_data_folder():
    settings = given("", "/srv/relay")
    assert str(settings.static_nodes_path) == "/srv/relay/static-nodes.json"
    assert str(settings.trusted_nodes_path) == "/srv/relay/trusted-nodes.json"
    assert str(settings.ipc_path) == "/srv/relay/pyrelay.ipc"
    assert str(given("--ipcpath /run/x.ipc --static-nodes /a --trusted-nodes /b").ipc_path) == "/run/x.ipc"


def test_a_data_folder_too_deep_for_a_socket_is_told_before_anything_starts():
    with pytest.raises(UsageError, match="--ipcpath"):
        given("", "/" + "d" * 120)
    assert given("--ipcpath /run/x.ipc", "/" + "d" * 120)


def test_onion_listener_is_a_free_port_of_loopback():
    assert given(PROXY).onion_listener == TcpAddress("127.0.0.1", 0)
    assert given(f"{PROXY} --onion-listen unix:/run/p").onion_listener == UnixAddress("/run/p")


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("", False),
        (PROXY, True),
        (f"{PROXY} --onion-service off", False),
        (f"{PROXY} --onion-address {ONION} --onion-listen 127.0.0.1:7", True),
    ],
)
def test_an_onion_service_is_wanted_wherever_there_is_tor(line, wanted):
    assert given(line).wants_onion_service is wanted


def test_a_consensus_node_is_named_by_http_and_must_be_reachable():
    assert given("").beacon_api is None
    assert str(given("--beacon-api http://127.0.0.1:5052").beacon_api) == "http://127.0.0.1:5052"
    assert given(f"{PROXY} --only-onion --beacon-api http://{ONION}:5052").beacon_api.is_onion
    for line, words in (
        ("--beacon-api wss://beacon.example", "http:// or https://"),
        ("--beacon-api beacon.example", "is not of the form"),
        (f"--beacon-api http://{ONION}:5052", "needs Tor"),
        (f"{PROXY} --only-onion --beacon-api http://127.0.0.1:5052", "Tor can't reach"),
    ):
        with pytest.raises(UsageError, match=words):
            given(line)
