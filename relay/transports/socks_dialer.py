"""Dialing through Tor's SOCKS port: each connection on a circuit of its own, our own onion never."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Collection
from contextlib import ExitStack
from enum import StrEnum
from typing import Final, TypeVar

import structlog

from relay.primitives.address import Address
from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.errors import ConnectFailed, DialRefused, ProxyFailed
from relay.primitives.i2p import is_i2p
from relay.primitives.onion import is_onion
from relay.transports.sockets import SocketFactory, StreamSocket, adopt, describe
from relay.transports.socks5 import MAX_FIELD, REMEDY, Credentials, SocksHandshake

__all__ = ["Isolation", "Purpose", "SocksDialer"]

P = TypeVar("P", bound=asyncio.BaseProtocol)

GREETING_PATIENCE: Final = 10.0  # seconds; Tor answers a greeting before it builds any circuit
_TOKEN_BYTES: Final = 16
_DEAD: Final = "is Tor running? (systemctl status tor; or start one by --tor-launch)"


class Purpose(StrEnum):
    """What a stream is for; streams of two purposes never share a circuit."""

    PEER = "peer"
    DISCOVERY = "discovery"
    RPC = "rpc"
    DNS = "dns"
    BROADCAST = "broadcast"
    VERDICT = "verdict"
    PROBE = "probe"


class Isolation:
    """Makes credentials that no two connections share, nor two runs of this program (tor.md 14).

    Tor's SocksPort isolates by them unless told otherwise (IsolateSOCKSAuth). The token is hexadecimal, so it
    never begins with "<torS0X>", which Tor reads as a command.

    Args:
        rand: random bytes.
    """

    def __init__(self, rand: Callable[[int], bytes]) -> None:
        self._rand = rand
        self._on_renewed: list[Callable[[], None]] = []
        self._begin()

    def _begin(self) -> None:
        self._token = self._rand(_TOKEN_BYTES).hex().encode()
        self._serial = itertools.count(1)

    def on_renewed(self, leave: Callable[[], None]) -> None:
        """Have somebody told who keeps connections for later: those belong to the token of before.

        Args:
            leave: lets them end without harm to what is under way on them.
        """
        self._on_renewed.append(leave)

    def renew(self) -> None:
        """Take a token as a new run would, and have what is kept open give way to new connections."""
        self._begin()
        for leave in self._on_renewed:
            leave()

    def credentials(self, purpose: Purpose) -> Credentials:
        """Return credentials that were not handed out before."""
        return Credentials(self._token, f"{purpose.value}-{next(self._serial)}".encode())


class _Complaints:
    """Tells people of a proxy that is itself at fault: once for each cause, and when it works again.

    Dials fail by the hundred on a network of volunteers, and are told at debug; what is no proxy fails all.
    """

    def __init__(self) -> None:
        self._told = ""
        self._log = structlog.get_logger("relay.transports")

    def failed(self, error: ProxyFailed) -> None:
        if error.code:
            self.works()  # it is a proxy, and says no for the destination's sake
        elif str(error) != self._told:
            self._told = str(error)
            self._log.warning("the proxy is at fault", cause=self._told)

    def works(self) -> None:
        if self._told:
            self._told = ""
            self._log.info("the proxy works again")


class SocksDialer:
    """Connects through a SOCKS5 proxy, which gets every name unresolved.

    Args:
        sockets: must allow the proxy's address.
        proxy: where the proxy listens, TCP or unix.
        isolation: shared by all dialers of the process.
        purpose: what the connections are for.
        exits: whether anything but onions may be dialed; off in only-onion.
        own_onions: our own onion addresses at this time; they are refused before the proxy hears of them
            (tor.md 26).
        patience: seconds for the proxy's first answer; all the rest is the caller's one deadline.
    """

    def __init__(
        self,
        sockets: SocketFactory,
        proxy: Address,
        isolation: Isolation,
        *,
        purpose: Purpose = Purpose.PEER,
        exits: bool,
        own_onions: Callable[[], Collection[str]] = tuple,
        patience: float = GREETING_PATIENCE,
    ) -> None:
        self._sockets = sockets
        self._proxy = proxy
        self._isolation = isolation
        self._purpose = purpose
        self._exits = exits
        self._own_onions = own_onions
        self._patience = patience
        self._complaints = _Complaints()

    @property
    def isolation(self) -> Isolation:
        """What makes the credentials."""
        return self._isolation

    def for_purpose(self, purpose: Purpose) -> SocksDialer:
        """Return a dialer of the same proxy and rules, isolated for another purpose."""
        other = SocksDialer(
            self._sockets,
            self._proxy,
            self._isolation,
            purpose=purpose,
            exits=self._exits,
            own_onions=self._own_onions,
            patience=self._patience,
        )
        other._complaints = self._complaints
        return other

    async def dial(self, to: Endpoint, protocol_factory: Callable[[], P]) -> tuple[asyncio.Transport, P]:
        """Connect; the caller owns the deadline, and cancelling closes the socket.

        Raises:
            DialRefused: the rules forbid it; the proxy was not asked.
            ProxyFailed: with the proxy's reply code; with code 0 if the proxy itself is at fault.
        """
        host = self._permitted(to)
        handshake = SocksHandshake(
            Endpoint(to.network, host, to.port), self._isolation.credentials(self._purpose)
        )
        with ExitStack() as guard:
            try:
                sock = await self._open_proxy()
                guard.callback(sock.close)
                await self._negotiate(sock, handshake)
            except ProxyFailed as error:
                self._complaints.failed(error)
                raise
            guard.pop_all()
        self._complaints.works()
        return await adopt(sock, protocol_factory)

    def _permitted(self, to: Endpoint) -> str:
        host = to.host.lower().rstrip(".")
        if is_i2p(host):
            raise DialRefused("an I2P address is nothing that Tor can reach")
        if to.network is not Network.ONION and is_onion(host):
            raise DialRefused("a name that ends with .onion is no valid onion address")
        if to.network is not Network.ONION and not self._exits:
            raise DialRefused("nothing but onion addresses is dialed in only-onion")
        if to.network is Network.ONION and host in {each.lower() for each in self._own_onions()}:
            raise DialRefused("it is our own onion address")
        if to.port == 0 or not host.isascii() or not 0 < len(host) <= MAX_FIELD:
            raise DialRefused("it is not an address that SOCKS can carry")
        return host

    async def _open_proxy(self) -> StreamSocket:
        try:
            return await self._sockets.open(self._proxy)
        except ConnectFailed as error:
            raise ProxyFailed(f"no proxy answers at {self._proxy} ({error}): {_DEAD}") from error

    async def _negotiate(self, sock: StreamSocket, handshake: SocksHandshake) -> None:
        try:
            await exchange(sock, handshake, self._patience)
        except ProxyFailed as error:
            if error.code:
                raise
            raise ProxyFailed(f"{error} (now {self._proxy})", retry=error.retry) from None
        except OSError as error:
            raise ProxyFailed(
                f"the proxy {self._proxy} broke the connection off: {describe(error)}; {_DEAD}"
            ) from error


async def exchange(sock: StreamSocket, handshake: SocksHandshake, patience: float) -> None:
    """Drive a handshake over a connected nonblocking socket. Leaves the destination's bytes in the socket.

    Args:
        sock: connected to the proxy.
        handshake: not begun.
        patience: seconds for the answer to the greeting.

    Raises:
        ProxyFailed: see `SocksHandshake`; or the proxy says nothing, or closed early.
        OSError: the socket broke.
    """
    loop = asyncio.get_running_loop()
    deadline = asyncio.timeout(patience)
    try:
        async with deadline:
            while not handshake.done:
                if output := handshake.take_output():
                    await loop.sock_sendall(sock, output)
                data = await loop.sock_recv(sock, handshake.wanted)
                if not data:
                    raise ProxyFailed(f"the proxy closed the connection before its answer: {REMEDY}")
                handshake.receive(data)
                if handshake.greeted:
                    deadline.reschedule(None)
    except TimeoutError:
        if not deadline.expired():
            raise  # ETIMEDOUT of the socket
        raise ProxyFailed(f"the proxy accepts, but says nothing for {patience:g} s: {REMEDY}") from None
