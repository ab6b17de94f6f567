"""Which Host headers are served: a page in a browser that rebinds its own name to our address gets nothing.

Such a page can only send its own name, so IP literals are fine, as in geth (node/rpcstack.go).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

__all__ = ["HostRule"]

ANY = "*"
MAX_KNOWN = 64  # headers whose answer is kept


class HostRule:
    """Names that are served besides IP literals; "*" for all names."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(name.lower() for name in names)
        self._known: dict[str, bool] = {}  # clients send the same again and again

    def allows(self, header: str) -> bool:
        """Tell whether a Host header is ours; one that is absent or empty is, since no browser sends none."""
        if not header or ANY in self._names:
            return True
        known = self._known.get(header)
        if known is None:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            name = _name(header)
            known = self._known[header] = name in self._names or _is_ip(name)
        return known


def _name(header: str) -> str:
    """Return the host, in small letters, without port and brackets."""
    name, colon, port = header.rpartition(":")
    if not (colon and port.isdecimal()):
        name = header
    return name.removeprefix("[").removesuffix("]").lower()


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
