"""The ways to one resolver: UDP with TCP behind it, or streams (TCP, TLS, HTTPS) that somebody else dials.

No socket is made here: UDP sockets come from the SocketFactory, streams from a dialer. A stream carries one
question at a time and is kept for the next ones, since through Tor each new stream costs a circuit.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from typing import Final, Protocol

from relay.discovery.dns.framing import MAX_MESSAGE, Framing, framing_of
from relay.discovery.dns.messages import Answer, Question, read_answer
from relay.discovery.dns.servers import DnsServer, Scheme
from relay.primitives.errors import ConnectFailed, DecodeError, LocalError
from relay.transports.dialer import Dialer
from relay.transports.sockets import SocketFactory, describe

__all__ = ["StreamWay", "TlsContexts", "UdpWay", "Way", "system_tls"]

IDLE: Final = 20.0  # seconds that a stream is kept without a question; resolvers close theirs about then
MAX_USES: Final = 512  # questions on one stream, then another circuit is taken
MAX_KEPT: Final = 4  # idle streams
_ALPN: Final = {Scheme.TLS: ["dot"], Scheme.HTTPS: ["http/1.1"]}  # RFC 7858 8.1 registers "dot"

TlsContexts = Callable[[Scheme], ssl.SSLContext]


class Way(Protocol):
    """A way to one resolver."""

    @property
    def label(self) -> str:
        """What it is, for logs."""
        ...

    @property
    def encrypted(self) -> bool:
        """Whether questions are to be padded."""
        ...

    async def ask(self, question: Question) -> Answer:
        """Ask, without a deadline of its own; a cancelled call leaves no socket behind.

        Raises:
            TransportError: it can't be reached, or went away.
            DecodeError: what it sends is no answer to this question.
        """
        ...

    def close(self) -> None:
        """Close what is open."""
        ...


@cache
def system_tls(scheme: Scheme) -> ssl.SSLContext:
    """Return a context that believes the system's certificate authorities and checks names."""
    return verifying(scheme)


def verifying(scheme: Scheme, cafile: str | None = None) -> ssl.SSLContext:
    """Make a context. cafile: certificate authorities in place of the system's."""
    context = ssl.create_default_context(cafile=cafile)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(_ALPN[scheme])
    return context


class _Stream(asyncio.Protocol):
    """One connection: a question, its answer, the next question."""

    def __init__(self, framing: Framing) -> None:
        self.transport: asyncio.Transport | None = None
        self.uses = 0
        self.timer: asyncio.TimerHandle | None = None
        self._framing = framing
        self._answer: asyncio.Future[bytes] | None = None

    @property
    def usable(self) -> bool:
        """Whether another question may go out."""
        open_ = self.transport is not None and not self.transport.is_closing()
        return open_ and self._framing.reusable and self.uses < MAX_USES

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    async def ask(self, wire: bytes) -> bytes:
        """Return the answer to a question. Cancelled, the stream is of no more use."""
        assert self.transport is not None
        self.uses += 1
        self._answer = asyncio.get_running_loop().create_future()
        if self.transport.is_closing():
            raise ConnectFailed("the resolver closed the connection")
        self.transport.write(self._framing.request(wire))
        return await self._answer

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._answer.done():
            self.close()  # nobody asked
            return
        try:
            message = self._framing.receive(data)
        except DecodeError as error:
            self._answer.set_exception(error)
            self.close()
            return
        if message is not None:
            self._answer.set_result(message)

    def eof_received(self) -> None:
        if self._answer is None or self._answer.done():
            return
        try:
            message = self._framing.receive(b"")  # a body without a length ends with the stream
        except DecodeError:
            return  # connection_lost() says so
        if message is not None:
            self._answer.set_result(message)

    def connection_lost(self, error: Exception | None) -> None:
        self.close()
        if self._answer is not None and not self._answer.done():
            words = describe(error) if isinstance(error, OSError) else "without an answer"
            self._answer.set_exception(ConnectFailed(f"the resolver closed the connection: {words}"))

    def close(self) -> None:
        """Close at once: an orderly end of TLS would wait for the other side."""
        if self.timer is not None:
            self.timer.cancel()
        if self.transport is not None:
            self.transport.abort()


