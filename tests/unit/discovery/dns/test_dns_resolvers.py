"""Resolvers against a DNS server on loopback: the system's over UDP and TCP, others through a SOCKS proxy."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from relay.discovery.dns import resolvers as module
from relay.discovery.dns import ways as ways_module
from relay.discovery.dns.resolvers import (
    Outcome,
    ResolverOptions,
    StubResolver,
    make_resolver,
    system_resolver,
    tor_resolver,
)
from relay.discovery.dns.servers import parse_server
from relay.discovery.dns.system import SystemWays
from relay.discovery.dns.ways import verifying
from relay.primitives.address import parse_address
from relay.primitives.errors import ConnectFailed, DialRefused, UsageError
from relay.primitives.onion import OnionKey
from relay.transports.policy import Mode
from relay.transports.sockets import SocketFactory, SocketRules
from relay.transports.socks_dialer import Isolation, Purpose, SocksDialer
from tests.aids.dns_server import HOST, Authority, DnsAct, DnsServerAid
from tests.aids.socks_server import ATYP_IPV4, ATYP_NAME, Act, Script, SocksServer
from tests.aids.until import until

NAME = "list.example.org"
TEXTS = {NAME: ["hello", "world"], "long.example.org": ["x" * 3000], "none.example.org": []}
ONION = str(OnionKey.from_seed(bytes(32)).address)
ONCE = ResolverOptions(attempt=10.0, rounds=1, total=20.0)
IMPATIENT = ResolverOptions(attempt=0.2, rounds=1, total=20.0)


def rand(size: int) -> bytes:
    return os.urandom(size)


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def tls(authority):
    return lambda scheme: verifying(scheme, str(authority.cafile))


@pytest.fixture
async def server(authority):
    async with DnsServerAid(TEXTS, authority=authority) as aid:
        yield aid


@pytest.fixture
def system(server, tmp_path):
    """The system's resolver, in a system whose name server is on loopback."""
    path = tmp_path / "resolv.conf"
    path.write_text(f"# a comment\nsearch example.org\nnameserver {HOST}\noptions timeout:1\n")
    ways = SystemWays(SocketFactory(SocketRules.anywhere()), path, server.port)
    made = []

    def make(options: ResolverOptions = ONCE) -> StubResolver:
        made.append(StubResolver(ways, rand, options, sleep=_no_pause))
        return made[-1]

    yield make
    for resolver in made:
        resolver.close()


async def _no_pause(seconds: float) -> None:
    await asyncio.sleep(0)


class ThroughTor:
    """A resolver in a mode that may reach nothing but the proxy, with any way around it closed."""

    def __init__(self, proxy: SocksServer, monkeypatch, *, exits: bool = True) -> None:
        self.proxy = proxy
        self.sockets = SocketFactory(SocketRules.only(parse_address(proxy.address)), lookup=_no_lookup)
        monkeypatch.setattr(socket, "getaddrinfo", _no_lookup)
        monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", _no_lookup)
        monkeypatch.setattr(asyncio.BaseEventLoop, "create_datagram_endpoint", _no_lookup)
        isolation = Isolation(lambda size: bytes(size))
        self.peers = SocksDialer(self.sockets, parse_address(proxy.address), isolation, exits=True)
        self.dialer = SocksDialer(
            self.sockets, parse_address(proxy.address), isolation, purpose=Purpose.DNS, exits=exits
        )
        self.made: list[StubResolver] = []

    def resolver(self, *servers: str, tls=None, options: ResolverOptions = ONCE) -> StubResolver:
        parsed = [parse_server(text) for text in servers]
        extra = {} if tls is None else {"tls": tls}
        made = tor_resolver(self.dialer, parsed, rand=rand, options=options, **extra)
        made._sleep = _no_pause
        self.made.append(made)
        return made


def _no_lookup(*_: object, **__: object):
    raise AssertionError("something left this host outside of Tor")


@pytest.fixture
async def tor(monkeypatch, server):
    routes = {
        ("dns.test", 53): (HOST, server.port),
        ("dns.test", 853): (HOST, server.tls_port),
        ("dns.test", 443): (HOST, server.https_port),
        ("other.test", 853): (HOST, server.tls_port),
        ("9.9.9.9", 53): (HOST, server.port),
        (ONION, 53): (HOST, server.port),
    }
    async with SocksServer(routes=routes) as proxy:
        through = ThroughTor(proxy, monkeypatch)
        yield through
        for resolver in through.made:
            resolver.close()


