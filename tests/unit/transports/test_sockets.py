from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from relay.primitives.address import TcpAddress, UnixAddress, parse_address
from relay.primitives.endpoint import Endpoint
from relay.primitives.errors import ConnectFailed, DialRefused, LocalError, Retry, UsageError
from relay.transports import sockets as module
from relay.transports.policy import Mode
from relay.transports.sockets import MAX_LOOKUPS, MAX_RESOLVED, SocketFactory, SocketRules
from tests.aids.streams import Recorder
from tests.unit.transports.conftest import ONION, no_descriptors

ANYWHERE = SocketRules.anywhere()


def found(*hosts: str) -> list[Any]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 1)) for host in hosts]


def never(name: str, port: int) -> list[Any]:
    raise AssertionError(f"{name} was looked up")


class Service:
    """A listener that counts who comes."""

    def __init__(self) -> None:
        self.came = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.came += 1
        writer.write(await reader.read(100))
        writer.close()


async def echoed(factory: SocketFactory, address: str) -> bytes:
    reader, writer = await factory.open_stream(parse_address(address))
    writer.write(b"ping")
    data = await reader.read()
    writer.close()
    await writer.wait_closed()
    return data


@pytest.mark.parametrize("mode", Mode)
async def test_modes_that_hide_the_ip_connect_nothing_but_what_is_allowed(mode: Mode, tmp_path: Path) -> None:
    stranger, proxy = Service(), Service()
    path = str(tmp_path / "socks")
    other = str(tmp_path / "other")
    async with (
        await asyncio.start_server(stranger, "127.0.0.1", 0) as tcp,
        await asyncio.start_unix_server(stranger, other) as _,
        await asyncio.start_unix_server(proxy, path) as _,
    ):
        port = tcp.sockets[0].getsockname()[1]
        factory = SocketFactory(SocketRules.of_mode(mode, UnixAddress(path)))
        assert await echoed(factory, f"unix:{path}") == b"ping"
        for address in (f"127.0.0.1:{port}", f"unix:{other}"):
            if mode.hides_ip:
                with pytest.raises(DialRefused, match="not one that the mode allows"):
                    await factory.open(parse_address(address))
            else:
                assert await echoed(factory, address) == b"ping"
    assert (stranger.came, proxy.came) == (0 if mode.hides_ip else 2, 1)


async def test_refusal_comes_before_a_socket_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    factory = SocketFactory(SocketRules.only(TcpAddress("127.0.0.1", 9050)))

    def made(*_: object) -> None:
        raise AssertionError("a socket was made")

    monkeypatch.setattr(module.socket, "socket", made)
    for host, port in (("127.0.0.1", 9051), ("127.0.0.2", 9050), ("::1", 9050), ("8.8.8.8", 443)):
        with pytest.raises(DialRefused):
            await factory.open_tcp(host, port)
    with pytest.raises(DialRefused):
        await factory.open_unix("/run/tor/control")


