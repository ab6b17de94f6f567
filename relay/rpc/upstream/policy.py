"""Which methods may go to an upstream, and how often: the user's rules, and ours."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from relay.primitives.errors import DecodeError

__all__ = ["MethodRules", "Patterns", "check_pattern", "is_read", "is_write"]

CLOSED_NAMESPACES: Final = frozenset({"admin", "debug", "engine", "miner", "personal"})
"""What runs a node, or costs it much: never asked of an upstream unless a pattern names the namespace."""
_WRITES: Final = re.compile(r"[a-z]+_(?:send|submit|cancel|resend)[A-Za-z]*")
_STATEFUL: Final = re.compile(r"eth_(?:new\w*Filter|getFilter\w*|uninstallFilter)")
_PATTERN: Final = re.compile(r"[A-Za-z0-9_*]{1,128}")


def is_write(method: str) -> bool:
    """Tell whether a method hands something over: it is sent to one upstream, once."""
    return _WRITES.fullmatch(method) is not None


def is_read(method: str) -> bool:
    """Tell whether a second upstream may be asked the same while the first still works on it."""
    return not is_write(method) and not _STATEFUL.fullmatch(method)


def check_pattern(text: str) -> str:
    """Return a pattern as it is.

    Raises:
        DecodeError: it holds what no method's name and no wildcard is.
    """
    if not _PATTERN.fullmatch(text):
        raise DecodeError("it is no method's name, nor one with * in it, such as debug_*")
    return text


class Patterns:
    """Names of methods; * stands for any characters."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._texts = tuple(patterns)
        self._any = _expression(self._texts)
        self._naming = _expression([text for text in self._texts if "*" not in text.partition("_")[0]])

    def __bool__(self) -> bool:
        return bool(self._texts)

    def match(self, method: str) -> bool:
        """Tell whether one of them fits."""
        return self._any is not None and self._any.fullmatch(method) is not None

    def names(self, method: str) -> bool:
        """Tell whether one of them fits that has this method's namespace spelled out."""
        return self._naming is not None and self._naming.fullmatch(method) is not None


def _expression(patterns: Iterable[str]) -> re.Pattern[str] | None:
    joined = "|".join(re.escape(text).replace(r"\*", ".*") for text in patterns)
    return re.compile(joined) if joined else None


class MethodRules:
    """The user's lists.

    Args:
        allow: patterns of what open ports serve, nothing else then; empty for everything. Closed namespaces
            go upstream only where one of these names them.
        deny: patterns of what open ports never serve, and nobody is asked; it wins.
    """

    def __init__(self, allow: Iterable[str] = (), deny: Iterable[str] = ()) -> None:
        self._allow = Patterns(allow)
        self._deny = Patterns(deny)

    def serves(self, method: str) -> bool:
        """Tell whether a method may be called on an open port, whoever answers it."""
        return not self._deny.match(method) and (not self._allow or self._allow.match(method))

    def forwards(self, method: str) -> bool:
        """Tell whether a method may be asked of an upstream."""
        if is_write(method) or self._deny.match(method):
            return False
        return method.partition("_")[0] not in CLOSED_NAMESPACES or self._allow.names(method)
