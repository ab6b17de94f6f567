"""The mix: candidates of every source, fairly, each node once, with the reason why it is dialed.

Sources push what they find into their own feed, which is bounded; the dial scheduler pulls. Feeds are asked
in turn, so that one that finds a hundred nodes a second does not starve one that finds a node a minute. What
can't be dialed in this mode, or is of another chain, is dropped at the door and counted.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from relay.chain.forkid import ForkFilter, ForkMismatch
from relay.primitives.keys import PublicKey
from relay.primitives.node import Node
from relay.transports.policy import Mode, plan_dial

__all__ = ["CandidateMix", "Feed", "MixOptions", "dialable_in", "on_fork"]

_log = structlog.get_logger("relay.discovery")

NO_FORK_ID: Final = "no fork id"
WRONG_FORK: Final = "other chain or fork"
NOT_DIALABLE: Final = "not dialable in this mode"
DUPLICATE: Final = "already waiting"
RECENT: Final = "handed out lately"
OVERFLOW: Final = "pushed out by newer ones"


@dataclass(frozen=True, slots=True)
class MixOptions:
    """Bounds of the mix.

    Attributes:
        per_feed: candidates that wait in one feed; the oldest go first, since newer word is better.
        recent: seconds in which a node that was handed out is not handed out again.
        max_recent: how many such nodes are remembered; the oldest go first.
        hungry: below this many waiting candidates a source may look for more.
    """

    per_feed: int = 128
    recent: float = 300.0
    max_recent: int = 4096
    hungry: int = 16


class Feed:
    """Where one source puts what it finds.

    Attributes:
        name: of the source: "v4", "v5", "dns", "onion", "dht", "i2p", "database".
        taken: candidates handed to the scheduler.
        refused: candidates dropped, by reason.
    """

    def __init__(self, name: str, mix: CandidateMix) -> None:
        self.name = name
        self.taken = 0
        self.refused: Counter[str] = Counter()
        self.waiting: OrderedDict[PublicKey, tuple[Node, str]] = OrderedDict()
        self._mix = mix

    def offer(self, node: Node, reason: str = "") -> bool:
        """Put a candidate in.

        Args:
            node: with its addresses.
            reason: what led to it, for the log, such as "lookup" or the tree's name.

        Returns:
            Whether it waits now; else it was dropped and counted.
        """
        return self._mix.offered(self, node, reason)

    @property
    def hungry(self) -> bool:
        """Whether this source should look for more now."""
        return len(self.waiting) < self._mix.options.hungry

    def __len__(self) -> int:
        return len(self.waiting)


class CandidateMix:
    """A `CandidateSource` made of feeds.

    Attributes:
        options: bounds.
    """

    def __init__(
        self,
        filters: Sequence[Callable[[Node], str | None]],
        *,
        own_key: PublicKey,
        now: Callable[[], float],
        options: MixOptions | None = None,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        """Make an empty mix.

        Args:
            filters: each returns None for a node that may be dialed, else a short reason why not.
            own_key: never handed out.
            now: monotonic seconds.
            options: bounds.
            wake: called when something waits and nothing did before, as `DialScheduler.wake`.
        """
        self.options = options or MixOptions()
        self._filters = tuple(filters)
        self._own_key = own_key
        self._now = now
        self._wake = wake
        self._feeds: dict[str, Feed] = {}
        self._turn = 0
        self._recent: OrderedDict[PublicKey, tuple[float, str]] = OrderedDict()

    @property
    def feeds(self) -> tuple[Feed, ...]:
        """All feeds, in the order of their making."""
        return tuple(self._feeds.values())

    def __len__(self) -> int:
        return sum(len(feed) for feed in self._feeds.values())

    def feed(self, name: str) -> Feed:
        """Return the feed of a source, made when first asked for."""
        return self._feeds.setdefault(name, Feed(name, self))

    def take(self, count: int) -> Sequence[Node]:
        """Hand out at most this many candidates, one of each feed in turn."""
        taken: list[Node] = []
        while len(taken) < count:
            feed = self._next_feed()
            if feed is None:
                break
            key, (node, reason) = feed.waiting.popitem(last=False)
            feed.taken += 1
            why = f"{feed.name}: {reason}" if reason else feed.name
            self._remember(key, why)
            _log.debug("candidate", peer=key.hex()[:16], why=why)
            taken.append(node)
        return taken

    def why(self, public_key: PublicKey) -> str | None:
        """Return which source a node came from and why; None when it is not of the mix, or long ago."""
        known = self._recent.get(public_key)
        return known[1] if known is not None else None

    def offered(self, feed: Feed, node: Node, reason: str) -> bool:
        """Take a candidate for a feed; use `Feed.offer`."""
        refusal = self._refusal(node)
        if refusal == DUPLICATE:
            self._renew(node)
        if refusal is not None:
            feed.refused[refusal] += 1
            return False
        was_empty = not len(self)
        feed.waiting[node.public_key] = (node, reason)
        if len(feed.waiting) > self.options.per_feed:
            feed.waiting.popitem(last=False)
            feed.refused[OVERFLOW] += 1
        if was_empty:
            self._wake()
        return True

    def _refusal(self, node: Node) -> str | None:
        key = node.public_key
        if key == self._own_key:
            return "ourselves"
        known = self._recent.get(key)
        if known is not None and self._now() - known[0] < self.options.recent:
            return RECENT
        unfit = next((why for check in self._filters if (why := check(node)) is not None), None)
        if unfit is None and any(key in feed.waiting for feed in self._feeds.values()):
            return DUPLICATE
        return unfit

    def _renew(self, node: Node) -> None:
        """Put a newer record in the place of the one that waits, whichever source has brought it."""
        for feed in self._feeds.values():
            known, reason = feed.waiting.get(node.public_key, (node, ""))
            if known is not node and _seq(node) > _seq(known):
                feed.waiting[node.public_key] = (node, reason)

    def _next_feed(self) -> Feed | None:
        feeds = self.feeds
        for step in range(len(feeds)):
            at = (self._turn + step) % len(feeds)
            if feeds[at].waiting:
                self._turn = at + 1
                return feeds[at]
        return None

    def _remember(self, key: PublicKey, why: str) -> None:
        self._recent.pop(key, None)
        self._recent[key] = (self._now(), why)
        if len(self._recent) > self.options.max_recent:
            self._recent.popitem(last=False)


def _seq(node: Node) -> int:
    return node.record.seq if node.record is not None else -1


def on_fork(
    fork_filter: ForkFilter, unix: Callable[[], float], *, required: bool = True
) -> Callable[[Node], str | None]:
    """Make a filter by fork id.

    Args:
        fork_filter: of our chain.
        unix: the time of day.
        required: refuse nodes whose record tells no fork id, or that have no record.
    """

    def check(node: Node) -> str | None:
        fork = node.record.fork_id if node.record is not None else None
        if fork is None:
            return NO_FORK_ID if required else None
        try:
            fork_filter.check(fork, unix())
        except ForkMismatch:
            return WRONG_FORK
        return None

    return check


def dialable_in(
    mode: Mode, *, allow_private: bool = False, i2p: bool = False
) -> Callable[[Node], str | None]:
    """Make a filter by the dial policy: only-onion sees only onions, no-Tor only IPs.

    Args:
        mode: the daemon's.
        allow_private: on a private network, take loopback and LAN addresses.
        i2p: there is a SAM bridge.
    """

    def check(node: Node) -> str | None:
        return None if plan_dial(mode, node, allow_private=allow_private, i2p=i2p).targets else NOT_DIALABLE

    return check
