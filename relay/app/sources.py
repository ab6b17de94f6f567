"""What all sources of peers share: the mix that is dialed from, the node database."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from relay.app.datadir import DataDir
from relay.app.entry import is_near
from relay.app.nodes import KnownPeers
from relay.chain.forkid import ForkFilter
from relay.chain.networks import ChainConfig
from relay.discovery.mix import CandidateMix, MixOptions, dialable_in, on_fork
from relay.discovery.nodedb import NodeDatabase
from relay.peering.peers import PeerSet
from relay.peering.rotation import jittered
from relay.primitives.node import Node
from relay.settings import Settings

if TYPE_CHECKING:
    from relay.app.peer_memory import PeerMemory

DATABASE: Final = "nodes.sqlite"
RECENT: Final = 60.0  # seconds; the scheduler has its own, longer memory of those that failed


class Sources:
    """Feeds, and what they need to know.

    Args:
        settings: the flags.
        chain: ours.
        peers: how many are wanted.
        data: where the database lives.
        wake: the scheduler's.
        is_mine: says why a node is not for this identity, None where it is; None for an only one.

    Attributes:
        mix: what the scheduler pulls from.
        database: nodes of before.
        memory: of peers, once somebody keeps it.
    """

    def __init__(
        self,
        settings: Settings,
        chain: ChainConfig,
        peers: PeerSet,
        data: DataDir,
        wake: Callable[[], None],
        is_mine: Callable[[Node], str | None] | None = None,
    ) -> None:
        self._peers = peers
        mine = () if is_mine is None else (is_mine,)
        self.database = NodeDatabase(data.path / DATABASE, now=time.time)
        self.mix = CandidateMix(
            (_known_fork(chain), _dialable(settings), *mine),
            own_key=peers.public_key,
            now=asyncio.get_running_loop().time,
            options=MixOptions(recent=RECENT),
            wake=wake,
        )
        self.known = KnownPeers(data)
        self.memory: PeerMemory | None = None

    def wanted(self, name: str) -> bool:
        """Tell whether a feed should look for more: there is room for peers, and little waits in it."""
        options, peers = self._peers.options, self._peers
        room = peers.dialed < options.max_dialed and len(peers) < options.max_peers
        return room and self.mix.feed(name).hungry

    async def run(self) -> None:
        """Put the peers of before into the mix, now and then again, until cancelled."""
        while True:
            self.known.offer_to(self.mix.feed("database"))
            await asyncio.sleep(self._pause())

    def _pause(self) -> float:
        """Draw the seconds until the next time: peers that were left are dialed then, by each identity."""
        return jittered(RECENT, 0.5, secrets.token_bytes)

    def save(self) -> None:
        """Remember the peers of now."""
        self.known.save(self._peers)
        if self.memory is not None:
            self.memory.save()

    def close(self) -> None:
        """Close the database."""
        self.database.close()


def _dialable(settings: Settings) -> Callable[[Node], str | None]:
    return dialable_in(settings.mode, allow_private=is_near(settings), i2p=settings.i2p_sam is not None)


def _known_fork(chain: ChainConfig) -> Callable[[Node], str | None]:
    """Records tell their fork; a node without one was a peer of ours, or is the user's choice."""
    check = on_fork(ForkFilter(chain), time.time)
    return lambda node: check(node) if node.record is not None else None
