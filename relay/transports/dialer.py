"""Dialing a peer by its plan: way after way, each with its deadline, over whatever dialers the mode has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.errors import ConnectFailed, ConnectTimeout, DialRefused, Retry, TransportError
from relay.primitives.node import Node
from relay.transports.pacing import DialPacer
from relay.transports.policy import POLICY, DialPlan, Mode, Target, Way, is_fit, plan_dial
from relay.transports.sockets import SocketFactory, adopt

__all__ = [
    "DialDeadlines",
    "DialFailed",
    "DialPacer",
    "Dialed",
    "Dialer",
    "NodeDialer",
    "Resolver",
    "TcpDialer",
    "dialers_of",
]

P = TypeVar("P", bound=asyncio.BaseProtocol)


class Dialer(Protocol):
    """One kind of connection: TCP, SOCKS5, in memory."""

    async def dial(self, to: Endpoint, protocol_factory: Callable[[], P]) -> tuple[asyncio.Transport, P]:
        """Connect; the caller owns the deadline, and a cancelled call leaves no socket behind."""
        ...


class Resolver(Protocol):
    """Looks names up, where that is allowed."""

    async def resolve(self, name: str, port: int) -> tuple[Endpoint, ...]:
        """Return the addresses of a name, or raise TransportError."""
        ...


class TcpDialer:
    """Connects directly, to IP literals only.

    Args:
        sockets: must allow direct connections.
    """

    def __init__(self, sockets: SocketFactory) -> None:
        self._sockets = sockets

    async def dial(self, to: Endpoint, protocol_factory: Callable[[], P]) -> tuple[asyncio.Transport, P]:
        """Connect; cancelling closes the socket.

        Raises:
            DialRefused: the rules forbid it, or it is not an IP literal.
            ConnectFailed: the system said no.
        """
        if not to.is_ip:
            raise DialRefused("only an IP address can be dialed directly")
        return await adopt(await self._sockets.open_tcp(to.host, to.port), protocol_factory)


@dataclass(frozen=True, slots=True)
class DialDeadlines:
    """Seconds from the start of a dial to its connection, by way; waiting for a turn does not count."""

    direct: float = 15.0
    onion: float = 60.0  # p95 of onion requests on the public network is 50 s (tor.md, Numbers)
    exit: float = 30.0
    i2p: float = 90.0  # the search for the peer's tunnels, then a stream through six routers

    def of(self, way: Way) -> float:
        """Return the deadline of a way."""
        seconds = {
            Way.DIRECT: self.direct,
            Way.TOR_ONION: self.onion,
            Way.TOR_EXIT: self.exit,
            Way.I2P: self.i2p,
        }
        return seconds[way]


@dataclass(frozen=True, slots=True)
class Dialed(Generic[P]):
    """A connection, and the way it was made."""

    way: Way
    endpoint: Endpoint
    transport: asyncio.Transport
    protocol: P


def dialers_of(
    mode: Mode, sockets: SocketFactory, proxy: Dialer | None, i2p: Dialer | None = None
) -> dict[Way, Dialer]:
    """Return a dialer for each way that the mode's row of the table has, and for no other."""
    ways = {way for row in POLICY[mode].values() for way in row}
    dialers: dict[Way, Dialer] = {Way.DIRECT: TcpDialer(sockets)}
    if proxy is not None:
        dialers |= {Way.TOR_ONION: proxy, Way.TOR_EXIT: proxy}
    if i2p is not None:
        dialers[Way.I2P] = i2p
    return {way: dialer for way, dialer in dialers.items() if way in ways}


class DialFailed(TransportError):
    """Every target of a plan failed; worth another try as soon as one of them is.

    Attributes:
        failures: each target with its error, in the order of the tries.
    """

    def __init__(self, failures: tuple[tuple[Target, TransportError], ...]) -> None:
        text = "; ".join(f"{target.way.value}: {error}" for target, error in failures)
        super().__init__(text, retry=min((error.retry for _, error in failures), key=list(Retry).index))
        self.failures = failures


