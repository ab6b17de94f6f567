"""Datagrams in the event loop, over real sockets on loopback."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from relay.primitives.endpoint import Endpoint, Network
from relay.transports import udp as module
from relay.transports.sockets import SocketFactory, SocketRules
from relay.transports.udp import BATCH, NO_ADDRESS, SEND_FAILED, SEND_FULL, DatagramPort
from tests.aids.until import until

FACTORY = SocketFactory(SocketRules.anywhere())


class Inbox:
    """Takes what comes; refuses everything once told to."""

    def __init__(self) -> None:
        self.got: list[tuple[bytes, Endpoint]] = []
        self.wants = True

    def __call__(self, data: bytes, source: Endpoint) -> bool:
        self.got.append((data, source))
        return self.wants

    async def until(self, count: int) -> None:
        await until(lambda: len(self.got) >= count, lambda: f"{count} datagrams, not {len(self.got)}", 5.0)


class Raising:
    """A socket that raises what it is told; reading it gives nothing."""

    def __init__(self, genuine: socket.socket, error: OSError) -> None:
        self._genuine, self._error = genuine, error
        self.raises = True

    def __getattr__(self, name: str) -> object:
        return getattr(self._genuine, name)

    def sendto(self, *_: object) -> None:
        raise self._error

    def recvfrom(self, size: int) -> object:
        if self.raises:
            self.raises = False
            raise self._error
        return self._genuine.recvfrom(size)


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5)
        yield sock


def opened(inbox: Inbox, host: str = "127.0.0.1", largest: int = 1280) -> DatagramPort:
    return DatagramPort(FACTORY.bind_udp(host, 0), inbox, largest=largest)


async def test_datagrams_come_with_their_source_and_answers_go_there(peer: socket.socket) -> None:
    inbox = Inbox()
    with closing(opened(inbox)) as port:
        assert port.families == (Network.IPV4,)
        for number in range(100):
            peer.sendto(b"%d" % number, ("127.0.0.1", port.port))
        await inbox.until(100)
        assert [data for data, _ in inbox.got] == [b"%d" % number for number in range(100)]
        source = Endpoint.parse(*peer.getsockname())
        assert {each for _, each in inbox.got} == {source}
        assert port.send(b"answer", source)
        assert peer.recvfrom(100) == (b"answer", ("127.0.0.1", port.port))


async def test_sources_of_both_families_have_their_plain_form(peer: socket.socket) -> None:
    inbox = Inbox()
    with (
        closing(opened(inbox, "::")) as port,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as six,
    ):
        assert port.families == (Network.IPV4, Network.IPV6)
        peer.sendto(b"4", ("127.0.0.1", port.port))
        await inbox.until(1)
        six.bind(("::1", 0))
        six.settimeout(5)
        six.sendto(b"6", ("::1", port.port))
        await inbox.until(2)
        assert [source.network for _, source in inbox.got] == [Network.IPV4, Network.IPV6]
        assert inbox.got[0][1] == Endpoint.parse(*peer.getsockname())
        assert inbox.got[1][1].host == "::1"
        for _, source in inbox.got:
            assert port.send(b"answer", source)
        assert peer.recv(100) == six.recv(100) == b"answer"


async def test_ipv6_address_alone_does_not_reach_ipv4() -> None:
    with closing(opened(Inbox(), "::1")) as port:
        assert port.families == (Network.IPV6,)
        assert not port.send(b"x", Endpoint.parse("127.0.0.1", 9))
        assert port.lost == {SEND_FAILED: 1}


async def test_oversize_datagram_can_be_told_from_the_largest(peer: socket.socket) -> None:
    inbox = Inbox()
    with closing(opened(inbox, largest=100)) as port:
        for size in (0, 100, 101, 5000):
            peer.sendto(bytes(size), ("127.0.0.1", port.port))
        await inbox.until(4)
    assert [len(data) for data, _ in inbox.got] == [0, 100, 101, 101]


@pytest.mark.parametrize("host", ["node.example", "localhost", "::1"])
async def test_what_the_socket_does_not_reach_is_never_given_to_the_system(host: str) -> None:
    with closing(opened(Inbox())) as port:
        assert not port.send(b"x", Endpoint.parse(host, 30303))
        assert port.lost == {SEND_FAILED: 1}


async def test_impossible_destinations_are_counted_and_nothing_else() -> None:
    with closing(opened(Inbox())) as port:
        assert not port.send(b"x", Endpoint.parse("127.0.0.1", 0))
        assert not port.send(bytes(70_000), Endpoint.parse("127.0.0.1", 9))
        assert not port.send(b"x", Endpoint.parse("255.255.255.255", 9))
        assert port.lost == {SEND_FAILED: 3}


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.EAGAIN, SEND_FULL),
        (errno.ENOBUFS, SEND_FULL),
        (errno.EPERM, SEND_FAILED),
        (errno.ENETUNREACH, SEND_FAILED),
        (errno.ECONNREFUSED, SEND_FAILED),
    ],
)
async def test_what_the_system_does_not_take_is_dropped(number: int, reason: str) -> None:
    sock = Raising(FACTORY.bind_udp("127.0.0.1", 0), OSError(number, os.strerror(number)))
    with closing(DatagramPort(sock, Inbox(), largest=100)) as port:  # type: ignore[arg-type]
        assert not port.send(b"x", Endpoint.parse("127.0.0.1", 9))
        assert port.lost == {reason: 1}


async def test_news_of_a_closed_port_elsewhere_is_ignored(peer: socket.socket) -> None:
    inbox = Inbox()
    error = ConnectionRefusedError(errno.ECONNREFUSED, "refused")
    sock = Raising(FACTORY.bind_udp("127.0.0.1", 0), error)
    with closing(DatagramPort(sock, inbox, largest=100)) as port:  # type: ignore[arg-type]
        peer.sendto(b"x", ("127.0.0.1", port.port))
        await inbox.until(1)
    assert not sock.raises


async def test_link_local_source_is_dropped_and_counted() -> None:
    class Scoped(Raising):
        def recvfrom(self, size: int) -> object:
            data, _ = self._genuine.recvfrom(size)
            return data, ("fe80::1%lo", 30303, 0, 1)

    inbox = Inbox()
    sock = Scoped(FACTORY.bind_udp("::1", 0), OSError())
    with (
        closing(DatagramPort(sock, inbox, largest=100)) as port,  # type: ignore[arg-type]
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as six,
    ):
        six.sendto(b"x", ("::1", port.port))
        await until(lambda: port.lost == {NO_ADDRESS: 1}, "the loss is counted")
    assert not inbox.got


async def test_turn_of_the_loop_reads_no_more_than_a_batch(peer: socket.socket) -> None:
    inbox = Inbox()
    with closing(opened(inbox)) as port:
        for _ in range(3 * BATCH):
            peer.sendto(b"x", ("127.0.0.1", port.port))
        counts: list[int] = []
        while len(inbox.got) < 3 * BATCH:
            await asyncio.sleep(0)
            counts.append(len(inbox.got))
    assert max(later - earlier for earlier, later in zip([0, *counts], counts, strict=False)) <= BATCH


async def test_flood_of_the_unwanted_makes_reading_rest(
    peer: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHORTEST_REST", 0.5)
    monkeypatch.setattr(module, "SLICE", 60.0)
    inbox = Inbox()
    inbox.wants = False
    with closing(opened(inbox)) as port:
        for _ in range(2 * BATCH):
            peer.sendto(b"x", ("127.0.0.1", port.port))
        await inbox.until(BATCH)
        assert port.rests == 1
        for _ in range(20):  # turns of the loop: none of them reads
            await asyncio.sleep(0)
        assert len(inbox.got) == BATCH
        await inbox.until(2 * BATCH)  # afterwards reading goes on


async def test_turn_ends_when_its_time_is_over(peer: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLICE", -1.0)
    inbox = Inbox()
    with closing(opened(inbox)) as port:
        for _ in range(3):
            peer.sendto(b"x", ("127.0.0.1", port.port))
        counts: list[int] = []
        while len(inbox.got) < 3:
            await asyncio.sleep(0)
            counts.append(len(inbox.got))
        assert max(later - earlier for earlier, later in zip([0, *counts], counts, strict=False)) == 1
        assert port.rests == 0


async def test_few_unwanted_ones_do_not(peer: socket.socket) -> None:
    inbox = Inbox()
    inbox.wants = False
    with closing(opened(inbox)) as port:
        for _ in range(BATCH - 1):
            peer.sendto(b"x", ("127.0.0.1", port.port))
        await inbox.until(BATCH - 1)
        assert port.rests == 0


async def test_closing_gives_the_port_back_even_while_reading_rests(
    peer: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHORTEST_REST", 60.0)
    inbox = Inbox()
    inbox.wants = False
    port = opened(inbox)
    for _ in range(BATCH):
        peer.sendto(b"x", ("127.0.0.1", port.port))
    await inbox.until(BATCH)
    port.close()
    FACTORY.bind_udp("127.0.0.1", port.port).close()


async def test_who_takes_a_datagram_may_close_the_port(peer: socket.socket) -> None:
    got: list[bytes] = []

    def take(data: bytes, _source: Endpoint) -> bool:
        got.append(data)
        port.close()
        return True

    port = DatagramPort(FACTORY.bind_udp("127.0.0.1", 0), take, largest=100)
    for _ in range(3):
        peer.sendto(b"x", ("127.0.0.1", port.port))
    await until(lambda: got, "a datagram")
    assert got == [b"x"]
