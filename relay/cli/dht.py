"""``pyrelay dht provide|find``: which onion services say that they have something."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from relay.cli.arguments import add_options, command_parser, given_options, seconds
from relay.cli.dht_ways import DaemonWay, Ended, NodeWay, daemon_answers
from relay.discovery.peer_text import parse_peers
from relay.observe.logs import LogOptions, configure
from relay.primitives.errors import DecodeError, LocalError, UsageError
from relay.primitives.keys import NodeKey
from relay.protocols.dht import Key, parse_key
from relay.settings import Settings, load_settings

FIND_FLAGS: Final = (
    "datadir", "config", "ipcpath", "network", "tor-proxy", "tor-proxy-remote-ok", "only-onion", "tor-launch",
    "tor-bridge", "tor-transport", "tor-vanguards",
    "bootnodes", "log-format", "verbosity", "log-addresses",
)  # fmt: skip
PROVIDE_FLAGS: Final = (
    *FIND_FLAGS, "tor-control", "tor-password-file", "onion-port", "onion-listen", "onion-target",
    "onion-address", "nodekey", "onion-key",
)  # fmt: skip
FIND_SECONDS: Final = 300.0
MOST_KEYS: Final = 64  # what one node provides at most
VERBOSITY: Final = {"find": 1, "provide": 2}  # errors; and warnings, since Tor may be waited for
SHOWN: Final = 40  # characters of a key's text
_ANY_KEY: Final = NodeKey(bytes(31) + b"\x01").public_key

PROVIDE_TEXT: Final = """\
Tell the provider DHT that this relay has something, under each KEY, and again
every hour. The daemon does it if one is running, after a restart as well, until
you say dht provide --stop. Without one this command is a node with an onion
service until Ctrl-C: the relay of --datadir if there is such a folder, else
with keys for this time only. What others keep expires within a day."""
FIND_TEXT: Final = """\
Ask the provider DHT who has something. The daemon asks if one is running;
without one this command does, as a node without onion service whose key is
made for this. What is found is signed by the provider; that it is still there
only a connection proves. Exit code 1: nobody provides it."""
KEY_TEXT: Final = "0x and 64 hex digits is the key itself; anything else is hashed"
PEER_TEXT: Final = (
    "nodes to enter by: enr:..., enode://...@ONION:PORT, or ONION:PORT/NODEID as dht find prints it"
    " (66 or 128 hex digits)"
)


def run(argv: Sequence[str]) -> int:
    """Run one of the two."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    keys = [(text, _key(text)) for text in _texts(arguments)]
    given = given_options(arguments)
    settings = load_settings(given)
    _set_up_logging(settings, settings.verbosity if "verbosity" in given else VERBOSITY[arguments.action])
    peers = _peers(arguments.peer or [])
    insist = "ipcpath" in given
    if arguments.action == "find":
        return asyncio.run(_find(arguments, settings, keys[0], peers, insist=insist))
    if arguments.stop:
        return asyncio.run(_stop(settings, keys))
    return asyncio.run(_provide(arguments, settings, keys, peers, insist=insist))


# -- arguments -----------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("dht", "The provider DHT on onion services: who has what.")
    actions = parser.add_subparsers(dest="action", required=True, metavar="provide|find")
    plain = argparse.RawDescriptionHelpFormatter
    provide = actions.add_parser(
        "provide", help="tell that this relay has something", description=PROVIDE_TEXT,
        formatter_class=plain, allow_abbrev=False,
    )  # fmt: skip
    provide.add_argument("keys", nargs="*", metavar="KEY", help=KEY_TEXT)
    provide.add_argument("--stop", action="store_true", help="have the daemon provide them no longer")
    _add_common(provide, 0.0, "seconds until it must be written; 0: no limit (default: 0)")
    add_options(provide, PROVIDE_FLAGS)
    find = actions.add_parser(
        "find", help="ask who has something", description=FIND_TEXT, formatter_class=plain,
        allow_abbrev=False,
    )  # fmt: skip
    find.add_argument("keys", nargs="?", metavar="KEY", help=KEY_TEXT)
    _add_common(find, FIND_SECONDS, f"seconds at most; 0: no limit (default: {FIND_SECONDS:g})")
    add_options(find, FIND_FLAGS)
    return parser