# -- the system's


async def test_system_resolver_asks_by_udp(system, server):
    resolver = system()
    assert set(await resolver.txt(NAME)) == {"hello", "world"}
    assert server.asked == [("udp", NAME)]
    assert resolver.outcomes == {Outcome.FOUND: 1}


@pytest.mark.parametrize("act", [DnsAct.OK, DnsAct.TRUNCATE], ids=["too big", "pretended"])
async def test_truncated_answer_is_asked_for_over_tcp(system, server, act):
    resolver = system()
    server.act = act
    assert await resolver.txt("long.example.org") == ("x" * 3000,)
    assert [way for way, _ in server.asked] == ["udp", "tcp"]


async def test_name_that_is_not_there_is_told_from_a_server_that_fails(system, server):
    resolver = system()
    assert await resolver.txt("missing.example.org") == ()
    assert await resolver.txt("none.example.org") == ()
    assert resolver.outcomes == {Outcome.NO_NAME: 1, Outcome.NO_TEXT: 1}
    server.act = DnsAct.SERVFAIL
    assert await resolver.txt(NAME) is None
    assert resolver.outcomes[Outcome.SERVER_FAILED] == 1
    assert "SERVFAIL" in resolver.failure


@pytest.mark.parametrize(
    "act", [DnsAct.WRONG_ID, DnsAct.WRONG_NAME, DnsAct.GARBAGE, DnsAct.SILENT], ids=lambda act: act.name
)
async def test_datagrams_that_answer_nothing_are_passed_over(system, server, act):
    resolver = system(IMPATIENT)
    server.act = act
    assert await resolver.txt(NAME) is None
    assert resolver.outcomes == {Outcome.TIMEOUT: 1}


async def test_right_datagram_counts_among_forged_ones(system, server, monkeypatch):
    resolver = system()
    answer = server.answer
    acts = iter([DnsAct.WRONG_ID, DnsAct.GARBAGE, DnsAct.OK])

    def three_times(wire: bytes, way: str) -> bytes | None:
        for act in acts:
            server.act = act
            datagram = answer(wire, way)
            if act is DnsAct.OK:
                return datagram
            server._udp.sendto(datagram, sender[0])
        return None

    sender: list[tuple[str, int]] = []
    protocol = type(server._udp.get_protocol())
    original = protocol.datagram_received

    def received(self, data, address) -> None:
        sender.append(address)
        original(self, data, address)

    monkeypatch.setattr(protocol, "datagram_received", received)
    monkeypatch.setattr(server, "answer", three_times)
    assert set(await resolver.txt(NAME)) == {"hello", "world"}


async def test_ids_are_random_and_each_try_has_its_own(system, server, monkeypatch):
    resolver = system()
    ids = []
    answer = server.answer
    monkeypatch.setattr(server, "answer", lambda wire, way: (ids.append(wire[:2]), answer(wire, way))[1])
    for _ in range(8):
        await resolver.txt(NAME)
    assert len(set(ids)) > 6


async def test_system_resolver_follows_a_change_of_resolv_conf(server, tmp_path):
    path = tmp_path / "resolv.conf"
    ways = SystemWays(SocketFactory(SocketRules.anywhere()), path, server.port)
    assert [way.label for way in ways()] == [f"udp://127.0.0.1:{server.port}"]  # no file: resolv.conf(5)
    path.write_text("nameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver 2001:db8::1\n")
    assert [way.label for way in ways()] == [
        f"udp://192.0.2.1:{server.port}",
        f"udp://[2001:db8::1]:{server.port}",
    ]
    before = ways()
    assert ways() is before
    path.write_bytes(b"nameserver \xff\xfe\nnameserver not-an-address\n")
    assert [way.label for way in ways()] == [f"udp://127.0.0.1:{server.port}"]


async def test_unreachable_name_server_is_told_at_once(tmp_path):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    path = tmp_path / "resolv.conf"
    path.write_text(f"nameserver {HOST}\n")
    resolver = StubResolver(SystemWays(SocketFactory(SocketRules.anywhere()), path, port), rand, ONCE)
    assert await resolver.txt(NAME) is None
    assert resolver.outcomes == {Outcome.UNREACHABLE: 1}


