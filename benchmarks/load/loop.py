"""Sockets of many peers in one thread: an epoll loop without anything between the kernel and the peer."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from secrets import token_bytes

from benchmarks.load.peer import Ended, Peer
from relay.primitives.keys import NodeKey, PublicKey

READ = 1 << 18
AHEAD = 1 << 18  # bytes that are encrypted before the socket has taken what was
SOCKS_SECONDS = 60.0
_ISOLATION = count()


@dataclass(frozen=True, slots=True)
class Target:
    """The relay to connect to; through a SOCKS proxy where one is named."""

    public_key: bytes
    host: str
    port: int
    socks_port: int = 0


class Link:
    """A peer with its socket.

    Attributes:
        waiting: bodies still to be sent: pairs of code and compressed body.
        error: why it ended.
    """

    __slots__ = ("began", "error", "peer", "sock", "waiting", "wants_write")

    def __init__(self, peer: Peer, sock: socket.socket) -> None:
        self.peer, self.sock = peer, sock
        self.waiting: Iterator[tuple[int, bytes]] = iter(())
        self.wants_write = False
        self.error: str | None = None
        self.began = time.monotonic()


class Loop:
    """Runs links, and hands a foreign descriptor's readiness to a callback."""

    def __init__(self) -> None:
        self.poll = select.epoll()
        self.links: dict[int, Link] = {}
        self._others: dict[int, Callable[[], None]] = {}

    def watch(self, descriptor: int, callback: Callable[[], None]) -> None:
        self._others[descriptor] = callback
        self.poll.register(descriptor, select.EPOLLIN)

    @staticmethod
    def make_peer(target: Target) -> Peer:
        return Peer(NodeKey.generate(token_bytes), PublicKey(target.public_key))

    def dial(self, target: Target, peer: Peer) -> Link:
        """Connect and send the first packet; the rest happens in `turn`."""
        began = time.monotonic()
        sock = _connect(target)
        link = self.add(peer, sock)
        link.began = began
        return link

    def add(self, peer: Peer, sock: socket.socket) -> Link:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = Link(peer, sock)
        self.links[sock.fileno()] = link
        self.poll.register(sock.fileno(), select.EPOLLIN)
        self.flush(link)
        return link

    def turn(self, timeout: float) -> None:
        """Wait at most so many seconds for something to happen, and do what it asks for."""
        # select's timeout has microseconds where epoll's has milliseconds.
        select.select([self.poll], [], [], max(0.0, timeout))
        for descriptor, events in self.poll.poll(0):
            link = self.links.get(descriptor)
            if link is None:
                self._others[descriptor]()
            else:
                self._serve(link, events)

    def until(self, done: Callable[[], bool], seconds: float) -> bool:
        """Turn until it is done; False when time is up first."""
        deadline = time.monotonic() + seconds
        while not done():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self.turn(min(left, 0.05))
        return True

    def _serve(self, link: Link, events: int) -> None:
        try:
            if events & ~select.EPOLLOUT:
                data = link.sock.recv(READ)
                if not data:
                    raise Ended("closed by the relay")
                link.peer.receive(data, time.monotonic())
            if link.peer.out or link.wants_write:
                self.flush(link)
        except BlockingIOError:
            pass
        except (OSError, Ended) as error:
            self.drop(link, str(error))

    def flush(self, link: Link) -> None:
        """Write what waits, as far as the socket takes it."""
        out = link.peer.out
        while True:
            while len(out) < AHEAD and (message := next(link.waiting, None)) is not None:
                link.peer.send(*message)
            if not out:
                break
            try:
                sent = link.sock.send(out)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self.drop(link, str(error))
                return
            del out[:sent]
            if out:
                break
        if bool(out) != link.wants_write:
            link.wants_write = bool(out)
            self.poll.modify(link.sock, select.EPOLLIN | (select.EPOLLOUT if out else 0))

    def drop(self, link: Link, why: str) -> None:
        link.error = why
        self.links.pop(link.sock.fileno(), None)
        self.poll.unregister(link.sock)
        link.sock.close()


def _connect(target: Target) -> socket.socket:
    if not target.socks_port:
        return socket.create_connection((target.host, target.port), 10)
    sock = socket.create_connection(("127.0.0.1", target.socks_port), 10)
    sock.settimeout(SOCKS_SECONDS)
    user = b"bench%d" % next(_ISOLATION)  # a circuit of its own for each connection
    sock.sendall(b"\x05\x01\x02")
    _expect(sock, b"\x05\x02", 2)
    sock.sendall(b"\x01" + bytes((len(user),)) + user + b"\x01x")
    host = target.host.encode()
    _expect(sock, b"\x01\x00", 2)
    sock.sendall(b"\x05\x01\x00\x03" + bytes((len(host),)) + host + target.port.to_bytes(2, "big"))
    _expect(sock, b"\x05\x00", 10)
    return sock


def _expect(sock: socket.socket, beginning: bytes, size: int) -> None:
    answer = b""
    while len(answer) < size:
        part = sock.recv(size - len(answer))
        if not part:
            break
        answer += part
    if not answer.startswith(beginning):
        raise ConnectionError(f"the proxy answered {answer.hex()}")
