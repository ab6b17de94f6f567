"""How others learn where we are behind a router: ``--nat`` in geth's vocabulary, and ports that stay mapped.

What speaks with the router is a `Gateway`; UPnP's is in upnp.py. Words: go-ethereum p2p/nat/nat.go.
"""

from __future__ import annotations

import asyncio
import importlib
import ipaddress
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol, TypeAlias

import structlog

from relay.primitives.endpoint import Endpoint
from relay.primitives.errors import TransportError, UsageError
from relay.transports.policy import Mode
from relay.transports.sockets import SocketFactory

__all__ = [
    "External",
    "FixedNat",
    "Gateway",
    "MappedNat",
    "Method",
    "Nat",
    "NatChoice",
    "NatFailed",
    "NatOptions",
    "NoNat",
    "OnExternal",
    "make_nat",
    "parse_nat",
]

log = structlog.get_logger("relay.discovery")

# Error codes of UPnP's WANIPConnection, and what they stand for to us whatever the protocol.
CONFLICT: Final = 718  # somebody else has that port
PERMANENT_ONLY: Final = 725  # the router knows mappings without an end only
FIRST_OTHER_PORT: Final = 10_000


class Method(StrEnum):
    """What was asked for."""

    NONE = "none"
    EXTIP = "extip"
    ANY = "any"
    UPNP = "upnp"


_WORDS: Final = {
    "": Method.NONE, "none": Method.NONE, "off": Method.NONE,
    "any": Method.ANY, "auto": Method.ANY, "on": Method.ANY,
    "extip": Method.EXTIP, "ip": Method.EXTIP,
    "upnp": Method.UPNP,
}  # fmt: skip
_NO_PMP: Final = (
    "NAT-PMP is not built in: no library of it for Python is kept (the newest release is of 2023)."
    " Most routers that have it speak UPnP, too: use upnp; or map the ports by hand and use extip:IP"
)
_NO_STUN: Final = (
    "STUN is not built in: it asks a server of a third party where we are. Our peers tell the same, by their"
    " votes in discovery, without --nat; or use extip:IP"
)
_REFUSED: Final = {"pmp": _NO_PMP, "natpmp": _NO_PMP, "nat-pmp": _NO_PMP, "stun": _NO_STUN}


@dataclass(frozen=True, slots=True)
class NatChoice:
    """A value of ``--nat``.

    Attributes:
        method: what to do.
        ip: with EXTIP, the address that others shall use.
    """

    method: Method
    ip: str | None = None

    def check_mode(self, mode: Mode) -> None:
        """Refuse what would show an address that the mode hides.

        Raises:
            UsageError: something else than none, in a mode that hides the IP.
        """
        if mode.hides_ip and self.method is not Method.NONE:
            raise UsageError(
                f"--nat {self}: {mode.value} hides this host's IP address, so none is made known:"
                " leave --nat out"
            )

    def __str__(self) -> str:
        return self.method.value if self.ip is None else f"{self.method.value}:{self.ip}"


def parse_nat(text: str) -> NatChoice:
    """Read a value of ``--nat`` as geth spells it; capitals don't count.

    Raises:
        UsageError: an unknown word, an address that is none, or a method that is not built in; says why.
    """
    word, colon, rest = text.strip().partition(":")
    name = word.lower()
    if name in _REFUSED:
        raise UsageError(f"--nat {text[:64]}: {_REFUSED[name]}")
    method = _WORDS.get(name)
    if method is None:
        raise UsageError(f"--nat {text[:64]!r}: known are none, extip:IP, any and upnp")
    if method is Method.EXTIP:
        return NatChoice(method, _own_address(rest))
    if colon:
        raise UsageError(f"--nat {text[:64]}: {name or 'none'} takes no address")
    return NatChoice(method)


def _own_address(text: str) -> str:
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        raise UsageError(f"--nat extip:{text[:64]}: expected an IP address, as in extip:77.12.33.4") from None
    if address.is_unspecified or address.is_multicast:
        raise UsageError(f"--nat extip:{address}: nobody can be reached there")
    return str(address)


