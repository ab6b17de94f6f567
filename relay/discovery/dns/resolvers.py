"""Asking for TXT records: the system's resolvers on the clearnet, resolvers behind Tor where IPs are hidden.

Where Tor is required, nothing here touches the system's resolver or a socket of its own: the socket rules
refuse UDP and direct connections below us, and no name is looked up, since SOCKS takes names as they are.

Who learns what, through Tor: the exit sees which resolver is asked (by address and by TLS's server name) and
how much is said, not what, as long as TLS is spoken; with a plain tcp:// resolver it sees all and may forge,
which the signed tree turns into a refusal. The resolver sees the questions, so which list is read, and that
an exit asks; not who. An onion resolver needs no exit. Streams are kept: the questions of one list belong
together anyway by their names, and a circuit for each of thousands would cost Tor much and hide nothing.
Lists that shall not be tied to one another need resolvers of their own (one `DnsLists` with its resolver for
each): every stream is dialed with credentials of its own, so two resolvers never share a circuit.

The public resolvers asked where the user names none, the first that answers being kept until it fails:
Cloudflare by HTTPS (port 443, which nearly every exit allows), Quad9 by TLS (a foundation; it ended HTTP/1.1
in 2025, and its port 853 is not in Tor's reduced exit policy, so fewer exits do), Google by HTTPS.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol, TypeVar

import structlog

from relay.discovery.dns.messages import Answer, Question, make_question
from relay.discovery.dns.servers import PUBLIC_SERVERS, DnsServer
from relay.discovery.dns.system import SystemWays
from relay.discovery.dns.ways import StreamWay, TlsContexts, Way, system_tls
from relay.primitives.errors import DecodeError, DialRefused, TransportError, UsageError
from relay.transports.dialer import Dialer
from relay.transports.host_dialer import HostDialer
from relay.transports.policy import Mode
from relay.transports.sockets import SocketFactory

__all__ = [
    "Outcome",
    "Resolver",
    "ResolverOptions",
    "StubResolver",
    "direct_resolver",
    "make_resolver",
    "system_resolver",
    "tor_resolver",
]

P = TypeVar("P", bound=asyncio.BaseProtocol)
_log = structlog.get_logger("relay.discovery")
_ID_BYTES: Final = 2


class Resolver(Protocol):
    """What follows a list needs of DNS."""

    async def txt(self, name: str) -> tuple[str, ...] | None:
        """Return the TXT records of a name, none if it has none; None if nobody could say."""
        ...


class Outcome(StrEnum):
    """How a question to one resolver ended, for counters."""

    FOUND = "found"
    NO_TEXT = "no text"
    NO_NAME = "no such name"
    SERVER_FAILED = "server failed"
    UNREACHABLE = "unreachable"
    REFUSED = "refused by our rules"
    BAD_ANSWER = "bad answer"
    TIMEOUT = "no answer in time"
    BAD_NAME = "no name for dns"
    OVERFLOW = "too many at once"
    GIVEN_UP = "given up"


@dataclass(frozen=True, slots=True)
class ResolverOptions:
    """Limits of asking.

    Attributes:
        attempt: seconds for one resolver.
        total: seconds for a name, waiting for a turn included; below that of TreeSync's queries.
        rounds: how often all resolvers are tried.
        backoff: seconds before the second round; doubles.
        concurrent: questions under way.
        waiting: questions that wait for a turn; further ones fail at once.
    """

    attempt: float = 5.0
    total: float = 50.0
    rounds: int = 3
    backoff: float = 1.0
    concurrent: int = 4
    waiting: int = 64


TOR_OPTIONS: Final = ResolverOptions(attempt=20.0, rounds=2, concurrent=3)
"""A new circuit and TLS take seconds; each question under way may be a circuit."""


class StubResolver:
    """Asks resolvers in turn until one says something final.

    Attributes:
        outcomes: how questions to single resolvers ended.
        failure: the last one in words, for people; empty while all goes well.
    """

    def __init__(
        self,
        ways: Callable[[], Sequence[Way]],
        rand: Callable[[int], bytes],
        options: ResolverOptions | None = None,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Make it.

        Args:
            ways: to the resolvers, in order of preference; asked anew for each name.
            rand: random bytes, for the ids of questions.
            options: limits.
            sleep: for the pauses between rounds.
        """
        self.outcomes: Counter[Outcome] = Counter()
        self.failure = ""
        self._ways = ways
        self._rand = rand
        self._options = options or ResolverOptions()
        self._sleep = sleep
        self._turns = asyncio.Semaphore(self._options.concurrent)
        self._under_way = 0
        self._preferred = 0

    async def txt(self, name: str) -> tuple[str, ...] | None:
        """See `Resolver`. Raises nothing: what went wrong is counted and in `failure`."""
        if self._under_way >= self._options.concurrent + self._options.waiting:
            self._failed(Outcome.OVERFLOW, "too many names are asked for at once")
            return None
        self._under_way += 1
        try:
            async with asyncio.timeout(self._options.total), self._turns:
                return await self._asked(name)
        except TimeoutError:
            self._failed(Outcome.GIVEN_UP, f"no answer within {self._options.total:g} s")
        except _BadNameError as error:
            self._failed(Outcome.BAD_NAME, str(error))
        finally:
            self._under_way -= 1
        return None

    def close(self) -> None:
        """Close the streams that are kept."""
        for way in self._ways():
            way.close()

    async def _asked(self, name: str) -> tuple[str, ...] | None:
        for round_ in range(self._options.rounds):
            if round_:
                await self._sleep(self._options.backoff * 2 ** (round_ - 1))
            for _ in range(len(self._ways())):
                answer = await self._ask_preferred(name)
                if answer is not None:
                    return answer.texts
        return None

    async def _ask_preferred(self, name: str) -> Answer | None:
        ways = self._ways()
        at = self._preferred % len(ways)
        answer = await self._ask(ways[at], self._question(name, padded=ways[at].encrypted))
        if answer is None and self._preferred % len(ways) == at:  # else another question has moved on already
            self._preferred = at + 1
        return answer

    def _question(self, name: str, *, padded: bool) -> Question:
        try:
            return make_question(name, int.from_bytes(self._rand(_ID_BYTES), "big"), padded=padded)
        except DecodeError as error:
            raise _BadNameError(str(error)) from None

    async def _ask(self, way: Way, question: Question) -> Answer | None:
        """Ask one resolver; None unless it says something final."""
        try:
            async with asyncio.timeout(self._options.attempt):
                answer = await way.ask(question)
        except TimeoutError:
            self._failed(Outcome.TIMEOUT, f"no answer within {self._options.attempt:g} s", way)
            return None
        except (TransportError, DecodeError) as error:
            self._failed(_outcome_of(error), str(error), way)
            return None
        if not answer.is_final:
            self._failed(Outcome.SERVER_FAILED, f"it says {answer.rcode}", way)
            return None
        self._succeeded(answer)
        return answer

    def _succeeded(self, answer: Answer) -> None:
        self.failure = ""
        missing = Outcome.NO_NAME if answer.rcode == "NXDOMAIN" else Outcome.NO_TEXT
        self.outcomes[Outcome.FOUND if answer.texts else missing] += 1

    def _failed(self, outcome: Outcome, why: str, way: Way | None = None) -> None:
        self.outcomes[outcome] += 1
        was_well = not self.failure
        self.failure = f"{way.label}: {why}" if way is not None else why
        note = _log.warning if was_well else _log.debug  # once until something works again
        note("no answer from dns", why=why, **({} if way is None else {"resolver": way.label}))


