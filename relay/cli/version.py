"""``pyrelay version``: what runs here, for a bug report."""

from __future__ import annotations

import platform
from collections.abc import Sequence

from relay import __version__
from relay.cli.arguments import command_parser


def run(argv: Sequence[str]) -> int:
    """Print the version of pyrelay, Python and the system."""
    command_parser("version", "Print versions.").parse_args(argv)
    print(f"pyrelay {__version__}")
    print(f"python {platform.python_version()} ({platform.system().lower()} {platform.machine()})")
    return 0
