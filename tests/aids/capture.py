"""A packet capture of our own: every UDP datagram on loopback, with its ports, by a raw socket of Linux.

It needs the right to open one (root, or CAP_NET_RAW); `needs_capture` skips loudly without.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

_ETH_P_ALL = 0x0003
_IPV4, _IPV6, _UDP = 0x0800, 0x86DD, 17
_OUTGOING = 4  # PACKET_OUTGOING: loopback shows each packet twice, going out and coming in


def _may_capture() -> bool:
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0).close()
    except (OSError, AttributeError):
        return False
    return True


needs_capture = pytest.mark.skipif(not _may_capture(), reason="capturing packets needs root on Linux")


@dataclass(frozen=True)
class Datagram:
    """One UDP datagram on some interface."""

    interface: str
    source: tuple[str, int]
    to: tuple[str, int]
    payload: bytes


class Capture:
    """What was seen so far; the kernel queues while nobody reads."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._seen: list[Datagram] = []

    def datagrams(self) -> list[Datagram]:
        """All UDP datagrams until now."""
        while True:
            try:
                data, (interface, protocol, kind, *_) = self._socket.recvfrom(2048)
            except BlockingIOError:
                break
            found = _datagram(data, interface, protocol) if kind != _OUTGOING or interface != "lo" else None
            if found is not None:
                self._seen.append(found)
        _, lost = struct.unpack("II", self._socket.getsockopt(263, 6, 8))  # SOL_PACKET, PACKET_STATISTICS
        assert not lost, f"the capture lost {lost} packets"
        return list(self._seen)


@contextmanager
def capture() -> Iterator[Capture]:
    """Capture on every interface while the block runs."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL)) as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, 33, 1 << 27)  # SO_RCVBUFFORCE
        _only_udp(sock)
        yield Capture(sock)


def _only_udp(sock: socket.socket) -> None:
    """Have the kernel drop all else, by classic BPF: the TCP of Tor would fill the queue."""
    load_protocol, equal, byte, ret = 0x28, 0x15, 0x30, 0x06
    skf_protocol = 0xFFFFF000  # SKF_AD_OFF + SKF_AD_PROTOCOL: the link layer's
    program = [
        (load_protocol, 0, 0, skf_protocol),
        (equal, 0, 2, _IPV4),
        (byte, 0, 0, 9),  # IPv4 header: protocol
        (equal, 3, 4, _UDP),
        (equal, 0, 3, _IPV6),
        (byte, 0, 0, 6),  # IPv6 header: next header
        (equal, 0, 1, _UDP),
        (ret, 0, 0, 0xFFFF),
        (ret, 0, 0, 0),
    ]
    code = b"".join(struct.pack("HBBI", *each) for each in program)
    buffer = ctypes.create_string_buffer(code)
    attached = struct.pack("HL", len(program), ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, 26, attached)  # SO_ATTACH_FILTER


def _datagram(data: bytes, interface: str, protocol: int) -> Datagram | None:
    # Looked at once more: what came before the filter was in place is of any kind.
    if protocol == _IPV4 and len(data) >= 28 and data[9] == _UDP:
        start, hosts, family = (data[0] & 15) * 4, (data[12:16], data[16:20]), socket.AF_INET
    elif protocol == _IPV6 and len(data) >= 48 and data[6] == _UDP:
        start, hosts, family = 40, (data[8:24], data[24:40]), socket.AF_INET6
    else:
        return None
    ports = struct.unpack(">HH", data[start : start + 4])
    source, to = ((socket.inet_ntop(family, host), port) for host, port in zip(hosts, ports, strict=True))
    return Datagram(interface, source, to, data[start + 8 :])
