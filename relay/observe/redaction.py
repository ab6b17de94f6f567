"""Keeps secrets, and in only-onion and only-i2p all that tells where a peer is, out of whatever is logged.

It works on values of any kind, at any depth, and on finished texts such as tracebacks: what it returns holds
nothing but str, int, float, bool, None, lists and dicts, so no renderer calls a repr later that tells more.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Mapping
from typing import Final

__all__ = ["Redactor"]

MASK: Final = "***"
MAX_DEPTH: Final = 6
MAX_BYTES: Final = 16  # longer bytes could be a key; hashes are logged as hex text
MAX_GROUPS: Final = 12  # of an IPv6 candidate; longer ones are masked unread
OWN_FIELDS: Final = frozenset({"onion", "enode", "address"})
"""Where our own onion address may stand: it is what one gives away. Records hide theirs in base64: never."""
HOST_FIELDS: Final = frozenset({"host", "endpoint", "remote", "entry"})
"""Whose value is an address as a whole, whatever it looks like: DNS names of peers too."""

QUOTING_FIELDS: Final = frozenset({"why"})
"""Which may quote a part of what was refused, an address in some odd spelling say."""

_QUOTED: Final = re.compile(r"'[^']*'|\"[^\"]*\"")
_SECRET_WORDS: Final = frozenset(
    {"secret", "secrets", "cookie", "password", "passwd", "passphrase", "token", "key", "nodekey", "onionkey"}
)
_PUBLIC_WORDS: Final = frozenset({"public", "file", "path"})
_WORD: Final = re.compile(r"[a-z0-9]+")
_SECRET_TEXT: Final = re.compile(r"ED25519-V3:[A-Za-z0-9+/=]+")  # tor's form of an onion service's key

_RECORD: Final = re.compile(r"enr:[A-Za-z0-9_=-]{8,}")
_ONION: Final = re.compile(r"[a-z2-7]{56,}(?:\.onion)?", re.IGNORECASE)
_I2P: Final = re.compile(
    r"[a-z0-9-]+(?:\.[a-z0-9-]+)*\.i2p(?![a-z0-9])|(?<![a-z0-9])[a-z2-7]{52}(?![a-z0-9])", re.IGNORECASE
)
_DESTINATION: Final = re.compile(r"[A-Za-z0-9~-]{400,}={0,2}")
"""An I2P destination in base64; with its private keys it looks the same, so it is never logged."""
_URL_HOST: Final = re.compile(r"(?<=@)[^\s@/?:\[\]<>]+(?=:)")
_DOTTED: Final = re.compile(r"(?:[0-9]+\.){3,}[0-9]+")
_COLONS: Final = re.compile(r"(?:[0-9a-f]*:){2,}[0-9a-f]*", re.IGNORECASE)


class Redactor:
    """Redacts values by the name of the field that they stand in.

    Args:
        hide_addresses: IPs, onion addresses and records are masked; for only-onion and only-i2p,
            without --log-addresses. Loopback stays: it is no one's address, and our own listeners are there.
    """

    def __init__(self, *, hide_addresses: bool) -> None:
        self._hide_addresses = hide_addresses
        self._own: set[str] = set()
        self._folders: list[tuple[str, str]] = []

    def hide_folder(self, path: str, name: str) -> None:
        """Show a folder by a name where addresses are hidden: a path often tells who the user is."""
        if path.strip("/"):
            self._folders.append((path.rstrip("/"), name))
            self._folders.sort(key=lambda each: -len(each[0]))  # what lies within another goes first

    def allow_own(self, address: str) -> None:
        """Let an address of our own, "<56>.onion" or "<52>.b32.i2p", pass in OWN_FIELDS."""
        self._own.add(address.lower())

    def field(self, name: str, value: object) -> object:
        """Return what may be logged of a value."""
        if value is not None and _is_secret(name):
            return MASK
        if self._hide_addresses and name in QUOTING_FIELDS and isinstance(value, str):
            value = _QUOTED.sub(f"'{MASK}'", value)
        return self._clean(name, value, MAX_DEPTH)

    def text(self, name: str, text: str) -> str:
        """Return what may be logged of a text."""
        text = _DESTINATION.sub(MASK, _SECRET_TEXT.sub(MASK, text))
        if not self._hide_addresses:
            return text
        for path, shown in self._folders:
            text = text.replace(path, shown)
        text = _RECORD.sub("<enr>", text)
        text = _ONION.sub(lambda found: self._unless_own(name, found.group(), "<onion>"), text)
        text = _I2P.sub(lambda found: self._unless_own(name, found.group(), "<i2p>"), text)
        text = _COLONS.sub(_ipv6, _DOTTED.sub(_ipv4, text))
        text = _URL_HOST.sub(lambda found: self._url_host(name, found.group()), text)
        if name in HOST_FIELDS and not _says_nothing(text):
            return self._unless_own(name, text, "<address>")
        return text

    def _unless_own(self, name: str, found: str, mask: str) -> str:
        return found if name in OWN_FIELDS and found.lower() in self._own else mask

    def _url_host(self, name: str, host: str) -> str:
        return host if _says_nothing(host) else self._unless_own(name, host, "<host>")

    def _clean(self, name: str, value: object, depth: int) -> object:
        if isinstance(value, Mapping | list | tuple | set | frozenset):
            return self._nested(name, value, depth - 1) if depth else "..."
        match value:
            case None | bool():
                return value
            case int():
                return int(value)
            case float():
                return value if math.isfinite(value) else str(value)
            case bytes() | bytearray() | memoryview():
                return self._bytes(name, bytes(value))
            case _:
                return self.text(name, str(value))

    def _nested(
        self,
        name: str,
        value: Mapping[object, object] | list[object] | tuple[object, ...] | set[object] | frozenset[object],
        depth: int,
    ) -> object:
        if not isinstance(value, Mapping):
            return [self._clean(name, item, depth) for item in value]
        cleaned: dict[str, object] = {}
        for key, item in value.items():
            inner = str(key)
            cleaned[self.text("", inner)] = MASK if _is_secret(inner) else self._clean(inner, item, depth)
        return cleaned

    def _bytes(self, name: str, value: bytes) -> str:
        if len(value) > MAX_BYTES:
            return f"<{len(value)} bytes>"
        return self.text(name, repr(value))


def _is_secret(name: str) -> bool:
    words = set(_WORD.findall(name.lower()))
    return bool(words & _SECRET_WORDS) and not words & _PUBLIC_WORDS


def _says_nothing(text: str) -> bool:
    """Whether a host is masked already, or is this machine."""
    return text.startswith(("<", "127.", "localhost", "unix:", "::1", "[::1]")) or not text


def _ipv4(found: re.Match[str]) -> str:
    groups = found.group().split(".")
    # 0.x.x.x is nobody's address either, but the form of Tor's version numbers.
    return found.group() if len(groups) == 4 and groups[0] in ("0", "127") else "<ip>"


def _ipv6(found: re.Match[str]) -> str:
    """Mask a run of groups that holds an address anywhere: what stands before it may look like hex, too."""
    text = found.group()
    if text in ("::", "::1"):
        return text
    groups = [group[:4] for group in text.split(":")]  # digits may stick to the first or the last one
    if len(groups) > MAX_GROUPS:
        return "<ip>"
    spans = (
        ":".join(groups[start:end])
        for start in range(len(groups))
        for end in range(start + 2, len(groups) + 1)
    )
    return "<ip>" if any(map(_is_ipv6, spans)) else text  # a time of day, a part of a class name


def _is_ipv6(text: str) -> bool:
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return not address.is_unspecified
