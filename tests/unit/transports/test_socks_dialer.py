"""Our SOCKS client against a scripted server, which python-socks confirms to be one."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from python_socks import ProxyError
from python_socks.async_.asyncio import Proxy
from structlog.testing import capture_logs

from relay.primitives.address import parse_address
from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.errors import DialRefused, ProxyFailed, Retry
from relay.transports.sockets import SocketFactory, SocketRules
from relay.transports.socks5 import SocksHandshake
from relay.transports.socks_dialer import Isolation, Purpose, SocksDialer, exchange
from tests.aids.socks_server import ATYP_IPV4, ATYP_IPV6, ATYP_NAME, Act, Asked, Script, SocksServer
from tests.aids.streams import Recorder
from tests.unit.transports.conftest import ONION, OTHER_ONION, counting_rand, no_descriptors

SERVICE = Endpoint.parse(ONION, 30303)


def dialer_of(
    proxy: SocksServer,
    *,
    exits: bool = True,
    own: Callable[[], tuple[str, ...]] = tuple,
    patience: float = 5.0,
) -> SocksDialer:
    address = parse_address(proxy.address)
    sockets = SocketFactory(SocketRules.only(address))
    return SocksDialer(
        sockets, address, Isolation(os.urandom), exits=exits, own_onions=own, patience=patience
    )


async def dialed(dialer: SocksDialer, to: Endpoint = SERVICE) -> Recorder:
    async with asyncio.timeout(5):
        _, protocol = await dialer.dial(to, Recorder)
    return protocol


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
    writer.close()


@pytest.mark.parametrize("act", [Act.OK, Act.SLOW, Act.LONG_NAME])
async def test_two_sides_talk_through_the_proxy(proxy: SocksServer, act: Act) -> None:
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as service:
        proxy.routes = {(ONION, 30303): service.sockets[0].getsockname()[:2]}
        proxy.script = Script(act)
        protocol = await dialed(dialer_of(proxy))
        protocol.write(b"x" * 100_000)
        assert await protocol.wait_for_bytes(100_000) == b"x" * 100_000
        assert protocol.transport is not None
        protocol.transport.close()
        await protocol.wait_lost()
        await proxy.wait_idle()


async def test_first_bytes_of_the_destination_in_the_replys_packet_arrive(proxy: SocksServer) -> None:
    proxy.record_only = True
    proxy.routes = lambda host, port: None
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as service:
        proxy.routes = {(ONION, 30303): service.sockets[0].getsockname()[:2]}
        proxy.script = Script(Act.GREET, data=b"destination speaks first")
        protocol = await dialed(dialer_of(proxy))
        assert await protocol.wait_for_bytes(24) == b"destination speaks first"
        assert protocol.transport is not None
        protocol.transport.abort()
        await protocol.wait_lost()
        await proxy.wait_idle()


async def test_proxy_on_a_unix_socket(tmp_path: Path) -> None:
    async with SocksServer(path=str(tmp_path / "socks"), record_only=True) as proxy:
        protocol = await dialed(dialer_of(proxy))
        assert [each.host for each in proxy.asked] == [ONION]
        proxy.cut()
        await protocol.wait_lost()


@pytest.mark.parametrize(
    ("host", "address_type"),
    [(ONION, ATYP_NAME), ("node.example", ATYP_NAME), ("8.8.8.8", ATYP_IPV4), ("2606::1", ATYP_IPV6)],
)
async def test_proxy_is_asked_by_the_type_of_the_host(
    proxy: SocksServer, host: str, address_type: int
) -> None:
    proxy.record_only = True
    protocol = await dialed(dialer_of(proxy), Endpoint.parse(host, 4321))
    (asked,) = proxy.asked
    assert (asked.address_type, asked.host, asked.port) == (address_type, host, 4321)
    proxy.cut()
    await protocol.wait_lost()


async def test_no_two_connections_share_credentials(proxy: SocksServer) -> None:
    proxy.script = Script(Act.REFUSE)
    one, other_run = dialer_of(proxy), dialer_of(proxy)
    rpc = one.for_purpose(Purpose.RPC)
    for dialer in (one, one, rpc, one, other_run):
        with pytest.raises(ProxyFailed):
            await dialed(dialer)
    pairs = [(each.username, each.password) for each in proxy.asked]
    assert [password for _, password in pairs] == [b"peer-1", b"peer-2", b"rpc-3", b"peer-4", b"peer-1"]
    assert len(set(pairs)) == 5
    assert len({username for username, _ in pairs[:4]}) == 1
    assert all(len(username or b"") == 32 for username, _ in pairs)


def test_isolation_is_a_function_of_the_randomness_given() -> None:
    first = Isolation(counting_rand()).credentials(Purpose.DNS)
    assert (first.username, first.password) == (b"0" * 32, b"dns-1")


def test_renewed_isolation_is_like_that_of_another_run_and_tells_who_keeps_connections() -> None:
    isolation = Isolation(os.urandom)
    told: list[str] = []
    isolation.on_renewed(lambda: told.append("left"))
    first = isolation.credentials(Purpose.PEER)
    assert not told
    isolation.renew()
    second = isolation.credentials(Purpose.PEER)
    assert told == ["left"]
    assert first.username != second.username
    assert (first.password, second.password) == (b"peer-1", b"peer-1")


@pytest.mark.parametrize("spelled", [ONION, ONION.upper(), ONION.title(), ONION + "."])
async def test_own_onion_in_any_case_is_refused_before_the_proxy(proxy: SocksServer, spelled: str) -> None:
    dialer = dialer_of(proxy, own=lambda: (ONION.upper(),))
    with pytest.raises(DialRefused, match="our own"):
        await dialed(dialer, Endpoint(Network.ONION, spelled, 30303))
    assert proxy.connections == 0


async def test_own_onion_is_asked_for_at_each_dial(proxy: SocksServer) -> None:
    own: list[str] = []
    proxy.script = Script(Act.REFUSE)
    dialer = dialer_of(proxy, own=lambda: tuple(own))
    with pytest.raises(ProxyFailed):
        await dialed(dialer)
    own.append(ONION)
    with pytest.raises(DialRefused):
        await dialed(dialer)
    with pytest.raises(ProxyFailed):
        await dialed(dialer, Endpoint.parse(OTHER_ONION, 30303))
    assert [each.host for each in proxy.asked] == [ONION, OTHER_ONION]


@pytest.mark.parametrize("host", ["8.8.8.8", "2606::1", "node.example"])
async def test_dialer_without_exits_asks_for_onions_only(proxy: SocksServer, host: str) -> None:
    with pytest.raises(DialRefused, match="onion"):
        await dialed(dialer_of(proxy, exits=False), Endpoint.parse(host, 1))
    assert proxy.connections == 0


@pytest.mark.parametrize(
    "to",
    [
        Endpoint(Network.DNS, "bad.onion", 1),
        Endpoint(Network.DNS, "Bad.Onion.", 1),
        Endpoint(Network.DNS, "x" * 256, 1),
        Endpoint(Network.DNS, "ü.example", 1),
        Endpoint(Network.DNS, "", 1),
        Endpoint(Network.DNS, "node.example", 0),
    ],
)
async def test_what_socks_can_not_carry_is_refused(proxy: SocksServer, to: Endpoint) -> None:
    with pytest.raises(DialRefused):
        await dialed(dialer_of(proxy), to)
    assert proxy.connections == 0


@pytest.mark.parametrize(
    ("script", "words", "code", "retry"),
    [
        (Script(Act.REFUSE, code=0xF0), "can not be found (0xF0)", 0xF0, Retry.LONG),
        (Script(Act.REFUSE, code=0xF6), "address is invalid (0xF6)", 0xF6, Retry.NEVER),
        (Script(Act.REFUSE, code=0x01), "(0x01)", 1, Retry.SHORT),
        (Script(Act.NO_AUTH), "does not take user name", 0, Retry.SHORT),
        (Script(Act.CHOOSE_NONE), "was not offered", 0, Retry.SHORT),
        (Script(Act.BAD_PASSWORD), "refuses our user name", 0, Retry.SHORT),
        (Script(Act.GARBAGE_AUTH), "garbage", 0, Retry.SHORT),
        (Script(Act.GARBAGE), "garbage", 0, Retry.SHORT),
        (Script(Act.BAD_ATYP), "unknown type", 0, Retry.SHORT),
        (Script(Act.HTTP), "answers in HTTP", 0, Retry.SHORT),
        (Script(Act.SOCKS4), "SOCKS4", 0, Retry.SHORT),
        (Script(Act.CONTROL), "control port", 0, Retry.SHORT),
        (Script(Act.CLOSE), "", 0, Retry.SHORT),
        (Script(Act.PARTIAL), "closed the connection", 0, Retry.SHORT),
        (Script(Act.CLOSE_AFTER_REQUEST), "closed the connection", 0, Retry.SHORT),
        (Script(Act.RESET), "connection reset", 0, Retry.SHORT),
    ],
    ids=lambda value: f"{value.act.name}-{value.code:02x}" if isinstance(value, Script) else "",
)
async def test_misbehaving_proxy_is_told_in_words(
    proxy: SocksServer, script: Script, words: str, code: int, retry: Retry
) -> None:
    proxy.script = script
    with pytest.raises(ProxyFailed) as caught:
        await dialed(dialer_of(proxy))
    assert words in str(caught.value)
    assert (caught.value.code, caught.value.retry) == (code, retry)
    # What the proxy says of the target needs no remedy here; a faulty proxy is named with one.
    assert (proxy.address in str(caught.value)) is (code == 0)
    assert ("--tor-" in str(caught.value)) is (code == 0)
    await proxy.wait_idle()


async def test_proxy_that_never_says_a_word_is_named_with_a_remedy(proxy: SocksServer) -> None:
    proxy.script = Script(Act.SILENT)
    with pytest.raises(ProxyFailed, match=r"says nothing for 0.05 s.*--tor-proxy") as caught:
        await dialed(dialer_of(proxy, patience=0.05).for_purpose(Purpose.PROBE))
    assert caught.value.code == 0
    assert proxy.address in str(caught.value)
    await proxy.wait_idle()


async def test_patience_ends_with_the_first_answer(proxy: SocksServer) -> None:
    proxy.script = Script(Act.SILENT_REPLY)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await dialer_of(proxy, patience=0.05).dial(SERVICE, Recorder)
    await proxy.wait_idle()


async def test_time_out_of_the_socket_is_not_taken_for_silence() -> None:
    class Broken(SocksHandshake):
        def take_output(self) -> bytes:
            raise TimeoutError(errno.ETIMEDOUT, "timed out")

    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(TimeoutError, match="timed out"):
        await exchange(ours, Broken(SERVICE), 1.0)


async def test_dead_proxy_is_named_with_a_remedy(proxy: SocksServer) -> None:
    await proxy.stop()
    with pytest.raises(ProxyFailed, match=r"connection refused.*is Tor running") as caught:
        await dialed(dialer_of(proxy))
    assert caught.value.code == 0
    assert proxy.address in str(caught.value)


async def test_a_proxy_at_fault_is_told_of_once_and_when_it_works_again(proxy: SocksServer) -> None:
    dialer = dialer_of(proxy)
    other = dialer.for_purpose(Purpose.RPC)
    with capture_logs() as logs:
        acts = (Act.HTTP, Act.CONTROL, Act.REFUSE, Act.HTTP, Act.REFUSE)
        for script in map(Script, acts):
            proxy.script = script
            for each in (dialer, other):
                with pytest.raises(ProxyFailed):
                    await dialed(each)
    told = [(each["log_level"], each["event"]) for each in logs]
    fault, works = ("warning", "the proxy is at fault"), ("info", "the proxy works again")
    assert told == [fault, fault, works, fault, works]
    assert "web server" in logs[0]["cause"]


async def test_shortage_of_descriptors_fails_the_dial_only(proxy: SocksServer) -> None:
    with no_descriptors(), pytest.raises(ProxyFailed, match="no file descriptor is left"):
        await dialed(dialer_of(proxy))
    proxy.record_only = True
    protocol = await dialed(dialer_of(proxy))
    proxy.cut()
    await protocol.wait_lost()


async def test_protocol_that_can_not_be_made_leaves_no_socket(proxy: SocksServer) -> None:
    class Broken(Exception):
        pass

    def factory() -> Recorder:
        raise Broken

    proxy.record_only = True
    with pytest.raises(Broken):
        await dialer_of(proxy).dial(SERVICE, factory)
    await proxy.wait_idle()


async def test_dial_cancelled_at_any_step_leaves_no_socket(proxy: SocksServer) -> None:
    proxy.script = Script(Act.SLOW)
    proxy.record_only = True
    dialer = dialer_of(proxy)
    finished = 0
    for steps in range(120):
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(dialer.dial(SERVICE, Recorder))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
        if not task.cancelled():
            finished += 1
            (await task)[0].abort()
    await proxy.wait_idle()
    assert finished < 120


async def test_many_dials_in_one_moment_all_get_through(proxy: SocksServer) -> None:
    proxy.record_only = True
    dialer = dialer_of(proxy)
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        dials = [tasks.create_task(dialer.dial(SERVICE, Recorder)) for _ in range(200)]
    assert len({each.password for each in proxy.asked}) == 200
    for dial in dials:
        dial.result()[0].abort()
    await proxy.wait_idle()


async def test_python_socks_gets_through_the_scripted_server(proxy: SocksServer) -> None:
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as service:
        proxy.routes = {(ONION, 30303): service.sockets[0].getsockname()[:2]}
        client = Proxy.from_url(f"socks5://name:secret@{proxy.address}", rdns=True)
        reader, writer = await asyncio.open_connection(sock=await client.connect(ONION, 30303, timeout=5))
        writer.write(b"ping")
        assert await reader.readexactly(4) == b"ping"
        writer.close()
        await writer.wait_closed()
        await proxy.wait_idle()
    assert proxy.asked == [Asked(ATYP_NAME, ONION, 30303, b"name", b"secret")]


async def test_python_socks_and_we_ask_for_the_same(proxy: SocksServer) -> None:
    proxy.script = Script(Act.REFUSE, code=0x05)
    client = Proxy.from_url(f"socks5://name:secret@{proxy.address}", rdns=True)
    for host in (ONION, "8.8.8.8", "2606::1", "node.example"):
        with pytest.raises(ProxyError) as theirs:
            await client.connect(host, 30303, timeout=5)
        with pytest.raises(ProxyFailed) as ours:
            await dialed(dialer_of(proxy), Endpoint.parse(host, 30303))
        assert theirs.value.error_code == ours.value.code == 5
        first, second = proxy.asked[-2:]
        assert (first.address_type, first.host, first.port) == (second.address_type, second.host, second.port)


async def test_python_socks_loses_the_extended_code_that_we_keep(proxy: SocksServer) -> None:
    """The reason for our own client; when this fails, ADR 3 may be looked at again."""
    proxy.script = Script(Act.REFUSE, code=0xF6)
    client = Proxy.from_url(f"socks5://name:secret@{proxy.address}", rdns=True)
    with pytest.raises(ProxyError) as theirs:
        await client.connect(ONION, 30303, timeout=5)
    assert theirs.value.error_code is None
