"""Which combinations with I2P there are, and what is said of the others."""

from __future__ import annotations

import pytest

from relay.primitives.address import TcpAddress
from relay.primitives.errors import UsageError
from relay.settings import load_settings
from relay.settings.identities import clearnet_side, onion_side
from relay.transports.policy import Mode

SAM = {"i2p-sam": "127.0.0.1:7656"}
TOR = {"tor-proxy": "127.0.0.1:9050"}
ONLY = SAM | {"only-i2p": "true"}


def settings(*parts, **more):
    argv = {"datadir": "/nowhere/pyrelay"}
    for part in parts:
        argv |= part
    return load_settings(argv | {name.replace("_", "-"): value for name, value in more.items()}, {})


@pytest.mark.parametrize(
    ("given", "mode"),
    [
        (ONLY, Mode.ONLY_I2P),
        (ONLY | {"clearnet": "off"}, Mode.ONLY_I2P),
        (ONLY | {"i2p-sam": "unix:/run/i2p/sam"}, Mode.ONLY_I2P),
        (SAM | TOR, Mode.DEFAULT),
        (SAM | TOR | {"single-identity": "true"}, Mode.DEFAULT),
        (SAM | TOR | {"prefer-tor": "true"}, Mode.PREFER_TOR),
        (SAM | TOR | {"clearnet": "tor"}, Mode.CLEARNET_TOR),
        (SAM | TOR | {"clearnet": "off"}, Mode.ONLY_ONION),
        (SAM | TOR | {"only-onion": "true"}, Mode.ONLY_ONION),
        (SAM | {"tor-launch": "true", "only-onion": "true"}, Mode.ONLY_ONION),
    ],
)
def test_combinations_that_there_are(given, mode):
    assert settings(given).mode is mode


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"only-i2p": "true"}, "--only-i2p needs the SAM bridge of an I2P router: add --i2p-sam 127"),
        (TOR | {"only-i2p": "true"}, "--only-i2p needs"),
        (TOR | {"i2p-hops": "1"}, "--i2p-hops needs"),
        ({"i2p-key": "/k"}, "--i2p-key needs"),
        ({"i2p-sam-remote-ok": "true"}, "--i2p-sam-remote-ok needs"),
        (SAM, "whose I2P address it is: add --only-i2p, or Tor"),
        (SAM | {"clearnet": "direct"}, "add --only-i2p, or Tor"),
        (ONLY | TOR, "--tor-proxy contradicts it. Onion and I2P peers both: --only-onion --i2p-sam"),
        (ONLY | {"tor-launch": "true"}, "--tor-launch contradicts"),
        (ONLY | {"only-onion": "true"}, "--only-onion contradicts"),
        (ONLY | {"prefer-tor": "true"}, "--prefer-tor contradicts"),
        (ONLY | {"clearnet": "direct"}, "--clearnet direct contradicts"),
        (ONLY | {"clearnet": "tor"}, "--clearnet tor contradicts"),
        (ONLY | {"dns-lists": "enrtree://AKPYQIUQIL7PSIACI32J7FGZW56E5FKHEFCCOFHILBIMW3M6LWXS2@x.org"},
         "--dns-lists contradicts"),
        (ONLY | {"discovery": "v4"}, "--discovery v4 is outside I2P"),
        (ONLY | {"discovery": "onion,dht,i2p"}, "--discovery dht,onion is outside I2P"),
        (TOR | {"discovery": "i2p"}, "--discovery i2p needs an I2P router: add --i2p-sam"),
        (SAM | TOR | {"onion-auth-clients": "x"}, "leave one of --onion-auth-clients and --i2p-sam out"),
        (ONLY | {"nat": "any"}, "leave --nat out"),
        (ONLY | {"private-broadcast": "on"}, "--private-broadcast on needs Tor"),
        (ONLY | {"onion-auth-clients": "x"}, "leave one of --onion-auth-clients and --i2p-sam out"),
        (ONLY | {"rpc-upstream": "https://rpc.example"}, "outside I2P, and only-i2p reaches nothing else"),
        (ONLY | {"beacon-api": "http://127.0.0.1:5052"}, "outside I2P"),
        (ONLY | {"i2p-sam": "10.0.0.5:7656"}, "is not on this host: the destination's key"),
        (SAM | TOR | {"i2p-sam": "10.0.0.5:7656"}, "--i2p-sam-remote-ok"),
        ({"i2p-sam": "router.example:7656", "only-i2p": "true"}, "names are not looked up here"),
        ({"i2p-sam": "127.0.0.1:0", "only-i2p": "true"}, "port 0 can not be connected"),
        (ONLY | {"i2p-hops": "8"}, "from 0 to 7"),
    ],
)  # fmt: skip
def test_others_are_refused_with_a_way_out(given, words):
    with pytest.raises(UsageError) as caught:
        settings(given)
    assert words in str(caught.value)
    assert caught.value.exit_code == 2


def test_only_i2p_has_no_source_of_tor_or_clearnet():
    found = settings(ONLY)
    assert found.sources == {"i2p"}
    assert not found.wants_onion_service
    assert not found.broadcasts_privately
    assert settings(ONLY, discovery="off").sources == frozenset()


def test_unix_sockets_of_nodes_are_fine_in_only_i2p():
    assert settings(ONLY, rpc_upstream="/run/geth.ipc").rpc_upstream[0].socket is not None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (ONLY, "no private broadcast without Tor"),
        (ONLY | {"i2p-hops": "0"}, "--i2p-hops 0: peers see which router it is"),
        (SAM | TOR | {"i2p-hops": "2"}, "--i2p-hops 2: fewer than I2P's usual 3"),
        (
            SAM | TOR | {"i2p-sam": "10.0.0.5:7656", "i2p-sam-remote-ok": "true"},
            "our I2P key crosses the wire",
        ),
    ],
)
def test_what_a_person_should_know_is_said(given, words):
    assert any(words in each for each in settings(given).warnings)


def test_next_to_tor_nothing_is_said_of_i2p_s_defaults():
    assert not any("i2p" in each.lower() for each in settings(SAM | TOR, only_onion="true").warnings)


def test_i2p_belongs_to_the_identity_that_nobody_sees():
    given = settings(SAM | TOR, i2p_hops="2", i2p_key="/k")
    hidden, seen = onion_side(given, 5), clearnet_side(given, 5)
    assert (hidden.sources, seen.sources) == ({"onion", "dht", "i2p"}, {"v4", "v5", "dns"})
    assert (hidden.mode, hidden.i2p_sam, hidden.i2p_hops) == (
        Mode.ONLY_ONION,
        TcpAddress("127.0.0.1", 7656),
        2,
    )
    assert (seen.mode, seen.i2p_sam, seen.i2p_hops, seen.i2p_key) == (Mode.NO_TOR, None, 3, None)