def _add_common(parser: argparse.ArgumentParser, default: float, text: str) -> None:
    own = parser.add_argument_group("asking")
    own.add_argument("--peer", nargs="+", action="extend", metavar="PEER", help=PEER_TEXT)
    own.add_argument("--timeout", type=seconds(), default=default, metavar="S", help=text)
    own.add_argument("--json", action="store_true", help="print one JSON object at the end")


def _texts(arguments: argparse.Namespace) -> list[str]:
    keys = arguments.keys if isinstance(arguments.keys, list) else [arguments.keys]
    texts = [key for key in keys if key is not None]
    if not texts:
        raise UsageError(
            f"dht {arguments.action}: KEY is missing" + ("; put it before --peer" if arguments.peer else "")
        )
    if len(texts) > MOST_KEYS:
        raise UsageError(f"dht provide: {len(texts)} keys; one node provides {MOST_KEYS} at most")
    return texts


def _key(text: str) -> Key:
    try:
        return parse_key(text)
    except DecodeError as error:
        raise UsageError(f"KEY: {error}") from None


def _peers(texts: list[str]) -> list[str]:
    """Check what can be checked here: a mere node id is known to the daemon, or to nobody."""
    try:
        parse_peers(texts, lambda _node: _ANY_KEY)
    except DecodeError as error:
        raise UsageError(f"--{error}") from None
    return texts


def _set_up_logging(settings: Settings, verbosity: int) -> None:
    configure(
        LogOptions(
            json=settings.log_format == "json",
            verbosity=verbosity,
            hide_addresses=settings.mode.hides_peers and not settings.log_addresses,
            colors=sys.stderr.isatty(),
        )
    )


