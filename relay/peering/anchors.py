"""Anchors: dialed peers of long standing, which are dialed first after a restart.

A restart empties every place at once, and whoever owns what sources tell us then could fill them all. Peers
that were connected for long before are the least likely to be that party's, so their places are held for them
for a while. Bitcoin Core keeps two block-relay-only ones (src/net.cpp, anchors.dat); a relay of transactions
has no such connections, and onions that take a minute to reach, so it keeps a few more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from relay.primitives.node import Node

if TYPE_CHECKING:
    from relay.peering.session import PeerSession
    from relay.primitives.keys import PublicKey

__all__ = ["AnchorOptions", "Anchors", "choose_anchors"]


@dataclass(frozen=True, slots=True)
class AnchorOptions:
    """Numbers of anchors.

    Attributes:
        count: how many are kept.
        least: seconds that a peer has been connected before it can be one.
        hold: seconds after the start in which places are held for them.
        pause: seconds between two tries to have them dialed; the scheduler has longer ones for failures.
    """

    count: int = 4
    least: float = 600.0
    hold: float = 180.0
    pause: float = 15.0


def choose_anchors(
    sessions: Iterable[PeerSession],
    now: float,
    first_seen: Callable[[PublicKey], float | None],
    before: Iterable[Node] = (),
    options: AnchorOptions | None = None,
) -> list[Node]:
    """Choose among the peers that were dialed, and the anchors of before.

    Acquaintances come first, those connected before those that are away: soon after a restart under attack
    most peers are the attacker's, and connected no shorter than others.

    Args:
        sessions: joined peers.
        now: monotonic seconds.
        first_seen: since when a key is known, None for strangers.
        before: anchors, the best first.
        options: numbers.
    """
    options = options or AnchorOptions()
    fit = [each for each in sessions if _is_fit(each, now, options)]
    fit.sort(key=lambda each: each.joined_at)
    nodes = [Node(each.public_key, (each.endpoint,)) for each in fit if each.public_key and each.endpoint]
    connected = {node.public_key for node in nodes}
    away = [node for node in before if node.public_key not in connected]
    known: list[Node] = []
    strangers: list[Node] = []
    for each in (*nodes, *away):
        (strangers if first_seen(each.public_key) is None else known).append(each)
    known.sort(key=lambda each: (each.public_key not in connected, first_seen(each.public_key)))
    return [*known, *strangers][: options.count]


def _is_fit(session: PeerSession, now: float, options: AnchorOptions) -> bool:
    return not session.inbound and not session.static and now - session.joined_at >= options.least


class Anchors:
    """The anchors of the run before, given to the dial scheduler.

    Args:
        nodes: theirs.
        connected: whether a node is a peer.
        now: monotonic seconds.
        options: numbers.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        connected: Callable[[PublicKey], bool],
        now: Callable[[], float],
        options: AnchorOptions | None = None,
    ) -> None:
        self._options = options or AnchorOptions()
        self._nodes = {each.public_key: each for each in nodes[: self._options.count]}
        self._connected = connected
        self._now = now
        self._end = now() + self._options.hold
        self._next = now()

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All of them."""
        return tuple(self._nodes.values())

    @property
    def held(self) -> int:
        """Places to hold for those that are not connected yet."""
        return len(self._missing()) if self._now() < self._end else 0

    def take(self, count: int) -> Sequence[Node]:
        """Give those that are not connected, now and then, while their places are held."""
        if self._now() < self._next or self._now() >= self._end:
            return ()
        self._next = self._now() + self._options.pause
        return self._missing()[:count]

    def _missing(self) -> list[Node]:
        return [each for key, each in self._nodes.items() if not self._connected(key)]
