"""The daemon where the kernel makes no sockets but unix ones: what RestrictAddressFamilies=AF_UNIX does.

Run in place of `relay.cli.main`. The filter is seccomp's, as systemd's is; what it starts inherits it.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import socket
import struct
import sys

_SOCKET = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
"""By machine: AUDIT_ARCH of its calls, and the number of socket()."""
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NO_NEW_PRIVS, _SET_SECCOMP, _FILTER = 38, 22, 2

SUPPORTED = platform.machine() in _SOCKET


def restrict() -> None:
    """Have socket() fail for every family but AF_UNIX, in this process and its children, for good."""
    arch, number = _SOCKET[platform.machine()]
    program = [
        (_LOAD, 0, 0, 4),  # seccomp_data.arch
        (_EQUAL, 1, 0, arch),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),  # .nr
        (_EQUAL, 0, 2, number),  # any other call is allowed
        (_LOAD, 0, 0, 16),  # .args[0]
        (_EQUAL, 0, 1, socket.AF_UNIX),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _ERRNO | errno.EAFNOSUPPORT),
    ]
    code = b"".join(struct.pack("HBBI", *each) for each in program)
    buffer = ctypes.create_string_buffer(code)
    filters = ctypes.create_string_buffer(struct.pack("HP", len(program), ctypes.addressof(buffer)))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in ((_NO_NEW_PRIVS, 1, 0, 0, 0), (_SET_SECCOMP, _FILTER, ctypes.addressof(filters), 0, 0)):
        if libc.prctl(call[0], *map(ctypes.c_ulong, call[1:])) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


def main() -> int:
    """Restrict, make sure of it, and be the daemon."""
    restrict()
    for family in (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK, socket.AF_PACKET):
        try:
            socket.socket(family, socket.SOCK_RAW if family == socket.AF_NETLINK else socket.SOCK_STREAM)
        except OSError as error:
            if error.errno != errno.EAFNOSUPPORT:
                raise
        else:
            raise AssertionError(f"{family!r} is still there")
    from relay.cli.main import main as pyrelay

    return pyrelay()


if __name__ == "__main__":
    sys.exit(main())