# -- nothing outside of Tor


def test_system_resolver_is_impossible_where_the_rules_forbid_look_ups():
    sockets = SocketFactory(SocketRules.only(parse_address("127.0.0.1:9050")))
    with pytest.raises(DialRefused):
        system_resolver(sockets, rand=rand)


async def test_udp_is_refused_below_the_resolver_too(server, tmp_path):
    """The ways of the system in a mode that hides the IP: a mistake of ours that the rules must catch."""
    path = tmp_path / "resolv.conf"
    path.write_text(f"nameserver {HOST}\n")
    sockets = SocketFactory(SocketRules.only(parse_address("127.0.0.1:9050")))
    resolver = StubResolver(SystemWays(sockets, path, server.port), rand, ONCE)
    assert await resolver.txt(NAME) is None
    assert resolver.outcomes == {Outcome.REFUSED: 1}
    assert server.asked == []


@pytest.mark.parametrize("mode", [Mode.ONLY_ONION, Mode.CLEARNET_TOR])
def test_modes_that_hide_the_ip_need_tor(mode):
    sockets = SocketFactory(SocketRules.of_mode(mode))
    with pytest.raises(UsageError, match="through Tor only"):
        make_resolver(mode, sockets, None, rand=rand)


async def test_modes_get_their_resolvers(tor):
    sockets = SocketFactory(SocketRules.anywhere())
    servers = [parse_server("tcp://9.9.9.9")]
    labels = {
        mode: [way.label for way in make_resolver(mode, sockets, tor.dialer, rand=rand)._ways()]
        for mode in Mode
    }
    assert labels[Mode.ONLY_ONION] == labels[Mode.CLEARNET_TOR] == [
        "https://cloudflare-dns.com/dns-query", "tls://dns.quad9.net:853", "https://dns.google/dns-query",
    ]  # fmt: skip
    assert all(label.startswith("udp://") for label in labels[Mode.DEFAULT] + labels[Mode.NO_TOR])
    chosen = make_resolver(Mode.DEFAULT, sockets, None, servers, rand=rand)
    assert [way.label for way in chosen._ways()] == ["tcp://9.9.9.9:53"]


# -- through Tor


@pytest.mark.parametrize(
    ("server_url", "host", "port", "kind", "way"),
    [
        ("tcp://dns.test", "dns.test", 53, ATYP_NAME, "tcp"),
        ("tcp://9.9.9.9", "9.9.9.9", 53, ATYP_IPV4, "tcp"),
        ("tls://dns.test", "dns.test", 853, ATYP_NAME, "tls"),
        ("https://dns.test/dns-query", "dns.test", 443, ATYP_NAME, "https"),
        (f"tcp://{ONION}", ONION, 53, ATYP_NAME, "tcp"),
    ],
)
async def test_resolver_is_reached_through_socks_unresolved(
    tor, server, tls, server_url, host, port, kind, way
):
    resolver = tor.resolver(server_url, tls=tls)
    assert set(await resolver.txt(NAME)) == {"hello", "world"}
    assert await resolver.txt("missing.example.org") == ()
    [asked] = tor.proxy.asked
    assert (asked.host, asked.port, asked.address_type) == (host, port, kind)
    assert asked.password.startswith(b"dns-")
    assert [each for each, _ in server.asked] == [way, way]


async def test_dns_shares_no_circuit_with_peers_or_another_resolver(tor, tls):
    first, second = tor.resolver("tls://dns.test", tls=tls), tor.resolver("tcp://dns.test")
    await first.txt(NAME)
    await second.txt(NAME)
    transport, _ = await tor.peers.dial(parse_server("tcp://9.9.9.9").endpoint, asyncio.Protocol)
    transport.abort()
    passwords = [asked.password for asked in tor.proxy.asked]
    assert len(set(passwords)) == 3
    assert [password.split(b"-")[0] for password in passwords] == [b"dns", b"dns", b"peer"]


async def test_encrypted_questions_are_padded_and_plain_ones_are_not(tor, server, tls):
    await tor.resolver("tls://dns.test", tls=tls).txt(NAME)
    await tor.resolver("tcp://dns.test").txt(NAME)
    assert server.padded[0] == 128
    assert server.padded[1] < 60