class StreamWay:
    """A resolver over streams.

    Args:
        server: how and where.
        dialer: opens the streams; through Tor it takes names as they are.
        tls: contexts that check certificates.
    """

    def __init__(self, server: DnsServer, dialer: Dialer, tls: TlsContexts = system_tls) -> None:
        self.label = str(server)
        self.encrypted = server.encrypted
        self.opened = 0
        self._server = server
        self._dialer = dialer
        self._tls = tls
        self._kept: list[_Stream] = []

    async def ask(self, question: Question) -> Answer:
        """See `Way`. A kept stream that turns out to be closed is replaced by a new one."""
        kept = self._take_kept()
        if kept is not None:
            try:
                return await self._exchange(kept, question)
            except ConnectFailed:
                pass
        return await self._exchange(await self._open(), question)

    def close(self) -> None:
        """Close the streams that are kept."""
        while self._kept:
            self._kept.pop().close()

    async def _exchange(self, stream: _Stream, question: Question) -> Answer:
        with ExitStack() as guard:
            guard.callback(stream.close)
            answer = read_answer(question, await stream.ask(question.wire))
            if stream.usable and len(self._kept) < MAX_KEPT:
                guard.pop_all()
                self._keep(stream)
        return answer

    def _keep(self, stream: _Stream) -> None:
        self._kept.append(stream)
        stream.timer = asyncio.get_running_loop().call_later(IDLE, self._expire, stream)

    def _expire(self, stream: _Stream) -> None:
        self._kept.remove(stream)
        stream.close()

    def _take_kept(self) -> _Stream | None:
        while self._kept:
            stream = self._kept.pop()
            assert stream.timer is not None
            stream.timer.cancel()
            if stream.usable:
                return stream
        return None

    async def _open(self) -> _Stream:
        server = self._server
        transport, stream = await self._dialer.dial(server.endpoint, lambda: _Stream(framing_of(server)))
        self.opened += 1
        if server.encrypted:
            with ExitStack() as guard:
                guard.callback(transport.abort)
                await self._start_tls(transport, stream)
                guard.pop_all()
        return stream

    async def _start_tls(self, transport: asyncio.Transport, stream: _Stream) -> None:
        host = self._server.endpoint.host.rstrip(".")
        context = self._tls(self._server.scheme)
        try:
            # Where the mode may dial nothing but the proxy, the name still goes into the check, unresolved.
            stream.transport = await asyncio.get_running_loop().start_tls(
                transport, stream, context, server_hostname=host
            )
        except ssl.SSLCertVerificationError as error:
            why = error.verify_message.rstrip(".")
            raise ConnectFailed(
                f"its certificate is not believed: {why} (are ca-certificates there?)"
            ) from None
        except OSError as error:
            words = (error.reason or "it fails") if isinstance(error, ssl.SSLError) else describe(error)
            raise ConnectFailed(f"TLS: {words}") from error


class UdpWay:
    """A resolver on the clearnet: UDP, and TCP where an answer did not fit.

    Args:
        sockets: must allow UDP.
        host: IP literal.
        port: its port.
        tcp: the same resolver over TCP.
    """

    encrypted = False

    def __init__(self, sockets: SocketFactory, host: str, port: int, tcp: StreamWay) -> None:
        self.label = f"udp://[{host}]:{port}" if ":" in host else f"udp://{host}:{port}"
        self.truncated = 0
        self._sockets = sockets
        self._address = (host, port)
        self._tcp = tcp

    async def ask(self, question: Question) -> Answer:
        """See `Way`. Datagrams that are no answer to this question are passed over: anybody can send them."""
        answer = await self._ask_udp(question)
        if not answer.truncated:
            return answer
        self.truncated += 1
        return await self._tcp.ask(question)

    def close(self) -> None:
        """Close the streams of TCP."""
        self._tcp.close()

    async def _ask_udp(self, question: Question) -> Answer:
        loop = asyncio.get_running_loop()
        try:
            with self._sockets.bind_udp("::" if ":" in self._address[0] else "0.0.0.0", 0) as sock:
                # Connected, so that the kernel passes on nothing but what comes from there.
                await loop.sock_connect(sock, self._address)
                await loop.sock_sendall(sock, question.wire)
                while True:
                    data = await loop.sock_recv(sock, MAX_MESSAGE)
                    try:
                        return read_answer(question, data)
                    except DecodeError:
                        continue
        except LocalError as error:
            raise ConnectFailed(str(error)) from None
        except OSError as error:
            raise ConnectFailed(describe(error)) from error
