"""``pyrelay config check``: all settings read, checked, and what they amount to."""

from __future__ import annotations

from collections.abc import Sequence

from relay.app.networks import load_network
from relay.cli.arguments import add_options, command_parser, given_options
from relay.settings import load_settings
from relay.settings.options import OPTIONS


def run(argv: Sequence[str]) -> int:
    """Print the settings in force; a wrong one is a usage error."""
    parser = command_parser("config", "Read all settings and say what they amount to.")
    parser.add_argument("action", choices=["check"])
    add_options(parser)
    settings = load_settings(given_options(parser.parse_args(argv)))
    network = load_network(settings.network)
    for option in OPTIONS:
        print(f"{option.name:20} {_shown(getattr(settings, option.attribute))}")
    print(f"\nmode: {settings.mode.value}; network: {network.name}, id {network.network_id}")
    for warning in settings.warnings:
        print(f"warning: {warning}")
    return 0


def _shown(value: object) -> str:
    """A value as the flag takes it; a dash for none."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(str(each) for each in value) if isinstance(value, tuple) else str(value)