async def test_https_request_tells_no_program(tor, server, tls):
    await tor.resolver("https://dns.test/dns-query", tls=tls).txt(NAME)
    assert sorted(server.requests[0]) == [b"accept", b"content-length", b"content-type", b"host"]


async def test_one_stream_serves_many_questions(tor, server, tls):
    for url in ("tcp://dns.test", "tls://dns.test", "https://dns.test/dns-query"):
        before = server.streams
        resolver = tor.resolver(url, tls=tls)
        for _ in range(5):
            assert await resolver.txt(NAME)
        assert server.streams == before + 1


async def test_stream_is_replaced_after_many_questions(tor, server, monkeypatch):
    monkeypatch.setattr(ways_module, "MAX_USES", 2)
    resolver = tor.resolver("tcp://dns.test")
    for _ in range(4):
        assert await resolver.txt(NAME)
    assert server.streams == 2


async def test_idle_stream_is_closed(tor, monkeypatch):
    monkeypatch.setattr(ways_module, "IDLE", 0.01)
    assert await tor.resolver("tcp://dns.test").txt(NAME)
    await tor.proxy.wait_idle()


async def test_kept_stream_that_was_closed_is_replaced_unnoticed(tor, server, tls):
    for url in ("tcp://dns.test", "https://dns.test/dns-query"):
        server.act = DnsAct.CLOSE_AFTER
        resolver = tor.resolver(url, tls=tls)
        for _ in range(3):
            assert await resolver.txt(NAME)
        assert resolver.outcomes == {Outcome.FOUND: 3}


async def test_stream_that_breaks_under_a_kept_question_is_replaced(tor, server):
    resolver = tor.resolver("tcp://dns.test")
    assert await resolver.txt(NAME)
    tor.proxy.cut()
    assert await resolver.txt(NAME)
    assert server.streams == 2


@pytest.mark.parametrize("act", [DnsAct.CHUNKED, DnsAct.NO_LENGTH], ids=lambda act: act.name)
async def test_https_in_other_forms_is_understood(tor, server, tls, act):
    server.act = act
    assert set(await tor.resolver("https://dns.test/dns-query", tls=tls).txt(NAME)) == {"hello", "world"}


# -- certificates


async def test_certificate_of_another_name_is_refused(tor, server, tls):
    resolver = tor.resolver("tls://other.test", tls=tls)
    assert await resolver.txt(NAME) is None
    assert "certificate is not believed" in resolver.failure
    assert "other.test" in resolver.failure
    assert server.asked == []


@pytest.mark.parametrize("url", ["tls://dns.test", "https://dns.test/dns-query"])
async def test_certificate_of_an_unknown_authority_is_refused(tor, server, url):
    resolver = tor.resolver(url)
    assert await resolver.txt(NAME) is None
    assert "certificate is not believed" in resolver.failure
    assert resolver.outcomes == {Outcome.UNREACHABLE: 1}
    assert server.asked == []


async def test_server_without_tls_is_named(tor, server, tls):
    tor.proxy.routes = {("dns.test", 853): (HOST, server.port)}
    resolver = tor.resolver("tls://dns.test", tls=tls, options=IMPATIENT)
    server.act = DnsAct.GARBAGE
    assert await resolver.txt(NAME) is None
    assert resolver.failure.startswith("tls://dns.test:853: ")
    assert not resolver.outcomes[Outcome.FOUND]


# -- hostile and slow


