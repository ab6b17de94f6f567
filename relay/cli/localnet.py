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
from relay.localnet.dht import DEFAULT_KEY, FEWEST_PEERS, DhtLocalnet, DhtOptions, DhtOutcome, Lines
from relay.localnet.plain import PlainLines
from relay.localnet.run import FEWEST_RELAYS, MOST_RELAYS, Localnet, LocalnetOptions, Outcome
from relay.primitives.errors import DecodeError, LocalError, UsageError
from relay.protocols.dht import parse_key
from relay.tor.process import find_tor

NO_TOR: Final = (
    "tor is not installed; type: sudo apt install tor (Debian, Ubuntu), sudo dnf install tor (Fedora),"
    " sudo pacman -S tor (Arch) or brew install tor (macOS)"
)


def run(argv: Sequence[str]) -> int:
    """Run until Ctrl-C, or once; exit code 1 when a transaction did not arrive, or nobody was found."""
    began = time.monotonic()
    arguments = _parser().parse_args(argv)
    _check_combination(arguments)
    _check_tor()
    keep = None if arguments.keep is None else Path(arguments.keep).expanduser()
    if arguments.dht is not None:
        return _provide_and_find(arguments, keep, began)
    options = LocalnetOptions(relays=arguments.relays or 3, once=arguments.once, keep=keep)
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
        metavar="N",
        help=f"how many, {FEWEST_RELAYS} to {MOST_RELAYS} (default: 3)",
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="end when 100 transactions have arrived everywhere, or the search has ended",
    )
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.add_argument(
        "--dht",
        type=_peers,
        metavar="N",
        help="pass no transactions: the first and the last of N peers provide a key in the DHT, and a node"
        " that knows the third alone finds them",
    )
    parser.add_argument("--key", metavar="KEY", help=f'that --dht provides (default: "{DEFAULT_KEY}")')
    parser.add_argument(
        "--keep", metavar="DIR", help="put keys, logs and configuration into this new folder and leave them"
    )
    return parser


def _relays(text: str) -> int:
    return _number(text, FEWEST_RELAYS)


def _peers(text: str) -> int:
    return _number(text, FEWEST_PEERS)


def _number(text: str, fewest: int) -> int:
    count = int(text) if text.isascii() and text.isdigit() and len(text) < 4 else 0
    if not fewest <= count <= MOST_RELAYS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {fewest} to {MOST_RELAYS}")
    return count


def _check_combination(arguments: argparse.Namespace) -> None:
    if arguments.dht is not None and arguments.relays is not None:
        raise UsageError("--dht N says how many peers there are: leave --relays out")
    if arguments.key is None:
        return
    if arguments.dht is None:
        raise UsageError("--key goes with --dht N")
    try:
        parse_key(arguments.key)
    except DecodeError as error:
        raise UsageError(f"--key: {error}") from None


def _provide_and_find(arguments: argparse.Namespace, keep: Path | None, began: float) -> int:
    options = DhtOptions(arguments.dht, arguments.key or DEFAULT_KEY, arguments.once, keep)
    lines = Lines(sys.stderr if arguments.json else sys.stdout, began)
    outcome = asyncio.run(_run_dht(options, lines))
    if arguments.json:
        print(outcome.to_json())
    return 0 if outcome.good else 1


async def _run_dht(options: DhtOptions, lines: Lines) -> DhtOutcome:
    return await DhtLocalnet(options, lines).run()


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
