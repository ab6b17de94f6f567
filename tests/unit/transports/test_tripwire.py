"""The tripwire: what it lets through, what it stops, and that nothing gets it out of the way."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from contextlib import suppress

import pytest

from relay.primitives.address import TcpAddress, UnixAddress
from relay.primitives.errors import LocalError
from relay.transports.sockets import SocketFactory, SocketRules
from relay.transports.tripwire import OutsideTor, Tripwire, TripwireRules

TOR = TcpAddress("127.0.0.1", 9)
OWN = TcpAddress("127.0.0.1", 0)
PROGRAM = (sys.executable, "-c", "")


@pytest.fixture
def breaches() -> list[OutsideTor]:
    return []


@pytest.fixture
def wire(breaches: list[OutsideTor], tmp_path) -> Iterator[Tripwire]:
    tor, own = UnixAddress(str(tmp_path / "tor")), UnixAddress(str(tmp_path / "own"))
    rules = TripwireRules((TOR, tor), (OWN, own), {PROGRAM}.__contains__)
    found = Tripwire(rules, breaches.append)
    found.arm()
    yield found
    found.disarm()


def refused(call, *args) -> OutsideTor:
    with pytest.raises(OutsideTor) as caught:
        call(*args)
    return caught.value


async def test_the_factory_works_under_it(wire: Tripwire, breaches: list[OutsideTor], tmp_path) -> None:
    sockets = SocketFactory(SocketRules.only(TOR, UnixAddress(str(tmp_path / "tor"))))
    with sockets.listen_tcp("127.0.0.1", 0), sockets.listen_unix(str(tmp_path / "own")):
        with suppress(OSError, Exception):
            await sockets.open(TOR)
        with suppress(OSError, Exception):
            await sockets.open_unix(str(tmp_path / "tor"))
    with sockets.listen_unix(str(tmp_path / "own")):  # asks first whether the one there is dead
        pass
    assert not breaches


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        (socket.AF_INET, socket.SOCK_DGRAM),
        (socket.AF_INET6, socket.SOCK_DGRAM),
        (socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC),
        (socket.AF_INET, socket.SOCK_RAW),
        (socket.AF_INET, socket.SOCK_SEQPACKET),
        (socket.AF_UNIX, socket.SOCK_DGRAM),
        (socket.AF_NETLINK, socket.SOCK_RAW),
        (socket.AF_PACKET, socket.SOCK_RAW),
    ],
)
def test_only_streams_are_made(wire: Tripwire, breaches: list[OutsideTor], family: int, kind: int) -> None:
    error = refused(socket.socket, family, kind)
    assert breaches == [error]
    assert wire.breaches == 1


def test_only_tor_is_connected(wire: Tripwire, breaches: list[OutsideTor], tmp_path) -> None:
    for host, port in (("127.0.0.1", 10), ("127.0.0.2", 9), ("198.51.100.1", 9)):
        with socket.socket() as sock:
            refused(sock.connect, (host, port))
            refused(sock.connect_ex, (host, port))
    with socket.socket(socket.AF_INET6) as sock:
        refused(sock.connect, ("::1", 9))
    for path in (str(tmp_path / "other"), os.fsencode(tmp_path / "other"), "\0abstract"):
        with socket.socket(socket.AF_UNIX) as sock:
            refused(sock.connect, path)
    assert wire.breaches == len(breaches) == 10
    assert not any("198.51.100" in str(error) for error in breaches)  # it is logged


def test_only_our_listeners_are_bound(wire: Tripwire) -> None:
    for address in (("0.0.0.0", 0), ("127.0.0.1", 30303)):
        with socket.socket() as sock:
            refused(sock.bind, address)


def test_no_datagram_leaves_a_socket_from_before(breaches: list[OutsideTor]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        wire = Tripwire(TripwireRules((), ()), breaches.append)
        wire.arm()
        try:
            refused(sock.sendto, b"x", ("127.0.0.1", 9))
            refused(sock.sendmsg, [b"x"], [], 0, ("127.0.0.1", 9))
        finally:
            wire.disarm()


def test_a_message_on_a_stream_passes(wire: Tripwire, breaches: list[OutsideTor]) -> None:
    left, right = socket.socketpair()
    with left, right:
        left.sendmsg([b"x"])
        assert right.recv(1) == b"x"
    assert not breaches


@pytest.mark.parametrize(
    "look_up",
    [
        lambda: socket.getaddrinfo("localhost", 1),
        lambda: socket.gethostbyname("localhost"),
        lambda: socket.gethostbyname_ex("localhost"),
        lambda: socket.gethostbyaddr("127.0.0.1"),
        lambda: socket.getnameinfo(("127.0.0.1", 1), 0),
        lambda: socket.create_connection(("localhost", 9)),
    ],
)
def test_no_name_is_looked_up(wire: Tripwire, look_up) -> None:
    assert "look-up" in str(refused(look_up))


def test_only_our_programs_are_started(wire: Tripwire) -> None:
    subprocess.run(PROGRAM, check=True)
    refused(subprocess.run, [*PROGRAM, "more"])
    refused(subprocess.run, "true")
    refused(lambda: subprocess.run(["true"], shell=True))
    refused(lambda: subprocess.run(PROGRAM, executable="/bin/true"))
    refused(os.system, "true")
    refused(os.posix_spawn, "/bin/true", ["true"], {})
    refused(os.execv, "/bin/true", ["true"])
    refused(os.fork)


async def test_asyncio_starts_our_programs(wire: Tripwire, breaches: list[OutsideTor]) -> None:
    child = await asyncio.create_subprocess_exec(*PROGRAM, stdin=asyncio.subprocess.PIPE)
    assert await child.wait() == 0
    assert not breaches


async def test_asyncio_can_not_leave_either(wire: Tripwire) -> None:
    for attempt in (
        lambda: asyncio.open_connection("127.0.0.1", 10),
        lambda: asyncio.get_running_loop().create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=("127.0.0.1", 9)
        ),
        lambda: asyncio.start_server(lambda *_: None, "127.0.0.1", 30303),
    ):
        with pytest.raises(OutsideTor):
            await attempt()


def test_threads_are_watched(wire: Tripwire, breaches: list[OutsideTor]) -> None:
    def leak() -> None:
        with suppress(OutsideTor):
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    thread = threading.Thread(target=leak)
    thread.start()
    thread.join()
    assert len(breaches) == 1


def test_who_brings_an_own_resolver_does_without(wire: Tripwire, breaches: list[OutsideTor]) -> None:
    """Libraries try to import these: that is no breach, but it fails."""
    for name in ("uvloop", "pycares", "aiodns", "aiodns.error"):
        with pytest.raises(ImportError):
            __import__(name)
    assert not breaches


def test_refuses_to_watch_beside_what_it_can_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", types.ModuleType("uvloop"))
    wire = Tripwire(TripwireRules((), ()), lambda _: None)
    with pytest.raises(LocalError, match="uvloop"):
        wire.arm()
    assert not wire.armed


def test_disarmed_it_lets_all_pass(wire: Tripwire, breaches: list[OutsideTor]) -> None:
    wire.disarm()
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()
    assert not breaches
