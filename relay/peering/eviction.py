"""Who gives its place to a newcomer when all places for inbound peers are taken.

Node keys and onion addresses are free, so whoever has patience can fill a set that turns newcomers away:
places fall free one by one, and those who knock most get them. After the model of Bitcoin Core
(src/node/eviction.cpp) a full set takes a newcomer in and sends another away, after leaving out everybody who
is worth keeping by one of several measures that an attacker cannot all have:

- usefulness: whose transactions ended in blocks, and who brought most of what the pool holds of late;
- acquaintance: who was a peer for long, and of use, in this or an earlier run, the first seen first;
- the introducer: one of those that each source of nodes has named;
- the address: one of each network group, drawn by a secret of this process;
- age: half of the rest, the longest connected, with places kept for networks that have few peers.

Of the others it is one without merit, of the largest group, the youngest. A newcomer that came in so has a
time to show what it is worth in which it is not sent away; few may have that at a time, and of these only
half may be strangers. So a flood of identities turns a few places over, at a bounded rate, and no others.
"""

from __future__ import annotations

import ipaddress
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from operator import attrgetter
from typing import TYPE_CHECKING, Final, Protocol

from relay.peering.options import EvictionOptions
from relay.primitives.endpoint import Network

if TYPE_CHECKING:
    from relay.peering.session import PeerSession
    from relay.primitives.endpoint import Endpoint
    from relay.primitives.keys import PublicKey

__all__ = ["Candidate", "Eviction", "Merit", "Reputation", "Stranger", "choose", "network_group"]

MAX_EXILED: Final = 4096  # keys and address groups that were sent away lately; the oldest is forgotten first
_SOME_INCLUSION: Final = 0.001  # the moving average of one transaction falls below after some two hours
_BYTES_OF_GROUP: Final = {Network.IPV4: 2, Network.IPV6: 4}  # as Bitcoin Core's


@dataclass(frozen=True, slots=True)
class Merit:
    """What a peer has done for us.

    Attributes:
        included: how many of its transactions a block brings, on a moving average.
        brought: how many of the transactions that are held it brought first, of the latest of them.
    """

    included: float = 0.0
    brought: int = 0

    @property
    def any(self) -> bool:
        """Whether a block has brought what it brought; the rest of merit can be made up."""
        return self.included > _SOME_INCLUSION


class Reputation(Protocol):
    """What others know of peers."""

    def merits(self) -> Mapping[PublicKey, Merit]:
        """Tell the merits of the connected peers; those that are missing have none."""

    def first_seen(self, public_key: PublicKey) -> float | None:
        """Tell when it was first a peer for long, in unix seconds; None for strangers."""

    def introducer(self, public_key: PublicKey) -> str | None:
        """Tell which source of nodes has named it; None when it was named by itself alone."""

    def wanted(self, public_key: PublicKey) -> bool:
        """Tell whether the user wants it connected, whoever dialed."""


class Stranger:
    """A `Reputation` by which nobody is known."""

    def merits(self) -> Mapping[PublicKey, Merit]:
        """Know nothing."""
        return {}

    def first_seen(self, public_key: PublicKey) -> float | None:
        """Know nothing."""

    def introducer(self, public_key: PublicKey) -> str | None:
        """Know nothing."""

    def wanted(self, public_key: PublicKey) -> bool:
        """Want nobody."""
        return False


