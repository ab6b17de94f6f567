"""A DNS server on loopback: UDP and TCP on one port, TLS and HTTPS on ports of their own.

    async with DnsServerAid(texts) as server:
        ...                      # ask 127.0.0.1:server.port, server.tls_port, server.https_port
        assert server.asked == [("udp", "list.example.org")]

`texts` are TXT records by name; `DnsServerAid.of_zone` reads them out of a zone file with dnspython's parser.
`act` says how it misbehaves, and may be changed at any time.
"""

from __future__ import annotations

import asyncio
import datetime
import io
import ipaddress
import ssl
import sys
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Self

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.zone
import h11
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOST = "127.0.0.1"
JSON = [(b"Content-Type", b"application/json")]


class DnsAct(Enum):
    """What the server does with a question."""

    OK = "answer"
    TRUNCATE = "answer UDP with nothing but the truncation bit"
    SERVFAIL = "fail"
    REFUSED = "refuse"
    SILENT = "say nothing"
    GARBAGE = "send bytes that are no message"
    WRONG_ID = "answer with another id"
    WRONG_NAME = "answer another question"
    DRIP = "send the first half of a stream's answer, and never the rest"
    CLOSE = "close the stream in place of an answer"
    CLOSE_AFTER = "close the stream behind an answer"
    TWICE = "send the answer twice"
    REDIRECT = "HTTP: redirect"
    WRONG_TYPE = "HTTP: JSON"
    GZIP = "HTTP: a compressed body"
    ENDLESS = "HTTP: a body without end"
    CHUNKED = "HTTP: an answer in chunks"
    NO_LENGTH = "HTTP: a body that ends with the connection"


