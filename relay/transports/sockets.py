"""The only maker of sockets and the only resolver of names.

What a mode forbids is forbidden here, below every caller: a destination outside of the rules raises
DialRefused before a socket exists. Error texts name no address: they are logged, and it may be a peer's.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
import stat
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

from relay.primitives.address import Address, TcpAddress, UnixAddress, parse_ip, unix_address
from relay.primitives.endpoint import Endpoint, parse_host
from relay.primitives.errors import ConnectFailed, DecodeError, DialRefused, LocalError
from relay.primitives.i2p import is_i2p
from relay.primitives.onion import is_onion
from relay.transports.policy import Mode

__all__ = [
    "DatagramSocket",
    "Lookup",
    "SocketFactory",
    "SocketRules",
    "StreamSocket",
    "adopt",
    "is_exhausted",
    "until_readable",
]

P = TypeVar("P", bound=asyncio.BaseProtocol)
Lookup: TypeAlias = Callable[[str, int], list[Any]]
StreamSocket: TypeAlias = socket.socket
DatagramSocket: TypeAlias = socket.socket
_Target: TypeAlias = tuple[str, int] | str

BACKLOG: Final = (
    4096  # connections the kernel holds: a burst over it waits a second for its SYN to be repeated
)
MAX_LOOKUPS: Final = 8  # names asked for at a time; a further one fails at once
MAX_RESOLVED: Final = 4  # addresses of one name that are tried
STREAM_LIMIT: Final = 1 << 16  # bytes a StreamReader holds
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")  # ASCII: nothing left to IDNA
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_NO_IPV6: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})
_EXHAUSTED_TEXT: Final = "no file descriptor is left: raise the limit (ulimit -n, LimitNOFILE= of systemd)"


@dataclass(frozen=True, slots=True)
class SocketRules:
    """What this process may reach.

    Attributes:
        direct: any destination may be connected.
        resolve: names may be looked up by the system's resolver.
        allowed: destinations for where `direct` is off: the proxy, the control port.
    """

    direct: bool
    resolve: bool
    allowed: frozenset[Address] = frozenset()

    @classmethod
    def of_mode(cls, mode: Mode, *allowed: Address) -> SocketRules:
        """Return the rules of a mode. allowed: the proxy and the control port, and nothing that is no Tor."""
        return cls.only(*allowed) if mode.hides_ip else cls.anywhere()

    @classmethod
    def anywhere(cls) -> SocketRules:
        """Direct connections and look-ups are fine: no Tor, default, prefer-tor."""
        return cls(direct=True, resolve=True)

    @classmethod
    def only(cls, *allowed: Address) -> SocketRules:
        """Nothing but these: only-onion and clearnet over Tor."""
        return cls(direct=False, resolve=False, allowed=frozenset(allowed))

    def permits(self, address: Address) -> bool:
        """Tell whether an address may be connected."""
        return self.direct or address in self.allowed


class SocketFactory:
    """Makes nonblocking sockets, connected, listening or for datagrams, within the rules given at the start.

    Args:
        rules: fixed for the life of the process.
        lookup: the system's resolver, called in a thread; for tests.
    """

    def __init__(self, rules: SocketRules, *, lookup: Lookup | None = None) -> None:
        self.rules = rules
        self._lookup: Lookup = lookup or _system_lookup
        self._lookups = 0

    async def open_tcp(self, host: str, port: int) -> StreamSocket:
        """Connect to an IP literal; a cancelled call leaves no socket behind.

        Raises:
            DialRefused: outside of the rules, or not an IP literal.
            ConnectFailed: the system said no.
        """
        try:
            address = TcpAddress(parse_ip(host), port)
        except DecodeError:
            raise DialRefused("a name can not be connected: only IP literals are") from None
        sock = await self._connected(_family(address), (address.host, address.port), address)
        # A small message must not wait for the acknowledgement of the one before.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    async def open_unix(self, path: str) -> StreamSocket:
        """Connect to a unix socket.

        Raises:
            DialRefused: outside of the rules.
            ConnectFailed: the system said no.
        """
        address = unix_address(path)
        return await self._connected(socket.AF_UNIX, address.path, address)

    async def open(self, address: Address) -> StreamSocket:
        """Connect to either kind of address; raises as `open_tcp` and `open_unix` do."""
        if isinstance(address, UnixAddress):
            return await self.open_unix(address.path)
        return await self.open_tcp(address.host, address.port)

    async def open_stream(
        self, address: Address, *, limit: int = STREAM_LIMIT
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect and wrap in asyncio's streams. limit: bytes the reader holds before it pauses."""
        return await asyncio.open_connection(sock=await self.open(address), limit=limit)

    def listen_tcp(
        self, host: str, port: int, *, backlog: int = BACKLOG, wildcard_ok: bool = False
    ) -> StreamSocket:
        """Return a listening socket. port: 0 for a free one.

        Args:
            host: IP literal or localhost.
            port: 0 to 65535.
            backlog: connections that the kernel holds for us.
            wildcard_ok: the user asked for every interface, for a page that tells no peer where we are.

        Raises:
            LocalError: port taken, no right to it, no such interface; or every interface where that would
                show the onion service on this machine's own addresses.
        """
        address = TcpAddress(_own_ip(host), port)
        if address.is_wildcard and not (self.rules.direct or wildcard_ok):
            raise LocalError(
                f"{address} would listen on every interface, which tells who runs this onion service;"
                " give 127.0.0.1, unix:PATH or the address of the pod"
            )
        with ExitStack() as guard:
            sock = self._bound(address, guard)
            sock.listen(backlog)
            guard.pop_all()
        return sock

    def listen_unix(self, path: str, *, backlog: int = BACKLOG, mode: int = 0o600) -> StreamSocket:
        """Return a listening unix socket; a dead one in its place is removed. mode: rights of its file.

        Raises:
            LocalError: somebody answers there, something else than a socket lies there, or no right to it.
        """
        address = unix_address(path)
        self._remove_stale(address)
        with ExitStack() as guard:
            sock = self._bound(address, guard)
            # Before listen(): until then a connect is refused, so there is no moment with wider rights.
            Path(address.path).chmod(mode)
            sock.listen(backlog)
            guard.pop_all()
        return sock

    def bind_udp(self, host: str, port: int) -> DatagramSocket:
        """Return a bound datagram socket. port: 0 for a free one.

        `::` is open for both families, and for IPv4 alone where the system has no IPv6.

        Raises:
            DialRefused: the mode hides our address, which every datagram would show.
            LocalError: port taken, no right to it, no such interface.
        """
        if not self.rules.direct:
            raise DialRefused("no UDP in this mode: a datagram shows this host's own address")
        address = TcpAddress(_own_ip(host), port)
        with ExitStack() as guard:
            sock = self._bound_udp(address, guard)
            guard.pop_all()
        return sock

    async def resolve(self, name: str, port: int) -> tuple[Endpoint, ...]:
        """Look a name up, off the event loop; at most MAX_RESOLVED addresses, in the resolver's order.

        Raises:
            DialRefused: an onion or I2P name, in any mode; any name where the rules forbid resolving.
            ConnectFailed: not found; or too many look-ups hang.
        """
        if is_onion(name):
            raise DialRefused("an onion name is never looked up: only Tor can reach it")
        if is_i2p(name):
            raise DialRefused("an I2P name is never looked up: only an I2P router can reach it")
        if not self.rules.resolve:
            raise DialRefused("names are not looked up on this host in this mode")
        if not _NAME.fullmatch(name):
            raise DialRefused("a name of other than letters, digits and hyphens is not looked up")
        found = await self._looked_up(name, port)
        # A zone, as in fe80::1%eth0, means a link of this machine: nothing that a name should lead to.
        hosts = dict.fromkeys(str(each[4][0]) for each in found if "%" not in str(each[4][0]))
        if not hosts:
            raise ConnectFailed("the name has no address")
        return tuple(Endpoint(*parse_host(host), port) for host in list(hosts)[:MAX_RESOLVED])

    def _socket(self, family: socket.AddressFamily) -> StreamSocket:
        sock = socket.socket(family, socket.SOCK_STREAM)  # close-on-exec by PEP 446
        sock.setblocking(False)
        return sock

    async def _connected(
        self, family: socket.AddressFamily, target: _Target, address: Address
    ) -> StreamSocket:
        if not self.rules.permits(address):
            raise DialRefused("this destination is not one that the mode allows to connect")
        loop = asyncio.get_running_loop()
        with ExitStack() as guard:
            try:
                sock = self._socket(family)
                guard.callback(sock.close)
                await loop.sock_connect(sock, target)
            except OSError as error:
                raise ConnectFailed(_EXHAUSTED_TEXT if is_exhausted(error) else describe(error)) from error
            guard.pop_all()
        return sock

    def _bound(self, address: Address, guard: ExitStack) -> StreamSocket:
        try:
            if isinstance(address, UnixAddress):
                sock = self._socket(socket.AF_UNIX)
                guard.callback(sock.close)
                sock.bind(address.path)
                return sock
            sock = self._socket(_family(address))
            guard.callback(sock.close)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address.host, address.port))
        except OSError as error:
            raise _bind_failure(error, address) from error
        # Accepted sockets inherit it on Linux.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def _bound_udp(self, address: TcpAddress, guard: ExitStack) -> DatagramSocket:
        try:
            sock = socket.socket(_family(address), socket.SOCK_DGRAM)
            guard.callback(sock.close)
            sock.setblocking(False)
            if sock.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not address.is_wildcard)
            # Without SO_REUSEADDR: for datagrams it would let two programs share the port, and lose packets.
            sock.bind((address.host, address.port))
        except OSError as error:
            if address.host == "::" and error.errno in _NO_IPV6:
                return self._bound_udp(TcpAddress("0.0.0.0", address.port), guard)
            raise _bind_failure(error, address) from error
        return sock

    def _remove_stale(self, address: UnixAddress) -> None:
        try:
            kind = os.lstat(address.path).st_mode
        except OSError:
            return  # not there, or bind() will say why it can not be
        if not stat.S_ISSOCK(kind):
            raise LocalError(
                f"{address}: something else than a socket lies there; move it or give another path"
            )
        with self._socket(socket.AF_UNIX) as probe:
            answer = probe.connect_ex(address.path)
        if answer == errno.ECONNREFUSED:
            with suppress(FileNotFoundError):
                Path(address.path).unlink()
        elif answer != errno.ENOENT:
            raise LocalError(f"{address}: another process listens there; stop it or give another path")

    async def _looked_up(self, name: str, port: int) -> list[Any]:
        if self._lookups >= MAX_LOOKUPS:
            raise ConnectFailed("too many look-ups of names hang: is the resolver down?")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Any] | OSError] = loop.create_future()

        def settle(found: list[Any] | OSError) -> None:
            self._lookups -= 1
            if not answer.done():  # else the caller was cancelled
                answer.set_result(found)

        def ask() -> None:
            found = _asked(self._lookup, name, port)
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(settle, found)

        # Not the loop's executor: that is joined at exit, and a resolver may hang for half a minute.
        try:
            threading.Thread(target=ask, name="lookup", daemon=True).start()
        except RuntimeError:
            raise ConnectFailed("no thread is left to look a name up") from None
        self._lookups += 1
        found = await answer
        if isinstance(found, OSError):
            raise ConnectFailed(f"the name can not be looked up: {describe(found)}") from found
        return found


