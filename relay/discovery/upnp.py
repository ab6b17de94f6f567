"""Port mapping by UPnP's Internet Gateway Device, with async-upnp-client. See docs/adr/0007-nat-library.md.

The library reads and writes SSDP, device descriptions and SOAP; it opens nothing: datagrams leave by a socket
of ours, and its HTTP requests go through `_Requester`, so the socket factory's rules hold. Everything that a
machine of the local network says is hostile: a gateway must answer from the very address it describes, that
address must be private, and no request goes anywhere else.
"""

from __future__ import annotations

import asyncio
import http.client
import io
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast
from urllib.parse import SplitResult, urlsplit
from xml.etree.ElementTree import ParseError

from aiohttp.http_exceptions import HttpProcessingError
from async_upnp_client.client import UpnpRequester, UpnpService
from async_upnp_client.client_factory import UpnpFactory
from async_upnp_client.const import HttpRequest, HttpResponse
from async_upnp_client.exceptions import UpnpActionError, UpnpError
from async_upnp_client.ssdp import build_ssdp_search_packet, decode_ssdp_packet, is_valid_ssdp_packet
from voluptuous import Invalid

from relay.discovery.nat import NatFailed
from relay.primitives.address import TcpAddress
from relay.primitives.endpoint import Endpoint
from relay.primitives.errors import DecodeError, LocalError, TransportError
from relay.transports.sockets import SocketFactory

__all__ = ["UpnpGateway", "UpnpOptions", "find_gateway"]

T = TypeVar("T")

SSDP: Final = ("239.255.255.250", 1900)
DEVICES: Final = tuple(f"urn:schemas-upnp-org:device:InternetGatewayDevice:{each}" for each in (2, 1))
SERVICES: Final = (
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
)
NAME: Final = "ethereum p2p"  # geth's: what others on this network may read in the router's list
MAX_BODY: Final = 256 << 10  # bytes of an answer; the largest description seen in the wild has 40 KB
MAX_HEAD: Final = 16 << 10
MAX_REQUESTS: Final = 24  # to describe one device: one for each of its services
MAX_DATAGRAM: Final = 4096
MAX_ANSWERS: Final = 8  # machines that are looked at; further ones are ignored