_NO_MERIT: Final = Merit()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A peer that might be sent away.

    Attributes:
        session: the peer.
        joined_at: monotonic seconds.
        network: its class.
        group: of its address; None where addresses are free.
        merit: what it has done.
        first_seen: unix seconds, None for strangers.
        introducer: source that named it, or None.
    """

    session: PeerSession
    joined_at: float
    network: Network
    group: str | None = None
    merit: Merit = _NO_MERIT
    first_seen: float | None = None
    introducer: str | None = None


def network_group(endpoint: Endpoint | None) -> str | None:
    """Name the part of the internet that one party is likely to own whole; None for what costs nothing."""
    if endpoint is None or not endpoint.is_ip or endpoint.is_private:
        return None
    address = ipaddress.ip_address(endpoint.host).packed
    return f"{endpoint.network.value}:{address[: _BYTES_OF_GROUP[endpoint.network]].hex()}"


def choose(candidates: Iterable[Candidate], quota: int, secret: bytes) -> Candidate | None:
    """Choose who is sent away; None when everybody is worth keeping.

    Args:
        candidates: inbound peers without a claim of the user's on them.
        quota: how many are kept by each measure but age.
        secret: of this process: nobody else can tell which groups are kept.
    """
    left = list(candidates)
    left = _without_best(left, quota, lambda each: each.merit.included if each.merit.any else None)
    left = _without_best(left, quota, lambda each: each.merit.brought or None)
    left = _without_best(left, quota, lambda each: None if each.first_seen is None else -each.first_seen)
    left = _without_one_of_each(left, quota, attrgetter("introducer"), secret)
    left = _without_one_of_each(left, quota, attrgetter("group"), secret)
    left = _without_oldest(left)
    if not left:
        return None
    left = [each for each in left if not each.merit.any] or left
    largest = _largest_group(left)
    return min(largest, key=lambda each: (each.merit.included, each.merit.brought, -each.joined_at))


class Eviction:
    """The choice, and how often there may be one.

    Attributes:
        reputation: who is known.
        evicted: peers sent away for others.
    """

    def __init__(self, options: EvictionOptions, places: int, rand: Callable[[int], bytes]) -> None:
        """Make it.

        Args:
            options: numbers.
            places: for inbound peers.
            rand: random bytes.
        """
        self._options = options
        self._quota = max(1, places // options.share_of_measure)
        self._door = max(2, places // options.share_of_door)
        self._secret = rand(16)
        self._seated: deque[tuple[float, bool, str | None]] = deque()
        self._exiled: dict[Hashable, float] = {}
        self.reputation: Reputation = Stranger()
        self.evicted = 0

    def may_ask(self, newcomer: PeerSession, peers: Iterable[PeerSession], now: float) -> bool:
        """Tell whether a newcomer may have another sent away now; cheap, since anybody can ask.

        Args:
            newcomer: whose key is known.
            peers: the joined ones, oldest first.
            now: monotonic seconds.
        """
        if not self._options.enabled or not any(self._is_evictable(each, now) for each in peers):
            return False
        while self._seated and now - self._seated[0][0] >= self._options.grace:
            self._seated.popleft()
        if len(self._seated) >= self._door:
            return False
        group = network_group(newcomer.endpoint)
        if any(self._exiled.get(each, 0.0) > now for each in (newcomer.public_key, group)):
            return False
        if group is not None and any(group == each for _, _, each in self._seated):
            return False
        return not self._is_stranger(newcomer) or self._strangers < self._door // 2

    def victim(self, peers: Iterable[PeerSession], now: float) -> PeerSession | None:
        """Choose among inbound peers; None when nobody gives way."""
        fit = [each for each in peers if self._is_evictable(each, now)]
        if not fit:
            return None
        merits = self.reputation.merits()
        chosen = choose((self._candidate(each, merits) for each in fit), self._quota, self._secret)
        return chosen.session if chosen else None

    def happened(self, newcomer: PeerSession, victim: PeerSession, now: float) -> None:
        """Note that one has given its place to another."""
        self.evicted += 1
        self._seated.append((now, self._is_stranger(newcomer), network_group(newcomer.endpoint)))
        for each in (victim.public_key, network_group(victim.endpoint)):
            if each is not None:
                self._exiled.pop(each, None)
                self._exiled[each] = now + self._options.exile
        while len(self._exiled) > MAX_EXILED:
            del self._exiled[next(iter(self._exiled))]

    @property
    def _strangers(self) -> int:
        return sum(stranger for _, stranger, _ in self._seated)

    def _is_stranger(self, session: PeerSession) -> bool:
        # To be named by a source of nodes costs an attacker little, to have been of use does not.
        assert session.public_key is not None
        return self.reputation.first_seen(session.public_key) is None

    def _is_evictable(self, session: PeerSession, now: float) -> bool:
        if not session.inbound or session.trusted or session.closing:
            return False
        assert session.public_key is not None
        return now - session.joined_at >= self._options.grace and not self.reputation.wanted(
            session.public_key
        )

    def _candidate(self, session: PeerSession, merits: Mapping[PublicKey, Merit]) -> Candidate:
        key = session.public_key
        assert key is not None
        return Candidate(
            session,
            session.joined_at,
            session.label,
            network_group(session.endpoint),
            merits.get(key, _NO_MERIT),
            self.reputation.first_seen(key),
            self.reputation.introducer(key),
        )


def _without_best(
    candidates: list[Candidate], count: int, worth: Callable[[Candidate], float | None]
) -> list[Candidate]:
    """Leave out those of the highest worth; None is no worth at all."""
    ranked = sorted(
        ((value, -each.joined_at, index) for index, each in enumerate(candidates) if (value := worth(each))),
        reverse=True,
    )
    kept = {index for _, _, index in ranked[:count]}
    return [each for index, each in enumerate(candidates) if index not in kept]


def _without_one_of_each(
    candidates: list[Candidate], count: int, of: Callable[[Candidate], str | None], secret: bytes
) -> list[Candidate]:
    """Leave out the longest connected of each of some kinds; which kinds, the secret draws."""
    oldest: dict[str, Candidate] = {}
    for each in sorted(candidates, key=attrgetter("joined_at")):
        kind = of(each)
        if kind is not None:
            oldest.setdefault(kind, each)
    drawn = sorted(oldest, key=lambda kind: blake2b(kind.encode(), key=secret, digest_size=8).digest())
    kept = {id(oldest[kind]) for kind in drawn[:count]}
    return [each for each in candidates if id(each) not in kept]


def _without_oldest(candidates: list[Candidate]) -> list[Candidate]:
    """Leave out half, the longest connected; half of these places are for networks that have few."""
    places = len(candidates) // 2
    by_age = sorted(candidates, key=attrgetter("joined_at"))
    counts = Counter(each.network for each in by_age)
    kept: set[int] = set()
    few = sorted(counts, key=counts.__getitem__)[:-1]  # all but the network that has most
    for number, network in enumerate(few):
        share = (places // 2 - len(kept)) // (len(few) - number)
        kept.update(id(each) for each in [each for each in by_age if each.network is network][:share])
    rest = [each for each in by_age if id(each) not in kept]
    return rest[places - len(kept) :]


def _largest_group(candidates: list[Candidate]) -> list[Candidate]:
    """Return the group with most peers; of several such the one with the youngest."""
    groups: dict[str, list[Candidate]] = {}
    for each in candidates:
        groups.setdefault(each.group or each.network.value, []).append(each)
    return max(groups.values(), key=lambda group: (len(group), max(each.joined_at for each in group)))
