"""A network with one way out that leads nowhere: whatever a process sends to it is seen, and lost.

    with Walled() as walls:
        socks = walls.listen()                # 127.0.0.1 in there, accepted out here
        with walls.entered():
            child = subprocess.Popen(...)     # sees nothing but its own loopback, and routes to nowhere
        ...
        assert walls.strangers({socks.getsockname()[1]}) == {}

The way out is a TUN device with default routes of both families, so that packets really leave the process's
host, as they would at home; nobody answers. Needs root on Linux; `needs_walls` skips loudly without.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import selectors
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest

__all__ = ["Flow", "Walled", "needs_walls"]

_CLONE_NEWNET = 0x40000000
_ETH_P_ALL, _IPV4, _IPV6 = 0x0003, 0x0800, 0x86DD
_OUTGOING = 4  # PACKET_OUTGOING: loopback shows each packet twice, going out and coming in
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK, _SIOCADDRT = (
    0x8913,
    0x8914,
    0x8916,
    0x891C,
    0x890B,
)
_SIOCGIFINDEX = 0x8933
_IFF_UP, _RTF_UP = 1, 1
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_SNAP = 128  # bytes of a packet that are looked at
_NAMES = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}
_NEIGHBOURS = {133, 134, 135, 136, 143, 130, 131, 132}
"""ICMPv6 that the kernel sends by itself when an interface comes up: neighbours, routers, groups."""

OUT = "out"
ADDRESS, ADDRESS6 = "203.0.113.2", "2001:db8::2"
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Flow:
    """Packets of one direction between two ends; ports are 0 where the protocol has none."""

    interface: str
    protocol: str
    source: tuple[str, int]
    to: tuple[str, int]


class Walled:
    """The network; exists while the block runs, and while a process is in it.

    Attributes:
        flows: packets so far, by flow; complete after `settle`.
    """

    def __enter__(self) -> Self:
        self.flows: Counter[Flow] = Counter()
        self._lost = 0
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _checked(_libc.unshare(_CLONE_NEWNET))
            try:
                self._inside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
                self._tun = _open_tun()
                self._packets = _packet_socket()
            finally:
                _checked(_libc.setns(before, _CLONE_NEWNET))
        finally:
            os.close(before)
        self._stop, self._stopped = os.pipe()
        self._turns = threading.Condition()
        self._idle = 0
        self._thread = threading.Thread(target=self._watch, name="walls", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._stopped)
        self._thread.join()
        self._packets.close()
        for each in (self._tun, self._inside, self._stop):
            os.close(each)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Have this thread, and what it starts and opens, be in there while the block runs."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _checked(_libc.setns(self._inside, _CLONE_NEWNET))
            yield
        finally:
            _checked(_libc.setns(before, _CLONE_NEWNET))
            os.close(before)

    def listen(self, port: int = 0) -> socket.socket:
        """Listen on 127.0.0.1 in there."""
        with self.entered():
            sock = socket.create_server(("127.0.0.1", port), backlog=128)
        sock.setblocking(False)
        return sock

    def stream_socket(self) -> socket.socket:
        """Make a socket that connects in there; not blocking."""
        with self.entered():
            sock = socket.socket()
        sock.setblocking(False)
        return sock

    def settle(self) -> Counter[Flow]:
        """Return the flows once everything sent until now is among them."""
        with self._turns:
            turn = self._idle
            # Two quiet looks: the first may have begun before the last packet came.
            assert self._turns.wait_for(lambda: self._idle >= turn + 2, 10)
        assert not self._lost, f"the capture lost {self._lost} packets"
        return Counter(self.flows)

    def strangers(self, ports: set[int]) -> Counter[Flow]:
        """Return flows that are neither TCP with one of these ports of loopback, nor the kernel's own."""
        return Counter({flow: count for flow, count in self.settle().items() if not _is_known(flow, ports)})

    def to_ports(self, ports: set[int]) -> int:
        """Count packets with these ports of loopback."""
        return sum(count for flow, count in self.settle().items() if _is_known(flow, ports))

    # -- inside ----------------------------------------------------------------------------------------

    def _watch(self) -> None:
        with selectors.DefaultSelector() as waiting:
            for each in (self._stop, self._tun, self._packets.fileno()):
                waiting.register(each, selectors.EVENT_READ)
            while True:
                ready = {key.fd for key, _ in waiting.select(0.05)}
                if self._stop in ready:
                    return
                if self._tun in ready:
                    with suppress(BlockingIOError):
                        os.read(self._tun, 65536)  # nobody is there
                if self._packets.fileno() in ready:
                    self._read()
                else:
                    with self._turns:
                        self._idle += 1
                        self._turns.notify_all()

    def _read(self) -> None:
        with suppress(BlockingIOError):
            for _ in range(1000):
                data, (interface, protocol, kind, *_) = self._packets.recvfrom(_SNAP)
                if kind == _OUTGOING and interface == "lo":
                    continue
                self.flows[_flow(data, interface, protocol)] += 1
        _, lost = struct.unpack("II", self._packets.getsockopt(263, 6, 8))  # SOL_PACKET, PACKET_STATISTICS
        self._lost += lost


