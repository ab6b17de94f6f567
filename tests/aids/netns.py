"""A network of one's own: this thread, and what it starts, sees nothing but an own loopback."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

_CLONE_NEWNET, _CLONE_NEWUTS = 0x40000000, 0x04000000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def no_network() -> Iterator[None]:
    """Move the calling thread to a network without anything, not even loopback. Needs root on Linux."""
    with _new_network():
        yield


@contextmanager
def host_named(name: str) -> Iterator[None]:
    """Have the calling thread, and what it starts, be on a host of another name. Needs root on Linux."""
    before = os.open("/proc/thread-self/ns/uts", os.O_RDONLY)
    try:
        _checked(_libc.unshare(_CLONE_NEWUTS))
        try:
            socket.sethostname(name)
            yield
        finally:
            _checked(_libc.setns(before, _CLONE_NEWUTS))
    finally:
        os.close(before)


@contextmanager
def own_network() -> Iterator[None]:
    """Move the calling thread to a new network namespace while the block runs. Needs root on Linux.

    Sockets belong to the namespace that they were made in, so those from before work on.
    """
    with _new_network():
        _bring_up("lo")
        yield


@contextmanager
def _new_network() -> Iterator[None]:
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        _checked(_libc.unshare(_CLONE_NEWNET))
        try:
            yield
        finally:
            _checked(_libc.setns(before, _CLONE_NEWNET))
    finally:
        os.close(before)


def _bring_up(interface: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sh22x", interface.encode(), 0)
        flags = struct.unpack("16xh22x", fcntl.ioctl(sock, _SIOCGIFFLAGS, request))[0]
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sh22x", interface.encode(), flags | _IFF_UP))


def _checked(result: int) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
