"""The steps of ``pyrelay doctor`` in the order in which a person would debug them."""

from __future__ import annotations

from typing import Final

from relay.app.checks_host import check_datadir, check_keys, check_ports, check_python, check_settings
from relay.app.checks_i2p import check_i2p
from relay.app.checks_peers import check_company, check_own_onion, check_static_nodes
from relay.app.checks_tor import check_bootstrap, check_clock, check_control, check_proxy, check_tor_program
from relay.app.checkup import Check

ONION_SECONDS: Final = 60.0  # p95 of an onion connection on the public network is 50 s

CHECKS: Final[tuple[Check, ...]] = (
    Check("python", check_python),
    Check("settings", check_settings, seconds=30),  # a genesis of megabytes
    Check("data folder", check_datadir, ("settings",)),
    Check("keys", check_keys, ("settings", "data folder")),
    Check("tor program", check_tor_program, ("settings",), seconds=12),
    Check("tor proxy", check_proxy, ("settings",), seconds=10),
    Check("tor control", check_control, ("settings",), seconds=25),
    Check("tor bootstrap", check_bootstrap, ("settings", "tor control")),
    Check("clock", check_clock, ("settings", "tor control")),
    Check("i2p", check_i2p, ("settings",), seconds=10),
    Check("ports", check_ports, ("settings", "data folder"), seconds=10),
    Check("static nodes", check_static_nodes, ("settings",), seconds=15),
    Check("own onion", check_own_onion, ("keys", "tor proxy", "tor bootstrap"), seconds=ONION_SECONDS),
    Check("peers", check_company, ("data folder",)),
)