class NodeDialer:
    """Dials peers as the mode's policy says.

    Args:
        mode: fixed for the life of the process.
        dialers: by way; a way without one is refused, so only-onion is given nothing but TOR_ONION.
        resolver: for names in modes that dial them directly.
        pacers: by way; a way without one is not paced.
        deadlines: by way.
    """

    def __init__(
        self,
        mode: Mode,
        dialers: Mapping[Way, Dialer],
        *,
        resolver: Resolver | None = None,
        pacers: Mapping[Way, DialPacer] | None = None,
        deadlines: DialDeadlines | None = None,
    ) -> None:
        self.mode = mode
        self._dialers = dict(dialers)
        self._resolver = resolver
        self._pacers = dict(pacers or {})
        self._deadlines = deadlines or DialDeadlines()

    def narrowed(self, mode: Mode, ways: Collection[Way]) -> NodeDialer:
        """Return a dialer of another mode that has these ways of this one, and shares its pacers."""
        return NodeDialer(
            mode,
            {way: dialer for way, dialer in self._dialers.items() if way in ways},
            resolver=None if mode.hides_ip else self._resolver,
            pacers=self._pacers,
            deadlines=self._deadlines,
        )

    def plan(self, node: Node, *, allow_private: bool = False) -> DialPlan:
        """Fix how a peer may be dialed, for every retry. allow_private: the user gave the node."""
        return plan_dial(self.mode, node, allow_private=allow_private, i2p=Way.I2P in self._dialers)

    async def dial_node(self, plan: DialPlan, protocol_factory: Callable[[], P]) -> Dialed[P]:
        """Try the plan's targets in order and return the first connection.

        The factory is called once a connection is there. A cancelled call leaves no socket behind.

        Raises:
            DialRefused: the plan has nothing to try.
            DialFailed: all targets failed.
        """
        if not plan.targets:
            raise DialRefused(plan.refusal)
        failures: list[tuple[Target, TransportError]] = []
        for target in plan.targets:
            try:
                return await self._dial_target(plan, target, protocol_factory)
            except TransportError as error:
                failures.append((target, error))
        raise DialFailed(tuple(failures))

    async def _dial_target(
        self, plan: DialPlan, target: Target, protocol_factory: Callable[[], P]
    ) -> Dialed[P]:
        dialer = self._dialers.get(target.way)
        if dialer is None or target.way not in plan.ways:
            raise DialRefused(f"{self.mode.value} has no way {target.way.value}")
        async with self._turn(target.way):
            seconds = self._deadlines.of(target.way)
            try:
                async with asyncio.timeout(seconds):
                    return await self._connect(dialer, plan, target, protocol_factory)
            except TimeoutError:
                raise ConnectTimeout(f"no connection within {seconds:g} s") from None

    def _turn(self, way: Way) -> AbstractAsyncContextManager[None]:
        pacer = self._pacers.get(way)
        return nullcontext() if pacer is None else pacer.turn()

    async def _connect(
        self, dialer: Dialer, plan: DialPlan, target: Target, protocol_factory: Callable[[], P]
    ) -> Dialed[P]:
        failure: TransportError = ConnectFailed("the name has no address that may be dialed")
        for endpoint in await self._addresses(plan, target):
            try:
                transport, protocol = await dialer.dial(endpoint, protocol_factory)
            except TransportError as error:
                failure = error
            else:
                return Dialed(target.way, endpoint, transport, protocol)
        raise failure

    async def _addresses(self, plan: DialPlan, target: Target) -> tuple[Endpoint, ...]:
        """Through Tor a name goes as it is; only the direct way looks it up."""
        if target.way is not Way.DIRECT or target.endpoint.network is not Network.DNS:
            return (target.endpoint,)
        if self._resolver is None:
            raise DialRefused("names are not looked up on this host in this mode")
        found = await self._resolver.resolve(target.endpoint.host, target.endpoint.port)
        # Whoever owns the name may point it at our own network.
        return tuple(each for each in found if is_fit(each, allow_private=plan.allow_private))
