"""One peer of a watched node, as one value whatever its JSON looks like, and what may be shown of it."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from relay.observe.masks import mask_host

__all__ = [
    "MAX_CAPS",
    "UNKNOWN",
    "Address",
    "ClientName",
    "Peer",
    "clean",
    "mask",
    "read_address",
    "read_client",
    "subnet",
]

UNKNOWN: Final = "-"
MAX_NAME: Final = 256  # characters of a client's name that are looked at; any peer chooses its own
MAX_CLIENT: Final = 24
MAX_VERSION: Final = 24
MAX_OS: Final = 16
MAX_CAPS: Final = 16
MAX_ADDRESS: Final = 128
_CACHED: Final = 16_384  # names and addresses whose reading is kept; 10,000 peers are refreshed each second

_VERSION: Final = re.compile(r"v?\d+\.\d[0-9A-Za-z.]*")
_SYSTEM: Final = re.compile(r"linux|windows|darwin|macos|osx|freebsd|openbsd|win(?=[-_0-9x])", re.IGNORECASE)
_HIDDEN: Final = (
    ("onion", re.compile(r"[a-z2-7]{56}\.onion")),
    ("i2p", re.compile(r"[a-z2-7]{52}\.b32\.i2p")),
)
_SYSTEMS: Final = {"darwin": "macos", "osx": "macos", "win": "windows"}


@dataclass(frozen=True, slots=True)
class ClientName:
    """A client's name taken apart; each part is fit for a terminal.

    Attributes:
        client: in small letters, as geth; UNKNOWN where it says none.
        version: without what was built when; UNKNOWN where it says none.
        system: linux, windows, macos ...; UNKNOWN where it says none.
    """

    client: str
    version: str
    system: str


@dataclass(frozen=True, slots=True)
class Address:
    """Where a peer is.

    Attributes:
        network: onion, i2p, ipv4, ipv6, private, loopback or unknown.
        host: IP in its shortest form, or onion or I2P address; "" where it is not known.
        port: 0 where it is not known.
    """

    network: str
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        if not self.host:
            return UNKNOWN
        host = f"[{self.host}]" if ":" in self.host and self.network != "unknown" else self.host
        return f"{host}:{self.port}" if self.port else host


@dataclass(frozen=True, slots=True)
class Peer:
    """A connected peer.

    Attributes:
        key: what the node calls it: node id, public key or libp2p's id; unique within one answer.
        name: taken apart.
        inbound: it dialed the node; None where the node does not tell.
        trusted: as the node has it.
        static: as the node has it.
        address: its end of the connection.
        eth: version of eth that is spoken; None without, or before its handshake is done.
        snap: the same of snap.
        caps: what it offers, as eth/69; at most MAX_CAPS.
        head: its newest block or slot as far as it told; None before eth/69.
        full_name: as it calls itself, fit for a terminal; may hold words that its operator chose.
        enode: URL or record; "" where the node tells none.
    """

    key: str
    name: ClientName
    inbound: bool | None
    trusted: bool
    static: bool
    address: Address
    eth: int | None = None
    snap: int | None = None
    caps: tuple[str, ...] = ()
    head: int | None = None
    full_name: str = ""
    enode: str = ""

    @property
    def short_id(self) -> str:
        """Eight characters of its key: enough to tell peers apart, too few to look one up."""
        return short_key(self.key)

    @property
    def direction(self) -> str:
        """In, out, or unknown."""
        return UNKNOWN if self.inbound is None else "in" if self.inbound else "out"


def short_key(key: str) -> str:
    """Return eight characters of a key; of libp2p's ids the last ones, since all begin alike."""
    text = key.removeprefix("0x")
    return text[-8:] if text.startswith(("16Uiu2", "Qm", "12D3Koo")) else text[:8]


def clean(text: str, limit: int = MAX_NAME) -> str:
    """Make text of a stranger fit for a terminal: one line, nothing that moves the cursor or turns text."""
    text = text[:limit]
    if text.isprintable():  # ten times faster than looking at each letter
        return text
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def read_client(name: str) -> ClientName:
    """Take apart what a client calls itself, as Geth/v1.17.8-stable/linux-amd64/go1.24."""
    return _read_client(name[:MAX_NAME])  # a name of 64 KiB must not lie in the cache


@lru_cache(maxsize=_CACHED)
def _read_client(name: str) -> ClientName:
    client, *rest = clean(name).split("/")
    words = client.split()  # Nimbus and others: a space in place of the slash
    version = next((found[0] for part in (*rest, *words[1:]) if (found := _VERSION.match(part))), UNKNOWN)
    system = next((found[0].lower() for part in rest if (found := _SYSTEM.search(part))), UNKNOWN)
    return ClientName(
        (words[0] if words else UNKNOWN)[:MAX_CLIENT].lower(),
        version[:MAX_VERSION],
        _SYSTEMS.get(system, system)[:MAX_OS],
    )


def read_address(text: str) -> Address:
    """Read HOST:PORT in any of the spellings that nodes have; what is none of them is of network unknown."""
    return _read_address(text[:MAX_ADDRESS])


@lru_cache(maxsize=_CACHED)
def _read_address(text: str) -> Address:
    text = text.rpartition("/")[2]  # of Java: name/1.2.3.4:30303
    host, _, digits = text.rpartition(":")
    port = int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 5 else -1
    if not host or not 0 <= port <= 0xFFFF:
        host, port = text, 0
    return address_of(host.removeprefix("[").removesuffix("]"), port)


def address_of(host: str, port: int) -> Address:
    """Classify a host."""
    for network, pattern in _HIDDEN:
        if pattern.fullmatch(host.lower()):
            return Address(network, host.lower(), port)
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return Address("unknown", clean(host), port)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return Address(_network(address), str(address), port)


def _network(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    if address.is_loopback:
        return "loopback"
    if not address.is_global or address.is_multicast:
        return "private"
    return f"ipv{address.version}"


def subnet(address: Address) -> str:
    """Return the block that one operator mostly has as a whole: /24 of IPv4, /48 of IPv6; else ""."""
    if address.network == "ipv4":
        return address.host.rpartition(".")[0] + ".0/24"
    if address.network == "ipv6":
        return str(ipaddress.ip_network((address.host, 48), strict=False))
    return ""


def mask(address: Address) -> str:
    """Return what may be shown of an address to whoever has not asked for it."""
    return mask_host(address.host) if address.host else UNKNOWN
