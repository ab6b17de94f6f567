"""Where a peer can be dialed: network, host, port."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from relay.primitives.errors import DecodeError
from relay.primitives.i2p import I2P_PORT, is_i2p, parse_i2p
from relay.primitives.onion import is_onion, parse_onion

__all__ = ["Endpoint", "Network", "parse_host", "parse_port"]

_IP: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_NAME_LENGTH: Final = 253  # RFC 1035 2.3.4, without the root's dot
_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
# What a resolver takes for an IPv4 address in one of inet_aton's odd spellings: 127.1, 0x7f.1, 2130706433.
_NUMERIC: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


class Network(StrEnum):
    """The network that an address belongs to, also the label of metrics."""

    IPV4 = "ipv4"
    IPV6 = "ipv6"
    ONION = "onion"
    I2P = "i2p"
    DNS = "dns"
    """A name; resolved only where the mode allows IPs and resolving."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host and a TCP port. Make it with `parse`, unless the parts are known to be in canonical form.

    Attributes:
        network: what kind of host it is.
        host: IP literal in its shortest form, onion or I2P address or name in lower case; no brackets.
        port: 1 to 65535 where it is to be dialed; I2P has none, which is 0.
    """

    network: Network
    host: str
    port: int

    @classmethod
    def parse(cls, host: str, port: int) -> Endpoint:
        """Check a host and a port.

        Raises:
            DecodeError: see `parse_host`; or the port is not from 0 to 65535, or not 0 with an I2P address.
        """
        network, canonical = parse_host(host)
        if not 0 <= port <= 0xFFFF:
            raise DecodeError(f"port {port} is not between 0 and 65535")
        if network is Network.I2P and port != I2P_PORT:
            raise DecodeError(f"port {port}: an I2P address has no port; write 0")
        return cls(network, canonical, port)

    @property
    def is_ip(self) -> bool:
        """Whether the host is an IP literal."""
        return self.network is Network.IPV4 or self.network is Network.IPV6

    @property
    def can_be_dialed(self) -> bool:
        """Whether the port is one that can be: there is no port 0, but for I2P, which knows no other."""
        return (self.port == I2P_PORT) is (self.network is Network.I2P)

    @property
    def is_loopback(self) -> bool:
        """Whether it means this machine: 127/8, ::1, localhost and names under it (RFC 6761)."""
        if self.is_ip:
            return _inner(ipaddress.ip_address(self.host)).is_loopback
        name = self.host.rstrip(".")
        return self.network is Network.DNS and (name == "localhost" or name.endswith(".localhost"))

    @property
    def is_private(self) -> bool:
        """Whether it is an IP that the public internet does not route: private, link-local, loopback..."""
        if not self.is_ip:
            return self.is_loopback
        address = _inner(ipaddress.ip_address(self.host))
        return not address.is_global or address.is_multicast

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if self.network is Network.IPV6 else f"{self.host}:{self.port}"


def parse_host(host: str) -> tuple[Network, str]:
    """Classify a host and bring it to its canonical form.

    Raises:
        DecodeError: neither an IP literal, an onion address of version 3, an I2P address in base32, nor a
            host name; or a name that a resolver would read as a number.
    """
    if "%" not in host:
        try:
            return _classified(ipaddress.ip_address(host))
        except ValueError:
            pass
    if is_onion(host):
        return Network.ONION, parse_onion(host.rstrip("."))
    if is_i2p(host):
        return Network.I2P, parse_i2p(host.rstrip("."))
    return Network.DNS, _name(host)


def parse_port(text: str) -> int:
    """Read a decimal port from 0 to 65535.

    Raises:
        DecodeError: anything else, a sign or spaces included.
    """
    if not (text.isascii() and text.isdigit()) or len(text) > 9 or int(text) > 0xFFFF:
        raise DecodeError(f"port {text[:16]!r} is not a number between 0 and 65535")
    return int(text)


def _classified(address: _IP) -> tuple[Network, str]:
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return Network.IPV6, str(address)
        address = address.ipv4_mapped
    return Network.IPV4, str(address)


def _inner(address: _IP) -> _IP:
    """Unwrap 6to4 and NAT64: 64:ff9b::7f00:1 is a way to 127.0.0.1."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.sixtofour is not None:
            return address.sixtofour
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _name(host: str) -> str:
    name = host.lower()
    labels = name.removesuffix(".").split(".")
    well_formed = host.isascii() and all(_LABEL.fullmatch(label) for label in labels)
    if not well_formed or len(name) > MAX_NAME_LENGTH + 1:
        raise DecodeError(f"host {host[:64]!r} is neither an IP address, an onion address nor a host name")
    if _NUMERIC.fullmatch(labels[-1]):
        raise DecodeError(f"host {host[:64]!r} looks like an IP address, but is none")
    return name
