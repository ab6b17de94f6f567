"""``pyrelay private``: what waits for its private broadcast, and how to end it."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from collections.abc import Sequence
from typing import Any, Final

from relay.cli.arguments import add_options, given_options
from relay.primitives.errors import LocalError, UsageError
from relay.rpc.client import CallFailed, call
from relay.settings import load_settings

FLAGS: Final = ("datadir", "config", "ipcpath")
TEXT: Final = """\
Transactions given to the daemon by `pyrelay send` or eth_sendRawTransaction go
out on short connections through Tor and are in no pool of ours before a peer
brings them back. `list` shows those that are not back yet; `abort` sends one
no more, though whoever was given it has it."""
_HASH: Final = re.compile(r"(?:0x)?([0-9a-fA-F]{64})")
_ROW: Final = "{:<66}  {:>6}  {:>9}  {:>6}  {:>8}  {}"


def run(argv: Sequence[str]) -> int:
    """List or abort."""
    parser = argparse.ArgumentParser(
        prog="pyrelay private", description=TEXT, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|abort")
    listing = actions.add_parser("list", help="show what waits", allow_abbrev=False)
    listing.add_argument("--json", action="store_true", help="print a JSON object a line")
    abort = actions.add_parser("abort", help="send one no more", allow_abbrev=False)
    abort.add_argument("hash", metavar="HASH", help="of the transaction")
    for each in (listing, abort):
        add_options(each, FLAGS)
    arguments = parser.parse_args(argv)
    path = str(load_settings(given_options(arguments)).ipc_path.absolute())
    return asyncio.run(
        _list(path, arguments.json) if arguments.action == "list" else _abort(path, arguments.hash)
    )


async def _list(path: str, as_json: bool) -> int:
    found: list[dict[str, Any]] = await _ask(path, "relay_privateTransactions")
    if as_json:
        for each in found:
            print(json.dumps(each))
        return 0
    if not found:
        print("nothing waits")
        return 0
    print(_ROW.format("hash", "nonce", "confirmed", "rounds", "age (s)", "state"))
    for each in found:
        nonce, age = int(each["nonce"], 16), f"{each['age_seconds']:.0f}"
        print(_ROW.format(each["hash"], nonce, each["confirmed"], each["rounds"], age, each["state"]))
    return 0


async def _abort(path: str, text: str) -> int:
    digits = _HASH.fullmatch(text)
    if digits is None:
        raise UsageError(f"HASH: {text[:24]!r} is no hash of a transaction: 64 hex digits")
    await _ask(path, "relay_abortPrivateTransaction", "0x" + digits[1].lower())
    print(f"0x{digits[1].lower()}  is sent no more")
    return 0


async def _ask(path: str, method: str, *params: str) -> Any:  # noqa: ANN401 - whatever JSON holds
    try:
        return await call(path, method, params)
    except CallFailed as error:
        raise LocalError(str(error)) from error
