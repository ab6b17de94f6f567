"""Datagrams in the event loop: a bound socket, `Endpoint`s in place of socket addresses.

asyncio's own datagram transport reads one packet a turn, and holds without bound what the system does not
take at once. Here a turn reads several, for a bounded time; what can't be sent now is dropped, as any router
on the way would do, and counted.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import Final, TypeAlias

from relay.primitives.endpoint import Endpoint, Network, parse_host
from relay.primitives.errors import DecodeError
from relay.transports.sockets import DatagramSocket

__all__ = ["MAPPED", "DatagramPort", "Receive"]

Receive: TypeAlias = Callable[[bytes, Endpoint], bool]
"""Takes a datagram and its source; returns False when it was not even looked into."""

BATCH: Final = 32  # datagrams of one turn of the loop
SLICE: Final = 0.003  # seconds; a turn ends after the datagram that goes beyond
REST: Final = 3.0  # what follows a turn of nothing but unwanted datagrams, in its own length
SHORTEST_REST: Final = 0.001  # seconds; no timer of the loop is finer
MAPPED: Final = "::ffff:"  # RFC 4291: how an IPv6 socket names IPv4 addresses
_ADDRESSES: Final = 1024  # sources whose Endpoint is kept made
_FULL: Final = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS, errno.ENOMEM})

SEND_FULL: Final = "buffer full"
SEND_FAILED: Final = "unreachable"
NO_ADDRESS: Final = "scoped source"


class DatagramPort:
    """Reads and writes a socket until it is closed; owns it.

    Args:
        sock: bound and nonblocking.
        receive: takes what comes; a plain callback.
        largest: bytes; a longer datagram arrives with one byte more than that, so that it is seen to be one.

    Attributes:
        port: that it is bound to.
        families: that it reaches, the preferred one first.
        lost: datagrams that were not sent, or had no usable source, by reason.
        rests: how often reading paused since a flood had used its share.
    """

    def __init__(self, sock: DatagramSocket, receive: Receive, *, largest: int) -> None:
        self._sock = sock
        self._receive = receive
        self._size = largest + 1
        self._loop = asyncio.get_running_loop()
        self._resume: asyncio.TimerHandle | None = None
        self._is_ipv6 = sock.family == socket.AF_INET6
        self._endpoint = lru_cache(_ADDRESSES)(_endpoint6 if self._is_ipv6 else _endpoint4)
        self.port: int = sock.getsockname()[1]
        self.families = _families(sock)
        self.lost: Counter[str] = Counter()
        self.rests = 0
        self._loop.add_reader(sock, self._readable)

    def send(self, data: bytes, to: Endpoint) -> bool:
        """Send a datagram; returns whether the system took it."""
        if to.network not in self.families:  # which no name is: the system would look it up
            self.lost[SEND_FAILED] += 1
            return False
        host = MAPPED + to.host if self._is_ipv6 and to.network is Network.IPV4 else to.host
        try:
            self._sock.sendto(data, (host, to.port))
        except OSError as error:
            self.lost[SEND_FULL if error.errno in _FULL else SEND_FAILED] += 1
            return False
        return True

    def close(self) -> None:
        """Give the port back."""
        if self._resume is not None:
            self._resume.cancel()
            self._resume = None
        self._loop.remove_reader(self._sock)
        self._sock.close()

    def _readable(self) -> None:
        began = self._loop.time()
        all_unwanted = True
        for _ in range(BATCH):
            try:
                data, address = self._sock.recvfrom(self._size)
            except BlockingIOError:
                return
            except OSError:
                continue  # ICMP tells of something sent before: who waits for an answer learns it by time
            if self._take(data, address):
                all_unwanted = False
            if self._sock.fileno() < 0:
                return  # closed by who took it
            if self._loop.time() - began > SLICE:
                break
        if all_unwanted:
            self._rest(self._loop.time() - began)

    def _take(self, data: bytes, address: tuple[str, int]) -> bool:
        source = self._endpoint(address)
        if source is None:
            self.lost[NO_ADDRESS] += 1
            return False
        return self._receive(data, source)

    def _rest(self, seconds: float) -> None:
        """Let the kernel drop for a while, which is cheaper: refusing, too, must leave the loop to others."""
        self.rests += 1
        self._loop.remove_reader(self._sock)
        self._resume = self._loop.call_later(max(SHORTEST_REST, seconds * REST), self._awake)

    def _awake(self) -> None:
        self._resume = None
        self._loop.add_reader(self._sock, self._readable)


def _families(sock: DatagramSocket) -> tuple[Network, ...]:
    if sock.family == socket.AF_INET:
        return (Network.IPV4,)
    if sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        return (Network.IPV6,)
    return (Network.IPV4, Network.IPV6)


def _endpoint4(address: tuple[str, int]) -> Endpoint | None:
    return Endpoint(Network.IPV4, *address)


def _endpoint6(address: tuple[str, int]) -> Endpoint | None:
    # With a zone, as fe80::1%eth0, it is a neighbour on one link: no address that others could use.
    try:
        network, host = parse_host(address[0])
    except DecodeError:
        return None
    return Endpoint(network, host, address[1])