# What the library lets through for a description that somebody made up, besides its own errors.
_BROKEN: Final = (
    UpnpError, Invalid, ParseError, ValueError, LookupError, TypeError, AttributeError, RecursionError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class UpnpOptions:
    """Numbers and places.

    Attributes:
        target: where searches are sent; another one in tests.
        wait: seconds for routers to answer a search; also what it asks them to answer within.
        describe: seconds for one router to describe itself.
        action: seconds for an action.
    """

    target: tuple[str, int] = SSDP
    wait: float = 3.0
    describe: float = 10.0
    action: float = 5.0


async def find_gateway(sockets: SocketFactory, options: UpnpOptions | None = None) -> UpnpGateway:
    """Search the local network for a router that maps ports.

    Raises:
        NatFailed: there is none, or no socket to search with.
    """
    options = options or UpnpOptions()
    answers: asyncio.Queue[str] = asyncio.Queue(MAX_ANSWERS)
    transport = await _search(sockets, options, answers)
    failure, end = (
        "no router answers to UPnP on this network",
        asyncio.get_running_loop().time() + options.wait,
    )
    try:
        while True:
            async with asyncio.timeout_at(end):
                location = await answers.get()
            try:
                return await _described(sockets, location, options)
            except NatFailed as error:
                failure = str(error)
    except TimeoutError:
        raise NatFailed(failure) from None
    finally:
        transport.close()


class UpnpGateway:
    """A router's service for port mappings.

    Args:
        service: of the library.
        requester: knows our own address on that network.
        patience: seconds for an action.
    """

    def __init__(self, service: UpnpService, requester: _Requester, patience: float) -> None:
        self._service, self._requester, self._patience = service, requester, patience

    async def external_ip(self) -> str:
        """Return the address that it has on the outside; raises NatFailed."""
        answer = await self._call("GetExternalIPAddress")
        return str(answer.get("NewExternalIPAddress"))

    async def add(self, protocol: str, external: int, internal: int, lease: int) -> None:
        """Map a port to ours; raises NatFailed."""
        await self._call(
            "AddPortMapping",
            NewRemoteHost="",
            NewExternalPort=external,
            NewProtocol=protocol,
            NewInternalPort=internal,
            NewInternalClient=self._requester.own_host,
            NewEnabled=True,
            NewPortMappingDescription=NAME,
            NewLeaseDuration=lease,
        )

    async def delete(self, protocol: str, external: int) -> None:
        """Give a mapped port back; raises NatFailed."""
        await self._call(
            "DeletePortMapping", NewRemoteHost="", NewExternalPort=external, NewProtocol=protocol
        )

    async def _call(self, name: str, **arguments: str | int) -> Mapping[str, Any]:
        async def call() -> Mapping[str, Any]:
            return await self._service.action(name).async_call(**cast("dict[str, Any]", arguments))

        return await _guarded(call, self._patience, f"the router's answer to {name}")


async def _described(sockets: SocketFactory, location: str, options: UpnpOptions) -> UpnpGateway:
    requester = _Requester(sockets, _host_of(location))
    factory = UpnpFactory(requester, non_strict=True)  # real routers' descriptions have faults

    async def describe() -> UpnpService | None:
        device = await factory.async_create_device(location)
        found = (device.find_service(each) for each in SERVICES)
        return next((each for each in found if each is not None and each.has_action("AddPortMapping")), None)

    service = await _guarded(describe, options.describe, "the router's description")
    if service is None:
        raise NatFailed("the router that answers to UPnP maps no ports")
    requester.left = 1 << 62  # described; from here on each request is one that we make
    return UpnpGateway(service, requester, options.action)


async def _guarded(call: Callable[[], Awaitable[T]], seconds: float, what: str) -> T:
    try:
        async with asyncio.timeout(seconds):
            return await call()
    except TimeoutError:
        raise NatFailed(f"{what} did not come within {seconds:g} s") from None
    except UpnpActionError as error:
        raise NatFailed(f"the router says error {error.error_code}", code=error.error_code or 0) from None
    except TransportError as error:
        raise error if isinstance(error, NatFailed) else NatFailed(f"{what}: {error}") from None
    except _BROKEN as error:
        raise NatFailed(f"{what} makes no sense ({type(error).__name__})") from None


# -- SSDP ----------------------------------------------------------------------------------------------


async def _search(
    sockets: SocketFactory, options: UpnpOptions, answers: asyncio.Queue[str]
) -> asyncio.DatagramTransport:
    try:
        sock = sockets.bind_udp("0.0.0.0", 0)
    except (LocalError, TransportError) as error:
        raise NatFailed(f"no socket to search for routers with: {error}") from None
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: _Answers(answers), sock=sock)
    for _ in range(2):  # multicast gets lost
        for device in DEVICES:
            with suppress(OSError):
                packet = build_ssdp_search_packet(options.target, max(1, int(options.wait) - 1), device)
                transport.sendto(packet, options.target)
    return transport


class _Answers(asyncio.DatagramProtocol):
    """Puts the addresses of descriptions into a queue, each once; those that do not fit are dropped."""

    def __init__(self, queue: asyncio.Queue[str]) -> None:
        self._queue = queue
        self._seen: set[str] = set()

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        location = _location_of(data, addr)
        if location is not None and location not in self._seen and len(self._seen) < MAX_ANSWERS:
            self._seen.add(location)
            self._queue.put_nowait(location)

    def error_received(self, exc: Exception) -> None:
        """Nobody listens there; the time-out says so."""


def _location_of(data: bytes, addr: tuple[str | Any, int]) -> str | None:
    """Return where an answer to our search leads, if that is the private address that it came from."""
    if len(data) > MAX_DATAGRAM or not is_valid_ssdp_packet(data):
        return None
    try:
        _, headers = decode_ssdp_packet(data, None, (addr[0], addr[1]))
        location, kind = str(headers.get("location", "")), headers.get("st")
        host = _host_of(location)
    except (HttpProcessingError, NatFailed, ValueError):
        return None
    return location if kind in DEVICES and host == addr[0] else None


