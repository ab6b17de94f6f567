"""What sockets a process has, from /proc: nothing that the process says itself."""

from __future__ import annotations

import ctypes
import os
import socket
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.aids.daemon import RelayProcess

needs_proc = pytest.mark.skipif(not Path("/proc/self/net/tcp").exists(), reason="no /proc on this system")

_PIDFD_GETFD = 438  # the same number on every architecture
_libc = ctypes.CDLL(None, use_errno=True)
ESTABLISHED, LISTEN = 0x01, 0x0A  # include/net/tcp_states.h


@dataclass(frozen=True, slots=True)
class Tcp:
    """One end of a connection, or a listener."""

    local: tuple[str, int]
    remote: tuple[str, int]
    state: int
    inode: int


@dataclass(frozen=True, slots=True)
class Sockets:
    """All sockets of a process, by kind. Whatever is neither TCP nor unix is `others`: UDP, raw, netlink."""

    tcp: tuple[Tcp, ...]
    others: frozenset[int]

    @property
    def listeners(self) -> set[tuple[str, int]]:
        return {each.local for each in self.tcp if each.state == LISTEN}

    @property
    def connections(self) -> tuple[Tcp, ...]:
        """Everything that is no listener, half-open ones too."""
        return tuple(each for each in self.tcp if each.state != LISTEN)


def sockets_of(pid: int) -> Sockets:
    """The sockets that a process holds now; one that it closes meanwhile may be missing."""
    inodes = socket_inodes(pid)
    tcp = tuple(each for each in tcp_table(pid) if each.inode in inodes)
    known = {each.inode for each in tcp} | _unix_inodes(pid)
    return Sockets(tcp, frozenset(inodes - known) & socket_inodes(pid))


def speaks_only_to(relay: RelayProcess, tor: int | None) -> tuple[Tcp, ...]:
    """Assert that a relay has unix sockets, listeners on loopback, connections with its Tor, and no other.

    Args:
        relay: with an onion listener and no other.
        tor: process id.

    Returns:
        The TCP connections with Tor.
    """
    assert tor is not None
    found, of_tor = sockets_of(relay.pid), socket_inodes(tor)
    page = ("127.0.0.1", relay.metrics_port)
    onion_listener = relay.listener("onion")
    assert onion_listener[0] == "127.0.0.1"
    assert found.listeners == {onion_listener, page}
    assert not found.others  # no UDP, nothing raw
    connections = tuple(each for each in found.connections if each.local != page)  # where this test looked
    for each, far in far_ends(connections).items():
        assert each.state == ESTABLISHED, each
        assert far in of_tor, f"{relay.name} is connected with something else than its Tor: {each}"
    return connections


def socket_inodes(pid: int) -> set[int]:
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            target = os.readlink(link)
            if target.startswith("socket:["):
                found.add(int(target[8:-1]))
    return found


def kind_of(pid: int, inode: int) -> tuple[int, int] | None:
    """Family and type of a socket that /proc does not list, as one that is not connected yet; None: gone."""
    watched = os.pidfd_open(pid)
    try:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                if os.readlink(link) != f"socket:[{inode}]":
                    continue
                copy = _libc.syscall(_PIDFD_GETFD, watched, int(link.name), 0)
                if copy >= 0:
                    with socket.socket(fileno=copy) as sock:
                        return (
                            sock.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN),
                            sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE),
                        )
    finally:
        os.close(watched)
    return None


def far_ends(connections: Iterable[Tcp]) -> dict[Tcp, int]:
    """For each connection that ends on this machine: the inode of its other end."""
    by_ends = {(each.local, each.remote): each.inode for each in tcp_table()}
    return {each: by_ends.get((each.remote, each.local), 0) for each in connections}


def tcp_table(pid: int | str = "self") -> list[Tcp]:
    """All of the network that a process is in."""
    found = []
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            found.append(Tcp(_address(fields[1]), _address(fields[2]), int(fields[3], 16), int(fields[9])))
    return found


def children(pid: int) -> list[int]:
    """Processes whose parent this is."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")  # by the thread that started it
    return [int(each) for task in tasks for each in task.read_text().split()]


def command(pid: int) -> str:
    """The name of a process's program."""
    return Path(f"/proc/{pid}/comm").read_text().strip()


def _unix_inodes(pid: int) -> set[int]:
    lines = Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]
    return {int(line.split()[6]) for line in lines}


def _address(text: str) -> tuple[str, int]:
    host, port = text.split(":")
    raw = bytes.fromhex(host)  # each word of 32 bits is in the order of this machine
    words = [raw[at : at + 4] for at in range(0, len(raw), 4)]
    packed = b"".join(int.from_bytes(word, "big").to_bytes(4, sys.byteorder) for word in words)
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, packed), int(port, 16)
