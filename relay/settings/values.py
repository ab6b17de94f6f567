"""Parsers of single settings: text in, value out, or a UsageError that names what was expected."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

from relay.primitives.errors import DecodeError, UsageError
from relay.primitives.onion import parse_onion
from relay.protocols.eth.versions import BY_VERSION
from relay.transports.addresses import Address, parse_address, parse_ip

Parser: TypeAlias = Callable[[str], Any]

_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})


def boolean(text: str) -> bool:
    """Read true or false as TOML, the environment and ``--flag=false`` spell it."""
    lowered = text.strip().lower()
    if lowered in _TRUE:
        return True
    if lowered in _FALSE:
        return False
    raise UsageError(f"{text!r} is neither true nor false")


def whole_number(low: int, high: int) -> Parser:
    """Make a parser of decimal integers between two bounds, both included."""

    def parse(text: str) -> int:
        digits = text.strip()
        if not (digits.isascii() and digits.isdigit() and len(digits) < 20) or not low <= int(digits) <= high:
            raise UsageError(f"{text!r} is not a whole number from {low} to {high}")
        return int(digits)

    return parse


def one_of(*choices: str) -> Parser:
    """Make a parser of a word out of a fixed list."""

    def parse(text: str) -> str:
        if text not in choices:
            raise UsageError(f"{text!r} is none of: {', '.join(choices)}")
        return text

    return parse


def path(text: str) -> Path:
    """Read a file's path; ``~`` is the home folder."""
    if not text or "\0" in text:
        raise UsageError("an empty path")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{text!r}: {error}") from None


def address(text: str) -> Address:
    """Read ``HOST:PORT`` or ``unix:PATH``."""
    return parse_address(text)


def ip_address(text: str) -> str:
    """Read an IP literal, or localhost, which is 127.0.0.1 without asking anybody."""
    try:
        return parse_ip(text)
    except DecodeError as error:
        raise UsageError(str(error)) from None


def is_loopback(host: str) -> bool:
    """Tell whether an IP literal can only be reached from this machine."""
    return ipaddress.ip_address(host).is_loopback


def onion_address(text: str) -> str:
    """Read a version 3 onion address, ``.onion`` included."""
    try:
        return parse_onion(text)
    except DecodeError as error:
        raise UsageError(str(error)) from None


def eth_versions(text: str) -> tuple[int, ...]:
    """Read a comma-separated list of eth versions that the protocol table describes."""
    versions = []
    for word in text.split(","):
        if not word.strip().isdigit() or int(word) not in BY_VERSION:
            known = ", ".join(str(version) for version in sorted(BY_VERSION))
            raise UsageError(f"{word.strip()!r} is no eth version known here: {known}")
        versions.append(int(word))
    return tuple(sorted(set(versions)))


def words(*choices: str) -> Parser:
    """Make a parser of a comma-separated list of words out of a fixed list."""
    parse_one = one_of(*choices)

    def parse(text: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(parse_one(word.strip()) for word in text.split(",") if word.strip()))

    return parse


def text(value: str) -> str:
    """Take a text as it is; control characters are refused, since it lands in logs."""
    if not value or not value.isprintable():
        raise UsageError(f"{value!r} is empty or holds control characters")
    return value
