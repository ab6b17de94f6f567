"""Which sources of peers a mode has, and which it refuses."""

from __future__ import annotations

import pytest

from relay.primitives.errors import UsageError
from relay.settings import load_settings

TOR = {"tor-proxy": "127.0.0.1:9050"}
LIST = "enrtree://AKA3AM6LPBYEUDMVNU3BSVQJ5AD45Y7YPOHJLEF6W26QOE4VTUDPE@nodes.example.org"


def settings(tmp_path, flags):
    return load_settings({"datadir": str(tmp_path), **flags}, {})


@pytest.mark.parametrize(
    ("flags", "sources"),
    [
        ({}, {"v4", "v5", "dns"}),
        (TOR, {"v4", "v5", "dns", "onion", "dht"}),
        (TOR | {"prefer-tor": "true"}, {"v4", "v5", "dns", "onion", "dht"}),
        (TOR | {"clearnet": "tor"}, {"dns", "onion", "dht"}),
        (TOR | {"only-onion": "true"}, {"onion", "dht"}),
        (TOR | {"only-onion": "true", "dns-lists": LIST}, {"onion", "dht", "dns"}),
        ({"discovery": "off"}, set()),
        ({"discovery": "v5"}, {"v5"}),
        (TOR | {"only-onion": "true", "discovery": "onion"}, {"onion"}),
        (TOR | {"only-onion": "true", "discovery": "onion,dns", "dns-lists": LIST}, {"onion", "dns"}),
    ],
)
def test_sources_follow_from_the_mode_unless_they_are_given(tmp_path, flags, sources):
    assert settings(tmp_path, flags).sources == sources


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (TOR | {"only-onion": "true", "discovery": "v5,onion"}, "v5 sends UDP"),
        (TOR | {"clearnet": "tor", "discovery": "v4"}, "v4 sends UDP"),
        ({"discovery": "onion"}, "needs Tor"),
        ({"discovery": "v4,dht"}, "dht needs Tor"),
        (TOR | {"discovery": "dht"}, "use onion,dht"),
        ({"discovery": "off,v4"}, "stands alone"),
        (TOR | {"only-onion": "true", "discovery": "dns"}, "--dns-lists"),
        ({"discovery": "v6"}, "'v6' is none of"),
        ({"bootnodes": "enode://00@1.2.3.4:1"}, "enode://00@1.2.3.4:1"),
        ({"dns-lists": "https://example.org"}, "https://example.org"),
        (TOR | {"only-onion": "true", "nat": "any"}, "leave --nat out"),
        (TOR | {"clearnet": "tor", "nat": "extip:20.1.2.3"}, "leave --nat out"),
    ],
)
def test_what_a_mode_can_not_have_is_refused_with_the_way_out(tmp_path, flags, words):
    with pytest.raises(UsageError, match=words.replace("(", r"\(")):
        settings(tmp_path, flags)


def test_an_empty_list_of_bootnodes_is_none_at_all(tmp_path):
    assert settings(tmp_path, {}).bootnodes is None
    assert settings(tmp_path, {"bootnodes": ""}).bootnodes == ()
