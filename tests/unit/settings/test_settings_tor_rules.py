"""Settings of the own Tor, its bridges, and of private onion services."""

from __future__ import annotations

import pytest

from relay.cli.arguments import daemon_parser, given_options
from relay.primitives.errors import UsageError
from relay.settings import load_settings
from relay.settings.identities import clearnet_side, onion_side

PROXY = {"tor-proxy": "127.0.0.1:9050"}
LAUNCH = {"tor-launch": "true"}
ONION = "pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd.onion"
EXTERNAL = PROXY | {"onion-address": ONION, "onion-listen": "127.0.0.1:4000"}
OBFS4 = "obfs4 192.0.2.7:443 0123456789ABCDEF0123456789ABCDEF01234567 cert=SECRET iat-mode=0"
PROGRAM = {"tor-transport": "obfs4=/usr/bin/obfs4proxy"}


def settings(tmp_path, *parts, **more):
    argv = {"datadir": str(tmp_path)}
    for part in parts:
        argv |= part
    return load_settings(argv | {name.replace("_", "-"): value for name, value in more.items()}, {})


def test_bridges_are_read_from_flags_that_repeat_and_from_arrays(tmp_path):
    flags = [
        "--tor-launch",
        "--tor-bridge",
        OBFS4,
        "--tor-bridge",
        "192.0.2.8:9",
        "--tor-transport",
        "obfs4=/o",
    ]
    given = given_options(daemon_parser().parse_args(flags))
    found = load_settings(given | {"datadir": str(tmp_path)}, {})
    assert [each.place.host for each in found.tor_bridge] == ["192.0.2.7", "192.0.2.8"]
    config = tmp_path / "pyrelay.toml"
    config.write_text(
        f'tor-launch = true\ntor-bridge = ["{OBFS4}", "192.0.2.8:9"]\ntor-transport = ["obfs4=/o"]\n'
    )
    from_file = load_settings({"datadir": str(tmp_path)}, {})
    assert (from_file.tor_bridge, from_file.tor_transport) == (found.tor_bridge, found.tor_transport)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([PROXY, {"tor-bridge": "192.0.2.7:443"}], ["--tor-bridge is for a Tor of our own", "--tor-launch"]),
        ([PROXY, {"tor-vanguards": "off"}], ["--tor-vanguards", "VanguardsLiteEnabled"]),
        ([PROXY, {"onion-intro-points": "5"}], ["HiddenServiceNumIntroductionPoints", "--onion-address"]),
        ([LAUNCH, PROGRAM], ["no use without a bridge"]),
        ([LAUNCH, {"tor-bridge": OBFS4}], ["bridge 1 speaks obfs4", "--tor-transport obfs4=PATH"]),
        ([LAUNCH, PROGRAM, {"tor-bridge": f"192.0.2.8:9,{OBFS4} broken"}], ["bridge 2", "KEY=VALUE"]),
        ([LAUNCH, PROGRAM, {"tor-bridge": f"{OBFS4}\nSocksPort 0.0.0.0:1"}], ["bridge 1", "line break"]),
        ([LAUNCH, {"tor-transport": "obfs4=relative"}], ["begin with /"]),
        ([LAUNCH, {"tor-vanguards": "full"}], ["none of: lite, off"]),
        ([{"onion-auth-clients": "x"}], ["--onion-auth-clients needs Tor"]),
        ([{"adaptive-transport": "true"}], ["--adaptive-transport needs Tor"]),
        ([PROXY, {"adaptive-transport": "true", "only-onion": "true"}], ["have to be both", "--only-onion"]),
        ([PROXY, {"adaptive-transport": "true", "clearnet": "tor"}], ["have to be both"]),
        ([PROXY, {"adaptive-transport": "true", "single-identity": "true"}], ["--single-identity"]),
        ([PROXY, {"tor-rotate-circuits": "5s"}], ["not between 10s"]),
        ([{"onion-auth-keys": "x"}], ["--onion-auth-keys needs Tor"]),
        ([EXTERNAL, {"onion-auth-clients": "x"}], ["authorized_clients"]),
        ([PROXY, {"onion-auth-clients": "x", "onion-service": "off"}], ["contradict"]),
        ([PROXY, {"onion-auth-clients": "x", "discovery": "dht,onion"}], ["dht,onion", "static-nodes.json"]),
        ([PROXY, {"onion-circuit-ids": "on"}], ["HiddenServiceExportCircuitID", "--tor-launch"]),
    ],
)
def test_what_no_tor_or_not_this_one_can_do_is_refused(tmp_path, parts, words):
    with pytest.raises(UsageError) as failure:
        settings(tmp_path, *parts)
    assert all(word in str(failure.value) for word in words), failure.value
    assert "SECRET" not in str(failure.value)


@pytest.mark.parametrize(
    ("parts", "shows"),
    [
        ([PROXY], False),
        ([LAUNCH], True),
        ([LAUNCH, {"onion-service": "off"}], False),
        ([LAUNCH, {"onion-circuit-ids": "off"}], False),
        ([EXTERNAL], False),
        ([EXTERNAL, {"onion-circuit-ids": "on"}], True),
    ],
)
def test_line_of_tor_is_expected_where_tor_writes_one(tmp_path, parts, shows):
    assert settings(tmp_path, *parts).shows_circuits is shows


def test_private_relay_looks_for_nobody_over_onions(tmp_path):
    hidden = settings(tmp_path, PROXY, {"only-onion": "true", "onion-auth-clients": "x"})
    assert (hidden.is_private, hidden.sources) == (True, frozenset())
    both = settings(tmp_path, PROXY, {"onion-auth-clients": "x"})
    assert both.sources == {"v4", "v5", "dns"}
    assert any("everybody can still join" in each for each in both.warnings)
    assert not settings(tmp_path, PROXY).is_private


def test_vanguards_off_is_warned_of(tmp_path):
    assert any(
        "--tor-vanguards off" in each for each in settings(tmp_path, LAUNCH, tor_vanguards="off").warnings
    )


@pytest.mark.parametrize("more", [{}, {"prefer-tor": "true"}])
def test_adaptive_transport_is_for_two_identities_and_neither_has_it_by_itself(tmp_path, more):
    given = settings(tmp_path, PROXY, {"adaptive-transport": "true", "tor-rotate-circuits": "6h"}, more)
    assert any("may find that they belong together" in each for each in given.warnings)
    sides = (onion_side(given, 20), clearnet_side(given, 30))
    assert not any(each.adaptive_transport for each in sides)
    assert [each.tor_rotate_circuits for each in sides] == [21_600, 0]
    assert not settings(tmp_path, PROXY, more).adaptive_transport