# -- find ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Search:
    """What was found, and how it is shown."""

    text: str
    key: Key
    as_json: bool
    begun: float = field(default_factory=time.monotonic)
    providers: list[dict[str, Any]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begun

    def found(self, provider: dict[str, Any]) -> None:
        """Take a provider, and show it at once."""
        self.providers.append(provider)
        if self.as_json:
            return
        hops = provider["hops"]
        way = "known here" if not hops else f"{hops} hop{'' if hops == 1 else 's'} away"
        print(f"provider {len(self.providers)}, after {self.seconds:.1f} s, {way}")
        print(f"  onion    {provider['onion']}:{provider['port']}")
        print(f"  node id  {provider['id']}")
        print(f"  peer     {provider['peer']}")
        print(f"  enr      {provider['enr']}", flush=True)

    def conclude(self, ended: Ended | None, stopped: str) -> int:
        """Tell how it ended; returns the exit code."""
        if self.as_json:
            print(
                json.dumps(
                    {
                        "key": "0x" + self.key.hex(),
                        "providers": self.providers,
                        "seconds": round(self.seconds, 3),
                    }
                )
            )
        asked = "" if ended is None else f"; {_count(ended.asked, 'node')} asked"
        if self.providers:
            _say(f"{_count(len(self.providers), 'provider')} in {self.seconds:.1f} s{asked}{stopped}")
            return 0
        if ended is not None and not ended.failure:
            _say(f"pyrelay: nobody provides {_named(self.text)}{asked} in {self.seconds:.1f} s")
        else:
            why = ended.failure if ended is not None else f"ended after {self.seconds:.1f} s"
            _say(f"pyrelay: no provider of {_named(self.text)} found: {why}{stopped}")
        return 1


async def _find(
    arguments: argparse.Namespace,
    settings: Settings,
    key: tuple[str, Key],
    peers: Sequence[str],
    *,
    insist: bool,
) -> int:
    search = _Search(*key, as_json=arguments.json)
    ended: Ended | None = None
    by_daemon = await daemon_answers(settings, insist=insist)
    node = None if by_daemon else NodeWay(settings, peers, alone=False)
    async with _stopping(arguments.timeout) as stop:
        if node is None:
            _say(f"key 0x{search.key.hex()}, asked by the daemon at {settings.ipc_path}")
            ended = await DaemonWay(settings).find(key[0], peers, search.found, _say)
        else:
            _say(f"key 0x{search.key.hex()}, asked by a node of this command's own")
            ended = await node.find(key[1], search.found, _say)
    return search.conclude(ended, stop.words)


# -- provide -------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Progress:
    """`relay.cli.dht_ways.Tell` of a person, or of a program."""

    texts: dict[Key, str]
    as_json: bool
    said: set[str] = field(default_factory=set)
    stored: dict[Key, int] = field(default_factory=dict)
    on_complete: Callable[[], None] = lambda: None

    def waits(self, reason: str) -> None:
        """Say it, once."""
        if reason not in self.said:
            self.said.add(reason)
            _say(f"waiting: {reason}")

    def provided(self, key: Key, stored: int, asked: int, refused: str) -> None:
        """Say it each time."""
        name = _named(self.texts[key])
        if stored:
            again = " again" if key in self.stored else ""
            self.stored[key] = stored
            _say(f"provided{again}: {name}, kept by {stored} of {_count(asked, 'node')}")
            if self.complete:
                self.on_complete()
        else:
            self.waits(f"none of {_count(asked, 'node')} keeps {name}: {refused}; trying again")

    @property
    def complete(self) -> bool:
        return len(self.stored) == len(self.texts)

    def conclude(self) -> int:
        """Print what --json asks for; returns the exit code."""
        if self.as_json:
            told = [{"key": "0x" + key.hex(), "stored": self.stored.get(key, 0)} for key in self.texts]
            print(json.dumps({"keys": told}))
        return 0 if self.complete else 1


async def _provide(
    arguments: argparse.Namespace,
    settings: Settings,
    keys: list[tuple[str, Key]],
    peers: Sequence[str],
    *,
    insist: bool,
) -> int:
    tell = _Progress({key: text for text, key in keys}, arguments.json)
    wanted = [(text, key) for key, text in tell.texts.items()]
    by_daemon = await daemon_answers(settings, insist=insist)
    node = None if by_daemon else NodeWay(settings, peers, alone=True)
    for text, key in wanted:
        _say(f"key 0x{key.hex()}" + ("" if _is_raw(text) else f" = {_named(text)}"))
    async with _stopping(arguments.timeout) as stop:
        if node is None:
            _say(f"the daemon at {settings.ipc_path} provides it, until: dht provide --stop")
            await _without_group(DaemonWay(settings), wanted, peers, tell)
        else:
            tell.on_complete = stop.no_limit
            await node.provide(wanted, tell, lambda own: _say(f"this node is {own}; Ctrl-C ends it"), _say)
    if not tell.complete:
        _say(f"pyrelay: not provided{stop.words}")
    return tell.conclude()


async def _without_group(
    way: DaemonWay, keys: list[tuple[str, Key]], peers: Sequence[str], tell: _Progress
) -> None:
    try:
        await way.provide(keys, peers, tell)
    except* LocalError as group:
        raise _first(group) from None


async def _stop(settings: Settings, keys: list[tuple[str, Key]]) -> int:
    if not await daemon_answers(settings, insist=True):
        raise LocalError("no daemon is running here")
    stopped = [await DaemonWay(settings).stop(text) for text, _ in keys]
    for (text, _), was in zip(keys, stopped, strict=True):
        _say(f"{'no longer provided' if was else 'was not provided'}: {_named(text)}")
    return 0 if all(stopped) else 1


def _first(group: BaseExceptionGroup[LocalError]) -> LocalError:
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, LocalError)
    return found


# -- the end -------------------------------------------------------------------------------------------


class _Stop:
    """Ends a block from outside.

    Attributes:
        words: why it was ended, to be put behind a sentence; empty if it was not.
    """

    def __init__(self, timer: asyncio.Timeout, seconds: float) -> None:
        self.words = ""
        self._timer, self._seconds = timer, seconds

    def interrupt(self) -> None:
        """Take Ctrl-C."""
        self.words = " (interrupted)"
        self._timer.reschedule(asyncio.get_running_loop().time())

    def time_over(self) -> None:
        """Take the end of the time."""
        self.words = self.words or f" (--timeout {self._seconds:g})"

    def no_limit(self) -> None:
        """Run until Ctrl-C from now on."""
        if not self.words:
            self._timer.reschedule(None)


@asynccontextmanager
async def _stopping(seconds: float) -> AsyncIterator[_Stop]:
    """End the block, quietly, on Ctrl-C or when the time is over; 0: no limit."""
    loop = asyncio.get_running_loop()
    timer = asyncio.timeout(seconds or None)
    stop = _Stop(timer, seconds)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.interrupt)
    try:
        async with timer:
            yield stop
    except TimeoutError:
        if not timer.expired():
            raise
        stop.time_over()


def _named(text: str) -> str:
    if _is_raw(text):
        return text
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "...")


def _is_raw(text: str) -> bool:
    return text.lower() == "0x" + parse_key(text).hex()


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)
