"""UPnP against a router of our own on loopback, honest and hostile."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.discovery.nat import CONFLICT, PERMANENT_ONLY, External, MappedNat, NatFailed
from relay.discovery.upnp import MAX_BODY, UpnpOptions, _Answers, _location_of, find_gateway
from relay.primitives.errors import TransportError
from relay.transports.sockets import SocketFactory, SocketRules
from tests.aids.igd import DESCRIPTION, SCPD, SERVICE, Igd, serve_igd
from tests.aids.until import until

ONE_SERVICE = DESCRIPTION[DESCRIPTION.index("<service>") : DESCRIPTION.index("</serviceList>")]


@pytest.fixture
async def igd():
    async with serve_igd() as running:
        yield running


def options(igd: Igd, **changes: float) -> UpnpOptions:
    return UpnpOptions(**({"target": igd.target, "wait": 0.3, "describe": 2.0, "action": 1.0} | changes))


def sockets() -> SocketFactory:
    return SocketFactory(SocketRules.anywhere())


async def test_a_router_is_found_and_maps_and_gives_back(igd):
    gateway = await find_gateway(sockets(), options(igd))
    assert await gateway.external_ip() == "77.12.33.4"
    await gateway.add("TCP", 30303, 30304, 1200)
    assert igd.mappings == {("TCP", 30303): ("127.0.0.1", 30304, 1200)}
    await gateway.delete("TCP", 30303)
    assert igd.mappings == {}
    assert igd.requests == [
        "/root.xml", "/scpd.xml", "GetExternalIPAddress", "AddPortMapping", "DeletePortMapping",
    ]  # fmt: skip


async def test_the_routers_error_codes_come_through(igd):
    gateway = await find_gateway(sockets(), options(igd))
    igd.taken = {("TCP", 1)}
    igd.permanent_only = True
    for port, code in ((1, CONFLICT), (2, PERMANENT_ONLY)):
        with pytest.raises(NatFailed) as failed:
            await gateway.add("TCP", port, 30303, 60)
        assert failed.value.code == code
    with pytest.raises(NatFailed) as failed:
        await gateway.delete("UDP", 7)
    assert failed.value.code == 714


async def test_ports_stay_mapped_until_the_end_and_no_longer(igd):
    told: list[External | None] = []
    nat = MappedNat(lambda: find_gateway(sockets(), options(igd)), tcp=30303, udp=30303, rand=bytes)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(nat.run(told.append))
        await until(lambda: told, "the address is told")
        assert set(igd.mappings) == {("TCP", 30303), ("UDP", 30303)}
        task.cancel()
    assert (told, igd.mappings) == ([External("77.12.33.4", 30303, 30303), None], {})


async def test_answers_without_a_length_in_chunks_or_on_connections_that_stay_open_are_read(igd):
    igd.keeps_open = True
    gateway = await find_gateway(sockets(), options(igd))
    igd.keeps_open = False
    page = (
        b'<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>'
        b'<u:GetExternalIPAddressResponse xmlns:u="%b"><NewExternalIPAddress>77.1.2.3</NewExternalIPAddress>'
        b"</u:GetExternalIPAddressResponse></s:Body></s:Envelope>" % SERVICE.encode()
    )
    igd.raw = b"HTTP/1.1 200 OK\r\n\r\n" + page
    assert await gateway.external_ip() == "77.1.2.3"
    igd.raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (
        len(page),
        page,
    )
    assert await gateway.external_ip() == "77.1.2.3"


async def test_nobody_there_is_said(igd):
    igd.answer_search = lambda answer: []
    with pytest.raises(NatFailed, match="no router answers"):
        await find_gateway(sockets(), options(igd))


async def test_a_mode_without_udp_searches_for_nothing(igd):
    factory = SocketFactory(SocketRules.only())
    with pytest.raises(NatFailed, match="no socket to search"):
        await find_gateway(factory, options(igd))
    assert igd.requests == []


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.2:{port}/root.xml", "http://localhost:{port}/root.xml",
        "https://127.0.0.1:{port}/root.xml",
        "file:///etc/passwd", "http://8.8.8.8/root.xml", "http://[::1]:{port}/root.xml",
        "http://[:{port}/", "x",
        "http://127.0.0.1:0/root.xml", "http://127.0.0.1:99999/root.xml", "",
    ],
)  # fmt: skip
async def test_an_answer_that_leads_elsewhere_is_not_followed(igd, location):
    igd.answer_search = lambda answer: [igd.search_answer(location.format(port=igd.http_port) or " ")]
    with pytest.raises(NatFailed, match="no router answers"):
        await find_gateway(sockets(), options(igd, wait=0.1))
    assert igd.requests == []


async def test_the_first_that_maps_ports_is_taken_whoever_answered_before(igd):
    bad = igd.location.replace("root", "missing")
    igd.answer_search = lambda answer: [igd.search_answer(bad), igd.search_answer(kind="ssdp:all"), answer]
    assert await (await find_gateway(sockets(), options(igd))).external_ip() == "77.12.33.4"


@pytest.mark.parametrize("broken", [
    "", "no xml", "<root/>", DESCRIPTION.replace("/control<", "http://127.0.0.9/control<"),
    DESCRIPTION.replace("/scpd.xml", "http://127.0.0.9/x"), DESCRIPTION.replace("/scpd.xml", "/gone.xml"),
    DESCRIPTION.replace("WANIPConnection", "Other"),
    DESCRIPTION.replace("<UDN>uuid:1</UDN>", "<iconList><icon><width>x</width></icon></iconList>"),
    '<!DOCTYPE x [<!ENTITY a "b">]>' + DESCRIPTION, "\0" * 100, "<a>" * 20_000,
    DESCRIPTION.replace("</serviceList>", ONE_SERVICE * 60 + "</serviceList>"),
    DESCRIPTION.replace("<UDN>uuid:2</UDN>", "<deviceList><device>" * 2000 + "</device></deviceList>" * 2000),
])  # fmt: skip
async def test_a_description_that_somebody_made_up_ends_in_one_error(igd, broken):
    igd.pages["/root.xml"] = broken
    with pytest.raises(NatFailed):
        await find_gateway(sockets(), options(igd))
    assert len(igd.requests) <= 24


@pytest.mark.parametrize("broken", [
    "<scpd/>", SCPD.replace("ui2", "nonsense"), SCPD.replace("<name>Lease</name>", "<name>Else</name>"),
    SCPD.replace("AddPortMapping", "Other"),
])  # fmt: skip
async def test_a_service_that_somebody_made_up_ends_in_one_error(igd, broken):
    igd.pages["/scpd.xml"] = broken

    async def map_a_port() -> None:
        gateway = await find_gateway(sockets(), options(igd))
        await gateway.add("TCP", 1, 1, 1)

    with pytest.raises(NatFailed):
        await map_a_port()


@pytest.mark.parametrize("raw", [
    b"", b"\r\n\r\n", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort",
    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + 1),
    b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (MAX_BODY + 1), b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000,
    b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"HTTP/1.1 500 no\r\n\r\nnothing",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nab",
])  # fmt: skip
async def test_answers_that_are_no_http_end_in_one_error(igd, raw):
    gateway = await find_gateway(sockets(), options(igd))
    igd.raw = raw
    with pytest.raises(NatFailed):
        await gateway.external_ip()


async def test_a_router_that_says_nothing_is_given_up(igd):
    gateway = await find_gateway(sockets(), options(igd, action=0.1))
    igd.raw, igd.keeps_open = b"", True
    with pytest.raises(NatFailed, match="did not come within"):
        await gateway.external_ip()


@given(st.binary(max_size=600))
@settings(max_examples=200, deadline=None)
def test_any_datagram_is_a_location_or_nothing(data):
    for each in (
        data,
        b"HTTP/1.1 200 OK\r\n" + data,
        b"HTTP/1.1 200 OK\r\nLOCATION:http://" + data + b"\r\n\r\n",
    ):
        assert _location_of(each, ("192.168.0.1", 1900)) in (None, each)


async def test_a_flood_of_answers_is_cut():
    queue: asyncio.Queue[str] = asyncio.Queue(8)
    answers = _Answers(queue)
    igd = Igd()
    for number in range(1000):
        answers.datagram_received(igd.search_answer(f"http://127.0.0.1:{number + 1}/"), ("127.0.0.1", 1900))
        answers.datagram_received(igd.search_answer(f"http://127.0.0.1:{number + 1}/"), ("127.0.0.1", 1900))
    assert queue.qsize() == 8
    answers.error_received(OSError())


def test_its_failures_are_of_the_way_and_not_of_a_peer():
    assert issubclass(NatFailed, TransportError)
