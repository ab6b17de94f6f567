"""``pyrelay send``: gives signed transactions to the daemon, and tells how far they come."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from relay.cli.arguments import add_options, command_parser, given_options, seconds
from relay.primitives.errors import LocalError, UsageError
from relay.rpc.client import CallFailed, call
from relay.settings import load_settings

FLAGS: Final = ("datadir", "config", "ipcpath")
WAIT_SECONDS: Final = 30.0
LOOK: Final = 0.1  # seconds between two looks
MOST_HEX: Final = 2 * 1024 * 1024 + 2  # digits of one transaction: more than any pool takes
_HEX: Final = re.compile(r"(?:0[xX])?((?:[0-9a-fA-F]{2})+)")

TEXT: Final = """\
Give signed transactions to the daemon, which sends them to its peers; nobody
else is asked or told. RAWTX is the signed transaction in hex; with - one is
read from each line of standard input, and sent as it comes. An echo is a
peer's telling us of the transaction. With Tor it goes out on short connections
that lead to nobody (--private-broadcast), and one sender's go one after the
other, each when the one before is back: give --wait minutes. Without, a few
peers are left out at first, so that there is somebody who can tell; with one
peer only there is none.
Exit code 1: refused, or with --wait no echo came in time."""


def run(argv: Sequence[str]) -> int:
    """Send."""
    parser = command_parser("send", TEXT)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("transaction", metavar="RAWTX|-", help="hex, with or without 0x; - reads lines")
    parser.add_argument(
        "--wait", nargs="?", const=WAIT_SECONDS, default=None, metavar="SECONDS",
        type=seconds(above=True, hint="; put --wait last"),
        help=f"until the first echo of each has come, or so long (if given alone: {WAIT_SECONDS:g})",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print a JSON object a line for all that happens")
    add_options(parser, FLAGS)
    arguments = parser.parse_args(argv)
    settings = load_settings(given_options(arguments))
    sending = _Sending(str(settings.ipc_path.absolute()), arguments.wait, arguments.json)
    return asyncio.run(sending.run(_texts(arguments.transaction)))


def _texts(word: str) -> Iterator[tuple[str, str]]:
    """Give where each transaction is from, and its hex: nothing for a line that has none."""
    if word != "-":
        if not _hex(word):
            raise UsageError(f"RAWTX: {word[:24]!r} is no transaction in hex")
        yield "RAWTX", _hex(word)
        return
    number = 0
    while line := sys.stdin.readline(MOST_HEX + 2):
        number += 1
        if line.strip():
            yield f"line {number}", _hex(line.strip())


def _hex(text: str) -> str:
    """Return the digits with 0x before them; nothing for what is no hex, or too much of it."""
    found = _HEX.fullmatch(text)
    return "" if found is None or len(text) > MOST_HEX else "0x" + found[1]


@dataclass(slots=True)
class _Followed:
    """A transaction that was taken, and what was told of it last."""

    hash: str
    sent_at: float
    told: tuple[object, ...] = ()
    echo: float | None = None


@dataclass(slots=True)
class _Sending:
    path: str
    wait: float | None
    as_json: bool
    refused: int = 0
    followed: list[_Followed] = field(default_factory=list)

    async def run(self, texts: Iterator[tuple[str, str]]) -> int:
        """Send all, then follow them; returns the exit code."""
        for where, text in texts:
            await self._send(where, text)
        if not self.followed and not self.refused:
            raise UsageError("send: standard input holds no transaction")
        if self.wait is not None:
            await self._follow(self.wait)
        missing = [each for each in self.followed if each.echo is None] if self.wait is not None else []
        for each in missing:
            self._tell("no echo", each.hash, f"no echo within {self.wait:g} s")
        return 1 if self.refused or missing else 0

    async def _send(self, where: str, text: str) -> None:
        try:
            if not text:
                raise CallFailed(-32602, "no transaction in hex")
            tx_hash = await call(self.path, "eth_sendRawTransaction", [text])
        except CallFailed as error:
            self.refused += 1
            self._tell("refused", None, f"{where}: refused: {error}", where=where, reason=str(error))
            return
        transaction = _Followed(tx_hash, time.monotonic())
        self.followed.append(transaction)
        await self._look(transaction)

    async def _follow(self, seconds: float) -> None:
        while open_ones := [
            each for each in self.followed if each.echo is None and time.monotonic() - each.sent_at < seconds
        ]:
            await asyncio.sleep(LOOK)
            for each in open_ones:
                await self._look(each)

    async def _look(self, transaction: _Followed) -> None:
        """Tell what is new of a transaction."""
        try:
            now: dict[str, Any] = await call(self.path, "relay_trackTransaction", [transaction.hash])
        except CallFailed as error:
            raise LocalError(
                f"the daemon does not tell how far {transaction.hash} has come: {error}"
            ) from error
        private = now.get("private")
        reached = (now["sent"], now["announced"], now["fetched_by"], private)
        if reached != transaction.told:
            transaction.told = reached
            words = (
                f"sent to {_peers(now['sent'])}, announced to {_peers(now['announced'])},"
                f" fetched by {_peers(now['fetched_by'])}"
            )
            named = {name: now[name] for name in ("sent", "announced", "fetched_by", "listening")}
            if private is not None:
                words, named = f"confirmed by {_peers(now['sent'])}, {private}", named | {"private": private}
            self._tell("sent", transaction.hash, words, **named)
        echo = now["first_echo_seconds"]
        if echo is not None and transaction.echo is None:
            transaction.echo = echo
            self._tell("echo", transaction.hash, f"first echo after {echo:.3f} s", first_echo_seconds=echo)

    def _tell(self, event: str, tx_hash: str | None, words: str, **fields: object) -> None:
        if self.as_json:
            named = {} if tx_hash is None else {"hash": tx_hash}
            print(json.dumps({"event": event, **named, **fields}), flush=True)
        elif event in ("refused", "no echo"):
            print(f"pyrelay: {words}" if tx_hash is None else f"pyrelay: {tx_hash}: {words}", file=sys.stderr)
        else:
            print(f"{tx_hash}  {words}", flush=True)


def _peers(count: int) -> str:
    return f"{count} peer{'' if count == 1 else 's'}"
