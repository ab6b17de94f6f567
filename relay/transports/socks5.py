"""The client's half of SOCKS5, without I/O: bytes in, bytes out.

Specs: RFC 1928, RFC 1929 (user name and password), Tor's socks-extensions.txt and the flag ExtendedErrors of
SocksPort (reply codes 0xf0 to 0xf7). Why it is our own: docs/adr/0003-own-socks-client.md.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from relay.primitives.endpoint import Endpoint
from relay.primitives.errors import ProxyFailed, Retry

__all__ = ["REPLIES", "Credentials", "Reply", "SocksHandshake"]

VERSION: Final = 5
AUTH_VERSION: Final = 1  # RFC 1929
METHOD_NONE: Final = 0x00
METHOD_PASSWORD: Final = 0x02
METHOD_REFUSED: Final = 0xFF
CONNECT: Final = 0x01
RESOLVE: Final = 0xF0  # Tor's own; an IP address is answered at once, by no other proxy
ATYP_IPV4: Final = 0x01
ATYP_NAME: Final = 0x03
ATYP_IPV6: Final = 0x04
MAX_FIELD: Final = 255  # bytes of a name, user name or password: its length is one byte


@dataclass(frozen=True, slots=True)
class Credentials:
    """User name and password, 1 to 255 bytes each; for Tor they only name a circuit. Never shown."""

    username: bytes = field(repr=False)
    password: bytes = field(repr=False)

    def __post_init__(self) -> None:
        assert 0 < len(self.username) <= MAX_FIELD
        assert 0 < len(self.password) <= MAX_FIELD


@dataclass(frozen=True, slots=True)
class Reply:
    """What a reply code of a proxy means: the words, and when another try is worth it."""

    words: str
    retry: Retry


REPLIES: Final[dict[int, Reply]] = {
    # RFC 1928, section 6
    0x01: Reply("it failed, for a reason it does not name", Retry.SHORT),
    0x02: Reply("its rules (or those of every exit) do not allow this destination", Retry.LONG),
    0x03: Reply("the network is unreachable", Retry.LONG),
    0x04: Reply("the host is unreachable or its name is unknown", Retry.LONG),
    0x05: Reply("the destination refused the connection", Retry.SHORT),
    0x06: Reply("the destination did not answer in time", Retry.SHORT),
    0x07: Reply("it can not connect at all: is this really Tor's SocksPort?", Retry.LONG),
    0x08: Reply("it does not take this kind of address", Retry.LONG),
    # tor(1), ExtendedErrors
    0xF0: Reply("the onion service can not be found", Retry.LONG),
    0xF1: Reply("the onion service's descriptor is invalid", Retry.NEVER),
    0xF2: Reply("no introduction point of the onion service works", Retry.LONG),
    0xF3: Reply("the rendezvous with the onion service failed", Retry.SHORT),
    0xF4: Reply("the onion service wants client authorization, and we have none for it", Retry.NEVER),
    0xF5: Reply("the onion service does not accept our client authorization", Retry.NEVER),
    0xF6: Reply("the onion address is invalid", Retry.NEVER),
    0xF7: Reply("the introduction to the onion service timed out", Retry.SHORT),
}
_UNKNOWN: Final = Reply("it failed with a code that no specification has", Retry.SHORT)

# The first byte of an answer tells what listens there instead.
_STRANGERS: Final[dict[int, str]] = {
    0x00: "answers in SOCKS4",
    0x04: "answers in SOCKS4",
    ord("H"): "answers in HTTP, so it is a web server or an HTTP proxy",
    ord("2"): "answers like a control port",
    ord("5"): "answers like a control port",
}
REMEDY: Final = "give Tor's SocksPort as --tor-proxy"


class SocksHandshake:
    """One request, from the greeting to the proxy's reply.

    Write what `take_output` returns, read at most `wanted` bytes, hand them to `receive`, until `done`.
    Reading no more than `wanted` leaves the destination's first bytes in the socket for whoever comes next.

    Args:
        to: onion addresses and names go out as names, for the proxy to resolve.
        credentials: the only method offered, since a proxy that picked "none" would share circuits.
        command: CONNECT, or RESOLVE, whose answer has the same form.
    """

    def __init__(
        self, to: Endpoint, credentials: Credentials | None = None, *, command: int = CONNECT
    ) -> None:
        self._credentials = credentials
        self._request = bytes((VERSION, command, 0)) + _encode(to)
        self._method = METHOD_NONE if credentials is None else METHOD_PASSWORD
        self._output = bytearray((VERSION, 1, self._method))
        self._buffer = bytearray()
        self._next: Callable[[bytes], None] | None = None
        self._expect(2, self._method_chosen)

    @property
    def done(self) -> bool:
        """Whether the proxy has connected us."""
        return self._next is None

    @property
    def greeted(self) -> bool:
        """Whether the proxy has answered at all."""
        return self._next != self._method_chosen

    @property
    def wanted(self) -> int:
        """Bytes to read next; 0 once done."""
        return 0 if self.done else self._length - len(self._buffer)

    def take_output(self) -> bytes:
        """Return the bytes to write now, once."""
        output = bytes(self._output)
        self._output.clear()
        return output

    def receive(self, data: bytes) -> bytes:
        """Take bytes of the proxy in any pieces; returns those behind the handshake: the destination's.

        Raises:
            ProxyFailed: it said no (with its code), or it is no SOCKS5 proxy that we can use (code 0).
        """
        self._buffer += data
        while self._next is not None and len(self._buffer) >= self._length:
            part = bytes(self._buffer[: self._length])
            del self._buffer[: self._length]
            step, self._next = self._next, None
            step(part)
        if not self.done:
            return b""
        surplus = bytes(self._buffer)
        self._buffer.clear()
        return surplus

    def _expect(self, length: int, step: Callable[[bytes], None]) -> None:
        self._length, self._next = length, step

    def _method_chosen(self, part: bytes) -> None:
        if part[0] != VERSION:
            raise ProxyFailed(f"the proxy {_STRANGERS.get(part[0], 'does not speak SOCKS5')}: {REMEDY}")
        if part[1] == METHOD_REFUSED:
            raise ProxyFailed(f"the proxy {self._refusal()}: {REMEDY}")
        if part[1] != self._method:
            raise ProxyFailed(f"the proxy chose method 0x{part[1]:02X}, which was not offered: {REMEDY}")
        if self._credentials is None:
            self._ask()
            return
        name, password = self._credentials.username, self._credentials.password
        self._output += bytes((AUTH_VERSION, len(name))) + name + bytes((len(password),)) + password
        self._expect(2, self._authenticated)

    def _refusal(self) -> str:
        if self._credentials is None:
            return "wants a password"
        return "does not take user name and password, which keep each peer on a circuit of its own"

    def _authenticated(self, part: bytes) -> None:
        if part[0] != AUTH_VERSION:
            raise ProxyFailed(f"the proxy sends garbage in place of an answer to the password: {REMEDY}")
        if part[1] != 0:
            raise ProxyFailed(f"the proxy refuses our user name and password (Tor takes any): {REMEDY}")
        self._ask()

    def _ask(self) -> None:
        self._output += self._request
        self._expect(2, self._answered)

    def _answered(self, part: bytes) -> None:
        # The verdict is read by itself: some proxies close behind these two bytes.
        version, code = part
        if version != VERSION:
            raise ProxyFailed(f"the proxy sends garbage in place of a SOCKS5 reply: {REMEDY}")
        if code != 0:
            reply = REPLIES.get(code, _UNKNOWN)
            raise ProxyFailed(f"the proxy says: {reply.words} (0x{code:02X})", code=code, retry=reply.retry)
        # Reserved byte (checked by nobody), address type, and the first byte that any address has.
        self._expect(3, self._address_begun)

    def _address_begun(self, part: bytes) -> None:
        lengths = {ATYP_IPV4: 4 - 1, ATYP_IPV6: 16 - 1, ATYP_NAME: part[2]}
        length = lengths.get(part[1])
        if length is None:
            raise ProxyFailed(f"the proxy names an address of the unknown type 0x{part[1]:02X}: {REMEDY}")
        self._expect(length + 2, self._finished)

    def _finished(self, part: bytes) -> None:
        """The address the proxy bound tells us nothing; `_next` stays None."""


def _encode(to: Endpoint) -> bytes:
    """Spec: RFC 1928 section 5. An onion address is in lower case, as Endpoint.parse made it."""
    port = to.port.to_bytes(2, "big")
    if to.is_ip:
        address = ipaddress.ip_address(to.host)
        return bytes((ATYP_IPV4 if address.version == 4 else ATYP_IPV6,)) + address.packed + port
    name = to.host.encode("ascii")
    assert 0 < len(name) <= MAX_FIELD
    return bytes((ATYP_NAME, len(name))) + name + port
