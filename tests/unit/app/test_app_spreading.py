"""What the settings say of how transactions spread."""

from __future__ import annotations

import pytest

from relay.app.blobs import relay_options
from relay.settings import load_settings


def options(*words, **flags):
    argv = {"datadir": "/nowhere/pyrelay", **dict.fromkeys(words, "true"), **flags}
    return relay_options(load_settings(argv, {}))


PUBLIC = {"private-broadcast": "off"}


@pytest.mark.parametrize(
    ("words", "flags", "own"),
    [
        ((), {}, True),
        ((), {"dandelion": "off"}, False),
        (("tor-launch",), {}, False),  # private broadcast takes them
        (("tor-launch", "only-onion"), {}, False),
        (("tor-launch",), PUBLIC, True),
        (("tor-launch",), PUBLIC | {"dandelion": "off"}, False),
    ],
)
def test_own_ones_begin_with_a_stem_where_they_are_not_broadcast_privately(words, flags, own):
    assert options(*words, **flags).stem.own is own


def test_clocks_are_off_and_padding_too_unless_asked_for():
    assert not options().trickle.is_on
    assert options().stem.padding == 0
    assert options().own_listen_seconds > 0.0
    asked = options(**{"tx-trickle": "200", "tx-padding": "512"})
    assert (asked.trickle.outbound, asked.trickle.inbound) == (0.2, 0.5)
    assert asked.stem.padding == 512
    assert asked.own_listen_seconds == 0.0