class NatFailed(TransportError):
    """The router does not do what it was asked for.

    Attributes:
        code: CONFLICT, PERMANENT_ONLY, another one of the router's, or 0.
    """

    def __init__(self, message: str, *, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class External:
    """Where others reach us. The ports can be others than our own, if somebody had ours already."""

    ip: str
    tcp: int
    udp: int


OnExternal: TypeAlias = Callable[[External | None], None]
"""Told of each new address; of None when it no longer holds."""


class Nat(Protocol):
    """Makes us reachable."""

    async def run(self, on_external: OnExternal) -> None:
        """Tell where we are, and keep it so; may end early when there is nothing to keep."""


class NoNat:
    """Does nothing."""

    async def run(self, on_external: OnExternal) -> None:
        """End at once."""


class FixedNat:
    """Tells what the user has given; ports are mapped by hand, or need not be."""

    def __init__(self, external: External) -> None:
        self._external = external

    async def run(self, on_external: OnExternal) -> None:
        """Tell it, and end."""
        on_external(self._external)


class Gateway(Protocol):
    """A router that was found. All its calls raise NatFailed, and have a deadline of their own."""

    async def external_ip(self) -> str:
        """Return the address that it has on the outside."""

    async def add(self, protocol: str, external: int, internal: int, lease: int) -> None:
        """Map a port to ours. protocol: TCP or UDP; lease: seconds, 0 for no end."""

    async def delete(self, protocol: str, external: int) -> None:
        """Give a mapped port back."""


@dataclass(frozen=True, slots=True)
class NatOptions:
    """Numbers of port mapping.

    Attributes:
        lease: seconds that a mapping is asked for; it is renewed after a half of them.
        retry: seconds until the router is looked for again.
        other_ports: how many other ports are tried where ours is taken.
        goodbye: seconds for giving the ports back.
    """

    lease: int = 1200
    retry: float = 300.0
    other_ports: int = 3
    goodbye: float = 2.0


class MappedNat:
    """Keeps a TCP and a UDP port mapped, looking for the router again whenever it fails.

    Args:
        find: finds the router; raises NatFailed.
        tcp: our listener's port.
        udp: our discovery's port.
        rand: random bytes.
        options: tuning.
        sleep: waits that many seconds.
    """

    def __init__(
        self,
        find: Callable[[], Awaitable[Gateway]],
        *,
        tcp: int,
        udp: int,
        rand: Callable[[int], bytes],
        options: NatOptions | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._find = find
        self._ports = {"TCP": tcp, "UDP": udp}
        self._rand = rand
        self._options = options or NatOptions()
        self._sleep = sleep
        self._lease = self._options.lease

    async def run(self, on_external: OnExternal) -> None:
        """Map until cancelled; then the ports are given back, within `NatOptions.goodbye`."""
        while True:
            try:
                await self._keep(await self._find(), on_external)
            except NatFailed as error:
                log.warning("ports are not mapped", cause=str(error), next_try=self._options.retry)
            await self._sleep(self._options.retry)

    async def _keep(self, gateway: Gateway, on_external: OnExternal) -> None:
        held: dict[str, int] = {}
        told: External | None = None
        try:
            while True:
                ip = _global(await gateway.external_ip())
                for protocol, internal in self._ports.items():
                    held[protocol] = await self._map(gateway, protocol, held.get(protocol, internal))
                external = External(ip, held["TCP"], held["UDP"])
                if external != told:
                    told = external
                    log.info("ports are mapped", tcp=external.tcp, udp=external.udp)
                    on_external(external)
                await self._sleep(self._options.lease / 2)
        finally:
            if told is not None:
                on_external(None)
            await self._give_back(gateway, held)

    async def _map(self, gateway: Gateway, protocol: str, wanted: int) -> int:
        for port in (wanted, *(self._other_port() for _ in range(self._options.other_ports))):
            try:
                await self._add(gateway, protocol, port)
            except NatFailed as error:
                if error.code != CONFLICT:
                    raise
            else:
                return port
        raise NatFailed(f"another machine has {protocol} port {wanted} of the router, and others we tried")

    async def _add(self, gateway: Gateway, protocol: str, port: int) -> None:
        internal = self._ports[protocol]
        try:
            await gateway.add(protocol, port, internal, self._lease)
        except NatFailed as error:
            if error.code != PERMANENT_ONLY or not self._lease:
                raise
            self._lease = 0
            await gateway.add(protocol, port, internal, 0)

    async def _give_back(self, gateway: Gateway, held: dict[str, int]) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._options.goodbye):
                for protocol, port in held.items():
                    with suppress(NatFailed):
                        await gateway.delete(protocol, port)

    def _other_port(self) -> int:
        return FIRST_OTHER_PORT + int.from_bytes(self._rand(4), "big") % (0x10000 - FIRST_OTHER_PORT)


def make_nat(
    choice: NatChoice, sockets: SocketFactory, *, tcp: int, udp: int, rand: Callable[[int], bytes]
) -> Nat:
    """Return what does as was asked.

    Args:
        choice: checked against the mode.
        sockets: makes what is needed to reach the router.
        tcp: our listener's port.
        udp: our discovery's port.
        rand: random bytes.
    """
    if choice.method is Method.NONE:
        return NoNat()
    if choice.ip is not None:
        return FixedNat(External(choice.ip, tcp, udp))
    # Imported when asked for: 3 MB that a relay without a router need not hold. `any` is all that we have.
    upnp = importlib.import_module("relay.discovery.upnp")
    return MappedNat(lambda: upnp.find_gateway(sockets), tcp=tcp, udp=udp, rand=rand)


def _global(ip: str) -> str:
    """Take the router's word for our address, if others can reach it."""
    try:
        endpoint = Endpoint.parse(str(ipaddress.ip_address(ip)), 0)
    except ValueError:
        raise NatFailed("the router tells no IP address") from None
    if endpoint.is_private:
        raise NatFailed("the router has itself a private address, so there is another NAT beyond it")
    return endpoint.host
