"""``pyrelay localnet``: a private Tor network with relays that pass real transactions, on this machine."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from relay.cli.arguments import command_parser
from relay.localnet.board import Reporter
from relay.localnet.plain import PlainLines
from relay.localnet.run import FEWEST_RELAYS, MOST_RELAYS, Localnet, LocalnetOptions, Outcome
from relay.primitives.errors import LocalError, UsageError
from relay.tor.process import find_tor

NO_TOR: Final = (
    "tor is not installed; type: sudo apt install tor (Debian, Ubuntu), sudo dnf install tor (Fedora),"
    " sudo pacman -S tor (Arch) or brew install tor (macOS)"
)


def run(argv: Sequence[str]) -> int:
    """Run until Ctrl-C, or once; exit code 1 when a transaction did not arrive."""
    began = time.monotonic()
    arguments = _parser().parse_args(argv)
    _check_tor()
    keep = None if arguments.keep is None else Path(arguments.keep).expanduser()
    options = LocalnetOptions(relays=arguments.relays, once=arguments.once, keep=keep)
    outcome = asyncio.run(_run(options, _reporter(as_json=arguments.json), began))
    if arguments.json:
        print(outcome.result.to_json())
    else:
        _conclude(outcome)
    return 0 if outcome.good else 1


async def _run(options: LocalnetOptions, reporter: Reporter, began: float) -> Outcome:
    return await Localnet(options, reporter, began).run()


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "localnet",
        "Start a private Tor network and relays on this machine, without internet, and pass real signed"
        " transactions between them until Ctrl-C. Nothing is left behind.",
    )
    parser.add_argument(
        "--relays",
        type=_relays,
        default=3,
        metavar="N",
        help=f"how many, {FEWEST_RELAYS} to {MOST_RELAYS} (default: 3)",
    )
    parser.add_argument(
        "--once", action="store_true", help="end when 100 transactions have arrived everywhere"
    )
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.add_argument(
        "--keep", metavar="DIR", help="put keys, logs and configuration into this new folder and leave them"
    )
    return parser


def _relays(text: str) -> int:
    count = int(text) if text.isascii() and text.isdigit() and len(text) < 4 else 0
    if not FEWEST_RELAYS <= count <= MOST_RELAYS:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a whole number from {FEWEST_RELAYS} to {MOST_RELAYS}"
        )
    return count


def _check_tor() -> None:
    try:
        find_tor()
    except UsageError:
        raise LocalError(NO_TOR) from None


def _reporter(*, as_json: bool) -> Reporter:
    if as_json:
        return PlainLines(sys.stderr)
    # Imported here: rich takes a quarter of a second, which only a terminal needs.
    from relay.localnet.screen import live_screen  # noqa: PLC0415

    return (live_screen() if sys.stdout.isatty() else None) or PlainLines(sys.stdout)


def _conclude(outcome: Outcome) -> None:
    for line in outcome.lines():
        print(line)
