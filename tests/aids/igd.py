"""A router that speaks UPnP, on loopback: SSDP, descriptions, port mappings; every answer can be changed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

__all__ = ["Igd", "serve_igd"]

SERVICE = "urn:schemas-upnp-org:service:WANIPConnection:1"
DEVICE = "urn:schemas-upnp-org:device:InternetGatewayDevice:1"
DESCRIPTION = f"""<?xml version="1.0"?>
<root xmlns="urn:schemas-upnp-org:device-1-0"><specVersion><major>1</major><minor>0</minor></specVersion>
<device><deviceType>{DEVICE}</deviceType><friendlyName>r</friendlyName><UDN>uuid:1</UDN><deviceList>
<device><deviceType>urn:schemas-upnp-org:device:WANDevice:1</deviceType><UDN>uuid:2</UDN><deviceList>
<device><deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:1</deviceType><UDN>uuid:3</UDN><serviceList>
<service><serviceType>{SERVICE}</serviceType><serviceId>urn:upnp-org:serviceId:WANIPConn1</serviceId>
<controlURL>/control</controlURL><eventSubURL>/event</eventSubURL><SCPDURL>/scpd.xml</SCPDURL></service>
</serviceList></device></deviceList></device></deviceList></device></root>"""


def _action(name: str, *arguments: tuple[str, str, str]) -> str:
    listed = "".join(
        f"<argument><name>{argument}</name><direction>{direction}</direction>"
        f"<relatedStateVariable>{variable}</relatedStateVariable></argument>"
        for argument, direction, variable in arguments
    )
    return f"<action><name>{name}</name><argumentList>{listed}</argumentList></action>"


_MAPPING = (
    ("NewRemoteHost", "in", "RemoteHost"), ("NewExternalPort", "in", "ExternalPort"),
    ("NewProtocol", "in", "Protocol"),
)  # fmt: skip
_VARIABLES = {
    "RemoteHost": "string", "ExternalPort": "ui2", "Protocol": "string", "InternalPort": "ui2",
    "InternalClient": "string", "Enabled": "boolean", "Text": "string", "Lease": "ui4",
    "ExternalIP": "string",
}  # fmt: skip
SCPD = (
    '<?xml version="1.0"?><scpd xmlns="urn:schemas-upnp-org:service-1-0"><actionList>'
    + _action("GetExternalIPAddress", ("NewExternalIPAddress", "out", "ExternalIP"))
    + _action(
        "AddPortMapping",
        *_MAPPING,
        ("NewInternalPort", "in", "InternalPort"),
        ("NewInternalClient", "in", "InternalClient"),
        ("NewEnabled", "in", "Enabled"),
        ("NewPortMappingDescription", "in", "Text"),
        ("NewLeaseDuration", "in", "Lease"),
    )
    + _action("DeletePortMapping", *_MAPPING)
    + "</actionList><serviceStateTable>"
    + "".join(
        f'<stateVariable sendEvents="no"><name>{name}</name><dataType>{kind}</dataType></stateVariable>'
        for name, kind in _VARIABLES.items()
    )
    + "</serviceStateTable></scpd>"
)


class Igd:
    """The router's state.

    Attributes:
        mappings: (protocol, external port) to (client, port, lease).
        taken: (protocol, port) that another machine has.
        permanent_only: leases are refused.
        answer_search: makes the datagrams that answer a search, from the true one.
        pages: what GET gives by path.
        requests: paths and actions, as they came.
        raw: if given, what every HTTP request is answered with.
    """

    def __init__(self) -> None:
        self.external_ip = "77.12.33.4"
        self.mappings: dict[tuple[str, int], tuple[str, int, int]] = {}
        self.taken: set[tuple[str, int]] = set()
        self.permanent_only = False
        self.answer_search: Callable[[bytes], list[bytes]] = lambda answer: [answer]
        self.pages = {"/root.xml": DESCRIPTION, "/scpd.xml": SCPD}
        self.requests: list[str] = []
        self.raw: bytes | None = None
        self.keeps_open = False
        self.http_port = 0
        self.target = ("127.0.0.1", 0)

    @property
    def location(self) -> str:
        return f"http://127.0.0.1:{self.http_port}/root.xml"

    def search_answer(self, location: str | None = None, kind: str = DEVICE) -> bytes:
        return (
            f"HTTP/1.1 200 OK\r\nST: {kind}\r\nUSN: uuid:1::{kind}\r\nEXT:\r\nCACHE-CONTROL: max-age=120\r\n"
            f"LOCATION: {location or self.location}\r\n\r\n"
        ).encode()

    async def http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = int((re.search(r"content-length: (\d+)", head, re.I) or ["", "0"])[1])
            body = (await reader.readexactly(length)).decode()
            writer.write(self.raw if self.raw is not None else self._answer(head.split()[1], body))
            if self.keeps_open:
                await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort() if self.keeps_open else writer.close()

    def _answer(self, path: str, body: str) -> bytes:
        if path in self.pages:
            self.requests.append(path)
            return _page(200, self.pages[path])
        action = re.search(r"<u:(\w+) ", body)
        if path != "/control" or action is None:
            return _page(404, "")
        self.requests.append(action[1])
        arguments = dict(re.findall(r"<(New\w+)>([^<]*)</", body))
        return getattr(self, "_" + action[1])(arguments)

    def _GetExternalIPAddress(self, _arguments: dict[str, str]) -> bytes:
        return _done(
            "GetExternalIPAddress", f"<NewExternalIPAddress>{self.external_ip}</NewExternalIPAddress>"
        )

    def _AddPortMapping(self, arguments: dict[str, str]) -> bytes:
        place = arguments["NewProtocol"], int(arguments["NewExternalPort"])
        lease = int(arguments["NewLeaseDuration"])
        if place in self.taken:
            return _fault(718)
        if lease and self.permanent_only:
            return _fault(725)
        self.mappings[place] = (arguments["NewInternalClient"], int(arguments["NewInternalPort"]), lease)
        return _done("AddPortMapping")

    def _DeletePortMapping(self, arguments: dict[str, str]) -> bytes:
        place = arguments["NewProtocol"], int(arguments["NewExternalPort"])
        return _fault(714) if self.mappings.pop(place, None) is None else _done("DeletePortMapping")


class _Ssdp(asyncio.DatagramProtocol):
    def __init__(self, igd: Igd) -> None:
        self._igd = igd

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if data.startswith(b"M-SEARCH * HTTP/1.1\r\n") and DEVICE.encode() in data:
            for answer in self._igd.answer_search(self._igd.search_answer()):
                self._transport.sendto(answer, addr)


@asynccontextmanager
async def serve_igd() -> AsyncIterator[Igd]:
    """Run one on free ports; searches go to `Igd.target`."""
    igd = Igd()
    server = await asyncio.start_server(igd.http, "127.0.0.1", 0)
    igd.http_port = server.sockets[0].getsockname()[1]
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: _Ssdp(igd), local_addr=("127.0.0.1", 0))
    igd.target = transport.get_extra_info("sockname")[:2]
    try:
        yield igd
    finally:
        transport.close()
        server.close()


def _page(status: int, body: str) -> bytes:
    data = body.encode()
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\nContent-Type: text/xml\r\n\r\n%b" % (
        status,
        len(data),
        data,
    )


def _soap(inner: str, status: int = 200) -> bytes:
    return _page(
        status,
        '<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"'
        ' s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>'
        f"{inner}</s:Body></s:Envelope>",
    )


def _done(action: str, inner: str = "") -> bytes:
    return _soap(f'<u:{action}Response xmlns:u="{SERVICE}">{inner}</u:{action}Response>')


def _fault(code: int) -> bytes:
    return _soap(
        "<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>"
        f'<UPnPError xmlns="urn:schemas-upnp-org:control-1-0"><errorCode>{code}</errorCode>'
        "<errorDescription>no</errorDescription></UPnPError></detail></s:Fault>",
        500,
    )
