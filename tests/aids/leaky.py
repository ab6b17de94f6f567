"""The daemon with a deliberate leak, or with a clock that can be moved: run in place of `relay.cli.main`.

Environment: LEAK names one of LEAKS, which happens at the first connection to Tor; TRIPWIRE=off leaves the
tripwire out, so that the network's walls are what is tested. SIGUSR1 moves both clocks on by JUMP seconds.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress

JUMP = 600.0  # seconds

BULLETIN = "198.51.100.23"
"""An address of documentation (RFC 5737): nobody has it."""


def _udp() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"leak", (BULLETIN, 30303))


def _dns() -> None:
    with suppress(OSError):
        socket.getaddrinfo("leak.example.org", 443)


def _ipv6() -> None:
    with socket.socket(socket.AF_INET6) as sock:
        sock.setblocking(False)
        with suppress(OSError):
            sock.connect(("2001:db8:7::23", 30303))


def _tcp() -> None:
    with socket.socket() as sock:
        sock.setblocking(False)
        with suppress(OSError):
            sock.connect((BULLETIN, 30303))


def _neighbour() -> None:
    """Knock on another program of this very host."""
    with socket.socket() as sock, suppress(OSError):
        sock.connect(("127.0.0.1", 8545))


def _library() -> None:
    """A library that makes its own sockets and asks nobody, in a thread of its own."""
    import urllib.request

    with suppress(OSError):
        urllib.request.urlopen(f"http://{BULLETIN}/", timeout=1)


def _program() -> None:
    """Another program, which no hook of Python sees."""
    import subprocess

    code = f"import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('{BULLETIN}', 7))"
    subprocess.run([sys.executable, "-c", code], check=False)


_held: list[socket.socket] = []


def _idle() -> None:
    """Hold a socket for datagrams that never sends one."""
    _held.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))


LEAKS: dict[str, Callable[[], None]] = {
    "udp": _udp,
    "dns": _dns,
    "ipv6": _ipv6,
    "tcp": _tcp,
    "neighbour": _neighbour,
    "library": _library,
    "program": _program,
    "idle": _idle,
}


def _inject(leak: Callable[[], None]) -> None:
    from relay.transports.sockets import SocketFactory

    original = SocketFactory.open
    done = []

    async def leaky(self, address):
        if not done:
            done.append(address)
            await asyncio.to_thread(leak)
        return await original(self, address)

    SocketFactory.open = leaky  # type: ignore[method-assign]


def _movable_clock() -> None:
    offset = [0.0]
    monotonic, unix = time.monotonic, time.time

    def jump(*_: object) -> None:
        offset[0] += JUMP

    asyncio.BaseEventLoop.time = lambda _: monotonic() + offset[0]  # type: ignore[method-assign]
    time.time = lambda: unix() + offset[0]
    signal.signal(signal.SIGUSR1, jump)


def main() -> int:
    """Prepare, and be the daemon."""
    _movable_clock()
    if os.environ.get("TRIPWIRE") == "off":
        from relay.transports import tripwire

        tripwire.Tripwire.arm = lambda _: None  # type: ignore[method-assign]
    if name := os.environ.get("LEAK"):
        _inject(LEAKS[name])
    from relay.cli.main import main as pyrelay

    return pyrelay()


if __name__ == "__main__":
    sys.exit(main())
