"""Which resolvers are asked: `tcp://9.9.9.9:53`, `tls://host`, `https://host/dns-query`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from relay.primitives.endpoint import Endpoint, Network, parse_port
from relay.primitives.errors import DecodeError

__all__ = ["PUBLIC_SERVERS", "DnsServer", "Scheme", "parse_server", "parse_servers"]

MAX_SERVERS: Final = 8
_PATH: Final = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]{0,255}")  # RFC 3986 3.3; no query: we POST
_TEMPLATE: Final = "{?dns}"  # RFC 8484 4.1: how resolvers spell their address for GET
_AUTHORITY: Final = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<host>[^:\[\]]+))(?::(?P<port>[0-9]+))?")


class Scheme(StrEnum):
    """How a resolver is spoken to."""

    TCP = "tcp"
    TLS = "tls"
    HTTPS = "https"


_PORTS: Final = {Scheme.TCP: 53, Scheme.TLS: 853, Scheme.HTTPS: 443}


@dataclass(frozen=True, slots=True)
class DnsServer:
    """A resolver.

    Attributes:
        scheme: plain TCP, TLS or HTTPS; with the latter two its certificate must be for the host.
        endpoint: where it is; a name is resolved by whoever dials, which through Tor is the exit.
        path: of HTTPS.
    """

    scheme: Scheme
    endpoint: Endpoint
    path: str = ""

    @property
    def encrypted(self) -> bool:
        """Whether TLS is spoken."""
        return self.scheme is not Scheme.TCP

    @property
    def is_onion(self) -> bool:
        """Whether it is reached without an exit."""
        return self.endpoint.network is Network.ONION

    @property
    def authority(self) -> str:
        """Host and port as HTTP's Host field has them: the usual port is left out."""
        text = str(self.endpoint)
        return text.removesuffix(f":{_PORTS[self.scheme]}") if self.scheme is Scheme.HTTPS else text

    def __str__(self) -> str:
        return f"{self.scheme.value}://{self.authority}{self.path}"


def parse_server(text: str) -> DnsServer:
    """Read one resolver.

    Raises:
        DecodeError: another scheme, no host, no port, or what HTTPS needs no path for.
    """
    scheme_name, separator, rest = text.strip().partition("://")
    if not separator or scheme_name not in set(Scheme):
        raise DecodeError(
            f"resolver {text[:64]!r} is not of the form tcp://HOST:53, tls://HOST or https://HOST/dns-query"
        )
    scheme = Scheme(scheme_name)
    authority, slash, path = rest.removesuffix(_TEMPLATE).partition("/")
    if scheme is not Scheme.HTTPS and slash:
        raise DecodeError(f"resolver {text[:64]!r}: a path is for https only")
    if scheme is Scheme.HTTPS and not _PATH.fullmatch(slash + path):
        raise DecodeError(f"resolver {text[:64]!r} needs a path, such as https://HOST/dns-query")
    return DnsServer(scheme, _endpoint(scheme, authority), slash + path)


def parse_servers(text: str) -> tuple[DnsServer, ...]:
    """Read a list with commas between; each counts once.

    Raises:
        DecodeError: one is wrong, or they are none or too many.
    """
    servers = tuple(dict.fromkeys(parse_server(word) for word in text.split(",") if word.strip()))
    if not 0 < len(servers) <= MAX_SERVERS:
        raise DecodeError(f"{len(servers)} resolvers; between 1 and {MAX_SERVERS} are taken")
    return servers


def _endpoint(scheme: Scheme, authority: str) -> Endpoint:
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise DecodeError(f"{authority[:64]!r} is not HOST or HOST:PORT; IPv6 stands in brackets")
    port = parse_port(match["port"]) if match["port"] else _PORTS[scheme]
    if port == 0:
        raise DecodeError(f"{authority[:64]!r}: port 0 can't be connected")
    return Endpoint.parse(match["ipv6"] or match["host"], port)


PUBLIC_SERVERS: Final = (
    DnsServer(Scheme.HTTPS, Endpoint(Network.DNS, "cloudflare-dns.com", 443), "/dns-query"),
    DnsServer(Scheme.TLS, Endpoint(Network.DNS, "dns.quad9.net", 853)),
    DnsServer(Scheme.HTTPS, Endpoint(Network.DNS, "dns.google", 443), "/dns-query"),
)
"""Asked through Tor where the user names none; see `relay.discovery.dns.resolvers`."""
