"""Enode URLs: enode://<128 hex digits>@<host>:<tcp port>?discport=<udp port>.

The rules are go-ethereum's (p2p/enode/urlv4.go); hosts may be onion addresses as well, or I2P ones:
enode://<128 hex digits>@<52 characters>.b32.i2p:0, where the port is always 0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs

from relay.primitives.endpoint import Network, parse_host, parse_port
from relay.primitives.errors import DecodeError
from relay.primitives.keys import NodeId, PublicKey, node_id, parse_public_key

__all__ = ["Enode", "parse"]

MAX_LENGTH: Final = 1024  # characters; the longest sensible URL is under 420
PREFIX: Final = "enode://"
_URL: Final = re.compile(
    r"enode://(?P<id>[^@/?#]*)"
    r"(?P<address>@(?:\[(?P<ip6>[^\[\]/?#@]*)\]|(?P<host>[^\[\]:/?#@]*))(?::(?P<port>[^/?#@]*))?)?"
    r"(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?(?:#.*)?"
)


@dataclass(frozen=True, slots=True)
class Enode:
    """A parsed URL.

    Attributes:
        public_key: the node's identity, a point of the curve.
        host: IP literal, onion or I2P address or name, canonical as in Endpoint; None when the URL has none.
        tcp: port of RLPx; 0 when there is none, and with I2P, which knows no ports.
        udp: port of discovery; that of tcp unless discport says otherwise.
    """

    public_key: PublicKey
    host: str | None
    tcp: int
    udp: int

    @property
    def node_id(self) -> NodeId:
        """The node id, keccak256 of the public key."""
        return node_id(self.public_key)

    @property
    def url(self) -> str:
        """The URL as geth writes it."""
        if self.host is None:
            return PREFIX + self.public_key.hex()
        host = f"[{self.host}]" if ":" in self.host else self.host
        suffix = "" if self.udp == self.tcp else f"?discport={self.udp}"
        return f"{PREFIX}{self.public_key.hex()}@{host}:{self.tcp}{suffix}"

    def __str__(self) -> str:
        return self.url


def parse(text: str) -> Enode:
    """Read an enode URL.

    Raises:
        DecodeError: another scheme, a node id that is not 128 hex digits or no point of the curve, a bad
            host, port or discport.
    """
    match = _URL.fullmatch(text) if len(text) <= MAX_LENGTH else None
    if match is None:
        raise DecodeError("an enode URL has the form enode://<128 hex digits>@<host>:<port>?discport=<port>")
    public_key = _public_key(match["id"])
    if match["address"] is None:
        return Enode(public_key, None, 0, 0)
    tcp = parse_port(match["port"] or "")
    return Enode(public_key, _host(match), tcp, _discport(match["query"] or "", tcp))


def _host(match: re.Match[str]) -> str | None:
    if match["ip6"] is not None:
        network, host = parse_host(match["ip6"])
        if network not in (Network.IPV4, Network.IPV6):  # [::ffff:1.2.3.4] is an IPv4 address
            raise DecodeError(f"host [{match['ip6'][:64]}]: brackets are for IPv6 addresses")
        return host
    return parse_host(match["host"])[1] if match["host"] else None


def _discport(query: str, tcp: int) -> int:
    try:
        values = parse_qs(query, max_num_fields=16).get("discport")
    except ValueError:
        raise DecodeError("an enode URL with over 16 query fields") from None
    if not values:
        return tcp
    try:
        return parse_port(values[0])
    except DecodeError as error:
        raise DecodeError(f"discport: {error}") from None


def _public_key(digits: str) -> PublicKey:
    if len(digits) != 128:
        raise DecodeError(f"node id has {len(digits)} characters, expected 128 hex digits")
    try:
        data = bytes.fromhex(digits)
    except ValueError:
        data = b""
    if len(data) != 64:  # fromhex skips spaces
        raise DecodeError(f"node id {digits[:16]!r}... is not made of hex digits")
    try:
        return parse_public_key(data)
    except DecodeError:
        raise DecodeError(
            f"node id {digits[:16]}... is not a point of secp256k1: random digits do not make a node id;"
            " take it from the enode that the node itself shows"
        ) from None
