"""Answers for the status page: who may see what, and the stream that keeps a page live.

Who reaches the port over a network is told what the metrics tell, and no more. Our own addresses and the
peers are for this machine: a connection from loopback or over the unix socket, which no proxy has passed on.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Final, Protocol

from relay.observe.loop_stall import LoopClock
from relay.observe.snapshot import MetricsSource
from relay.observe.status_page.html import peers_page, policy, status_page
from relay.observe.status_page.pulse import Pulse
from relay.observe.status_page.source import StatusSource
from relay.observe.status_page.view import Part, StatusView, look

__all__ = ["Asked", "Found", "StatusSite"]

HTML: Final = "text/html; charset=utf-8"
TEXT: Final = "text/plain; charset=utf-8"
STREAM: Final = "text/event-stream"
PAUSE: Final = 2.0  # seconds between two pictures of a live page
MAX_LIVE: Final = 8  # live pages at a time
_PASSED_ON: Final = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")


class Asked(Protocol):
    """The part of a request that is looked at."""

    @property
    def path(self) -> str:
        """Without the query."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Names in any case."""
        ...

    @property
    def client(self) -> str:
        """IP address of who asks; "" over a unix socket."""
        ...


class Found:
    """An answer (`relay.rpc.httpd.Answer`).

    Attributes:
        stream: what follows, piece by piece; None where the body is all.
    """

    __slots__ = ("body", "content_type", "headers", "status", "stream")

    def __init__(
        self,
        body: bytes,
        content_type: str = HTML,
        status: int = 200,
        stream: AsyncGenerator[bytes, None] | None = None,
    ) -> None:
        self.status, self.body, self.content_type, self.stream = status, body, content_type, stream
        self.headers: Mapping[str, str] = {
            "Cache-Control": "no-store",
            "Content-Security-Policy": policy(),
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
        }


class StatusSite:
    """The page, the page of peers and the stream.

    Args:
        metrics: read for each picture.
        source: tells our addresses and our peers.
        readiness: what has to be so.
        stall: seconds that the event loop was held lately.
        loop: clock and timers.
        version: of this program.
    """

    def __init__(
        self,
        metrics: MetricsSource,
        source: StatusSource,
        readiness: Callable[[], Sequence[Part]],
        stall: Callable[[], float],
        loop: LoopClock,
        *,
        version: str,
    ) -> None:
        self._metrics, self._source, self._readiness, self._stall = metrics, source, readiness, stall
        self._clock, self._version = loop.time, version
        self._started = loop.time()
        self._live = 0
        self.pulse = Pulse(loop, metrics.snapshot)
        self._routes: Mapping[str, Callable[[bool], Found]] = {
            "/": lambda local: Found(status_page(self.view(local=local), self._version, local=local)),
            "/events": self._events,
            "/peers": lambda local: self._peers(local, addresses=False),
            "/peers/addresses": lambda local: self._peers(local, addresses=True),
        }

    def has(self, path: str) -> bool:
        """Tell whether a path is one of its own."""
        return path in self._routes

    def answer(self, request: Asked) -> Found:
        """Answer a request for a path that it has."""
        return self._routes[request.path](is_local(request))

    def view(self, *, local: bool) -> StatusView:
        """Return what is to be seen now."""
        return look(
            self._metrics.snapshot(),
            self._readiness(),
            self.pulse,
            clock=self._clock,
            started=self._started,
            stall=self._stall(),
            own=self._source.own_addresses() if local else (),
        )

    def _peers(self, local: bool, *, addresses: bool) -> Found:
        if not local:
            return Found(b"peers are shown on the relay's own machine only\n", TEXT, 403)
        return Found(peers_page(self._source.peers(), addresses=addresses))

    def _events(self, local: bool) -> Found:
        if self._live >= MAX_LIVE:
            return Found(b"too many pages are live\n", TEXT, 503)
        return Found(b"", STREAM, stream=self._pictures(local=local))

    async def _pictures(self, *, local: bool) -> AsyncGenerator[bytes, None]:
        self._live += 1
        try:
            yield b"retry: 3000\n\n"
            while True:
                text = json.dumps(self.view(local=local).to_json(), separators=(",", ":"))
                yield b"data: " + text.encode() + b"\n\n"
                await asyncio.sleep(PAUSE)
        finally:
            self._live -= 1


def is_local(request: Asked) -> bool:
    """Tell whether who asks is on this machine, as far as a connection can tell."""
    if any(name in request.headers for name in _PASSED_ON):
        return False
    if not request.client:
        return True
    try:
        address = ipaddress.ip_address(request.client.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback
