"""Addresses of our own side: where a listener is, where the proxy and the control port are.

Peers have an `Endpoint`. These differ: they may be unix sockets, and they never hold a name, since looking
one up would already tell a resolver that Tor is wanted here.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from relay.primitives.endpoint import parse_port
from relay.primitives.errors import DecodeError, UsageError

__all__ = ["UNIX_PREFIX", "Address", "TcpAddress", "UnixAddress", "parse_address", "parse_ip"]

UNIX_PREFIX: Final = "unix:"
MAX_UNIX_PATH: Final = 107  # bytes; sockaddr_un.sun_path of Linux without its final NUL


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """An IP literal in canonical form and a port."""

    host: str
    port: int

    @property
    def is_local(self) -> bool:
        """Whether it can only be reached from this machine."""
        return ipaddress.ip_address(self.host).is_loopback

    @property
    def is_wildcard(self) -> bool:
        """Whether a listener there is open on every interface."""
        return ipaddress.ip_address(self.host).is_unspecified

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """An absolute path of a unix stream socket."""

    path: str

    @property
    def is_local(self) -> bool:
        """Always: a unix socket does not leave the machine."""
        return True

    @property
    def is_wildcard(self) -> bool:
        """Never: file rights say who may connect."""
        return False

    def __str__(self) -> str:
        return UNIX_PREFIX + self.path


Address: TypeAlias = TcpAddress | UnixAddress


def parse_address(text: str) -> Address:
    """Read ``HOST:PORT`` (``[HOST]:PORT`` for IPv6) or ``unix:PATH``.

    HOST is an IP literal, or localhost, which means 127.0.0.1 without asking anybody.

    Raises:
        UsageError: anything else.
    """
    if text.startswith(UNIX_PREFIX):
        return unix_address(text.removeprefix(UNIX_PREFIX))
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise UsageError(f"{text!r} is neither HOST:PORT nor unix:PATH")
    try:
        return TcpAddress(parse_ip(host.removeprefix("[").removesuffix("]")), parse_port(port))
    except DecodeError as error:
        raise UsageError(f"{text!r}: {error}") from None


def unix_address(path: str) -> UnixAddress:
    """Check a path for a unix socket.

    Raises:
        UsageError: it is relative, or longer than the kernel takes.
    """
    if not path.startswith("/") or "\0" in path:
        raise UsageError(f"{path!r} is not an absolute path of a unix socket")
    if len(str(Path(path)).encode()) > MAX_UNIX_PATH:
        raise UsageError(f"{path!r} is longer than {MAX_UNIX_PATH} bytes, the most a unix socket can have")
    return UnixAddress(str(Path(path)))


def parse_ip(host: str) -> str:
    """Bring an IP literal to its canonical form.

    Raises:
        DecodeError: a name, or an IPv6 address with a zone, which connect() would hand to the resolver.
    """
    if host == "localhost":
        return "127.0.0.1"
    try:
        if "%" in host:
            raise ValueError(host)
        return str(ipaddress.ip_address(host))
    except ValueError:
        raise DecodeError(
            f"{host[:64]!r} is not an IP address; give one, since names are not looked up here"
        ) from None
