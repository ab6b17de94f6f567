"""Plain ``pyrelay``: the daemon."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from relay import __version__
from relay.app.daemon import Daemon
from relay.app.service import settle_garbage
from relay.cli.arguments import daemon_parser, given_options
from relay.observe.logs import LogOptions, configure
from relay.observe.redaction import Redactor
from relay.settings import Settings, load_settings


def run(argv: Sequence[str]) -> int:
    """Run until a signal ends it."""
    arguments = daemon_parser().parse_args(argv)
    if arguments.version:
        print(f"pyrelay {__version__}")
        return 0
    settings = load_settings(given_options(arguments))
    redactor = _set_up_logging(settings)
    os.umask(0o077)
    asyncio.run(_serve(settings, redactor))
    return 0


async def _serve(settings: Settings, redactor: Redactor) -> None:
    daemon = Daemon(settings)
    redactor.allow_own(daemon.onion)
    if daemon.i2p is not None and daemon.i2p.address is not None:
        redactor.allow_own(daemon.i2p.address)
    daemon.set_tripwire()
    settle_garbage()
    await daemon.run()


def _set_up_logging(settings: Settings) -> Redactor:
    on_terminal = sys.stderr.isatty()
    redactor = configure(
        LogOptions(
            json=(settings.log_format or ("text" if on_terminal else "json")) == "json",
            verbosity=settings.verbosity,
            hide_addresses=settings.mode.hides_peers and not settings.log_addresses,
            colors=on_terminal,
        )
    )
    for path, name in (
        (settings.datadir.absolute(), "DATADIR"),
        (os.path.expanduser("~"), "~"),
        (Path(sys.prefix), "PREFIX"),
        (Path(__file__).parents[2], "PYRELAY"),
    ):
        redactor.hide_folder(str(path), name)
    return redactor