def _host_of(location: str) -> str:
    """Check an address that a description is at.

    Raises:
        NatFailed: it is not http, or not a private IP address.
    """
    host, port = _parts(location)
    try:
        endpoint = Endpoint.parse(host, port)
    except DecodeError as error:
        raise NatFailed(str(error)) from None
    if not endpoint.is_ip or not endpoint.is_private or not port:
        raise NatFailed("a router is at a private address")
    return endpoint.host


def _parts(url: str) -> tuple[str, int]:
    try:
        split: SplitResult = urlsplit(url)
        host, port = split.hostname, split.port
    except ValueError:
        raise NatFailed("a router gave something that is no address") from None
    if split.scheme != "http" or not host:
        raise NatFailed("a router gave something that is no address of HTTP")
    return host, 80 if port is None else port


# -- HTTP ----------------------------------------------------------------------------------------------


class _Requester(UpnpRequester):
    """Sends the library's requests to one host, one connection each, and reads bounded answers.

    Attributes:
        own_host: our address on the router's network; empty before the first request.
        left: how many requests may still be made.
    """

    def __init__(self, sockets: SocketFactory, host: str) -> None:
        self._sockets, self._host = sockets, host
        self.own_host = ""
        self.left = MAX_REQUESTS

    async def async_http_request(self, http_request: HttpRequest) -> HttpResponse:
        """Do one request; raises TransportError."""
        host, port = _parts(http_request.url)
        if host != self._host or self.left <= 0:
            raise NatFailed("a router's description leads elsewhere, or is far too long")
        self.left -= 1
        reader, writer = await self._sockets.open_stream(TcpAddress(host, port), limit=MAX_HEAD)
        try:
            self.own_host = str(writer.get_extra_info("sockname")[0])
            writer.write(_encoded(http_request, port))
            return _decoded(await _read(reader))
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise NatFailed(f"the router broke off ({type(error).__name__})") from None
        finally:
            writer.transport.abort()


def _encoded(request: HttpRequest, port: int) -> bytes:
    split = urlsplit(request.url)
    body = (request.body or "").encode()
    headers = {name: value for name, value in request.headers.items() if name.lower() != "host"}
    headers |= {"Host": f"{split.hostname}:{port}", "Connection": "close", "Content-Length": str(len(body))}
    target = (split.path or "/") + (f"?{split.query}" if split.query else "")
    lines = [f"{request.method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    if any(not line.isprintable() for line in lines):
        raise NatFailed("a router's description holds control characters")
    return "\r\n".join([*lines, "", ""]).encode() + body


async def _read(reader: asyncio.StreamReader) -> bytes:
    """Read an answer to its end: by its length where it has one, since some leave the connection open."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        (
            line.partition(b":")[2].strip()
            for line in head.lower().split(b"\r\n")
            if line[:15] == b"content-length:"
        ),
        b"",
    )
    if length.isdigit() and len(length) < 9:
        size = int(length)
        if size > MAX_BODY:
            raise NatFailed("a router's answer is too long")
        return head + await reader.readexactly(size)
    body = bytearray()
    while piece := await reader.read(MAX_HEAD):
        body += piece
        if len(body) > MAX_BODY:
            raise NatFailed("a router's answer is too long")
    return head + bytes(body)


class _Bytes:
    """What http.client takes for a socket."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def _decoded(data: bytes) -> HttpResponse:
    response = http.client.HTTPResponse(cast("Any", _Bytes(data)))
    try:
        response.begin()
        body = response.read(MAX_BODY + 1)
    except (http.client.HTTPException, ValueError) as error:
        raise NatFailed(f"the router's answer is no HTTP ({type(error).__name__})") from None
    return HttpResponse(response.status, dict(response.getheaders()), body.decode("utf-8", "replace"))
