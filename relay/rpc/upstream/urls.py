"""Which nodes are asked: `https://host/key`, `ws://10.0.0.1:8546`, `/path/of/geth.ipc`."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from urllib.parse import unquote

from relay.primitives.address import UnixAddress, unix_address
from relay.primitives.endpoint import Endpoint, Network, parse_port
from relay.primitives.errors import DecodeError, UsageError

__all__ = ["Scheme", "UpstreamUrl", "parse_upstream", "parse_upstreams"]

MAX_UPSTREAMS: Final = 16
_TARGET: Final = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]{0,1023}")  # RFC 3986 3.3 and 3.4
_AUTHORITY: Final = re.compile(
    r"(?:(?P<user>[^@/\s]{1,512})@)?(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<host>[^:@\[\]]+))(?::(?P<port>[0-9]+))?"
)
_FORMS: Final = "http://HOST, https://HOST, ws://HOST, wss://HOST or the path of a unix socket"


class Scheme(StrEnum):
    """How an upstream is spoken to."""

    HTTP = "http"
    HTTPS = "https"
    WS = "ws"
    WSS = "wss"
    UNIX = "unix"

    @property
    def is_encrypted(self) -> bool:
        """Whether TLS is spoken."""
        return self in (Scheme.HTTPS, Scheme.WSS)

    @property
    def pushes(self) -> bool:
        """Whether the upstream can speak without being asked, as subscriptions need it."""
        return self in (Scheme.WS, Scheme.WSS, Scheme.UNIX)


_PORTS: Final = {Scheme.HTTP: 80, Scheme.HTTPS: 443, Scheme.WS: 80, Scheme.WSS: 443}


@dataclass(frozen=True, slots=True)
class UpstreamUrl:
    """An upstream's address. Its text shows neither path nor password: keys of providers stand in there.

    Attributes:
        scheme: how it is spoken to.
        endpoint: where it is; None for a unix socket.
        target: path and query of the request line.
        authorization: value of the Authorization header; empty for none.
        socket: the unix socket; None for all others.
    """

    scheme: Scheme
    endpoint: Endpoint | None = None
    target: str = field(default="/", repr=False)
    authorization: str = field(default="", repr=False)
    socket: UnixAddress | None = None

    @property
    def is_onion(self) -> bool:
        """Whether it is reached without an exit."""
        return self.endpoint is not None and self.endpoint.network is Network.ONION

    @property
    def authority(self) -> str:
        """Host and port as HTTP's Host field has them: the usual port is left out."""
        return str(self.endpoint).removesuffix(f":{_PORTS[self.scheme]}")

    def __str__(self) -> str:
        return str(self.socket) if self.socket is not None else f"{self.scheme.value}://{self.authority}"


def parse_upstream(text: str) -> UpstreamUrl:
    """Read one.

    Raises:
        DecodeError: another scheme, no host, port 0, a fragment or a path that is none.
    """
    text = text.strip()
    if text.startswith(("/", "unix:")):
        return _unix(text.removeprefix("unix:"))
    name, separator, rest = text.partition("://")
    if not separator or name not in _PORTS:
        raise DecodeError(f"it is not of the form {_FORMS}")
    scheme = Scheme(name)
    head = re.split(r"[/?]", rest, maxsplit=1)[0]
    target = rest[len(head) :]
    if not target.startswith("/"):
        target = "/" + target
    if not _TARGET.fullmatch(target):
        raise DecodeError("its path holds what no path of HTTP may hold")
    match = _AUTHORITY.fullmatch(head)
    if match is None:
        raise DecodeError("what follows the scheme is not HOST or HOST:PORT; IPv6 stands in brackets")
    port = parse_port(match["port"]) if match["port"] else _PORTS[scheme]
    if port == 0:
        raise DecodeError("port 0 can't be connected")
    endpoint = Endpoint.parse(match["ipv6"] or match["host"], port)
    return UpstreamUrl(scheme, endpoint, target, _basic(match["user"]))


def parse_upstreams(text: str) -> tuple[UpstreamUrl, ...]:
    """Read a list with commas between; each counts once.

    Raises:
        DecodeError: one is wrong, or they are too many. The text tells its place in the list, not what it is.
    """
    words = dict.fromkeys(word.strip() for word in text.split(",") if word.strip())
    if len(words) > MAX_UPSTREAMS:
        raise DecodeError(f"{len(words)} upstreams; {MAX_UPSTREAMS} are taken at most")
    found = []
    for place, word in enumerate(words, 1):
        try:
            found.append(parse_upstream(word))
        except DecodeError as error:
            raise DecodeError(f"upstream {place}: {error}") from None
    return tuple(found)


def _unix(path: str) -> UpstreamUrl:
    try:
        return UpstreamUrl(Scheme.UNIX, socket=unix_address(path.removeprefix("//")))
    except UsageError as error:
        raise DecodeError(str(error)) from None


def _basic(user: str | None) -> str:
    if not user:
        return ""
    return "Basic " + base64.b64encode(unquote(user).encode()).decode()
