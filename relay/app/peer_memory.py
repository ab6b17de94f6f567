"""What is remembered of peers over restarts, and told to who chooses among them: anchors, and who is known.

One file in the data folder: the nodes to dial first, and since when which keys have been peers for long. It
names peers, as `peers.json` does, and nobody who was a peer for less than ten minutes.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog

from relay.app.datadir import MAX_STATE, DataDir
from relay.app.entry import is_near
from relay.discovery.mix import dialable_in
from relay.peering.acquaintance import Acquaintances
from relay.peering.anchors import Anchors, choose_anchors
from relay.peering.eviction import Merit
from relay.primitives.errors import DecodeError, StorageError
from relay.primitives.keys import PublicKey, parse_public_key
from relay.primitives.node import Node

if TYPE_CHECKING:
    from relay.app.sources import Sources
    from relay.peering.peers import PeerSet
    from relay.peering.scheduler import DialScheduler
    from relay.relaying.handler import EthRelay
    from relay.settings import Settings

__all__ = ["ANCHORS", "PeerMemory", "Remembered", "load_memory", "remember_peers"]

ANCHORS: Final = "anchors.json"
LATEST: Final = 4096  # transactions of the pool that are looked at: a third of a millisecond
log = structlog.get_logger("relay.app")


@dataclass(frozen=True, slots=True)
class Remembered:
    """The content of the file.

    Attributes:
        anchors: the longest connected first.
        seen: when a key was first and last a peer for long, unix seconds.
    """

    anchors: tuple[Node, ...] = ()
    seen: Mapping[PublicKey, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def from_json(cls, text: bytes) -> Remembered:
        """Read it.

        Raises:
            DecodeError: it is not what `to_json` writes.
        """
        try:
            value: Any = json.loads(text)
            anchors = tuple(Node.parse(str(url)) for url in value["anchors"])
            seen = {
                parse_public_key(bytes.fromhex(key)): (_time(first), _time(last))
                for key, (first, last) in value["seen"].items()
            }
        except (
            ValueError, OverflowError, RecursionError, TypeError, KeyError, AttributeError, DecodeError
        ) as error:  # fmt: skip
            raise DecodeError(f"expected anchors and keys, found {type(error).__name__}: {error}") from None
        return cls(anchors, seen)

    def to_json(self) -> dict[str, object]:
        """Write it."""
        return {
            "anchors": [node.enode.url for node in self.anchors],
            "seen": {key.hex(): [round(first), round(last)] for key, (first, last) in self.seen.items()},
        }


def _time(value: Any) -> float:  # noqa: ANN401 - whatever JSON holds
    """Unix seconds. JSON of Python has NaN, which is older than nothing and could not be written again."""
    seconds = float(value)
    if not isfinite(seconds):
        raise DecodeError("a time that is none")
    return seconds


def load_memory(path: Path, unix: float) -> Remembered:
    """Read the file; one that is damaged is named and set aside, so that a person can look at it."""
    try:
        with path.open("rb") as file:
            return Remembered.from_json(file.read(MAX_STATE))
    except FileNotFoundError:
        return Remembered()
    except OSError as error:
        log.warning("anchors cannot be read", file=path.name, cause=error.strerror)
        return Remembered()
    except DecodeError as error:
        aside = path.with_name(f"{path.name}.corrupt-{int(unix)}")
        with suppress(OSError):
            path.replace(aside)
        log.warning("anchors are damaged, and begun anew", cause=str(error), set_aside=aside.name)
        return Remembered()


class PeerMemory:
    """A `relay.peering.eviction.Reputation` for one set of peers.

    Args:
        data: where the file is.
        peers: the set.
        scheduler: knows whom the user wants.
        sources: know who was named by whom.
        eth: knows what peers bring.
        name: of the file.
    """

    def __init__(
        self,
        data: DataDir,
        peers: PeerSet,
        scheduler: DialScheduler,
        sources: Sources,
        eth: EthRelay,
        name: str = ANCHORS,
    ) -> None:
        self._data, self._name = data, name
        self._peers, self._scheduler, self._sources, self._eth = peers, scheduler, sources, eth
        self.before = load_memory(data.path / name, time.time())
        self.acquaintances = Acquaintances(self.before.seen)

    def merits(self) -> Mapping[PublicKey, Merit]:
        """See Reputation."""
        held = self._eth.pool.by_hash.values()
        brought = Counter(entry.source for entry in islice(reversed(held), LATEST))
        merits = {}
        for session in self._peers.sessions():
            known = self._eth.roster.get(session)
            if known is not None and session.public_key is not None:
                merits[session.public_key] = Merit(known.included, brought[known.bit])
        return merits

    def first_seen(self, public_key: PublicKey) -> float | None:
        """See Reputation."""
        return self.acquaintances.first_seen(public_key)

    def introducer(self, public_key: PublicKey) -> str | None:
        """See Reputation."""
        why = self._sources.mix.why(public_key)
        return None if why is None else why.partition(":")[0]

    def wanted(self, public_key: PublicKey) -> bool:
        """See Reputation."""
        return self._scheduler.is_static(public_key)

    def save(self) -> None:
        """Remember who has been a peer for long; anchors of before stay until there are others."""
        now, sessions = self._peers.now(), self._peers.sessions()
        self.acquaintances.note(sessions, self.merits(), now, time.time())
        anchors = choose_anchors(sessions, now, self.first_seen, self.before.anchors)
        memory = Remembered(tuple(anchors), self.acquaintances.seen)
        try:
            self._data.save_state(self._name, memory.to_json())
        except StorageError as error:
            log.warning("anchors not saved", cause=str(error))


def remember_peers(
    settings: Settings,
    data: DataDir,
    peers: PeerSet,
    scheduler: DialScheduler,
    sources: Sources,
    eth: EthRelay,
    name: str = ANCHORS,
) -> PeerMemory:
    """Have a set of peers keep whom it knows, and its scheduler begin with the anchors of before.

    Args:
        settings: the flags.
        data: where the file is.
        peers: the set.
        scheduler: of its dials.
        sources: of its candidates; saved when they are.
        eth: what its peers speak to.
        name: of the file, where there are several sets.
    """
    memory = PeerMemory(data, peers, scheduler, sources, eth, name)
    unfit = dialable_in(settings.mode, allow_private=is_near(settings), i2p=settings.i2p_sam is not None)
    anchors = [node for node in memory.before.anchors if unfit(node) is None]
    scheduler.anchors = Anchors(anchors, scheduler.is_connected, asyncio.get_running_loop().time)
    peers.eviction.reputation = memory
    sources.memory = memory
    return memory