@dataclass
class DnsServerAid:
    """See the module.

    Attributes:
        texts: TXT records by name.
        names: what the certificate is for; None for no TLS.
        spoof: UDP: send these before the answer.
    """

    texts: dict[str, list[str]]
    act: DnsAct = DnsAct.OK
    authority: Authority | None = None
    names: tuple[str, ...] = ("dns.test",)
    aliases: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    padded: list[int] = field(default_factory=list)
    streams: int = 0
    requests: list[dict[bytes, bytes]] = field(default_factory=list)
    port: int = 0
    tls_port: int = 0
    https_port: int = 0

    def __post_init__(self) -> None:
        self._servers: list[asyncio.Server] = []
        self._handlers: set[asyncio.Task[None]] = set()
        self._udp: asyncio.DatagramTransport | None = None

    @classmethod
    def of_zone(cls, zone: str, origin: str, **options) -> Self:
        parsed = dns.zone.from_file(io.StringIO(zone), origin, check_origin=False, relativize=False)
        texts = {
            name.to_text(omit_final_dot=True): [b"".join(each.strings).decode() for each in found]
            for name, found in parsed.iterate_rdatasets(dns.rdatatype.TXT)
        }
        return cls(texts, **options)

    async def __aenter__(self) -> Self:
        tcp = await asyncio.start_server(self._tracked(self._serve_stream, "tcp"), HOST, self.port)
        self.port = tcp.sockets[0].getsockname()[1]
        self._servers.append(tcp)
        loop = asyncio.get_running_loop()
        self._udp, _ = await loop.create_datagram_endpoint(lambda: _Udp(self), local_addr=(HOST, self.port))
        if self.authority is not None:
            context = self.authority.server_context(self.names)
            tls = await asyncio.start_server(self._tracked(self._serve_stream, "tls"), HOST, 0, ssl=context)
            https = await asyncio.start_server(self._tracked(self._serve_http, "https"), HOST, 0, ssl=context)
            self._servers += [tls, https]
            self.tls_port = tls.sockets[0].getsockname()[1]
            self.https_port = https.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._udp is not None
        self._udp.close()
        for server in self._servers:
            server.close()
        for task in list(self._handlers):
            task.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)

    def answer(self, wire: bytes, way: str) -> bytes | None:
        """Return the answer to a question; None for none."""
        query = dns.message.from_wire(wire)
        name = query.question[0].name.to_text(omit_final_dot=True)
        self.asked.append((way, name))
        self.padded.append(len(wire))
        if self.act is DnsAct.SILENT:
            return None
        if self.act is DnsAct.GARBAGE:
            return b"\xff" * 40
        answer = self._answer(query, name, way)
        try:
            return answer.to_wire(max_size=query.payload or 512 if way == "udp" else 0xFFFF)
        except dns.exception.TooBig:
            answer = dns.message.make_response(query)
            answer.flags |= dns.flags.TC
            return answer.to_wire()

    def _answer(self, query: dns.message.Message, name: str, way: str) -> dns.message.Message:
        if self.act is DnsAct.WRONG_NAME:
            query = dns.message.make_query("other.example.org", "TXT", id=query.id)
        answer = dns.message.make_response(query)
        if self.act is DnsAct.WRONG_ID:
            answer.id ^= 1
        if self.act in (DnsAct.SERVFAIL, DnsAct.REFUSED):
            answer.set_rcode(dns.rcode.from_text(self.act.name))
            return answer
        if self.act is DnsAct.TRUNCATE and way == "udp":
            answer.flags |= dns.flags.TC
            return answer
        owner = self.aliases.get(name, name)
        if owner != name:
            answer.answer.append(dns.rrset.from_text(f"{name}.", 60, "IN", "CNAME", f"{owner}."))
        texts = self.texts.get(owner)
        if texts is None:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif texts:
            answer.answer.append(
                dns.rrset.from_text(f"{owner}.", 60, "IN", "TXT", *(_quoted(text) for text in texts))
            )
        return answer

    def _tracked(self, serve, way: str):
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._handlers.add(task)
            self.streams += 1
            try:
                await serve(reader, writer, way)
            except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass
            finally:
                writer.transport.abort()
                self._handlers.discard(task)

        return handle

    async def _serve_stream(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str
    ) -> None:
        while True:
            length = int.from_bytes(await reader.readexactly(2), "big")
            answer = self.answer(await reader.readexactly(length), way)
            if self.act is DnsAct.CLOSE:
                return
            if answer is None:
                continue
            framed = len(answer).to_bytes(2, "big") + answer
            if self.act is DnsAct.DRIP:
                framed = framed[: len(framed) // 2]
            writer.write(framed * (2 if self.act is DnsAct.TWICE else 1))
            await writer.drain()
            if self.act is DnsAct.CLOSE_AFTER:
                return

    async def _serve_http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str) -> None:
        http = h11.Connection(h11.SERVER)
        body = b""
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(await reader.read(65536))
            elif isinstance(event, h11.Request):
                assert (event.method, event.target) == (b"POST", b"/dns-query")
                self.requests.append(dict(event.headers))
                body = b""
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                await self._respond(http, writer, self.answer(body, way))
                if http.our_state is h11.MUST_CLOSE or self.act is DnsAct.CLOSE_AFTER:
                    return
                http.start_next_cycle()
            else:
                return

    async def _respond(
        self, http: h11.Connection, writer: asyncio.StreamWriter, answer: bytes | None
    ) -> None:
        if answer is None:
            await asyncio.Event().wait()
        assert answer is not None
        headers = [(b"Content-Type", b"application/dns-message")]
        status = 302 if self.act is DnsAct.REDIRECT else 200
        if self.act is DnsAct.WRONG_TYPE:
            headers = JSON
        if self.act is DnsAct.GZIP:
            headers.append((b"Content-Encoding", b"gzip"))
        if self.act is DnsAct.NO_LENGTH:
            headers.append((b"Connection", b"close"))
            writer.write(b"HTTP/1.1 200 OK\r\n")
            writer.write(b"".join(name + b": " + value + b"\r\n" for name, value in headers))
            writer.write(b"\r\n" + answer)
            await writer.drain()
            raise asyncio.CancelledError
        if self.act is DnsAct.ENDLESS:
            answer = bytes(1 << 20)
        if self.act not in (DnsAct.CHUNKED, DnsAct.ENDLESS):
            headers.append((b"Content-Length", str(len(answer)).encode()))
        writer.write(http.send(h11.Response(status_code=status, headers=headers)) or b"")
        half = len(answer) // 2
        writer.write(http.send(h11.Data(data=answer[:half])) or b"")
        await writer.drain()
        if self.act is DnsAct.DRIP:
            await asyncio.Event().wait()
        writer.write(http.send(h11.Data(data=answer[half:])) or b"")
        writer.write(http.send(h11.EndOfMessage()) or b"")
        await writer.drain()


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServerAid) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # of a class that is no DatagramTransport in 3.11

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        answer = self._server.answer(data, "udp")
        if answer is not None:
            self._transport.sendto(answer, address)


class Authority:
    """A throwaway certificate authority in a folder.

    Attributes:
        cafile: its certificate, for clients.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "throwaway")])
        certificate = (
            self._builder(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .add_extension(_usage(signs=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.cafile = folder / "ca.pem"
        self.cafile.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def server_context(self, names: tuple[str, ...]) -> ssl.SSLContext:
        """Return a context with a certificate for these names and addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
        certificate = (
            self._builder(subject, key)
            .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        file = self._folder / "server.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _quoted(text: str) -> str:
    parts = [text[at : at + 255] for at in range(0, len(text), 255)] or [""]
    return " ".join(f'"{part}"' for part in parts)


async def serve_for(zone: Path, origin: str, command: list[str]) -> int:
    """Serve a zone file on port 53 while a command runs, and return its exit code."""
    async with DnsServerAid.of_zone(zone.read_text(), origin, port=53):
        child = await asyncio.create_subprocess_exec(*command)
        return await child.wait()


if __name__ == "__main__":  # python -m tests.aids.dns_server ZONE ORIGIN COMMAND...
    sys.exit(asyncio.run(serve_for(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])))
