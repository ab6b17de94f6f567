"""Parsers of bridges and pluggable transports, which stay out of the messages as far as they are secret."""

from __future__ import annotations

from relay.primitives.errors import DecodeError, UsageError
from relay.settings.values import shown
from relay.tor.bridges import Bridge, Transport, split_bridges


def bridges(text: str) -> tuple[Bridge, ...]:
    """Read bridge lines with commas between them; a wrong one is told by its number."""
    found = []
    for number, line in enumerate(split_bridges(text), 1):
        try:
            found.append(Bridge.parse(line))
        except DecodeError as error:
            raise UsageError(f"bridge {number}: {error}") from None
    return tuple(dict.fromkeys(found))


def pluggable_transports(text: str) -> tuple[Transport, ...]:
    """Read a comma-separated list of NAME=PATH."""
    try:
        return tuple(Transport.parse(word.strip()) for word in text.split(",") if word.strip())
    except DecodeError as error:
        raise UsageError(f"{shown(text)}: {error}") from None
