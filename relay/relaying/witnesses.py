"""Asks peers for the same headers until enough of them agree that are not one and the same.

Identities are free, addresses less so: peers in one /16 of IPv4 or one /32 of IPv6 count once. An onion
address costs nothing either, but who dials us cannot choose that we dial him: so it counts if we did.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import TYPE_CHECKING, Final, Protocol

from relay.chain.headers import Header
from relay.primitives.endpoint import Network
from relay.primitives.errors import DecodeError

if TYPE_CHECKING:
    from relay.relaying.roster import RelayPeer
    from relay.relaying.seams import Session

__all__ = ["HeaderSource", "Poll", "Question", "group_of"]

_AT_ONCE: Final = 2  # peers asked at first: so many are needed
_PREFIX: Final = {Network.IPV4: 16, Network.IPV6: 32}  # bits that one owner easily holds all of

_Run = tuple[Header, ...]


class HeaderSource(Protocol):
    """Fetches headers (`relay.relaying.chain_data` implements it)."""

    def headers(
        self,
        origin: bytes | int,
        amount: int,
        *,
        reverse: bool = False,
        skip: int = 0,
        among: Collection[RelayPeer] | None,
        done: Callable[[tuple[bytes, ...], RelayPeer | None], None],
    ) -> None:
        """Ask peers for headers; done is called once, with nothing where nobody has them.

        Args:
            origin: hash or number of the first.
            amount: how many at most.
            reverse: towards genesis.
            skip: blocks left out between two.
            among: who may be asked, first-hand; None: anybody, or the cache.
            done: takes the headers, and who had them.
        """
        ...


@dataclass(frozen=True, slots=True)
class Question:
    """Which headers are wanted.

    Attributes:
        origin: hash or number of the first.
        amount: how many at most.
        reverse: towards genesis.
    """

    origin: bytes | int
    amount: int
    reverse: bool = False


def group_of(session: Session) -> str | None:
    """Return what a peer has in common with others that may be the same person; None: it counts nothing."""
    endpoint = session.endpoint
    if endpoint is None:
        return None
    if not endpoint.is_ip:
        return None if session.inbound else endpoint.host
    if endpoint.is_private and not session.inbound:
        return str(endpoint)  # nobody from outside has a say in what runs in our own network
    network = ipaddress.ip_network(f"{endpoint.host}/{_PREFIX[endpoint.network]}", strict=False)
    return str(network)


class Poll:
    """One question, put to two peers, then to further ones, until it is settled.

    A trusted peer's answer settles it. Of others it takes two, of different groups: what both say counts.

    Attributes:
        asked: how many were asked.
    """

    __slots__ = (
        "_alone",
        "_answers",
        "_done",
        "_peers",
        "_question",
        "_settled",
        "_source",
        "_waiting",
        "asked",
    )

    def __init__(
        self,
        source: HeaderSource,
        question: Question,
        peers: Sequence[RelayPeer],
        done: Callable[[_Run], None],
        *,
        alone: bool = False,
    ) -> None:
        """Prepare; nothing is asked before `start`.

        Args:
            source: fetches.
            question: for headers.
            peers: whom to ask, in this order.
            done: takes the headers that count, from the lowest number up; none where it came to nothing.
                Called once.
            alone: one answer is enough, because the question names what is known to be right.
        """
        self._source = source
        self._question = question
        self._peers = list(peers)
        self._done = done
        self._alone = alone
        self._answers: list[tuple[str | None, _Run]] = []
        self._waiting: set[RelayPeer] = set()
        self._settled = False
        self.asked = 0

    def start(self) -> None:
        """Ask."""
        self._go_on()

    def _go_on(self) -> None:
        # Who has answered waits for one other.
        enough = 1 if self._alone or self._answers else _AT_ONCE
        while not self._settled and self._peers and len(self._waiting) < enough:
            self._ask(self._peers.pop(0))
        if not self._settled and not self._waiting:
            self._settle(())

    def _ask(self, peer: RelayPeer) -> None:
        self.asked += 1
        self._waiting.add(peer)
        question = self._question

        def answered(headers: tuple[bytes, ...], by: RelayPeer | None) -> None:
            self._answered(peer, headers if by is peer else ())

        self._source.headers(
            question.origin, question.amount, reverse=question.reverse, among=(peer,), done=answered
        )

    def _answered(self, peer: RelayPeer, headers: tuple[bytes, ...]) -> None:
        self._waiting.discard(peer)
        if self._settled:
            return
        run = _read(self._question, headers)
        if run and (self._alone or peer.session.trusted):
            self._settle(run)
            return
        if run:
            self._answers.append((group_of(peer.session), run))
        # A trusted peer that was asked has the last word.
        agreed = () if any(each.session.trusted for each in self._waiting) else self._agreed()
        if agreed:
            self._settle(agreed)
        else:
            self._go_on()

    def _agreed(self) -> _Run:
        best: _Run = ()
        for number, (group, run) in enumerate(self._answers):
            for other, also in self._answers[:number]:
                if group is not None and other is not None and group != other:
                    best = max(best, _common(run, also), key=len)
        return best

    def _settle(self, run: _Run) -> None:
        self._settled = True
        self._done(tuple(reversed(run)) if self._question.reverse else run)


def _common(one: _Run, other: _Run) -> _Run:
    pairs = zip(one, other, strict=False)
    return tuple(mine for mine, _ in takewhile(lambda pair: pair[0].hash == pair[1].hash, pairs))


def _read(question: Question, headers: tuple[bytes, ...]) -> _Run:
    """Return an answer if it is one: the first header is the one asked for, and they link."""
    try:
        run = tuple(map(Header.decode, headers[: question.amount]))
    except DecodeError:
        return ()
    if not run or (run[0].hash if isinstance(question.origin, bytes) else run[0].number) != question.origin:
        return ()
    ascending = run[::-1] if question.reverse else run
    for lower, upper in pairwise(ascending):
        if upper.parent_hash != lower.hash or upper.number != lower.number + 1:
            return ()
    return run