async def adopt(sock: StreamSocket, protocol_factory: Callable[[], P]) -> tuple[asyncio.Transport, P]:
    """Make a transport of a connected socket, which it owns from this call on, cancelled or not."""
    with ExitStack() as guard:
        guard.callback(sock.close)
        protocol = protocol_factory()
        guard.pop_all()
    # From here asyncio closes the transport, and with it the socket, if the call is cancelled.
    return await asyncio.get_running_loop().create_connection(lambda: protocol, sock=sock)


async def until_readable(sock: StreamSocket) -> None:
    """Wait until a nonblocking socket has something to be read, a connection, bytes or its end."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[None] = loop.create_future()
    loop.add_reader(sock, _settle, arrived)
    try:
        await arrived
    finally:
        loop.remove_reader(sock)


def is_exhausted(error: OSError) -> bool:
    """Tell whether the process or the system ran out of descriptors or buffers."""
    return error.errno in _EXHAUSTED


def describe(error: OSError) -> str:
    """Return the system's words, without the address that asyncio puts into its own."""
    if isinstance(error, socket.gaierror):  # its numbers are not errno's
        return (error.strerror or "no answer").lower()
    return os.strerror(error.errno).lower() if error.errno else "connection failed"


def _settle(arrived: asyncio.Future[None]) -> None:
    if not arrived.done():
        arrived.set_result(None)


def _own_ip(host: str) -> str:
    try:
        return parse_ip(host)
    except DecodeError as error:
        raise LocalError(f"can not listen: {error}") from None


def _family(address: TcpAddress) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address.host else socket.AF_INET


def _bind_failure(error: OSError, address: Address) -> LocalError:
    if is_exhausted(error):
        return LocalError(f"can not listen on {address}: {_EXHAUSTED_TEXT}")
    remedy = _BIND_REMEDIES.get(error.errno or 0, "give another address")
    return LocalError(f"can not listen on {address}: {describe(error)}; {remedy}")


_BIND_REMEDIES: Final = {
    errno.EADDRINUSE: "another program has it: stop that one, or give another port",
    errno.EACCES: "ports below 1024 and foreign folders need rights: give another port or path",
    errno.EADDRNOTAVAIL: "no interface of this machine has that address: give one that is there",
    errno.ENOENT: "its folder does not exist: make it, or give another path",
}


def _asked(lookup: Lookup, name: str, port: int) -> list[Any] | OSError:
    try:
        return lookup(name, port)
    except OSError as error:
        return error


def _system_lookup(name: str, port: int) -> list[Any]:
    return socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