@pytest.mark.parametrize(
    ("url", "act", "outcome"),
    [
        ("tcp://dns.test", DnsAct.GARBAGE, Outcome.BAD_ANSWER),
        ("tcp://dns.test", DnsAct.WRONG_ID, Outcome.BAD_ANSWER),
        ("tcp://dns.test", DnsAct.WRONG_NAME, Outcome.BAD_ANSWER),
        ("tcp://dns.test", DnsAct.TWICE, Outcome.BAD_ANSWER),
        ("tcp://dns.test", DnsAct.CLOSE, Outcome.UNREACHABLE),
        ("tcp://dns.test", DnsAct.SILENT, Outcome.TIMEOUT),
        ("tcp://dns.test", DnsAct.DRIP, Outcome.TIMEOUT),
        ("https://dns.test/dns-query", DnsAct.GARBAGE, Outcome.BAD_ANSWER),
        ("https://dns.test/dns-query", DnsAct.REDIRECT, Outcome.BAD_ANSWER),
        ("https://dns.test/dns-query", DnsAct.WRONG_TYPE, Outcome.BAD_ANSWER),
        ("https://dns.test/dns-query", DnsAct.GZIP, Outcome.BAD_ANSWER),
        ("https://dns.test/dns-query", DnsAct.ENDLESS, Outcome.BAD_ANSWER),
        ("https://dns.test/dns-query", DnsAct.DRIP, Outcome.TIMEOUT),
    ],
    ids=lambda value: value.name if isinstance(value, DnsAct | Outcome) else value.partition(":")[0],
)
async def test_bad_resolver_is_counted_and_its_stream_closed(tor, server, tls, url, act, outcome):
    server.act = act
    options = IMPATIENT if outcome is Outcome.TIMEOUT and url.startswith("tcp") else ONCE
    if outcome is Outcome.TIMEOUT and not url.startswith("tcp"):
        options = ResolverOptions(attempt=1.0, rounds=1)  # long enough for TLS on a busy machine
    resolver = tor.resolver(url, tls=tls, options=options)
    assert await resolver.txt(NAME) is None
    assert resolver.outcomes == {outcome: 1}
    await tor.proxy.wait_idle()


async def test_resolver_that_refuses_is_left_for_the_next(tor, server):
    server.act = DnsAct.REFUSED
    resolver = tor.resolver("tcp://dns.test", "tcp://9.9.9.9")
    assert await resolver.txt(NAME) is None
    assert resolver.outcomes == {Outcome.SERVER_FAILED: 2}