async def test_allowed_address_is_recognized_in_any_spelling() -> None:
    service = Service()
    async with await asyncio.start_server(service, "::1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        factory = SocketFactory(SocketRules.only(TcpAddress("::1", port)))
        sock = await factory.open_tcp("0:0:0:0:0:0:0:1", port)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert not os.get_inheritable(sock.fileno())
        assert not sock.getblocking()
        sock.close()


@pytest.mark.parametrize("host", ["node.example", ONION, "fe80::1%lo", "127.1", ""])
async def test_only_literals_are_connected_so_that_asyncio_never_resolves(host: str) -> None:
    with pytest.raises(DialRefused):
        await SocketFactory(ANYWHERE, lookup=never).open_tcp(host, 1)


async def test_refused_connection_is_told_without_the_peers_address() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        with pytest.raises(ConnectFailed, match=r"^connection refused$") as caught:
            await SocketFactory(ANYWHERE).open_tcp("127.0.0.1", port)
        assert caught.value.retry is Retry.SHORT


async def test_missing_unix_socket_keeps_its_cause(tmp_path: Path) -> None:
    with pytest.raises(ConnectFailed, match="no such file") as caught:
        await SocketFactory(ANYWHERE).open_unix(str(tmp_path / "none"))
    assert isinstance(caught.value.__cause__, FileNotFoundError)


async def test_shortage_of_descriptors_is_an_error_and_not_a_crash(tmp_path: Path) -> None:
    factory = SocketFactory(ANYWHERE)
    with no_descriptors():
        with pytest.raises(ConnectFailed, match="no file descriptor is left") as caught:
            await factory.open_tcp("127.0.0.1", 1)
        with pytest.raises(LocalError, match="no file descriptor is left"):
            factory.listen_tcp("127.0.0.1", 0)
    assert caught.value.retry is Retry.SHORT


def test_taken_port_is_told_with_a_remedy() -> None:
    factory = SocketFactory(ANYWHERE)
    with factory.listen_tcp("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(LocalError, match=f"127.0.0.1:{port}: address already in use; another program"):
            factory.listen_tcp("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "words"),
    [("8.8.8.8", "no interface of this machine"), ("node.example", "is not an IP address")],
)
def test_bad_listen_address_is_told_with_a_remedy(host: str, words: str) -> None:
    with pytest.raises(LocalError, match=words):
        SocketFactory(ANYWHERE).listen_tcp(host, 0)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_wildcard_is_refused_where_the_ip_is_hidden(host: str) -> None:
    with pytest.raises(LocalError, match="every interface"):
        SocketFactory(SocketRules.only()).listen_tcp(host, 0)


def test_wildcard_is_fine_for_clearnet_and_for_pages_that_the_user_opens() -> None:
    SocketFactory(ANYWHERE).listen_tcp("0.0.0.0", 0).close()
    SocketFactory(SocketRules.only()).listen_tcp("0.0.0.0", 0, wildcard_ok=True).close()


def test_unix_listener_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "ipc"
    with SocketFactory(ANYWHERE).listen_unix(str(path)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with SocketFactory(ANYWHERE).listen_unix(str(path), mode=0o660):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_dead_unix_socket_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = str(tmp_path / "ipc")
    factory = SocketFactory(ANYWHERE)
    factory.listen_unix(path).close()
    with factory.listen_unix(path) as alive:
        with pytest.raises(LocalError, match="another process listens"):
            factory.listen_unix(path)
        assert alive.getsockname() == path


def test_busy_unix_socket_is_alive(tmp_path: Path) -> None:
    path = str(tmp_path / "ipc")
    factory = SocketFactory(ANYWHERE)
    with factory.listen_unix(path, backlog=0), socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        with pytest.raises(LocalError, match="another process listens"):
            factory.listen_unix(path)


def test_file_that_is_no_socket_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "nodekey"
    path.write_text("precious")
    with pytest.raises(LocalError, match="something else than a socket"):
        SocketFactory(ANYWHERE).listen_unix(str(path))
    assert path.read_text() == "precious"


def test_unix_listener_without_its_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="its folder does not exist"):
        SocketFactory(ANYWHERE).listen_unix(str(tmp_path / "none" / "ipc"))
    with pytest.raises(UsageError, match="longer than 107 bytes"):
        SocketFactory(ANYWHERE).listen_unix("/" + "x" * 200)


async def test_name_is_looked_up_off_the_loop_in_a_thread() -> None:
    threads: list[str] = []

    def lookup(name: str, port: int) -> list[Any]:
        threads.append(threading.current_thread().name)
        return found("8.8.8.8", "8.8.8.8", "2606::1", "::ffff:8.8.4.4")

    addresses = await SocketFactory(ANYWHERE, lookup=lookup).resolve("node.example", 30303)
    assert addresses == tuple(Endpoint.parse(host, 30303) for host in ("8.8.8.8", "2606::1", "8.8.4.4"))
    assert threads == ["lookup"]


async def test_system_resolver_is_the_default() -> None:
    (first, *_) = await SocketFactory(ANYWHERE).resolve("localhost", 1)
    assert first.is_loopback


async def test_no_more_addresses_of_a_name_than_bounded() -> None:
    many = found(*(f"8.8.8.{number}" for number in range(50)))
    assert (
        len(await SocketFactory(ANYWHERE, lookup=lambda *_: many).resolve("many.example", 1)) == MAX_RESOLVED
    )


async def test_zoned_address_of_a_name_is_left_out() -> None:
    factory = SocketFactory(ANYWHERE, lookup=lambda *_: found("fe80::1%eth0"))
    with pytest.raises(ConnectFailed, match="no address"):
        await factory.resolve("node.example", 1)


@pytest.mark.parametrize("rules", [ANYWHERE, SocketRules.only()])
@pytest.mark.parametrize("name", [ONION, ONION.upper(), "x.onion.", "x.y.oNiOn"])
async def test_onion_name_is_never_looked_up(rules: SocketRules, name: str) -> None:
    with pytest.raises(DialRefused, match="only Tor"):
        await SocketFactory(rules, lookup=never).resolve(name, 1)


async def test_no_name_is_looked_up_where_the_ip_is_hidden() -> None:
    with pytest.raises(DialRefused, match="not looked up"):
        await SocketFactory(SocketRules.only(), lookup=never).resolve("node.example", 1)


@pytest.mark.parametrize(
    "name", ["", "x。onion", "x．onion", "a b", "x\0.example", "a..b", "x" * 64, "münchen.de"]
)
async def test_odd_name_is_refused_before_it_becomes_another(name: str) -> None:
    """IDNA turns other scripts' full stops into dots: "x。onion" would reach a resolver as x.onion."""
    with pytest.raises(DialRefused, match="letters"):
        await SocketFactory(ANYWHERE, lookup=never).resolve(name, 1)


async def test_failed_lookup_is_told_in_the_systems_words() -> None:
    def lookup(name: str, port: int) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(ConnectFailed, match="looked up: name or service not known"):
        await SocketFactory(ANYWHERE, lookup=lookup).resolve("node.example", 1)


async def test_hanging_lookups_are_bounded_and_cancelled_ones_still_count() -> None:
    release = threading.Event()

    def hang(name: str, port: int) -> list[Any]:
        release.wait(10)
        return found("8.8.8.8")

    factory = SocketFactory(ANYWHERE, lookup=hang)
    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(factory.resolve("slow.example", 1)) for _ in range(MAX_LOOKUPS)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
        with pytest.raises(ConnectFailed, match="too many look-ups"):
            await factory.resolve("slow.example", 1)
        release.set()
    assert [len(each.result()) for each in waiting[1:]] == [1] * (MAX_LOOKUPS - 1)
    async with asyncio.timeout(5):
        while factory._lookups:
            await asyncio.sleep(0.001)


def test_loop_that_closes_does_not_wait_for_a_hanging_lookup() -> None:
    release, asked = threading.Event(), threading.Event()

    def hang(name: str, port: int) -> list[Any]:
        asked.set()
        release.wait(10)
        return found("8.8.8.8")

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await SocketFactory(ANYWHERE, lookup=hang).resolve("slow.example", 1)
        assert asked.wait(5)

    asyncio.run(give_up())
    release.set()
    for thread in threading.enumerate():
        if thread.name == "lookup":
            thread.join(5)  # its answer comes to a closed loop, and is dropped


async def test_lookup_without_a_thread_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    factory = SocketFactory(ANYWHERE, lookup=never)
    with pytest.raises(ConnectFailed, match="no thread"):
        await factory.resolve("node.example", 1)
    assert factory._lookups == 0


async def test_adopted_socket_becomes_a_transport() -> None:
    ours, theirs = socket.socketpair()
    transport, protocol = await module.adopt(ours, Recorder)
    theirs.sendall(b"hello")
    assert await protocol.wait_for_bytes(5) == b"hello"
    transport.close()
    await protocol.wait_lost()
    theirs.close()


def test_error_without_a_number_has_words() -> None:
    assert module.describe(OSError("odd")) == "connection failed"
    assert module.describe(socket.gaierror()) == "no answer"


@pytest.mark.parametrize("mode", Mode)
def test_only_modes_that_show_the_ip_have_datagrams(mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    factory = SocketFactory(SocketRules.of_mode(mode, TcpAddress("127.0.0.1", 9050)))
    if not mode.hides_ip:
        with factory.bind_udp("127.0.0.1", 0) as sock:
            assert sock.type == socket.SOCK_DGRAM
        return

    def made(*_: object) -> None:
        raise AssertionError("a socket was made")

    monkeypatch.setattr(module.socket, "socket", made)
    # Not even to the one address that may be connected.
    for host, port in (("127.0.0.1", 0), ("127.0.0.1", 9050), ("0.0.0.0", 30303), ("::", 0)):
        with pytest.raises(DialRefused, match="no UDP in this mode"):
            factory.bind_udp(host, port)


def test_modes_without_datagrams_are_those_that_hide_the_ip() -> None:
    hidden = {Mode.ONLY_ONION, Mode.ONLY_I2P, Mode.CLEARNET_TOR}
    assert {mode for mode in Mode if mode.hides_ip} == hidden


def test_datagram_socket_is_nonblocking_and_not_inherited() -> None:
    with SocketFactory(ANYWHERE).bind_udp("127.0.0.1", 0) as sock:
        assert not sock.getblocking()
        assert not os.get_inheritable(sock.fileno())


def test_taken_udp_port_is_told_with_a_remedy() -> None:
    factory = SocketFactory(ANYWHERE)
    with factory.bind_udp("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(LocalError, match=f"127.0.0.1:{port}: address already in use; another program"):
            factory.bind_udp("127.0.0.1", port)


@pytest.mark.parametrize("host", ["node.example", "fe80::1%lo", "127.1", ""])
def test_datagrams_are_bound_to_literals_only(host: str) -> None:
    with pytest.raises(LocalError, match="can not listen"):
        SocketFactory(ANYWHERE, lookup=never).bind_udp(host, 0)


def test_address_of_no_interface_can_not_be_bound() -> None:
    with pytest.raises(LocalError, match="no interface of this machine has that address"):
        SocketFactory(ANYWHERE).bind_udp("192.0.2.1", 0)


def test_shortage_of_descriptors_leaves_no_udp_but_an_error() -> None:
    with no_descriptors(), pytest.raises(LocalError, match="no file descriptor is left"):
        SocketFactory(ANYWHERE).bind_udp("127.0.0.1", 0)


def test_wildcard_is_open_for_both_families() -> None:
    with (
        SocketFactory(ANYWHERE).bind_udp("::", 0) as sock,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as four,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as six,
    ):
        port = sock.getsockname()[1]
        sock.settimeout(5)
        four.sendto(b"4", ("127.0.0.1", port))
        assert sock.recvfrom(10)[1][0] == "::ffff:127.0.0.1"
        six.sendto(b"6", ("::1", port))
        assert sock.recvfrom(10)[1][0] == "::1"


def test_wildcard_means_ipv4_where_the_system_has_no_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = socket.socket

    def without_ipv6(family: int, kind: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        return genuine(family, kind)

    monkeypatch.setattr(module.socket, "socket", without_ipv6)
    with SocketFactory(ANYWHERE).bind_udp("::", 0) as sock:
        assert sock.getsockname()[0] == "0.0.0.0"
    with pytest.raises(LocalError, match="::1"):  # what was asked for by name is not replaced
        SocketFactory(ANYWHERE).bind_udp("::1", 0)