class _BadNameError(DecodeError):
    """A name that can not be asked for, whoever is asked."""


def _outcome_of(error: TransportError | DecodeError) -> Outcome:
    if isinstance(error, DecodeError):
        return Outcome.BAD_ANSWER
    return Outcome.REFUSED if isinstance(error, DialRefused) else Outcome.UNREACHABLE


def make_resolver(
    mode: Mode,
    sockets: SocketFactory,
    tor: Dialer | None,
    servers: Sequence[DnsServer] = (),
    *,
    rand: Callable[[int], bytes],
    tls: TlsContexts = system_tls,
) -> StubResolver:
    """Make the resolver of a mode.

    Args:
        mode: decides whether anything may leave this host outside Tor.
        sockets: of the process, with its rules.
        tor: a SocksDialer with the purpose DNS and exits allowed; needed where the mode hides the IP.
        servers: the user's; else the system's, or public ones through Tor.
        rand: random bytes.
        tls: contexts that check certificates.

    Raises:
        UsageError: the mode needs Tor, and there is none.
    """
    if mode.hides_ip:
        if tor is None:
            raise UsageError(f"{mode.value} asks DNS through Tor only: give --tor-proxy or --tor-launch")
        return tor_resolver(tor, servers or PUBLIC_SERVERS, rand=rand, tls=tls)
    if servers:
        return direct_resolver(sockets, tor, servers, rand=rand, tls=tls)
    return system_resolver(sockets, rand=rand)


def system_resolver(
    sockets: SocketFactory, *, rand: Callable[[int], bytes], options: ResolverOptions | None = None
) -> StubResolver:
    """Ask the system's resolvers, by UDP and TCP.

    Raises:
        DialRefused: the rules forbid look-ups on this host.
    """
    _require_clearnet(sockets)
    return StubResolver(SystemWays(sockets), rand, options)


def direct_resolver(
    sockets: SocketFactory,
    tor: Dialer | None,
    servers: Sequence[DnsServer],
    *,
    rand: Callable[[int], bytes],
    tls: TlsContexts = system_tls,
    options: ResolverOptions | None = None,
) -> StubResolver:
    """Ask the user's resolvers from this host's own address.

    Raises:
        DialRefused: the rules forbid look-ups on this host.
    """
    _require_clearnet(sockets)
    dialer = HostDialer(sockets, tor)
    ways = tuple(StreamWay(server, dialer, tls) for server in servers)
    return StubResolver(lambda: ways, rand, options)


def tor_resolver(
    tor: Dialer,
    servers: Sequence[DnsServer],
    *,
    rand: Callable[[int], bytes],
    tls: TlsContexts = system_tls,
    options: ResolverOptions = TOR_OPTIONS,
) -> StubResolver:
    """Ask resolvers through Tor, and in no other way."""
    ways = tuple(StreamWay(server, tor, tls) for server in servers)
    return StubResolver(lambda: ways, rand, options)


def _require_clearnet(sockets: SocketFactory) -> None:
    if not (sockets.rules.resolve and sockets.rules.direct):
        raise DialRefused("names are not looked up on this host in this mode")
