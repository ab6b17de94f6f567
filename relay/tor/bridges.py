"""Bridges and pluggable transports of the Tor that we start: hostile lines end here, not in torrc.

Spec: tor(1), "Bridge", "ClientTransportPlugin"; pt-spec, 3.2.1 (names are C identifiers).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from relay.primitives.address import TcpAddress, parse_ip
from relay.primitives.errors import DecodeError, UsageError

__all__ = ["Bridge", "Transport", "bridge_lines", "check_programs", "split_bridges"]

MAX_LINE: Final = 2_000  # characters; a snowflake line has some 500
_EXPECTED: Final = "expected [TRANSPORT] IP:PORT [FINGERPRINT] [KEY=VALUE ...]"
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_FINGERPRINT: Final = re.compile(r"[0-9A-Fa-f]{40}")
_ARGUMENT: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}=\S+")
_PLACE: Final = r"(?:\d{1,3}(?:\.\d{1,3}){3}|\[[0-9A-Fa-f:.]+\]):\d"
# a line of snowflake holds commas itself: what follows one is a bridge when it begins as one
_NEXT: Final = re.compile(rf"\s*,\s*(?=(?:Bridge\s+)?(?:[A-Za-z_]\w*\s+)?{_PLACE})", re.IGNORECASE)
_UNSAFE: Final = frozenset('#"\\')
"""In torrc: a comment, a quoted value, a line that goes on."""


@dataclass(frozen=True, slots=True)
class Bridge:
    """One Bridge line, taken apart.

    Attributes:
        transport: which pluggable transport speaks to it; empty for a plain one.
        place: IP and port.
        fingerprint: of the bridge's identity in upper case; empty: any is taken.
        arguments: the transport's, ``key=value``.
    """

    transport: str
    place: TcpAddress
    fingerprint: str
    arguments: tuple[str, ...]

    @classmethod
    def parse(cls, line: str) -> Bridge:
        """Read a line with or without the word Bridge before it.

        Raises:
            DecodeError: says what is wrong in it and what is expected, and repeats one word at most.
        """
        words = _words(line)
        if words and words[0].lower() == "bridge":
            words = words[1:]
        transport = words.pop(0) if words and _NAME.fullmatch(words[0]) else ""
        if not words:
            raise DecodeError(f"no IP:PORT in it: {_EXPECTED}")
        place = _place(words.pop(0))
        fingerprint = words.pop(0).upper() if words and _FINGERPRINT.fullmatch(words[0]) else ""
        for word in words:
            if not _ARGUMENT.fullmatch(word):
                raise DecodeError(f"{word[:40]!r} is no KEY=VALUE, and no fingerprint of 40 hex: {_EXPECTED}")
        if words and not transport:
            raise DecodeError(f"KEY=VALUE without a transport: {_EXPECTED}")
        return cls(transport, place, fingerprint, tuple(words))

    @property
    def line(self) -> str:
        """The line of torrc."""
        words = (self.transport, str(self.place), self.fingerprint, *self.arguments)
        return " ".join(("Bridge", *(word for word in words if word)))


@dataclass(frozen=True, slots=True)
class Transport:
    """Names of pluggable transports and the program that speaks them."""

    names: tuple[str, ...]
    program: Path

    @classmethod
    def parse(cls, text: str) -> Transport:
        """Read ``NAME=PATH``, or ``NAME+NAME=PATH`` for a program of several.

        Raises:
            DecodeError: anything else; a relative path; one with a blank, which tor would take apart.
        """
        names, equals, path = text.partition("=")
        each = tuple(names.split("+"))
        if not equals or not all(_NAME.fullmatch(name) for name in each):
            raise DecodeError("expected NAME=PATH, such as obfs4=/usr/bin/obfs4proxy")
        _words(path)
        if not path.startswith("/") or any(char.isspace() for char in path):
            raise DecodeError("the program's path has to begin with / and hold no blank, as tor splits there")
        return cls(each, Path(path))

    @property
    def line(self) -> str:
        """The line of torrc."""
        return f"ClientTransportPlugin {','.join(self.names)} exec {self.program}"


def split_bridges(text: str) -> list[str]:
    """Take several bridges apart at the commas between them, and at no comma inside of one."""
    return [line for line in (part.strip() for part in _NEXT.split(text)) if line]


def bridge_lines(bridges: Sequence[Bridge], transports: Sequence[Transport]) -> list[str]:
    """Lines of torrc; none without bridges.

    Raises:
        UsageError: a transport has no program, or a program no bridge to be of use for.
    """
    spoken = {name for transport in transports for name in transport.names}
    for number, bridge in enumerate(bridges, 1):
        if bridge.transport and bridge.transport not in spoken:
            raise UsageError(
                f"--tor-bridge: bridge {number} speaks {bridge.transport}: name its program by"
                f" --tor-transport {bridge.transport}=PATH"
            )
    if transports and not bridges:
        raise UsageError("--tor-transport is of no use without a bridge: add --tor-bridge LINE")
    if not bridges:
        return []
    return ["UseBridges 1", *(each.line for each in transports), *(each.line for each in bridges)]


def check_programs(transports: Sequence[Transport]) -> None:
    """Refuse a program that can't be run: tor would only say that it ended.

    Raises:
        UsageError: names it.
    """
    for transport in transports:
        if not transport.program.is_file() or not os.access(transport.program, os.X_OK):
            raise UsageError(
                f"--tor-transport {'+'.join(transport.names)}: there is no program {transport.program}"
                " that can be run (Debian: sudo apt install obfs4proxy, or snowflake-client)"
            )


def _words(text: str) -> list[str]:
    if len(text) > MAX_LINE:
        raise DecodeError(f"longer than {MAX_LINE} characters: {_EXPECTED}")
    if not text.isascii() or not text.isprintable() or _UNSAFE & set(text):
        raise DecodeError("it holds a line break, # \" \\ or another character that is none of a bridge's")
    return text.split()


def _place(word: str) -> TcpAddress:
    host, _, port = word.rpartition(":")
    try:
        if not port.isdigit() or len(port) > 5 or not 0 < int(port) < 65536:
            raise DecodeError("no port")
        if host.startswith("[") != (":" in host):
            raise DecodeError("IPv6 stands in brackets")
        return TcpAddress(parse_ip(host.strip("[]")), int(port))
    except DecodeError:
        raise DecodeError(f"{word[:60]!r} is no IP:PORT: {_EXPECTED}") from None
