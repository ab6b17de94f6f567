"""The system's resolvers, read anew when resolv.conf changes: a laptop moves from network to network."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import dns.exception
import dns.resolver
import structlog

from relay.discovery.dns.servers import DnsServer, Scheme
from relay.discovery.dns.ways import StreamWay, UdpWay, Way
from relay.primitives.endpoint import Endpoint
from relay.transports.dialer import TcpDialer
from relay.transports.sockets import SocketFactory

__all__ = ["SystemWays"]

RESOLV_CONF: Final = Path("/etc/resolv.conf")
MAX_SERVERS: Final = 3  # resolv.conf(5)
LOCAL: Final = "127.0.0.1"  # resolv.conf(5): where no name server is named

_log = structlog.get_logger("relay.discovery")


class SystemWays:
    """Ways to the resolvers that this host uses; call it for those of now.

    Args:
        sockets: makes all sockets; dnspython reads the file and makes none.
        path: of resolv.conf.
        port: theirs.
    """

    def __init__(self, sockets: SocketFactory, path: Path = RESOLV_CONF, port: int = 53) -> None:
        self._sockets = sockets
        self._path = path
        self._port = port
        self._seen: tuple[int, int, int] | None = (0, 0, 0)
        self._ways: tuple[Way, ...] = ()

    def __call__(self) -> Sequence[Way]:
        """Return them, in the order of the file; never none."""
        signature = self._signature()
        if signature != self._seen:
            self._seen = signature
            for way in self._ways:
                way.close()
            self._ways = tuple(self._way(host) for host in self._hosts())
        return self._ways

    def _signature(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _hosts(self) -> list[str]:
        reader = dns.resolver.Resolver(configure=False)
        try:
            reader.read_resolv_conf(str(self._path))
            named = [str(each) for each in reader.nameservers]
        except (dns.exception.DNSException, OSError, UnicodeError, ValueError) as error:
            _log.warning("resolv.conf can not be used", cause=type(error).__name__, instead=LOCAL)
            named = []
        hosts = [host for host in named if _is_plain(host)]
        if len(hosts) < len(named):
            _log.warning("name servers left out: they name an interface", count=len(named) - len(hosts))
        return hosts[:MAX_SERVERS] or [LOCAL]

    def _way(self, host: str) -> Way:
        server = DnsServer(Scheme.TCP, Endpoint.parse(host, self._port))
        tcp = StreamWay(server, TcpDialer(self._sockets))
        return UdpWay(self._sockets, server.endpoint.host, self._port, tcp)


def _is_plain(host: str) -> bool:
    """Tell whether it is an address that can be connected without naming an interface."""
    try:
        return "%" not in host and bool(ipaddress.ip_address(host))
    except ValueError:
        return False