def _is_known(flow: Flow, ports: set[int]) -> bool:
    if flow.protocol == "neighbours":
        return flow.interface == OUT
    ends = (flow.source, flow.to)
    return (
        flow.interface == "lo"
        and flow.protocol == "tcp"
        and all(host == "127.0.0.1" for host, _ in ends)
        and any(port in ports for _, port in ends)
    )


def _flow(data: bytes, interface: str, protocol: int) -> Flow:
    if protocol == _IPV4 and len(data) >= 20:
        number, start, hosts = data[9], (data[0] & 15) * 4, (data[12:16], data[16:20])
        family = socket.AF_INET
    elif protocol == _IPV6 and len(data) >= 40:
        number, start, hosts, family = data[6], 40, (data[8:24], data[24:40]), socket.AF_INET6
        if number == 0:  # hop-by-hop options, which reports of groups have
            number, start = data[40], 48 + 8 * data[41]
    else:
        return Flow(interface, f"ether {protocol:#06x}", ("", 0), ("", 0))
    name = _NAMES.get(number, f"ip {number}")
    ports = (0, 0)
    if name in ("tcp", "udp"):
        ports = struct.unpack(">HH", data[start : start + 4])
    if name == "icmpv6" and data[start] in _NEIGHBOURS:
        return Flow(interface, "neighbours", ("", 0), ("", 0))
    source, to = ((socket.inet_ntop(family, host), port) for host, port in zip(hosts, ports, strict=True))
    return Flow(interface, name, source, to)


def _packet_socket() -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL))
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, 33, 1 << 27)  # SO_RCVBUFFORCE
    return sock


def _open_tun() -> int:
    """Bring up loopback, and the device with both families' default routes; returns its descriptor."""
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    name = OUT.encode()
    fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH22x", name, _IFF_TUN | _IFF_NO_PI))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as v4:
        fcntl.ioctl(v4, _SIOCSIFADDR, struct.pack("16s", name) + _sockaddr(ADDRESS) + bytes(8))
        fcntl.ioctl(v4, _SIOCSIFNETMASK, struct.pack("16s", name) + _sockaddr("255.255.255.0") + bytes(8))
        _up(v4, "lo")
        _up(v4, OUT)
        device = ctypes.create_string_buffer(name)
        # struct rtentry: pad, dst, gateway, genmask, flags, pads, metric, dev, and what is 0
        route = bytes(8) + _sockaddr("0.0.0.0") + _sockaddr("0.0.0.0") + _sockaddr("0.0.0.0")
        route += struct.pack("H6x16xh6xP24x", _RTF_UP, 0, ctypes.addressof(device))
        fcntl.ioctl(v4, _SIOCADDRT, route)
        index = struct.unpack("16xi20x", fcntl.ioctl(v4, _SIOCGIFINDEX, struct.pack("16s24x", name)))[0]
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as v6:
        fcntl.ioctl(
            v6, _SIOCSIFADDR, socket.inet_pton(socket.AF_INET6, ADDRESS6) + struct.pack("Ii", 64, index)
        )
        # struct in6_rtmsg: dst, src, gateway, type, dst_len, src_len, metric, info, flags, ifindex
        fcntl.ioctl(v6, _SIOCADDRT, bytes(48) + struct.pack("IHHIQIi", 0, 0, 0, 1, 0, _RTF_UP, index))
    return tun


def _up(sock: socket.socket, interface: str) -> None:
    request = struct.pack("16sh22x", interface.encode(), 0)
    flags = struct.unpack("16xh22x", fcntl.ioctl(sock, _SIOCGIFFLAGS, request))[0]
    fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sh22x", interface.encode(), flags | _IFF_UP))


def _sockaddr(host: str) -> bytes:
    return struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(host))


def _checked(result: int) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def _why_not() -> str:
    if not Path("/dev/net/tun").exists():
        return "no TUN device on this system"
    try:
        with Walled():
            return ""
    except OSError as error:
        return f"a network of one's own needs root on Linux: {error}"


_REASON = _why_not()
needs_walls = pytest.mark.skipif(bool(_REASON), reason=_REASON)