async def test_drip_of_single_bytes_has_one_deadline(tor, server):
    """Each byte comes in time, all of them do not."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read(100)
            writer.write(b"\xff\xff")
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.02)
        except OSError:
            pass
        finally:
            writer.close()

    slow = await asyncio.start_server(drip, HOST, 0)
    tor.proxy.routes = {("dns.test", 53): (HOST, slow.sockets[0].getsockname()[1])}
    resolver = tor.resolver("tcp://dns.test", options=IMPATIENT)
    assert await resolver.txt(NAME) is None
    assert resolver.outcomes == {Outcome.TIMEOUT: 1}
    await tor.proxy.wait_idle()
    slow.close()


async def test_unasked_bytes_on_a_kept_stream_close_it(tor, server):
    resolver = tor.resolver("tcp://dns.test")
    assert await resolver.txt(NAME)
    way = resolver._ways()[0]
    [stream] = way._kept
    stream.data_received(b"nobody asked")
    assert stream.transport.is_closing()
    assert await resolver.txt(NAME)
    assert way.opened == 2


# -- fallback, rounds, bounds


async def test_next_resolver_is_asked_and_kept_when_one_fails(tor, server):
    tor.proxy.unrouted = 0x05
    resolver = tor.resolver("tcp://dead.test", "tcp://dns.test")
    assert await resolver.txt(NAME)
    assert await resolver.txt(NAME)
    assert [asked.host for asked in tor.proxy.asked] == ["dead.test", "dns.test"]
    assert resolver.outcomes == {Outcome.UNREACHABLE: 1, Outcome.FOUND: 2}
    assert resolver.failure == ""


async def test_all_resolvers_are_tried_in_rounds_with_growing_pauses(tor):
    pauses = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    resolver = tor.resolver(
        "tcp://dead.test", "tcp://gone.test", options=ResolverOptions(rounds=3, backoff=1.5, attempt=2.0)
    )
    resolver._sleep = pause
    assert await resolver.txt(NAME) is None
    assert pauses == [1.5, 3.0]
    assert [asked.host for asked in tor.proxy.asked] == ["dead.test", "gone.test"] * 3


async def test_proxy_that_hangs_costs_one_deadline(tor):
    tor.proxy.script = Script(Act.SILENT_REPLY)
    resolver = tor.resolver("tcp://dns.test", options=IMPATIENT)
    assert await resolver.txt(NAME) is None
    assert resolver.outcomes == {Outcome.TIMEOUT: 1}
    await tor.proxy.wait_idle()


async def test_onion_resolver_is_all_that_only_onion_dials_without_exits(server, monkeypatch):
    routes = {(ONION, 53): (HOST, server.port)}
    async with SocksServer(routes=routes) as proxy:
        through = ThroughTor(proxy, monkeypatch, exits=False)
        assert await through.resolver(f"tcp://{ONION}").txt(NAME)
        refused = through.resolver("tcp://dns.test")
        assert await refused.txt(NAME) is None
        assert refused.outcomes == {Outcome.REFUSED: 1}
        assert [asked.host for asked in proxy.asked] == [ONION]
        through.made[0].close()


async def test_onion_names_and_impossible_names_are_never_asked(tor, server):
    resolver = tor.resolver("tcp://dns.test")
    for name in (ONION, f"ABC.{ONION}", "x" * 64 + ".org", "a..b"):
        assert await resolver.txt(name) is None
    assert resolver.outcomes == {Outcome.BAD_NAME: 4}
    assert server.asked == []
    assert tor.proxy.connections == 0


class Held:
    """A way whose answers wait."""

    label, encrypted = "held", False

    def __init__(self) -> None:
        self.waiting = 0
        self.most = 0
        self.go = asyncio.Event()

    async def ask(self, question):
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        try:
            await self.go.wait()
        finally:
            self.waiting -= 1
        raise ConnectFailed("enough")

    def close(self) -> None:
        self.go.set()


async def test_questions_under_way_and_waiting_are_bounded():
    held = Held()
    options = ResolverOptions(concurrent=2, waiting=3, rounds=1)
    resolver = StubResolver(lambda: (held,), rand, options)
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(resolver.txt(f"n{number}.example.org")) for number in range(9)]
        await until(lambda: resolver.outcomes[Outcome.OVERFLOW] == 4, "overflow")
        resolver.close()
    assert [task.result() for task in asked] == [None] * 9
    assert held.most == 2


async def test_waiting_for_a_turn_counts_into_the_deadline():
    held = Held()
    options = ResolverOptions(concurrent=1, total=0.05, attempt=9.0)
    resolver = StubResolver(lambda: (held,), rand, options)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(resolver.txt("a.example.org"))
        tasks.create_task(resolver.txt("b.example.org"))
    assert resolver.outcomes == {Outcome.GIVEN_UP: 2}
    assert held.waiting == 0


async def test_cancelled_question_closes_its_stream(tor, server):
    server.act = DnsAct.SILENT
    resolver = tor.resolver("tcp://dns.test", options=ResolverOptions(attempt=30.0))
    task = asyncio.ensure_future(resolver.txt(NAME))
    await until(lambda: server.asked, "the question")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await tor.proxy.wait_idle()


# -- resolvers of the user's own on the clearnet


async def test_own_resolver_by_name_is_looked_up_and_dialed_directly(server, tls):
    def lookup(name: str, port: int):
        assert name == "dns.test"
        return [(0, 0, 0, "", ("127.0.0.2", server.https_port + 1)), (0, 0, 0, "", (HOST, port))]

    sockets = SocketFactory(SocketRules.anywhere(), lookup=lookup)
    url = f"https://dns.test:{server.https_port}/dns-query"
    resolver = make_resolver(Mode.NO_TOR, sockets, None, [parse_server(url)], rand=rand, tls=tls)
    assert set(await resolver.txt(NAME)) == {"hello", "world"}
    resolver.close()


async def test_own_onion_resolver_needs_tor(tor, server):
    sockets = SocketFactory(SocketRules.anywhere(), lookup=_no_lookup)
    servers = [parse_server(f"tcp://{ONION}")]
    without = module.direct_resolver(sockets, None, servers, rand=rand, options=ONCE)
    assert await without.txt(NAME) is None
    assert without.outcomes == {Outcome.REFUSED: 1}
    with_tor = module.direct_resolver(sockets, tor.dialer, servers, rand=rand, options=ONCE)
    assert await with_tor.txt(NAME)
    with_tor.close()


async def test_cname_of_a_list_is_followed(system, server):
    resolver = system()
    server.aliases = {"alias.example.org": NAME}
    assert set(await resolver.txt("alias.example.org")) == {"hello", "world"}


def test_public_contexts_check_names_and_authorities():
    for scheme in ways_module.Scheme:
        if scheme is not ways_module.Scheme.TCP:
            context = ways_module.system_tls(scheme)
            assert context.check_hostname
            assert context.verify_mode.name == "CERT_REQUIRED"
            assert context.minimum_version >= 0x0303
