"""Parsers of single settings: text in, value out, or a UsageError that names what was expected."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from relay.discovery.dns.servers import DnsServer, parse_servers
from relay.primitives.address import UNIX_PREFIX, Address, TcpAddress, parse_address, parse_ip, unix_address
from relay.primitives.errors import DecodeError, UsageError
from relay.primitives.onion import parse_onion
from relay.protocols.eth.versions import BY_VERSION
from relay.rpc.meters import Rate, parse_rate
from relay.rpc.upstream.urls import Scheme, UpstreamUrl, parse_upstream, parse_upstreams

Parser: TypeAlias = Callable[[str], Any]

_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LONGEST: Final = 365 * 86_400  # seconds
_SHOWN: Final = 80  # characters of a wrong value that a message repeats


def boolean(text: str) -> bool:
    """Read true or false as TOML, the environment and ``--flag=false`` spell it."""
    lowered = text.strip().lower()
    if lowered in _TRUE:
        return True
    if lowered in _FALSE:
        return False
    raise UsageError(f"{shown(text)} is neither true nor false")


@dataclass(frozen=True, slots=True)
class WholeNumber:
    """A parser of decimal integers between two bounds, both included."""

    low: int
    high: int

    def __call__(self, text: str) -> int:
        """Read one."""
        digits = text.strip()
        if not _is_short_number(digits) or not self.low <= int(digits) <= self.high:
            raise UsageError(f"{shown(text)} is not a whole number from {self.low} to {self.high}")
        return int(digits)


@dataclass(frozen=True, slots=True)
class Duration:
    """A parser of durations, to seconds: ``90s``, ``30m``, ``6h``, ``2d``; ``0`` is never.

    Attributes:
        least: seconds; anything shorter but 0 is refused.
    """

    least: int

    def __call__(self, text: str) -> int:
        """Read one."""
        digits, unit = text.strip()[:-1], text.strip()[-1:]
        if text.strip() == "0":
            return 0
        if unit not in _UNITS or not _is_short_number(digits):
            raise UsageError(f"{shown(text)} is no duration, such as 90s, 30m, 6h, 2d, or 0 for never")
        if not self.least <= (seconds := int(digits) * _UNITS[unit]) <= _LONGEST:
            raise UsageError(f"{shown(text)} is not between {self.least}s and {_LONGEST // 86_400}d")
        return seconds


def one_of(*choices: str) -> Parser:
    """Make a parser of a word out of a fixed list."""

    def parse(text: str) -> str:
        if text not in choices:
            raise UsageError(f"{shown(text)} is none of: {', '.join(choices)}")
        return text

    return parse


def path(text: str) -> Path:
    """Read a file's path; ``~`` is the home folder."""
    if not text or "\0" in text:
        raise UsageError(f"{shown(text)} is no path")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{text!r}: {error}") from None


def address(text: str) -> Address:
    """Read ``HOST:PORT`` or ``unix:PATH`` of a listener; port 0 is a free one."""
    return parse_address(text)


def destination(text: str) -> Address:
    """Read ``HOST:PORT`` or ``unix:PATH`` of what is there to be connected."""
    found = parse_address(text)
    if isinstance(found, TcpAddress) and found.port == 0:
        raise UsageError(f"{shown(text)}: port 0 can not be connected")
    return found


def ip_address(text: str) -> str:
    """Read an IP literal, or localhost, which is 127.0.0.1 without asking anybody."""
    try:
        return parse_ip(text)
    except DecodeError as error:
        raise UsageError(str(error)) from None


def ip_or_unix(text: str) -> str:
    """Read an IP literal or localhost, whose port stands elsewhere, or ``unix:PATH``, which has none."""
    if text.startswith(UNIX_PREFIX):
        return str(unix_address(text.removeprefix(UNIX_PREFIX)))
    return ip_address(text)


def listener(host: str, port: int) -> Address:
    """Join what `ip_or_unix` has read with its port."""
    return parse_address(host) if host.startswith(UNIX_PREFIX) else TcpAddress(host, port)


def is_loopback(host: str) -> bool:
    """Tell whether what `ip_or_unix` has read can only be reached from this machine."""
    return host.startswith(UNIX_PREFIX) or ipaddress.ip_address(host).is_loopback


def onion_address(text: str) -> str:
    """Read a version 3 onion address, ``.onion`` included."""
    try:
        return parse_onion(text)
    except DecodeError as error:
        raise UsageError(str(error)) from None


def eth_versions(text: str) -> tuple[int, ...]:
    """Read a comma-separated list of eth versions that the protocol table describes."""
    versions = []
    for word in map(str.strip, text.split(",")):  # int() takes less for a space than strip() does
        if not _is_short_number(word) or int(word) not in BY_VERSION:
            known = ", ".join(str(version) for version in sorted(BY_VERSION))
            raise UsageError(f"{shown(word)} is no eth version known here: {known}")
        versions.append(int(word))
    return tuple(sorted(set(versions)))


def upstreams(text: str) -> tuple[UpstreamUrl, ...]:
    """Read a comma-separated list of nodes; an empty text is none. They are not repeated in errors: keys."""
    try:
        return parse_upstreams(text)
    except DecodeError as error:
        raise UsageError(str(error)) from None


def beacon_api(text: str) -> UpstreamUrl:
    """Read the URL of a consensus node. It is not repeated in errors: keys."""
    try:
        url = parse_upstream(text)
    except DecodeError as error:
        raise UsageError(str(error)) from None
    if url.scheme not in (Scheme.HTTP, Scheme.HTTPS):
        raise UsageError("a consensus node is asked by http:// or https://")
    return url


def rate(text: str) -> Rate | None:
    """Read calls in a time; 0 is no limit."""
    return None if text.strip() == "0" else parse_rate(text)


def dns_servers(text: str) -> tuple[DnsServer, ...]:
    """Read a comma-separated list of resolvers."""
    try:
        return parse_servers(text)
    except DecodeError as error:
        raise UsageError(str(error)) from None


class Words:
    """A parser of a comma-separated list of words out of a fixed list."""

    def __init__(self, *choices: str) -> None:
        self._parse_one = one_of(*choices)

    def __call__(self, text: str) -> tuple[str, ...]:
        """Read one; doubles count once."""
        words = (word.strip() for word in text.split(","))
        return tuple(dict.fromkeys(self._parse_one(word) for word in words if word))


class Items:
    """A parser of a comma-separated list whose items a function checks; they stay texts."""

    def __init__(self, check: Callable[[str], object]) -> None:
        self._check = check

    def __call__(self, text: str) -> tuple[str, ...]:
        """Read one; an empty text is an empty list, doubles count once."""
        words = dict.fromkeys(word.strip() for word in text.split(",") if word.strip())
        for word in words:
            try:
                self._check(word)
            except DecodeError as error:
                raise UsageError(f"{shown(word)}: {error}") from None
        return tuple(words)


def text(value: str) -> str:
    """Take a text as it is; control characters are refused, since it lands in logs."""
    if not value or not value.isprintable():
        raise UsageError(f"{shown(value)} is empty or holds control characters")
    return value


def shown(text: str) -> str:
    """Quote what was given, for a message of one line."""
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")


def _is_short_number(text: str) -> bool:
    """Whether int() takes it: other scripts have digits, too, and thousands of digits raise."""
    return text.isascii() and text.isdigit() and len(text) < 20
